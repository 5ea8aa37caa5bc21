"""The received bytes of the newest messages, kept in memory: the log contains messages only as stored."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import attrs
from trackcore_forks import renew_in_forks

from trackcore import AsyncSink, Envelope, Outcome, QuarantinedRequest, RejectedRecord

MAX_BYTES = 8 << 20

_OVERHEAD_BYTES = 500
"""The assumed size of a message in memory without its two texts."""


class _Recorded(NamedTuple):
    """The texts of one message."""

    message_id: str
    payload: bytes
    received: bytes


@attrs.define(eq=False)
class RecordingSink:
    """A sink that stores in another sink, and keeps the newest messages of this process as received."""

    sink: AsyncSink
    _max_bytes: int = MAX_BYTES
    _requests: deque[tuple[int, Sequence[_Recorded]]] = attrs.field(init=False, factory=deque)
    _bytes: int = attrs.field(init=False, default=0)
    _lock: threading.Lock = attrs.field(init=False, factory=threading.Lock)

    def __attrs_post_init__(self) -> None:
        renew_in_forks(self)

    def store(
        self,
        envelopes: Sequence[Envelope] = (),
        *,
        rejected: Sequence[RejectedRecord] = (),
        quarantined: Sequence[QuarantinedRequest] = (),
    ) -> Sequence[Outcome]:
        """See `trackcore.Sink.store`."""
        outcomes = self.sink.store(envelopes, rejected=rejected, quarantined=quarantined)
        self._record(envelopes, outcomes)
        return outcomes

    async def store_async(
        self,
        envelopes: Sequence[Envelope] = (),
        *,
        rejected: Sequence[RejectedRecord] = (),
        quarantined: Sequence[QuarantinedRequest] = (),
    ) -> Sequence[Outcome]:
        """See `trackcore.AsyncSink.store_async`."""
        outcomes = await self.sink.store_async(envelopes, rejected=rejected, quarantined=quarantined)
        self._record(envelopes, outcomes)
        return outcomes

    def check_ready(self) -> None:
        """See `trackcore.Sink.check_ready`."""
        self.sink.check_ready()

    async def check_ready_async(self) -> None:
        """See `trackcore.AsyncSink.check_ready_async`."""
        await self.sink.check_ready_async()

    def received(self, message_id: str, payload: bytes) -> bytes | None:
        """Return a message as received, found by its stored form; None if it is not in memory."""
        with self._lock:
            requests = list(self._requests)
        kept = (message for _, messages in reversed(requests) for message in messages)
        found = (one.received for one in kept if one.message_id == message_id and one.payload == payload)
        return next(found, None) or None

    def renew_after_fork(self) -> None:
        """Reset after a fork: the copied lock of the parent may be held."""
        self._lock = threading.Lock()

    def _record(self, envelopes: Sequence[Envelope], outcomes: Sequence[Outcome]) -> None:
        if Outcome.SUPPRESSED in outcomes:
            pairs = zip(envelopes, outcomes, strict=True)
            envelopes = [envelope for envelope, outcome in pairs if outcome is not Outcome.SUPPRESSED]
        if not envelopes:
            return
        messages = [_Recorded(found.message_id, found.payload, bytes(found.received)) for found in envelopes]
        size = sum(len(kept.received) + len(kept.payload) + _OVERHEAD_BYTES for kept in messages)
        with self._lock:
            self._requests.append((size, messages))
            self._bytes += size
            while self._bytes > self._max_bytes:
                self._bytes -= self._requests.popleft()[0]
