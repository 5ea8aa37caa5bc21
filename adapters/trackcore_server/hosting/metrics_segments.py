"""The memory in which the workers count, and which of its segments each worker has.

A worker gets the first segment that no other one has, and goes on from the numbers in it.  So nothing is lost with a
worker, and there are as many segments as workers that have ever run at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any

from trackcore import Metrics, Outcome, PendingReceipt
from trackcore_server.delivery.child import SEGMENT as OF_DELIVERY
from trackcore_server.process.shared_cells import SharedMemory


class MetricsSegments:
    """The segments of a server, in the process that starts the workers."""

    def __init__(self) -> None:
        self._memory: SharedMemory | None = None
        self._taken: dict[int, int] = {}  # by the age of the worker, which no other one has

    @property
    def memory(self) -> SharedMemory:
        """The memory, made when it is first needed."""
        if self._memory is None:
            self._memory = SharedMemory.create()
            self._memory.reserve(OF_DELIVERY)
        return self._memory

    def take(self, worker: Any) -> None:
        """Reserve a segment for a worker that is about to be started."""
        taken = {OF_DELIVERY, *self._taken.values()}
        number = next(number for number in count() if number not in taken)
        self.memory.reserve(number)
        self._taken[worker.age] = number

    def free(self, worker: Any) -> None:
        """Let another worker have the segment of one that has ended."""
        self._taken.pop(worker.age, None)

    def metrics_of(self, worker: Any) -> Metrics:
        """Return what a worker counts in, in its own process; it counts nothing if nothing is exported."""
        number = self._taken.get(worker.age)
        return Uncounted() if number is None else Metrics(self.memory.segment(number))


class Uncounted(Metrics):
    """Counts nothing: nobody could read the numbers, and counting is a tenth of the cost of a single message."""

    def begin_request(self) -> None:
        """Do nothing."""

    def end_request(self) -> None:
        """Do nothing."""

    def count_request(self, *, route: str, status: int, seconds: float) -> None:
        """Do nothing."""

    def count_body(self, *, route: str, size: int) -> None:
        """Do nothing."""

    def count_commit(self, seconds: float, messages: int) -> None:
        """Do nothing."""

    def count_stored(self, pending: PendingReceipt, outcomes: Sequence[Outcome]) -> None:
        """Do nothing."""
