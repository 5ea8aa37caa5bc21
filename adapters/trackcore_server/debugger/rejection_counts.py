"""A cache of the newest rejections by code and time, so that each is read once for all charts."""

from __future__ import annotations

from datetime import datetime

import attrs
from trackcore_sqlite import SqliteBrowser

from trackcore_server.debugger.deadline import Deadline

MAX_REJECTIONS = 4_000

_STEP = 500


@attrs.define
class RecentRejections:
    """Caches the newest `MAX_REJECTIONS` rejections of a log: first the new ones, then older ones, step by step."""

    _log: SqliteBrowser
    _found: list[tuple[int, datetime, str]] = attrs.field(init=False, factory=list)
    _reached: int = attrs.field(init=False, default=0)

    def since(self, time: datetime, end: int, deadline: Deadline) -> tuple[list[tuple[datetime, str]], bool]:
        """Return time and code of the rejections since a time, newest first, and whether the list is complete.

        `end` is the last sequence number of the rejected part.
        """
        newest = self._found[0][0] if self._found else 0
        if end > newest:
            fresh = self._log.codes(newest, end, _STEP)
            if not self._found or len(fresh) == _STEP:  # the records between are read again
                self._found, self._reached = fresh, fresh[-1][0] if fresh else 1
            else:
                self._found = [*fresh, *self._found][:MAX_REJECTIONS]
        while not self._is_whole(time):
            further = self._log.codes(0, self._reached - 1, _STEP)
            self._found = [*self._found, *further][:MAX_REJECTIONS]
            self._reached = further[-1][0] if len(further) == _STEP else 1
            if deadline.is_spent():
                break
        return [(at, code) for _, at, code in self._found if at >= time], self._is_whole(time)

    def _is_whole(self, time: datetime) -> bool:
        return self._reached <= 1 or len(self._found) >= MAX_REJECTIONS or self._found[-1][1] < time
