"""A sink and its log in memory, for tests and for people who forward messages themselves."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count
from typing import Any, Generic, TypeVar

import attrs
import msgspec

from trackcore.log import EVERYTHING, Query, StoredMessage, StoredPayload, StoredQuarantined, StoredRejected, Totals
from trackcore.sinks import Envelope, Outcome, QuarantinedRequest, RejectedRecord

S = TypeVar("S")
T = TypeVar("T", bound=attrs.AttrsInstance)


class _Newest(Generic[T]):
    """The newest records, each with its number.  `extend` and `zip` are atomic, so threads need no lock here."""

    def __init__(self, most: int) -> None:
        self.numbered = deque[tuple[T, int]](maxlen=most)
        self._numbers = count(1)

    @property
    def dropped(self) -> int:
        return self.numbered[0][1] - 1 if self.numbered else 0

    def extend(self, records: Sequence[T]) -> None:
        self.numbered.extend(zip(records, self._numbers, strict=False))

    def read(self, kind: Callable[..., S], matches: Callable[[T], bool], limit: int | None) -> Iterator[S]:
        found = (
            kind(seq=seq, **attrs.asdict(record, recurse=False))
            for record, seq in tuple(self.numbered)
            if matches(record)
        )
        return _newest(found, limit)


_EMPTY: Any = attrs.Factory(lambda sink: _Newest(sink.keep_rejected), takes_self=True)


@attrs.define
class MemorySink:
    """A sink that keeps, in memory, all messages and the newest `keep_rejected` of the rejected and the quarantined."""

    keep_rejected: int = 10_000
    envelopes: list[Envelope] = attrs.field(init=False, factory=list)
    _rejected: _Newest[RejectedRecord] = attrs.field(init=False, default=_EMPTY)
    _quarantined: _Newest[QuarantinedRequest] = attrs.field(init=False, default=_EMPTY)
    _claims: dict[tuple[str, str], object] = attrs.field(init=False, factory=dict)

    @property
    def rejected(self) -> list[RejectedRecord]:
        """The rejected messages and requests, the oldest first."""
        return [record for record, _ in self._rejected.numbered]

    @property
    def quarantined(self) -> list[QuarantinedRequest]:
        """The quarantined requests, the oldest first."""
        return [request for request, _ in self._quarantined.numbered]

    @property
    def log(self) -> MemoryLog:
        """The log of what it keeps."""
        return MemoryLog(self.envelopes, self._rejected, self._quarantined)

    def store(
        self,
        envelopes: Sequence[Envelope] = (),
        *,
        rejected: Sequence[RejectedRecord] = (),
        quarantined: Sequence[QuarantinedRequest] = (),
    ) -> Sequence[Outcome]:
        """See `Sink.store`.  `setdefault`, `append` and `extend` are atomic, so threads need no lock here."""
        self._rejected.extend(rejected)
        self._quarantined.extend(quarantined)
        return [self._store_one(envelope) for envelope in envelopes]

    def check_ready(self) -> None:
        """Memory is always ready."""

    async def store_async(
        self,
        envelopes: Sequence[Envelope] = (),
        *,
        rejected: Sequence[RejectedRecord] = (),
        quarantined: Sequence[QuarantinedRequest] = (),
    ) -> Sequence[Outcome]:
        """See `AsyncSink.store_async`."""
        return self.store(envelopes, rejected=rejected, quarantined=quarantined)

    async def check_ready_async(self) -> None:
        """Memory is always ready."""

    def _store_one(self, envelope: Envelope) -> Outcome:
        claim = object()
        if self._claims.setdefault((envelope.source, envelope.message_id), claim) is not claim:
            return Outcome.DUPLICATE
        self.envelopes.append(envelope)
        return Outcome.STORED


@attrs.frozen
class MemoryLog:
    """Reads what a `MemorySink` keeps: a `Log`.  Messages are numbered from 1 on."""

    _envelopes: Sequence[Envelope]
    _rejected: _Newest[RejectedRecord]
    _quarantined: _Newest[QuarantinedRequest]

    def messages(self, query: Query = EVERYTHING) -> Iterator[StoredMessage]:
        """See `Log.messages`."""
        return self.tail(query).read()

    def payloads(self, query: Query = EVERYTHING) -> Iterator[StoredPayload]:
        """See `Log.payloads`."""
        return (_payload(stored.seq, self._envelopes[stored.seq - 1]) for stored in self.messages(query))

    def tail(self, query: Query = EVERYTHING) -> MemoryTail:
        """See `Log.tail`."""
        return MemoryTail(self._envelopes, query)

    def rejected(self, query: Query = EVERYTHING) -> Iterator[StoredRejected]:
        """See `Log.rejected`."""
        return self._rejected.read(StoredRejected, query.matches_rejected, query.limit)

    def quarantined(self, query: Query = EVERYTHING) -> Iterator[StoredQuarantined]:
        """See `Log.quarantined`."""
        return self._quarantined.read(StoredQuarantined, query.matches_quarantined, query.limit)

    def totals(self) -> Totals:
        """See `Log.totals`."""
        return Totals(
            messages=len(self._envelopes),
            rejected=len(self._rejected.numbered),
            rejected_dropped=self._rejected.dropped,
            quarantined=len(self._quarantined.numbered),
            quarantined_dropped=self._quarantined.dropped,
        )


@attrs.define
class MemoryTail:
    """A `Tail` of a `MemoryLog`."""

    _envelopes: Sequence[Envelope]
    _query: Query
    _end: int = attrs.field(init=False, default=0)

    def read(self) -> Iterator[StoredMessage]:
        """See `Tail.read`."""
        end = len(self._envelopes)
        numbered = enumerate(self._envelopes[self._end : end], self._end + 1)
        found = (
            stored
            for seq, envelope in numbered
            if self._query.matches_message(stored := _message(seq, envelope), envelope.payload)
        )
        yield from _newest(found, None if self._end else self._query.limit)
        self._end = end

    def close(self) -> None:
        """See `Tail.close`."""


def _newest(found: Iterable[S], limit: int | None) -> Iterator[S]:
    return iter(found if limit is None else deque(found, maxlen=limit))


def _message(seq: int, envelope: Envelope) -> StoredMessage:
    return StoredMessage(
        seq=seq,
        source=envelope.source,
        call=envelope.call,
        received_at=envelope.received_at,
        destinations=envelope.destinations,
        warnings=tuple(map(msgspec.to_builtins, envelope.warnings)),
        message=msgspec.json.decode(envelope.payload),
        inherited=envelope.inherited,
        found_by=envelope.found_by,
        retry_count=envelope.retry_count,
    )


def _payload(seq: int, envelope: Envelope) -> StoredPayload:
    return StoredPayload(
        seq,
        envelope.source,
        envelope.message_id,
        envelope.call,
        envelope.user_id or envelope.anonymous_id,
        envelope.received_at,
        envelope.destinations,
        envelope.payload,
    )
