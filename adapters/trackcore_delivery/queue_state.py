"""Tracks: how each lane of a destination is doing, and when it is tried next, told by the monotonic clock.

A wait within a process is measured by the monotonic clock.  What is stored of it is how long the wait was planned and
the wall time at which it began; a process that reads it waits for the rest.  Where the wall clock shows that it would
begin in the future, or that it is over, nothing is left to wait for: so no wait is longer than it was planned,
whatever happens to the clock.
"""

from __future__ import annotations

from datetime import datetime

import attrs

from trackcore_delivery.backoff import LONGEST_SECONDS
from trackcore_delivery.queues import DeliveryQueue
from trackcore_delivery.results import Attempts
from trackcore_delivery.retry_window import RetryWindow


@attrs.define
class QueueState:
    """A lane, and how it is doing.

    Attributes:
        count: how many messages are tried at once.
        ambiguous_failures: how many attempts in a row have failed in a way that one user's messages may cause.
        next_try: a time of the monotonic clock.
    """

    queue: DeliveryQueue
    count: int
    failures: int = 0
    ambiguous_failures: int = 0
    next_try: float | None = None
    gave_up: bool = False
    window: RetryWindow = attrs.field(factory=RetryWindow)

    def resume(self, attempts: Attempts, *, now: datetime, ticks: float) -> None:
        """Go on where another process was."""
        waited, rest = _split(attempts, now)
        self.failures = attempts.failures
        self.next_try = ticks + rest
        counted_at = ticks - min(waited, LONGEST_SECONDS)
        self.window = RetryWindow.from_text(attempts.seconds, attempts.marks, counted_at=counted_at)

    def reset(self) -> None:
        """Note that the destination has answered for messages of this lane."""
        self.failures = self.ambiguous_failures = 0
        self.next_try = None
        self.gave_up = False
        self.window = RetryWindow()

    def attempts(self, *, now: datetime, pause: float) -> Attempts:
        """Return what is stored of it."""
        return Attempts(
            queue=self.queue.name,
            failures=self.failures,
            seconds=self.window.seconds,
            marks=self.window.text(),
            paused_at=now,
            pause=pause,
        )


OUTAGE = ""
"""Under which name the outage of a destination is stored, among its lanes."""


@attrs.define
class Outage:
    """The destination as a whole cannot take anything now: no lane is tried before `next_try`, which is monotonic."""

    failures: int = 0
    next_try: float | None = None

    def resume(self, attempts: Attempts, *, now: datetime, ticks: float) -> None:
        """Go on where another process was."""
        self.failures = attempts.failures
        self.next_try = ticks + _split(attempts, now)[1]

    def end(self) -> None:
        """Note that the destination has answered."""
        self.failures = 0
        self.next_try = None

    def attempts(self, *, now: datetime, pause: float) -> Attempts:
        """Return what is stored of it."""
        return Attempts(queue=OUTAGE, failures=self.failures, seconds=0.0, marks="[]", paused_at=now, pause=pause)


def _split(attempts: Attempts, now: datetime) -> tuple[float, float]:
    """Split a planned wait: how much of it has passed, and how much is left."""
    passed = (now - attempts.paused_at).total_seconds()
    if passed < 0:
        return 0.0, 0.0
    passed = min(passed, attempts.pause)
    return passed, attempts.pause - passed
