"""Keeping the newest duplicates: what was not stored, since its source had sent a message of its id before.

A client that sends everything again is no reason to write everything again: a commit keeps at most `MOST_AT_ONCE` of
its duplicates, the last ones, and counts the others as dropped.  The part as a whole is bounded like the others.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

MOST_AT_ONCE = 50

_OVERHEAD_BYTES = 200
"""What a duplicate is counted for beside its payload."""

_PAYLOAD = 9
"""Where in a row of `messages` the payload stands."""

_INSERT = f"""
    INSERT INTO duplicates (
        source_id, message_id, call, user_id, anonymous_id, received_at, destinations, cautions, payload, inherited,
        found_by, size
    ) VALUES ({", ".join("?" * 12)})
"""
_COUNT_DROPPED = "UPDATE counters SET value = value + ? WHERE name = 'duplicates.dropped'"


def insert_duplicates(connection: sqlite3.Connection, rows: Sequence[tuple[object, ...]]) -> int:
    """Keep the last of these rows of `messages`, and return for how many bytes they count."""
    kept = rows[-MOST_AT_ONCE:]
    sizes = [len(row[_PAYLOAD]) + _OVERHEAD_BYTES for row in kept]  # type: ignore[arg-type]
    connection.executemany(_INSERT, [(*row[1:], size) for row, size in zip(kept, sizes, strict=True)])
    if len(rows) > len(kept):
        connection.execute(_COUNT_DROPPED, (len(rows) - len(kept),))
    return sum(sizes)
