"""The newest rows of the log, read a few times a second however many pages ask for them."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import attrs
import msgspec
from trackcore_sqlite import SqliteBrowser
from trackcore_sqlitefile import renew_in_forks

from trackcore import PARTS, Query
from trackcore.text.jsontext import encode_json
from trackcore_server.debugger.rows import ROWS

LISTED = 100
"""Rows of one part in one answer."""

_FRESH_SECONDS = 0.2
_BUSY_SECONDS = 0.8
"""How old the rows may be; the second where more come than are listed, so that nobody could read them anyhow."""


class TailRow(NamedTuple):
    """A row, as JSON text, with what orders it: its number within its part, and when it was received."""

    seq: int
    received_at: datetime
    row: msgspec.Raw


def tail_row(part: str, record: Any) -> TailRow:
    """Make the row of a record."""
    return TailRow(record.seq, record.received_at, msgspec.Raw(encode_json(ROWS[part](record))))


class Newest(NamedTuple):
    """The last number of each part of the log, the newest rows of each, newest first, and the log's newest stretch."""

    ends: Mapping[str, int]
    rows: Mapping[str, Sequence[TailRow]]
    stretch: str


_NOTHING = Newest({}, {}, "")


@attrs.define(eq=False)
class RecentRows:
    """Remembers the newest `LISTED` rows of each part, as text, so that all pages of a process cost what one does."""

    _log: SqliteBrowser
    _newest: Newest = attrs.field(init=False, factory=lambda: _NOTHING)
    _version: tuple[int, int] | None = attrs.field(init=False, default=None)
    _fresh_seconds: float = attrs.field(init=False, default=_FRESH_SECONDS)
    _read_at: float = attrs.field(init=False, default=-_FRESH_SECONDS)
    _lock: threading.Lock = attrs.field(init=False, factory=threading.Lock)

    def __attrs_post_init__(self) -> None:
        renew_in_forks(self)

    def start_anew(self) -> None:
        """Begin as a new process does: a lock of a parent may have been copied in a held state."""
        self._lock = threading.Lock()

    def newest(self, seen: str) -> Newest:
        """Return the newest rows, a fifth of a second old, or a little more where many come.

        Who has seen another stretch of the log as the newest gets what is there now.
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
