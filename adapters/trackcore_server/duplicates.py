"""Duplicates, which are in no log, remembered in memory so that they can be shown."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence

import attrs

from trackcore import Envelope, Outcome, QuarantinedRequest, RejectedRecord, Sink

KEPT = 500


@attrs.frozen(kw_only=True)
class Duplicate:
    """A message that was not stored, since its source had sent one of its id before.

    `seq` rises with the time, so that numbers of several processes can be compared.
    """

    seq: int
    envelope: Envelope


@attrs.define
class WatchedSink:
    """A sink that stores in another, and remembers the newest duplicates of this process."""

    sink: Sink
    _duplicates: deque[Duplicate] = attrs.field(init=False, factory=lambda: deque(maxlen=KEPT))
    _lock: threading.Lock = attrs.field(init=False, factory=threading.Lock)
    _last: int = attrs.field(init=False, default=0)

    def store(
        self,
        envelopes: Sequence[Envelope] = (),
        *,
        rejected: Sequence[RejectedRecord] = (),
        quarantined: Sequence[QuarantinedRequest] = (),
    ) -> Sequence[Outcome]:
        """See `trackcore.Sink.store`."""
        outcomes = self.sink.store(envelopes, rejected=rejected, quarantined=quarantined)
        if Outcome.DUPLICATE in outcomes:
            self._remember([pair[0] for pair in zip(envelopes, outcomes, strict=True) if pair[1] is Outcome.DUPLICATE])
        return outcomes

    def check_ready(self) -> None:
        """See `trackcore.Sink.check_ready`."""
        self.sink.check_ready()

    def newest(self) -> list[Duplicate]:
        """Give the remembered duplicates, newest first."""
        with self._lock:
            return list(reversed(self._duplicates))

    def _remember(self, envelopes: Sequence[Envelope]) -> None:
        with self._lock:
            for envelope in envelopes:
                self._last = max(self._last + 1, time.time_ns() // 1_000)
                self._duplicates.append(Duplicate(seq=self._last, envelope=envelope))
