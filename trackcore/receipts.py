"""Receipts: the result of one request, before and after its records are stored.

A request is handled in three steps: it is prepared, its records are stored, and its receipt is made.  Only the middle
step waits, so it is the only one that differs between a thread and an event loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import attrs
import msgspec

from trackcore.credentials import Source
from trackcore.errors import InvalidRequest, TrackcoreError
from trackcore.rejected import Rejection
from trackcore.sinks import Envelope, Outcome, QuarantinedRequest, RejectedRecord


@attrs.define(kw_only=True, eq=False)
class MessagesRejected(TrackcoreError):
    """Not every message of a request was accepted; the accepted ones are stored.

    Without `rejections` no message was examined, since the write key is missing or belongs to no source.
    """

    accepted: int
    rejections: tuple[Rejection, ...]
    hint: str = ""

    def __str__(self) -> str:
        if not self.rejections:
            return f"nothing was accepted: the write key is missing, or belongs to no source{self.hint}"
        first = self.rejections[0]
        return f"{self.accepted} accepted, {len(self.rejections)} rejected; first: message {first.index}: {first.error}"


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one request, returned only once everything in it is durably stored.

    `source` is None if the write key is missing or unknown: then the request is in quarantine.  `outcomes` has one
    entry for each envelope, in their order.  `requests_this_second` is how many requests of the source this collector
    has seen within the second: shown when it exceeds the advised rate, never a reason to refuse.  `hint` completes the
    sentence about a request without a write key: it names a field that is almost `writeKey`.  `retry_count` is that of
    the `Origin` of the request.

    >>> from datetime import UTC, datetime
    >>> from trackcore import Collector, MemorySink, Track
    >>> collector = Collector(
    ...     sources=[Source(name="website")],
    ...     sink=MemorySink(),
    ...     clock=lambda: datetime(2026, 1, 31, tzinfo=UTC),
    ...     new_message_id=lambda: "an-id-that-is-unique",
    ... )
    >>> receipt = collector.submit(Track(user_id="42", event="Paid"), Track(event="Paid"), source="website")
    >>> receipt.accepted, receipt.rejections[0].index, str(receipt.rejections[0].error.reason)
    (1, 1, 'no_user_anon_id')
    """

    source: Source | None
    received_at: datetime
    envelopes: Sequence[Envelope] = ()
    outcomes: Sequence[Outcome] = ()
    rejections: Sequence[Rejection] = ()
    requests_this_second: int = 0
    hint: str = ""
    retry_count: int = 0

    @property
    def accepted(self) -> int:
        """How many messages are in the log now, duplicates included."""
        return len(self.envelopes)

    def raise_for_rejections(self) -> None:
        """Raise `MessagesRejected`, as in strict mode, unless every message of the request is in the log."""
        if self.source is None or self.rejections:
            raise MessagesRejected(accepted=self.accepted, rejections=tuple(self.rejections), hint=self.hint)


class PendingReceipt(msgspec.Struct, frozen=True, kw_only=True):
    """The records of one request, which a sink stores all or none of, and the receipt once they are stored.

    `error` is set if the request is unusable as a whole.  `forwarded` are messages for other sources, made from those
    of the request; they are stored with its own, and the receipt does not list them.  `clock_skew` is how far the clock
    of the client is ahead, and `violations` the kinds of all violations of the plan, for the metrics.  The other
    attributes are those of `Receipt`.
    (A msgspec struct, since one is made for each request: see `Envelope`.)
    """

    source: Source | None
    received_at: datetime
    envelopes: Sequence[Envelope] = ()
    rejected: Sequence[RejectedRecord] = ()
    quarantined: Sequence[QuarantinedRequest] = ()
    rejections: Sequence[Rejection] = ()
    requests_this_second: int = 0
    hint: str = ""
    error: InvalidRequest | None = None
    forwarded: Sequence[Envelope] = ()
    retry_count: int = 0
    clock_skew: timedelta | None = None
    violations: Sequence[str] = ()

    @property
    def has_records(self) -> bool:
        """Whether there is something to store."""
        return bool(self.envelopes or self.rejected or self.quarantined)

    @property
    def messages(self) -> Sequence[Envelope]:
        """All messages to be stored."""
        return [*self.envelopes, *self.forwarded] if self.forwarded else self.envelopes

    def receipt(self, outcomes: Sequence[Outcome]) -> Receipt:
        """Return the receipt; `outcomes` are those of the sink.  Raises `InvalidRequest`, which is the `error`."""
        if self.error is not None:
            raise self.error
        return Receipt(
            source=self.source,
            received_at=self.received_at,
            envelopes=self.envelopes,
            outcomes=outcomes[: len(self.envelopes)] if self.envelopes else (),
            rejections=self.rejections,
            requests_this_second=self.requests_this_second,
            hint=self.hint,
            retry_count=self.retry_count,
        )
