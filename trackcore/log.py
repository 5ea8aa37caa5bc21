"""The shape of a log: how the messages, rejected messages and quarantined requests that a `Sink` stored are read back.

`trackcore_sqlite` and `trackcore_kafka` implement it, and so does the log of a `MemorySink`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Literal, NamedTuple, Protocol, TypeAlias

import attrs

from trackcore.errors import TrackcoreError
from trackcore.marks import Mark, Stretch
from trackcore.sinks import QuarantinedRequest, RejectedRecord
from trackcore.timestamps import truncate_to_milliseconds
from trackcore.typing import Call, JSONObject

Part: TypeAlias = Literal["messages", "duplicates", "rejected", "quarantine"]
PARTS: tuple[Part, ...] = ("messages", "duplicates", "rejected", "quarantine")
"""The parts of a log.  Records of each are numbered on their own, by a rising `seq`."""


@attrs.frozen(kw_only=True)
class StoredMessage:
    """A message as a log holds it, under its number.

    `message` is the wire object; `warnings` are `{code, message, path}`; `inherited` is that of an `Envelope`.
    `found_by` is a `KeyLocation`, None for a message that was stored before that was kept.  `retry_count` is how often
    its client had tried before, as it said.
    """

    seq: int
    source: str
    call: Call
    received_at: datetime
    destinations: tuple[str, ...]
    warnings: tuple[JSONObject, ...]
    message: JSONObject
    inherited: tuple[str, ...] = ()
    found_by: str | None = None
    retry_count: int = 0


class StoredPayload(NamedTuple):
    """A message as a log holds it, not decoded, for code that passes it on.  `user` is its userId or anonymousId."""

    seq: int
    source: str
    message_id: str
    call: Call
    user: str | None
    received_at: datetime
    destinations: tuple[str, ...]
    payload: bytes


@attrs.frozen(kw_only=True)
class StoredRejected(RejectedRecord):
    """A `RejectedRecord` as a log holds it, under its number."""

    seq: int


@attrs.frozen(kw_only=True)
class StoredQuarantined(QuarantinedRequest):
    """A `QuarantinedRequest` as a log holds it, under its number."""

    seq: int


@attrs.frozen(kw_only=True)
class Totals:
    """How many records a log holds, and how many were dropped from its bounded parts to make room."""

    messages: int
    rejected: int
    rejected_dropped: int
    quarantined: int
    quarantined_dropped: int


@attrs.frozen(kw_only=True)
class _Conditions:
    """The conditions that a `Query` and a `Search` both have."""

    source: str | None = None
    destination: str | None = None
    call: str | None = None
    user: str | None = None
    event: str | None = None
    code: str | None = None
    text: str | None = None
    since: datetime | None = attrs.field(default=None, converter=attrs.converters.optional(truncate_to_milliseconds))
    until: datetime | None = attrs.field(default=None, converter=attrs.converters.optional(truncate_to_milliseconds))
    limit: int | None = None


@attrs.frozen(kw_only=True)
class Query(_Conditions):
    """Which records to read; None matches any.

    `user` matches the userId or the anonymousId, `destination` the ones that were selected when the message came, and
    `code` the code of a rejection, or of a warning on a message; quarantined requests have the code `unknown_source`.
    `event` matches the event of a track message, or the name of a page or a screen.  `text` is searched for in the
    payload, literally; so are `call`, `user` and `event` in what was not accepted.  Records were received at `since` or
    later, and before `until`.  With a `limit`, only the newest so many match.
    """

    def matches_message(self, stored: StoredMessage, payload: bytes) -> bool:
        """Return whether a message matches, the limit aside."""
        return (
            self.source in (None, stored.source)
            and self.call in (None, stored.call)
            and self.user in (None, stored.message.get("userId"), stored.message.get("anonymousId"))
            and self.event in (None, event_of(stored.call, stored.message))
            and self.code in (None, *(warning["code"] for warning in stored.warnings))
            and self.destination in (None, *stored.destinations)
            and self._matches(stored.received_at, payload, self.text)
        )

    def matches_rejected(self, record: RejectedRecord) -> bool:
        """Return whether a rejected message or request matches, the limit aside."""
        return self._matches_unaccepted(record, record.source, record.code)

    def matches_quarantined(self, request: QuarantinedRequest) -> bool:
        """Return whether a quarantined request matches, the limit aside."""
        return self._matches_unaccepted(request, None, UNKNOWN_SOURCE)

    def _matches_unaccepted(self, record: RejectedRecord | QuarantinedRequest, source: str | None, code: str) -> bool:
        return (
            self.source in (None, source)
            and self.code in (None, code)
            and self.destination is None
            and self._matches(record.received_at, record.payload, self.call, self.user, self.event, self.text)
        )

    def _matches(self, received_at: datetime, payload: bytes, *texts: str | None) -> bool:
        return (
            (self.since is None or self.since <= received_at)
            and (self.until is None or received_at < self.until)
            and all(text.encode() in payload for text in texts if text is not None)
        )


def event_of(call: str, message: JSONObject) -> object:
    """Return the event of a track message, or the name of a page or a screen; None for others, and without a name."""
    name = _NAMES.get(call)
    return None if name is None else message.get(name)


_NAMES = {"track": "event", "page": "name", "screen": "name"}

UNKNOWN_SOURCE = "unknown_source"
"""The code of quarantined requests."""

EVERYTHING = Query()
"""The query that matches every record."""


@attrs.frozen(kw_only=True)
class Search(_Conditions):
    """A query of a person who looks for a message: each condition means the same in every part of a log.

    The conditions are those of `Query`, except that `call`, `user` and `event` match fields in what was not accepted
    too: in a rejected message, and in any message of a refused or quarantined request.  `text` is searched for without
    regard to case.  `path` is the place of a value in the message, such as `properties.price` or
    `products[0].sku`, and `value` is its value as text; without a `value` the path has to exist.  `concern` matches
    messages with any warning, or those that violate a tracking plan.  `delivery` is what became of a message at the
    `destination`: it was selected (the default), it was not, it waits, or it became a dead letter.  `seqs` are the
    numbers of the messages that may match, None for all.
    """

    path: str | None = None
    value: str | None = None
    concern: Literal["warning", "violation"] | None = None
    delivery: Literal["not_selected", "waiting", "dead_letter"] | None = None
    seqs: tuple[int, ...] | None = None


class LogUnavailable(TrackcoreError):
    """A log cannot be read now, or as it is.  Each kind of log raises subclasses of this error."""


class Tail(Protocol):
    """A reader that stays where it was left."""

    def read(self) -> Iterator[StoredMessage]:
        """Yield the messages that were not yielded before; the first time those that `Log.messages` yields.

        Raises `LogUnavailable`.
        """

    def close(self) -> None:
        """Release the files or connections that it holds."""


class Log(Protocol):
    """Reads a log, from any process and while it is written.  Iterators yield records in their order.

    Every method, and every iterator that it returns, raises `LogUnavailable` where the log cannot be read.
    """

    def messages(self, query: Query = EVERYTHING) -> Iterator[StoredMessage]:
        """Yield the messages that match."""

    def payloads(self, query: Query = EVERYTHING) -> Iterator[StoredPayload]:
        """Yield the messages that match, not decoded."""

    def tail(self, query: Query = EVERYTHING) -> Tail:
        """Return a reader of the messages that match, which can be asked again for those that came since."""

    def rejected(self, query: Query = EVERYTHING) -> Iterator[StoredRejected]:
        """Yield the rejected messages and requests that match."""

    def quarantined(self, query: Query = EVERYTHING) -> Iterator[StoredQuarantined]:
        """Yield the quarantined requests that match."""

    def totals(self) -> Totals:
        """Count the records of the log."""


class LogSnapshot(Protocol):
    """A log as it is at one moment.  A position in it is the `seq` of a message (see `trackcore.marks`)."""

    @property
    def end(self) -> int:
        """The position of the last message that there ever was, 0 for none yet."""

    @property
    def beginning(self) -> int:
        """The position behind which the oldest stretch begins; the log has nothing before it."""

    def check(self, mark: Mark) -> None:
        """Raise `LogChanged` if a mark does not hold; the error names the position from which to go on."""

    def mark(self, position: int) -> Mark:
        """Return the mark of a position, or that of 0 if the log has nothing before the position."""

    def stretches(self, position: int, last: int | None = None) -> Sequence[Stretch]:
        """Return the stretches from which the marks of the positions from `position` to `last` are made, in order."""

    def message_at(self, position: int) -> str:
        """Return the identity of the message at a position, empty if there is none."""

    def payloads(self, query: Query = EVERYTHING, *, after: int, last: int) -> Iterator[StoredPayload]:
        """Yield the messages that match with `after < seq <= last`; a limit does not apply."""


class SnapshotLog(Log, Protocol):
    """A log in one sequence, which can prove that a position was reached in it."""

    def snapshot(self) -> AbstractContextManager[LogSnapshot]:
        """Open the log as it is at one moment.  Raises `LogUnavailable`."""
