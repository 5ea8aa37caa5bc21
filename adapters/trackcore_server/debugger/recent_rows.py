"""The newest rows of the log, read a few times per second however many pages ask for them."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import attrs
import msgspec
from trackcore_forks import renew_in_forks
from trackcore_sqlite import SqliteBrowser

from trackcore import PARTS, Query
from trackcore.text import encode_json
from trackcore_server.debugger.rows import ROWS

LISTED = 100
"""Rows of one part in one answer."""

_FRESH_SECONDS = 0.2
_BUSY_SECONDS = 0.8
"""How old the rows may be; the second while more arrive than are listed, too many to read."""


class TailRow(NamedTuple):
    """A row as JSON text, with its sort keys: the number within its part, and the time of reception."""

    seq: int
    received_at: datetime
    row: msgspec.Raw


def tail_row(part: str, record: Any) -> TailRow:
    """Make the row of a record."""
    return TailRow(record.seq, record.received_at, msgspec.Raw(encode_json(ROWS[part](record))))


class Newest(NamedTuple):
    """The last number and the newest rows (newest first) of each part of the log, and its newest stretch."""

    ends: Mapping[str, int]
    rows: Mapping[str, Sequence[TailRow]]
    stretch: str


_NOTHING = Newest({}, {}, "")


@attrs.define(eq=False)
class RecentRows:
    """Caches the newest `LISTED` rows of each part as text, so that all pages of a process cost as much as one."""

    _log: SqliteBrowser
    _newest: Newest = attrs.field(init=False, default=_NOTHING)
    _version: tuple[int, int] | None = attrs.field(init=False, default=None)
    _fresh_seconds: float = attrs.field(init=False, default=_FRESH_SECONDS)
    _read_at: float = attrs.field(init=False, default=-_FRESH_SECONDS)
    _lock: threading.Lock = attrs.field(init=False, factory=threading.Lock)

    def __attrs_post_init__(self) -> None:
        renew_in_forks(self)

    def renew_after_fork(self) -> None:
        """Reset after a fork: the copied lock of the parent may be held."""
        self._lock = threading.Lock()

    def newest(self, seen: str) -> Newest:
        """Return the newest rows, at most a fifth of a second old, or a little more while many arrive.

        A caller that has seen another stretch of the log as the newest gets the current rows.
        """
        with self._lock:
            is_behind = seen not in {"", self._newest.stretch}
            if is_behind or time.monotonic() - self._read_at >= self._fresh_seconds:
                self._refresh()
                self._read_at = time.monotonic()
            return self._newest

    def _refresh(self) -> None:
        version = self._log.version()
        if version == self._version:
            self._fresh_seconds = _FRESH_SECONDS
            return
        before, self._newest = self._newest, self._read()
        came = sum(end - before.ends.get(part, 0) for part, end in self._newest.ends.items())
        self._fresh_seconds = _FRESH_SECONDS if came < LISTED else _BUSY_SECONDS
        self._version = version

    def _read(self) -> Newest:
        ends, stretch = self._log.head()
        if not self._log.has_grown_from(self._newest.stretch, self._newest.ends):
            self._newest = _NOTHING
        rows: dict[str, Sequence[TailRow]] = {}
        for part in PARTS:
            known = self._newest.ends.get(part, 0)
            rows[part] = self._newest.rows.get(part, ())
            if ends[part] != known:
                after = max(known, ends[part] - LISTED) if known < ends[part] else 0
                found = self._log.listed(part, Query(limit=LISTED), after=after, to=ends[part]).rows
                fresh = [tail_row(part, record) for record in found]
                rows[part] = [*fresh, *(rows[part] if after else ())][:LISTED]
        return Newest(ends, rows, stretch)
