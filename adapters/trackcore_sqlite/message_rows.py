"""Messages as rows of the table `messages`."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import cache, lru_cache
from itertools import chain

from trackcore import Envelope
from trackcore_sqlite.message_ids import Key
from trackcore_sqlite.queries import json_array
from trackcore_sqlite.times import milliseconds

VALUES = "?, ?, ?, ?, ?, ?, ?, nullif(?, 0), ?, nullif(?, 0), ?, nullif(?, 0)"
"""The SQL of the values of a row after its number.  sqlite3 takes long to bind None or bytes."""

_MOST_ROWS = 128
_FEW_ROWS = 16
"""One statement inserts many rows, or a multiple of these, or fewer than these: there should be few statements, since
each is compiled and takes memory, but also few calls.  Each call into SQLite gives up the interpreter's lock, and with
many threads it takes long to get it back."""


def message_row(seq: int, key: Key, envelope: Envelope) -> tuple[object, ...]:
    """Return the number and the `VALUES` of a message as a row of `messages`."""
    return (
        seq,
        *key,
        envelope.call,
        envelope.user_id,
        envelope.anonymous_id,
        milliseconds(envelope.received_at),
        _names_text(envelope.destinations),
        json_array(envelope.warnings) if envelope.warnings else 0,
        bytearray(envelope.payload),
        _names_text(envelope.inherited) if envelope.inherited else 0,
        envelope.found_by,
        envelope.retry_count,
    )


@lru_cache(maxsize=1_000)
def _names_text(names: tuple[str, ...]) -> str:
    """Cached, since most messages of a source have the same names."""
    return json_array(names)


def insert_messages(connection: sqlite3.Connection, rows: Sequence[tuple[object, ...]]) -> None:
    """Insert rows that `message_row` built."""
    start = 0
    while left := len(rows) - start:
        count = left if left < _FEW_ROWS else min(left - left % _FEW_ROWS, _MOST_ROWS)
        connection.execute(_insertion(count), list(chain.from_iterable(rows[start : start + count])))
        start += count


@cache
def _insertion(count: int) -> str:
    """Return the statement that inserts so many rows.

    A statement that fails may leave rows behind (OR FAIL), since then the whole transaction is rolled back.  Otherwise
    SQLite would copy the pages that it changes, to be able to restore them.
    """
    return f"INSERT OR FAIL INTO messages VALUES {', '.join([f'(?, {VALUES})'] * count)}"
