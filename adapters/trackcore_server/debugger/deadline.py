"""Time budgets: what keeps an answer short, however slow the disk is and however large the log."""

from __future__ import annotations

import time
from collections.abc import Callable

import attrs


@attrs.define
class Deadline:
    """So many seconds from now on.  Who works by steps asks after each whether there is time for another."""

    _seconds: float
    _clock: Callable[[], float] = time.monotonic
    _end: float = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._end = self._clock() + self._seconds

    def is_spent(self) -> bool:
        """Tell whether the time is over."""
        return self._clock() >= self._end
