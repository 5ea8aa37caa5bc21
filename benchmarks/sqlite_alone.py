"""SQLite alone: the rows of the corpus, inserted by `executemany`, 100 a transaction.

The tables are those of the first version of the log: a unique index prevents duplicates.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from uuid import uuid4

import msgspec
from corpus import BATCH_MESSAGES, ORIGIN, make_bodies, make_collector
from trackcore_sqlite.tables import MIGRATIONS, open_for_writing
from trackcore_sqlite.times import milliseconds

from trackcore import MemorySink

_INSERT = "INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_WITH_UNIQUE_INDEX = 2
_SPARE = 64
"""The number of transactions prepared at a time, outside of the measured time."""


class SqliteAlone:
    """A log written without trackcore; `synchronous=FULL` and WAL, as in the log itself."""

    def __init__(self, file: Path) -> None:
        self._connection = open_for_writing(file, 5.0, MIGRATIONS[:_WITH_UNIQUE_INDEX])
        self._connection.execute("INSERT INTO sources VALUES (1, 'website')")
        self._rows = _rows()

    def messages_per_second(self, seconds: float) -> float:
        """Insert for `seconds`."""
        took = 0.0
        count = 0
        while took < seconds:
            transactions = [list(islice(self._rows, BATCH_MESSAGES)) for _ in range(_SPARE)]
            started = time.perf_counter()
            for rows in transactions:
                self._connection.execute("BEGIN IMMEDIATE")
                self._connection.executemany(_INSERT, rows)
                self._connection.execute("COMMIT")
            took += time.perf_counter() - started
            count += _SPARE * BATCH_MESSAGES
        return count / took

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def _rows() -> Iterator[tuple[object, ...]]:
    """Yield the rows of the corpus again and again, each time with new ids."""
    sink = MemorySink()
    collector = make_collector(sink)
    for body in make_bodies(20, message_ids=False):
        collector.receive(body, origin=ORIGIN)
    seq = 0
    while True:
        for envelope in sink.envelopes:
            seq += 1
            yield (
                seq,
                1,
                str(uuid4()),
                envelope.call,
                envelope.user_id,
                envelope.anonymous_id,
                milliseconds(envelope.received_at),
                msgspec.json.encode(envelope.destinations).decode(),
                None,
                envelope.payload,
                msgspec.json.encode(envelope.inherited).decode(),
            )
