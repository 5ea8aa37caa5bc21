"""The transactions of the log: where a commit happens.

Processes on one file take turns by SQLite's own lock (`BEGIN IMMEDIATE`).  `synchronous = FULL` makes the commit return
only after the fsync of the write-ahead log, so every acknowledged message survives a crash of the process and of the
machine.  If a transaction fails, nothing of it is stored.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from itertools import compress, count
from pathlib import Path

from trackcore_sqlitefile import SharedConnection, shorten_write_ahead_log

from trackcore import Cause, Envelope, Outcome, QuarantinedRequest, RejectedRecord, SinkUnavailable
from trackcore_sqlite.committer import WriteRequest
from trackcore_sqlite.deduplication import StoredIds
from trackcore_sqlite.duplicate_records import DuplicateKeeper
from trackcore_sqlite.failures import is_busy, is_fault_of_log, unavailable
from trackcore_sqlite.message_ids import Key, hash_of
from trackcore_sqlite.message_rows import insert_messages, message_row
from trackcore_sqlite.received import count_messages, count_quarantined, count_rejected
from trackcore_sqlite.stretches import StretchWriter, schema_of
from trackcore_sqlite.tables import GONE, inode_of, open_for_writing
from trackcore_sqlite.times import milliseconds

_RECORD_OVERHEAD_BYTES = 100
"""The size that a rejected or quarantined record counts besides its payload, so that empty ones are bounded too."""

_TURN_SECONDS = 0.0003
"""How long to wait for another process before the next attempt: less than a commit takes."""

_OUTCOMES = (Outcome.DUPLICATE, Outcome.STORED)

_INSERT_REJECTED = """
    INSERT INTO rejected (source_id, received_at, code, message, path, size, payload, batch, endpoint)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_INSERT_QUARANTINED = """
    INSERT INTO quarantine (received_at, endpoint, write_key, client_ip, client_side, size, payload)
    VALUES (?, ?, ?, ?, ?, ?, ?)
"""


