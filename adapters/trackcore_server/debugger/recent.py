"""The bytes as received of the newest messages, remembered in memory: the log keeps a message as it was stored."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import attrs
from trackcore_forks import renew_in_forks

from trackcore import Envelope, Outcome, QuarantinedRequest, RejectedRecord, Sink

MOST_BYTES = 8 << 20

_OVERHEAD_BYTES = 500
"""What a message is counted for beside its two texts."""


class _Recorded(NamedTuple):
    """What is remembered of a message."""

    message_id: str
    payload: bytes
    received: bytes


@attrs.define(eq=False)
class RecordingSink:
    """A sink that stores in another, and remembers the newest messages of this process as they came."""

    sink: Sink
    _most_bytes: int = MOST_BYTES
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
        if envelopes:
            self._remember([_Recorded(found.message_id, found.payload, bytes(found.received)) for found in envelopes])
        return outcomes

    def check_ready(self) -> None:
        """See `trackcore.Sink.check_ready`."""
        self.sink.check_ready()

    def received(self, message_id: str, payload: bytes) -> bytes | None:
        """Give the source text of a message by what was stored of it; None where it is not remembered."""
        with self._lock:
            requests = list(self._requests)
        found = (
            kept.received
            for _, messages in reversed(requests)
            for kept in messages
            if kept.message_id == message_id and kept.payload == payload
        )
        return next(found, None) or None

    def renew_after_fork(self) -> None:
        """Begin as a new process does: a lock of a parent may have been copied in a held state."""
        self._lock = threading.Lock()

    def _remember(self, messages: Sequence[_Recorded]) -> None:
        size = sum(len(kept.received) + len(kept.payload) + _OVERHEAD_BYTES for kept in messages)
        with self._lock:
            self._requests.append((size, messages))
            self._bytes += size
            while self._bytes > self._most_bytes:
                self._bytes -= self._requests.popleft()[0]
