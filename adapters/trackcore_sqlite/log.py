"""Reading the log, from any process and while it is written.

Messages come in the order of their sequence numbers, which is the order of their commits.  So a reader that remembers
the last number that it saw, and asks for the messages behind it, misses nothing and sees nothing twice.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import attrs
import msgspec
from trackcore_sqlitefile import SharedConnection, used_once

from trackcore import (
    EVERYTHING,
    LogChanged,
    Mark,
    Part,
    Query,
    StoredMessage,
    StoredPayload,
    StoredQuarantined,
    StoredRejected,
    Totals,
)
from trackcore_sqlite.pages import Pages
from trackcore_sqlite.queries import PAYLOADS, READ, SELECT, read_payload
from trackcore_sqlite.received import Received, read_received
from trackcore_sqlite.snapshot import Snapshot
from trackcore_sqlite.tables import UnusableLog, open_for_reading
from trackcore_sqlite.times import from_milliseconds

T = TypeVar("T")

_log = logging.getLogger("trackcore.sqlite")


class SqliteLog:
    """Reads the log at `path`: a `trackcore.Log`, and a `trackcore.SnapshotLog`.

    Every method opens the file itself, so no lock outlives a call.  Iterators read page by page, and hold no snapshot
    from one page to the next: a slow reader must not let the write-ahead log grow.  After a fork both processes may go
    on with an iterator, each from where it was.

    Methods raise `UnusableLog` if there is not a log, or it is damaged, or from a newer trackcore.

    Args:
        path: the file.
        on_progress: called by iterators after each call into SQLite, with how many sequence numbers were examined, and
            of how many.
    """

    def __init__(self, path: Path | str, *, on_progress: Callable[[int, int], object] = lambda _, __: None) -> None:
        self.path = Path(path)
        self._on_progress = on_progress

    def messages(self, query: Query = EVERYTHING, *, after: int = 0) -> Iterator[StoredMessage]:
        """See `trackcore.Log.messages`; only those with a sequence number above `after`."""
        return self._records(READ["messages"], "messages", query, after)

    def payloads(
        self, query: Query = EVERYTHING, *, after: int = 0, last: int | None = None
    ) -> Iterator[StoredPayload]:
        """See `trackcore.Log.payloads`; only those with `after < seq <= last`."""
        return self._records(read_payload, "messages", query, after, last, select=PAYLOADS)

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """Open the log as it is at one moment, whatever is written to it or put in its place meanwhile."""
        with self._open() as connection:
            connection.execute("BEGIN")
            yield Snapshot(connection)

    def backlog(self, destination: str, *, after: int, most: int | None = None) -> tuple[int, datetime | None]:
        """Count the messages for a destination above a sequence number; also return when the first was received.

        With `most`, only so many messages are examined, and all others count as messages for the destination.
        """
        name = msgspec.json.encode(destination).decode()
        query = "SELECT count(*), min(received_at) FROM messages WHERE seq > ? AND seq <= ? AND instr(destinations, ?)"
        with self._open() as connection:
            end = Snapshot(connection).end
            last = end if most is None else min(end, after + most)
            count, oldest = connection.execute(query, (after, last, name)).fetchone()
        return count + end - last, None if oldest is None else from_milliseconds(oldest)

    def last_seq(self) -> int:
        """Return the sequence number of the newest message, 0 if there never was one."""
        with self.snapshot() as snapshot:
            return snapshot.end

    def tail(self, query: Query = EVERYTHING) -> SqliteTail:
        """See `trackcore.Log.tail`."""
        return SqliteTail(self, query)

    def rejected(self, query: Query = EVERYTHING, *, after: int = 0) -> Iterator[StoredRejected]:
        """See `trackcore.Log.rejected`; only those with a sequence number above `after`."""
        return self._records(READ["rejected"], "rejected", query, after)

    def quarantined(self, query: Query = EVERYTHING, *, after: int = 0) -> Iterator[StoredQuarantined]:
        """See `trackcore.Log.quarantined`; only those with a sequence number above `after`."""
        return self._records(READ["quarantine"], "quarantine", query, after)

    def totals(self) -> Totals:
        """See `trackcore.Log.totals`.  Writers keep count, so it costs the same for every log."""
        with self._open() as connection:
            counters = dict(connection.execute("SELECT name, value FROM counters"))
        return Totals(
            messages=counters["messages.count"],
            rejected=counters["rejected.count"],
            rejected_dropped=counters["rejected.dropped"],
            quarantined=counters["quarantine.count"],
            quarantined_dropped=counters["quarantine.dropped"],
        )

    def received(self) -> list[Received]:
        """Return how many messages and rejections the log has received in all, by source."""
        with self._open() as connection:
            return list(read_received(connection))

    def size(self) -> int:
        """Return the bytes of its files: the log itself and its write-ahead log."""
        files = (self.path.with_name(self.path.name + suffix) for suffix in ("", "-wal"))
        return sum(file.stat().st_size for file in files if file.exists())

    def _records(
        self,
        read: Callable[[tuple[Any, ...]], T],
        part: Part,
        query: Query,
        after: int,
        last: int | None = None,
        *,
        select: str = "",
    ) -> Iterator[T]:
        with closing(SharedConnection(partial(open_for_reading, self.path))) as shared:
            pages = Pages(
                self._reading(shared), part, query, select=select or SELECT[part], on_progress=self._on_progress
            )
            rows = pages.rising(after, last) if query.limit is None else pages.newest(after, last, query.limit)
            for row in rows:
                yield read(row)

    def _reading(self, shared: SharedConnection) -> Callable[[str, Sequence[object]], list[tuple[Any, ...]]]:
        def read(sql: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
            with self._readable(), shared.use() as connection:
                return connection.execute(sql, values).fetchall()

        return read

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with self._readable(), used_once(partial(open_for_reading, self.path)) as connection:
            yield connection

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise UnusableLog(path=self.path, detail=f"it cannot be read ({error})") from error


@attrs.define(eq=False)
class SqliteTail:
    """A reader that stays where it was left: a `trackcore.Tail`."""

    _log: SqliteLog
    _query: Query
    _mark: Mark = attrs.field(init=False, factory=Mark)

    def read(self) -> Iterator[StoredMessage]:
        """See `trackcore.Tail.read`.

        If the log was replaced, or rewound, it goes on with the first message that may be another one, and logs a
        warning.  The end of the log is read first: a query that matches little must not make every call look at the
        same messages.
        """
        with self._log.snapshot() as snapshot:
            try:
                snapshot.check(self._mark)
            except LogChanged as change:
                _log.warning("%s: %s", self._log.path, change)
                self._mark = change.found
            end = snapshot.mark(snapshot.end)
        if end.position == self._mark.position:
            return
        for stored in self._log.messages(self._query, after=self._mark.position):
            if stored.seq > end.position:
                break
            yield stored
        self._mark, self._query = end, attrs.evolve(self._query, limit=None)

    def close(self) -> None:
        """See `trackcore.Tail.close`.  Nothing is held between two calls."""
