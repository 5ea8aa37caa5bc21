"""The measurement of code in this process: the CPU time of each contestant for the same items, in turns."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from typing import Any

from tables import middle

from trackcore import Envelope, Outcome, QuarantinedRequest, RejectedRecord


class Nowhere:
    """A sink that costs nothing."""

    def store(
        self,
        envelopes: Sequence[Envelope] = (),
        *,
        rejected: Sequence[RejectedRecord] = (),
        quarantined: Sequence[QuarantinedRequest] = (),
    ) -> Sequence[Outcome]:
        """Forget everything."""
        del rejected, quarantined
        return [Outcome.STORED] * len(envelopes)

    def check_ready(self) -> None:
        """It is always ready."""


def compare(contestants: dict[str, Callable[[Any], object]], items: Sequence[Any], rounds: int) -> dict[str, float]:
    """Return the median CPU seconds of each for one item."""
    found: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, handle in contestants.items():
            gc.collect()
            started = time.thread_time()
            for item in items:
                handle(item)
            found[name].append((time.thread_time() - started) / len(items))
    return {name: middle(times) for name, times in found.items()}


def fastest(contestants: dict[str, Callable[[Any], object]], items: Sequence[Any], rounds: int) -> dict[str, float]:
    """Return the CPU seconds of each for one item: the mean of the fastest round of every item.

    Contestants take turns with each item, so small differences show on a machine that has other work.
    """
    best = {name: [float("inf")] * len(items) for name in contestants}
    for _ in range(rounds):
        gc.collect()
        for place, item in enumerate(items):
            for name, handle in contestants.items():
                started = time.thread_time_ns()
                handle(item)
                best[name][place] = min(best[name][place], (time.thread_time_ns() - started) / 1e9)
    return {name: sum(times) / len(items) for name, times in best.items()}
