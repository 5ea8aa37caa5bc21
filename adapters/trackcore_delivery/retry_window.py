"""The retry window: how long messages have been tried, counted by the monotonic clock.

Theory.  A wall clock jumps, so the difference of two of its times proves nothing: a jump of five hours would end a
window of four within a second, and a clock that is set back would make it last for a day.  So a window is measured in
two ways that need no wall clock.

- Time is counted by the monotonic clock of the process, from one failed attempt to the next.  The count is stored, and
  the next process goes on from there.  For the time between the two processes it adds the part of the planned wait that
  had passed, `LONGEST_SECONDS` at most.  So restarts neither begin a window again nor end it.
- How long a message has waited is known by its place.  Sixteen times in a window it is recorded how far its queue
  reached (a mark).  A message that a mark covers has waited for as long as has been counted since that mark.

A message expires when both agree: it waited while attempts failed, for the whole window.  It may stay for a sixteenth
of the window longer, never shorter.  Any answer, acceptance or rejection, resets the count.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import NamedTuple

import attrs
import msgspec

_MARKS = 16


class Place(NamedTuple):
    """The position of a message in its queue: a part of the queue, and a number within that part."""

    part: str
    number: int


class PlaceMark(NamedTuple):
    """How far each part of a queue reached when so many seconds had been counted."""

    seconds: float
    ends: Mapping[str, int]


_marks = msgspec.json.Decoder(list[PlaceMark])


@attrs.define
class RetryWindow:
    """Counts how long attempts have failed in a row.  `counted_at` is a time of the monotonic clock."""

    seconds: float = 0.0
    counted_at: float | None = None
    _marks: list[PlaceMark] = attrs.field(factory=list)

    @classmethod
    def from_text(cls, seconds: float, marks: str, *, counted_at: float) -> RetryWindow:
        """Build the count of another process from its `seconds` and `text()`."""
        return cls(seconds, counted_at, _marks.decode(marks))

    def text(self) -> str:
        """Return the marks as JSON, to be stored."""
        return msgspec.json.encode(self._marks).decode()

    def count(self, ticks: float, window: timedelta, ends: Callable[[], Mapping[str, int]]) -> None:
        """Count up to `ticks`, when an attempt failed; call `ends` for how far the queue reaches if a mark is due."""
        if self.counted_at is not None:
            self.seconds += max(0.0, ticks - self.counted_at)
        self.counted_at = ticks
        length = window.total_seconds()
        if (not self._marks or self.seconds - self._marks[-1].seconds >= length / _MARKS) and (found := ends()):
            self._marks.append(PlaceMark(self.seconds, dict(found)))
        passed = sum(self.seconds - mark.seconds >= length for mark in self._marks)
        del self._marks[: max(0, passed - 1)]  # ends only rise: the last of those that have passed reaches the furthest

    def is_over(self, place: Place, window: timedelta) -> bool:
        """Return whether a message has been tried, or has waited behind messages that were, for the whole window."""
        length = window.total_seconds()
        return any(
            self.seconds - mark.seconds >= length and place.number <= mark.ends.get(place.part, -1)
            for mark in self._marks
        )