class LogWriter:
    """Writes the log, one transaction at a time; `bounds` has the largest size in bytes of each bounded part."""

    def __init__(self, path: Path, *, bounds: Mapping[str, int], busy_timeout: float) -> None:
        self._path = path
        self._bounds = bounds
        self._busy_timeout = busy_timeout
        self._file = SharedConnection(self._open, before_fork=self._leave)
        self._inode: int | None = None
        self.renew_after_fork()

    def renew_after_fork(self) -> None:
        """Reset the state of a process after a fork."""
        self._duplicates = DuplicateKeeper()
        self._stretch = StretchWriter()

    @contextmanager
    def transaction(self) -> Iterator[Callable[[Sequence[WriteRequest]], None]]:
        """See `Writer.transaction`."""
        self._check_is_there()
        try:
            with self._file.use() as connection:
                try:
                    self._begin(connection)
                    yield partial(self._write, connection)
                    connection.execute("COMMIT")
                except BaseException:
                    # Closing rolls back: after an IO error the state of a connection is not reliable.
                    self.close()
                    raise
                shorten_write_ahead_log(connection, self._path)
        except BaseException as error:
            if is_fault_of_log(error):
                raise unavailable(error) from error
            raise

    def close(self) -> None:
        """Close the file.  It may be another one when it is opened again."""
        self._file.close()
        self._stretch.forget()
        self._inode = None

    def _check_is_there(self) -> None:
        """Raise `SinkUnavailable` if the file was deleted or moved away: messages stored there would be lost.

        A fork closes the file, but does not change its expected identity.
        """
        inode = self._inode  # read once: another thread may close the file now, without a replacement
        if inode is not None and inode_of(self._path) != inode:
            raise SinkUnavailable(cause=Cause.UNAVAILABLE, detail=GONE, reason="gone", retry_after=30)

    def _begin(self, connection: sqlite3.Connection) -> None:
        """Begin a transaction once no other process writes.  SQLite's own busy handler would sleep up to 100 ms."""
        deadline = time.monotonic() + self._busy_timeout
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if not is_busy(error) or time.monotonic() > deadline:
                    raise
                time.sleep(_TURN_SECONDS)
            else:
                return

    def _open(self) -> sqlite3.Connection:
        connection = open_for_writing(self._path, self._busy_timeout)
        inode = inode_of(self._path)
        if self._inode != inode:
            self._stretch.forget()
        self._inode = inode
        connection.execute("PRAGMA busy_timeout = 0")
        self._stored_ids = StoredIds(connection)
        self._data_version: int | None = None
        self._stretch.open(connection)
        self._source_ids = _SourceIds(connection)
        return connection

    def _leave(self, connection: sqlite3.Connection) -> None:
        self._stretch.leave(connection)

    def _write(self, connection: sqlite3.Connection, requests: Sequence[WriteRequest]) -> None:
        envelopes: list[Envelope] = []
        rejected: list[RejectedRecord] = []
        quarantined: list[QuarantinedRequest] = []
        probes = 0
        for request in requests:
            envelopes += request.envelopes
            rejected += request.rejected
            quarantined += request.quarantined
            probes += request.probe
        self._notice_others(connection)
        if not self._stretch.has_begun and probes < len(requests):
            self._stretch.begin(connection)
        if rejected:
            self._write_rejected(connection, rejected)
        if quarantined:
            self._write_quarantined(connection, quarantined)
        if probes:
            connection.execute("UPDATE counters SET value = value + 1 WHERE name = 'probe'")
        if envelopes:
            outcomes = self._write_messages(connection, envelopes)
            start = 0
            for request in requests:
                end = start + len(request.envelopes)
                request.outcomes, start = outcomes[start:end], end

    def _notice_others(self, connection: sqlite3.Connection) -> None:
        """Read what other connections have written since the last transaction, if SQLite says that they have."""
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        if version != self._data_version:
            self._stretch.check(schema_of(connection))
            self._stored_ids.catch_up()
            self._data_version = version

    def _write_messages(self, connection: sqlite3.Connection, envelopes: Sequence[Envelope]) -> list[Outcome]:
        """Store the messages whose ids are neither in the log nor earlier among these, and return the outcomes."""
        keys = [(self._source_ids[envelope.source], envelope.message_id) for envelope in envelopes]
        hashes = [hash_of(*key) for key in keys]
        is_new = _mark_new(keys, self._stored_ids.find(keys, hashes))
        if new := list(compress(keys, is_new)):
            numbered = zip(count(self._stored_ids.seq + 1), new, compress(envelopes, is_new), strict=False)
            insert_messages(connection, [message_row(*values) for values in numbered])
            self._stored_ids.add(new, list(compress(hashes, is_new)))
        if len(new) < len(keys):
            marked = zip(keys, envelopes, is_new, strict=True)
            rows = [message_row(0, key, envelope) for key, envelope, is_first in marked if not is_first]
            if sizes := self._duplicates.insert(connection, rows):
                self._keep_bounded(connection, "duplicates", sizes)
        count_messages(connection, [source for source, _ in keys], envelopes, is_new)
        return [_OUTCOMES[new] for new in is_new]

    def _write_rejected(self, connection: sqlite3.Connection, records: Sequence[RejectedRecord]) -> None:
        sizes = [_size(record.message, record.path, record.payload, record.batch or b"") for record in records]
        rows = [
            (
                self._source_ids[record.source],
                milliseconds(record.received_at),
                record.code,
                record.message,
                record.path,
                size,
                record.payload,
                record.batch,
                record.endpoint,
            )
            for record, size in zip(records, sizes, strict=True)
        ]
        connection.executemany(_INSERT_REJECTED, rows)
        count_rejected(connection, [row[0] for row in rows], [record.code for record in records])
        self._keep_bounded(connection, "rejected", sizes)

    def _write_quarantined(self, connection: sqlite3.Connection, requests: Sequence[QuarantinedRequest]) -> None:
        sizes = [_size(request.write_key or "", request.payload) for request in requests]
        rows = [
            (
                milliseconds(request.received_at),
                request.endpoint,
                request.write_key,
                request.client_ip,
                request.client_side,
                size,
                request.payload,
            )
            for request, size in zip(requests, sizes, strict=True)
        ]
        connection.executemany(_INSERT_QUARANTINED, rows)
        count_quarantined(connection, len(rows))
        self._keep_bounded(connection, "quarantine", sizes)

    def _keep_bounded(self, connection: sqlite3.Connection, part: str, added: Sequence[int]) -> None:
        """Count the records added to a bounded part, by their sizes, and drop the oldest above its bound."""
        (size,) = connection.execute("SELECT value FROM counters WHERE name = ?", (f"{part}.bytes",)).fetchone()
        size += sum(added)
        dropped = last = 0
        with closing(connection.execute(f"SELECT seq, size FROM {part} ORDER BY seq")) as oldest:
            while size > self._bounds[part] and (row := oldest.fetchone()):
                last, size, dropped = row[0], size - row[1], dropped + 1
        connection.execute(f"DELETE FROM {part} WHERE seq <= ?", (last,))
        connection.execute("UPDATE counters SET value = ? WHERE name = ?", (size, f"{part}.bytes"))
        for counter, more in (("dropped", dropped), ("count", len(added) - dropped)):
            connection.execute("UPDATE counters SET value = value + ? WHERE name = ?", (more, f"{part}.{counter}"))


class _SourceIds(dict[str, int]):
    """The ids of sources by name; one that the log does not have yet is added."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __missing__(self, name: str) -> int:
        self._connection.execute("INSERT INTO sources (name) VALUES (?) ON CONFLICT DO NOTHING", (name,))
        (self[name],) = self._connection.execute("SELECT id FROM sources WHERE name = ?", (name,)).fetchone()
        return self[name]


def _mark_new(keys: Sequence[Key], known: set[Key]) -> list[bool]:
    """Mark the keys that are neither known nor earlier among these."""
    marks = []
    for key in keys:
        marks.append(key not in known)
        known.add(key)
    return marks


def _size(*parts: str | bytes) -> int:
    return sum(map(len, parts)) + _RECORD_OVERHEAD_BYTES
