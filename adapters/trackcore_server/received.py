"""The bytes as received of the newest messages, remembered in memory: the log keeps a message as it was stored."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence

import attrs

from trackcore import Envelope, Outcome, QuarantinedRequest, RejectedRecord, Sink

MOST_BYTES = 8 << 20

_OVERHEAD_BYTES = 500
"""What a message is counted for beside its two texts."""


@attrs.define
class WatchedSink:
    """A sink that stores in another, and remembers the newest messages of this process as they came."""

    sink: Sink
    _most_bytes: int = MOST_BYTES
    _requests: deque[tuple[int, Sequence[Envelope]]] = attrs.field(init=False, factory=deque)
    _bytes: int = attrs.field(init=False, default=0)
    _lock: threading.Lock = attrs.field(init=False, factory=threading.Lock)

    def store(
        self,
        envelopes: Sequence[Envelope] = (),
        *,
        rejected: Sequence[RejectedRecord] = (),
        quarantined: Sequence[QuarantinedRequest] = (),
    ) -> Sequence[Outcome]:
        """See `trackcore.Sink.store`."""
        outcomes = self.sink.store(envelopes, rejected=rejected, quarantined=quarantined)
        if envelopes:
            size = sum(len(envelope.received) + len(envelope.payload) for envelope in envelopes)
            self._remember(size + _OVERHEAD_BYTES * len(envelopes), envelopes)
        return outcomes

    def check_ready(self) -> None:
        """See `trackcore.Sink.check_ready`."""
        self.sink.check_ready()

    def received(self, message_id: str, payload: bytes) -> bytes | None:
        """Give the source text of a message by what was stored of it; None where it is not remembered."""
        with self._lock:
            requests = list(self._requests)
        found = (
            envelope.received
            for _, envelopes in reversed(requests)
            for envelope in envelopes
            if envelope.message_id == message_id and envelope.payload == payload
        )
        return next(found, None) or None

    def _remember(self, size: int, envelopes: Sequence[Envelope]) -> None:
        with self._lock:
            self._requests.append((size, envelopes))
            self._bytes += size
            while self._bytes > self._most_bytes:
                self._bytes -= self._requests.popleft()[0]
