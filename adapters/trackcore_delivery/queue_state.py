"""The state of each queue of a destination: its failures, and when it is tried next by the monotonic clock.

A wait within a process is measured by the monotonic clock.  The planned length of the wait and the wall time at which
it began are stored; a process that reads them waits for the rest.  If by the wall clock the wait would begin in the
future, or is over, nothing is left of it.  So no wait is longer than planned, whatever happens to the clock.
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
    """A queue, and how delivery from it is going.

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
        """Go on from the stored attempts of another process."""
        waited, rest = _split(attempts, now)
        self.failures = attempts.failures
        self.next_try = ticks + rest
        counted_at = ticks - min(waited, LONGEST_SECONDS)
        self.window = RetryWindow.from_text(attempts.seconds, attempts.marks, counted_at=counted_at)

    def reset(self) -> None:
        """Record that the destination has answered for messages of this queue."""
        self.failures = self.ambiguous_failures = 0
        self.next_try = None
        self.gave_up = False
        self.window = RetryWindow()

    def attempts(self, *, now: datetime, pause: float) -> Attempts:
        """Return the part that is stored."""
        window = self.window
        return Attempts(self.queue.name, self.failures, window.seconds, window.text(), now.timestamp(), pause)


OUTAGE = ""
"""The name under which the outage of a destination is stored, among its queues."""


@attrs.define
class Outage:
    """The destination as a whole cannot accept anything now: no queue is tried before `next_try`, a monotonic time."""

    failures: int = 0
    next_try: float | None = None

    def resume(self, attempts: Attempts, *, now: datetime, ticks: float) -> None:
        """Go on from the stored attempts of another process."""
        self.failures = attempts.failures
        self.next_try = ticks + _split(attempts, now)[1]


def _split(attempts: Attempts, now: datetime) -> tuple[float, float]:
    """Split a planned wait into the seconds that have passed and those that are left."""
    passed = now.timestamp() - attempts.paused_at
    if passed < 0:
        return 0.0, 0.0
    passed = min(passed, attempts.pause)
    return passed, attempts.pause - passed
