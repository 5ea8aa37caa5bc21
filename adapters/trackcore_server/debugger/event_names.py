"""The events that were received lately, with their counts, to suggest them for a filter.

Each message is read once for all pages: the newest first, then further back with each answer, until `MOST_COUNTED` are
counted.  From then on the oldest make room for new ones.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable

import attrs
from trackcore_forks import renew_in_forks
from trackcore_sqlite import Head, SqliteBrowser

from trackcore import JSONObject
from trackcore_server.debugger.deadline import Deadline

MOST_COUNTED = 20_000
MOST_NAMES = 50
SECONDS = 0.02

FRESH_SECONDS = 5.0
"""How old the counts may be, once all are counted."""

_STEP = 50


@attrs.define(eq=False)
class EventNames:
    """Counts the names of the newest messages of a log."""

    _log: SqliteBrowser
    _deadline: Callable[[], Deadline] = lambda: Deadline(SECONDS)
    _monotonic: Callable[[], float] = time.monotonic
    _fresh_until: float = attrs.field(init=False, default=-math.inf)
    _head: Head | None = attrs.field(init=False, default=None)
    _found: deque[tuple[int, str]] = attrs.field(init=False, factory=deque)
    _counts: Counter[str] = attrs.field(init=False, factory=Counter)
    _newest: int = attrs.field(init=False, default=0)
    _reached: int = attrs.field(init=False, default=1)
    _lock: threading.Lock = attrs.field(init=False, factory=threading.Lock)

    def __attrs_post_init__(self) -> None:
        renew_in_forks(self)

    def renew_after_fork(self) -> None:
        """Reset after a fork: the copied lock of the parent may be held."""
        self._lock = threading.Lock()

    def like(self, text: str) -> JSONObject:
        """Return the most frequent names that contain a text, without regard to case, as `[name, count]`.

        `counted` is how many of the newest messages were counted; with `isPartial` the next answer knows more.
        """
        with self._lock:
            if self._monotonic() >= self._fresh_until:
                self._count(self._deadline())
            wanted = text.casefold()
            names = [one for one in self._counts.most_common() if wanted in one[0].casefold()]
            counted = self._newest - self._reached + 1
            return {"names": names[:MOST_NAMES], "counted": counted, "isPartial": not self._is_whole(counted)}

    def _is_whole(self, counted: int) -> bool:
        return self._reached <= 1 or counted >= MOST_COUNTED

    def _count(self, deadline: Deadline) -> None:
        before, self._head = self._head, self._log.head()
        end = self._head.ends["messages"]
        is_known = before is not None and self._log.has_grown_from(before.stretch, before.ends)
        if not is_known or end - self._newest > MOST_COUNTED:
            self._found.clear()
            self._counts.clear()
            self._newest, self._reached = end, end + 1
        while end > self._newest:
            last = min(self._newest + _STEP, end)
            self._add(self._log.names(self._newest, last, _STEP), are_newer=True)
            self._newest = last
            if deadline.is_spent():
                break
        while not self._is_whole(self._newest - self._reached + 1):
            after = max(self._reached - 1 - _STEP, 0)
            self._add(self._log.names(after, self._reached - 1, _STEP), are_newer=False)
            self._reached = after + 1
            if deadline.is_spent():
                break
        self._drop_oldest()
        if self._newest == end and self._is_whole(self._newest - self._reached + 1):
            self._fresh_until = self._monotonic() + FRESH_SECONDS

    def _add(self, found: list[tuple[int, str | None]], *, are_newer: bool) -> None:
        named = [(seq, name) for seq, name in found if name]
        self._counts.update(name for _, name in named)
        if are_newer:
            self._found.extendleft(reversed(named))
        else:
            self._found.extend(named)

    def _drop_oldest(self) -> None:
        self._reached = max(self._reached, self._newest - MOST_COUNTED + 1)
        while self._found and self._found[-1][0] < self._reached:
            _, name = self._found.pop()
            self._counts[name] -= 1
            if not self._counts[name]:
                del self._counts[name]
