"""Keeping the newest duplicates: messages that were not stored because their source had sent their id before.

A commit of duplicates alone should write nothing when a client sends everything again.  So a process keeps `PER_SECOND`
of them at most; if there are more, some commits keep `AT_ONCE`, their last ones, and the others none; those are counted
as dropped.  The part as a whole is bounded like the others.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence

import attrs

from trackcore_sqlite.message_rows import VALUES

PER_SECOND = 200
AT_ONCE = 50

_OVERHEAD_BYTES = 200
"""The size that a duplicate counts in addition to its payload."""

_PAYLOAD = 9
"""The index of the payload in a row of `messages`."""

_INSERT = f"""
    INSERT INTO duplicates (
        source_id, message_id, call, user_id, anonymous_id, received_at, destinations, cautions, payload, inherited,
        found_by, retry_count, size
    ) VALUES ({VALUES}, ?)
"""
_COUNT_DROPPED = "UPDATE counters SET value = value + ? WHERE name = 'duplicates.dropped'"


@attrs.define
class DuplicateKeeper:
    """Chooses which duplicates are kept, of those that a process finds."""

    _clock: Callable[[], float] = time.monotonic
    _allowed: float = attrs.field(init=False, default=PER_SECOND)
    _allowed_at: float = attrs.field(init=False, default=attrs.Factory(lambda self: self._clock(), takes_self=True))
    _dropped: int = attrs.field(init=False, default=0)

    def insert(self, connection: sqlite3.Connection, rows: Sequence[tuple[object, ...]]) -> list[int]:
        """Keep the last of these rows, and return the size that each counts."""
        kept = rows[len(rows) - self._allow(len(rows)) :]
        self._dropped += len(rows) - len(kept)
        if not kept:
            return []
        sizes = [len(row[_PAYLOAD]) + _OVERHEAD_BYTES for row in kept]  # type: ignore[arg-type]
        connection.executemany(_INSERT, [(*row[1:], size) for row, size in zip(kept, sizes, strict=True)])
        if self._dropped:
            connection.execute(_COUNT_DROPPED, (self._dropped,))
            self._dropped = 0
        return sizes

    def _allow(self, count: int) -> int:
        """Return how many may be kept now: as many as there are, or `AT_ONCE`, or none."""
        now = self._clock()
        self._allowed = min(self._allowed + (now - self._allowed_at) * PER_SECOND, PER_SECOND)
        self._allowed_at = now
        taken = min(count, AT_ONCE)
        if taken > self._allowed:
            return 0
        self._allowed -= taken
        return taken
