"""Retention: deleting records older than a time, in steps so small that nobody waits long for the file.

Each step is a separate transaction, sized by how long the last one took, and between two steps the file is free for as
long again; so writers wait for one step at most.  The space is not returned to the file system: SQLite keeps it in the
file and fills it with later messages.

A message is deleted with its messageId: if the same message is sent again, it is stored again.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import attrs
from trackcore_sqlitefile import SharedConnection

from trackcore import PARTS
from trackcore_sqlite import deduplication
from trackcore_sqlite.failures import unavailable
from trackcore_sqlite.stretches import check_schema, schema_of
from trackcore_sqlite.tables import open_to_tidy
from trackcore_sqlite.times import milliseconds

_STEP_SECONDS = 0.02
"""How long a step should hold the file: well below the 100 ms that a writer may be kept waiting."""

_FIRST_ROWS = 100
_MAX_ROWS = 10_000


@attrs.frozen(kw_only=True)
class PruneStep:
    """The result of one step: how many rows of which part it deleted, and for how long it held the file."""

    part: str
    deleted: int
    seconds: float


def prune(path: Path | str, before: datetime, *, up_to: int | None = None) -> Iterator[PruneStep]:
    """Delete messages, duplicates, rejected messages and quarantined requests received before a time.

    The work is done as the steps are iterated.

    Messages are deleted only up to the sequence number `up_to`, for a reader that has not seen those behind it.  Raises
    `UnusableLog` if the file is not a log, and `SinkUnavailable` if it cannot be written now, or was overwritten
    meanwhile.
    """
    try:
        with closing(SharedConnection(partial(_open, Path(path)))) as shared:
            for part in PARTS:
                last = up_to if part == "messages" and up_to is not None else _LAST_SEQ
                yield from _Pruning(shared, part, milliseconds(before), last).steps()
            _drop_stretches(shared)
    except sqlite3.Error as error:
        raise unavailable(error) from error


def _open(path: Path) -> sqlite3.Connection:
    connection = open_to_tidy(path)
    # SQLite would do this with a commit every now and then; here it is done between the steps.
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    return connection


def _drop_stretches(shared: SharedConnection) -> None:
    """Delete the stretches that end before the oldest message, and before the position just before that.

    Nobody needs them: a reader at a position before all messages has missed none of them, and such a position holds
    (see `trackcore.Mark`).  The position before the oldest message keeps its proof, since it may be the end of a log
    from which everything was deleted.
    """
    deleted = _MAX_ROWS
    while deleted == _MAX_ROWS:
        with shared.use() as connection:
            deleted = connection.execute(_DROP_STRETCHES, (_MAX_ROWS,)).rowcount


_LAST_SEQ = 2**63 - 1
_OLDEST = """
    coalesce(
        (SELECT seq FROM messages ORDER BY seq LIMIT 1),
        (SELECT value + 1 FROM counters WHERE name = 'messages.seq')
    )
"""
_DROP_STRETCHES = f"""
    DELETE FROM stretches WHERE number IN (
        SELECT number FROM stretches WHERE number < (
            SELECT number FROM stretches WHERE messages < {_OLDEST} - 1 ORDER BY messages DESC, number DESC LIMIT 1
        ) ORDER BY number LIMIT ?
    )
"""


@attrs.define
class _Pruning:
    """The deletion of one part, from its oldest row on."""

    _shared: SharedConnection
    _part: str
    _before: int
    _up_to: int
    _after: int = attrs.field(init=False, default=0)
    _schema: int = attrs.field(init=False, default=0)
    _rows: int = attrs.field(init=False, default=_FIRST_ROWS)

    def steps(self) -> Iterator[PruneStep]:
        """Continue until a whole window of rows has no old one: sequence numbers rise with time, almost.

        A window from the future, of a clock that was wrong for a while, does not count.
        """
        now = milliseconds(datetime.now(UTC))
        with self._shared.use() as connection:
            self._schema = schema_of(connection)
        while window := self._window():
            self._after = window[-1][0]
            if not any(received_at < self._before for _, received_at in window):
                if any(received_at <= now for _, received_at in window):
                    return
                continue
            step = self._delete(window[0][0], self._after)
            yield step
            with self._shared.use() as connection:
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            time.sleep(step.seconds)
            self._rows = min(_MAX_ROWS, max(1, int(self._rows * min(2.0, _STEP_SECONDS / step.seconds))))

    def _window(self) -> list[tuple[int, int]]:
        query = f"SELECT seq, received_at FROM {self._part} WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?"
        with self._shared.use() as connection:
            return connection.execute(query, (self._after, self._up_to, self._rows)).fetchall()

    def _delete(self, first: int, last: int) -> PruneStep:
        where, values = "WHERE seq BETWEEN ? AND ? AND received_at < ?", (first, last, self._before)
        with self._shared.use() as connection:
            # Entries are spread over their tables: they are read from the disk before anybody has to wait.
            entries = deduplication.read_entries(connection, where, values) if self._part == "messages" else ""
            connection.execute("BEGIN IMMEDIATE")
            started = time.monotonic()
            try:
                # The window was read from the log as it was: in another log these numbers are of other messages.
                check_schema(self._schema, schema_of(connection))
                if self._part == "messages":
                    deduplication.remove(connection, entries)
                else:
                    size = f"SELECT coalesce(sum(size), 0) FROM {self._part} {where}"
                    self._count_less(connection, "bytes", size, values)
                deleted = connection.execute(f"DELETE FROM {self._part} {where}", values).rowcount
                self._count_less(connection, "count", "SELECT ?", (deleted,))
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # SQLite rolls back by itself when the disk is full
                    connection.execute("ROLLBACK")
                raise
        return PruneStep(part=self._part, deleted=deleted, seconds=max(time.monotonic() - started, 1e-6))

    def _count_less(self, connection: sqlite3.Connection, counter: str, query: str, values: tuple[int, ...]) -> None:
        connection.execute(
            f"UPDATE counters SET value = value - ({query}) WHERE name = ?", (*values, f"{self._part}.{counter}")
        )
