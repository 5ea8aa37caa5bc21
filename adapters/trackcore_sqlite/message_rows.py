"""Messages as rows of the table `messages`."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain

from trackcore import Envelope
from trackcore_sqlite import deduplication
from trackcore_sqlite.queries import json_array
from trackcore_sqlite.times import milliseconds

_COLUMNS = 12
_ROWS_AT_ONCE = (64, 16, 4, 1)
"""How many rows one statement inserts.  Each call into SQLite gives up the interpreter's lock, and with many threads it
takes long to get it back; so a transaction should make few calls."""

_INSERT_MESSAGES = {
    count: f"INSERT INTO messages VALUES {', '.join(['(' + ', '.join('?' * _COLUMNS) + ')'] * count)}"
    for count in _ROWS_AT_ONCE
}


def message_row(seq: int, key: deduplication.Key, envelope: Envelope) -> tuple[object, ...]:
    """Return a message as a row of `messages`."""
    return (
        seq,
        *key,
        envelope.call,
        envelope.user_id,
        envelope.anonymous_id,
        milliseconds(envelope.received_at),
        _names_text(envelope.destinations),
        json_array(envelope.warnings) if envelope.warnings else None,
        envelope.payload,
        _names_text(envelope.inherited) if envelope.inherited else None,
        envelope.found_by,
    )


@lru_cache(maxsize=1_000)
def _names_text(names: tuple[str, ...]) -> str:
    """Cached, since most messages of a source have the same names."""
    return json_array(names)


def insert_messages(connection: sqlite3.Connection, rows: Sequence[tuple[object, ...]]) -> None:
    """Insert rows that `message_row` built."""
    start = 0
    for count in _ROWS_AT_ONCE:
        while len(rows) - start >= count:
            connection.execute(_INSERT_MESSAGES[count], list(chain.from_iterable(rows[start : start + count])))
            start += count
