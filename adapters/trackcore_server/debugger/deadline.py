"""Deadlines, which keep an answer fast however slow the disk is and however large the log."""

from __future__ import annotations

import time
from collections.abc import Callable

import attrs


@attrs.define
class Deadline:
    """A number of seconds from now on.  Work in steps checks after each whether there is time for another."""

    _seconds: float
    _clock: Callable[[], float] = time.monotonic
    _end: float = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._end = self._clock() + self._seconds

    def is_spent(self) -> bool:
        """Return whether the time is over."""
        return self._clock() >= self._end
