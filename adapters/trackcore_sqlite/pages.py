"""Reading a part of the log page by page.

A call into SQLite can be neither interrupted nor observed.  So each call examines a *window* of sequence numbers and
returns a page at most: a query that matches little still returns soon, and its progress can be shown.

Sequence numbers rise with time, except where a clock was set back and for reprocessed messages, which keep their time.
So a query since some time need not examine all messages before it.  The messages at some thousand numbers are looked
at, spread evenly, and reading begins before the first of them that is new enough.  Reprocessed messages are found
wherever they are.  Messages can be missed only if a clock was ahead for a short time, during which fewer were stored
than lie between two of these numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import attrs

from trackcore import Part, Query
from trackcore_sqlite.queries import json_array, where
from trackcore_sqlite.times import milliseconds

Row: TypeAlias = tuple[Any, ...]

_WINDOW = 10_000
_FIRST_PAGE = 100
_PAGE = 1_000
"""The first pages are small, since many readers want no more than a few rows."""

_PLACES = 2_048


@attrs.frozen
class Pages:
    """The rows of a part that match a query, the limit aside; the first column of `select` is their number.

    `read` runs a statement.  `on_progress` is called after each with how many numbers were examined, and of how many.
    """

    _read: Callable[[str, Sequence[object]], list[Row]]
    _part: Part
    _query: Query
    _select: str = attrs.field(kw_only=True)
    _on_progress: Callable[[int, int], object] = attrs.field(kw_only=True)

    def rising(self, after: int, last: int | None) -> Iterator[Row]:
        """Yield the rows with `after < seq <= last` in their order.  Without `last`, rows that come meanwhile too."""
        first, end = self._bounds(after, last)
        low, size = first, _FIRST_PAGE
        while low < end:
            high = min(low + _WINDOW, end)
            page = self._page(low, high, "seq", size)
            low = page[-1][0] if len(page) == size else high
            self._on_progress(low - first, end - first)
            yield from page
            size = min(_PAGE, 4 * size)
            if low >= end and last is None:
                end = self._end()

    def newest(self, after: int, last: int | None, limit: int) -> Iterator[Row]:
        """Yield the newest rows with `after < seq <= last`, in their order."""
        first, end = self._bounds(after, last)
        high = end
        found: list[Row] = []
        while high > first and len(found) < limit:
            low = max(first, high - _WINDOW)
            found += self._page(low, high, "seq DESC", limit - len(found))
            high = low
            self._on_progress(end - high, end - first)
        return reversed(found)

    def _page(self, low: int, high: int, order: str, size: int) -> list[Row]:
        condition, values = where(self._part, self._query, after=low, last=high)
        return self._read(f"{self._select} {condition} ORDER BY {order} LIMIT ?", (*values, size))

    def _bounds(self, after: int, last: int | None) -> tuple[int, int]:
        """Return `after` and `last` without the numbers that have no row, or none that is new enough."""
        ((first,),) = self._read(f"SELECT coalesce(min(seq), 1) FROM {self._part} WHERE seq > ?", (after,))
        end = self._end() if last is None else min(last, self._end())
        low = max(after, first - 1)
        if self._part == "messages" and self._query.since is not None and end - low > _PLACES * 2:
            low = self._before(milliseconds(self._query.since), low, end)
        return low, end

    def _before(self, since: int, low: int, end: int) -> int:
        """Return a number between two below which no message was received since a time; see the module."""
        places = [low + (end - low) * place // _PLACES for place in range(_PLACES)]
        ((place,),) = self._read(_NEW_ENOUGH, (json_array(places), since))
        return places[-1] if place is None else places[max(0, place - 1)]

    def _end(self) -> int:
        ((end,),) = self._read(f"SELECT coalesce(max(seq), 0) FROM {self._part}", ())
        return int(end)


_NEW_ENOUGH = """
    SELECT min(key) FROM json_each(?)
    WHERE (SELECT received_at FROM messages WHERE seq > value ORDER BY seq LIMIT 1) >= ?
"""
