"""Writing the log.

Requests that arrive together share one commit (`trackcore_sqlite.committer`).  Processes on one file take turns by
SQLite's own lock (`BEGIN IMMEDIATE`).  `synchronous = FULL` makes the commit return only after the fsync of the
write-ahead log, so what was answered survives a crash of the process and of the machine.

If a transaction fails nothing of it is stored, and every job in it hears so.
"""

from __future__ import annotations

import errno
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from functools import lru_cache
from itertools import chain
from pathlib import Path

import msgspec
from trackcore_sqlitefile import SharedConnection, know_process, primary_code, renew_in_forks, shorten_write_ahead_log

from trackcore import Cause, Envelope, Outcome, QuarantinedRequest, RejectedRecord, SinkUnavailable
from trackcore.limits import MEBIBYTE
from trackcore_sqlite import ids
from trackcore_sqlite.committer import GroupCommitter, TakeJobs, WriteRequest
from trackcore_sqlite.duplicates import DuplicateKeeper
from trackcore_sqlite.stretches import StretchWriter, schema_of
from trackcore_sqlite.tables import GONE, LOCKED, UnusableLog, inode_of, is_damage, open_for_writing
from trackcore_sqlite.times import milliseconds

_TRANSACTION_BYTES = 16 * MEBIBYTE
"""How much is put into one transaction, so that no caller waits for very many others."""

_RECORD_OVERHEAD_BYTES = 100
"""What a rejected or quarantined record is counted for beside its payload, so that empty ones are bounded too."""

_PROBE_SECONDS = 1.0
"""How long the answer of `check_ready` holds: asking it often must not cost an fsync each time."""

_TURN_SECONDS = 0.0003
"""How long to wait before asking again whether another process is done: less than a commit takes."""

_FULL = {sqlite3.SQLITE_FULL}
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}

_COLUMNS = 12
_ROWS_AT_ONCE = (64, 16, 4, 1)
"""How many rows one statement inserts.  Each call into SQLite gives up the interpreter's lock, and with many threads it
takes long to get it back; so the fewer calls between the beginning of a transaction and its commit, the better."""

_INSERT_MESSAGES = {
    count: f"INSERT INTO messages VALUES {', '.join(['(' + ', '.join('?' * _COLUMNS) + ')'] * count)}"
    for count in _ROWS_AT_ONCE
}
_COUNT_MESSAGES = "UPDATE counters SET value = value + ? WHERE name IN ('messages.seq', 'messages.count')"
_INSERT_REJECTED = """
    INSERT INTO rejected (source_id, received_at, code, message, path, size, payload, batch, endpoint)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_INSERT_QUARANTINED = """
    INSERT INTO quarantine (received_at, endpoint, write_key, client_ip, client_side, size, payload)
    VALUES (?, ?, ?, ?, ?, ?, ?)
"""


class SqliteSink:
    """A `trackcore.Sink` that keeps everything in one SQLite file.  Threads and processes may share the file.

    It may be used before and after a fork (see `trackcore_sqlitefile.forks`): what was on its way in the parent is
    stored by the parent.

    Args:
        path: the file; its folder is made when missing, readable by the owner alone.
        rejected_bytes: how much is kept of rejected messages before the oldest are dropped.
        quarantine_bytes: likewise for requests with an unknown write key.
        duplicates_bytes: likewise for messages that were stored before.
        waiting_bytes: how much may wait to be committed before further requests are told to come back later.
        busy_timeout: seconds to wait for another process to finish writing.
    """

    _group: GroupCommitter
    _stored_ids: ids.StoredIds  # of the connection
    _stretch: StretchWriter
    _source_ids: dict[str, int]  # of the connection
    _duplicates: DuplicateKeeper
    _ready_at: float

    def __init__(
        self,
        path: Path | str,
        *,
        rejected_bytes: int = 256 * MEBIBYTE,
        quarantine_bytes: int = 64 * MEBIBYTE,
        duplicates_bytes: int = 16 * MEBIBYTE,
        waiting_bytes: int = 64 * MEBIBYTE,
        busy_timeout: float = 5.0,
    ) -> None:
        self.path = Path(path)
        self._bounds = {"rejected": rejected_bytes, "quarantine": quarantine_bytes, "duplicates": duplicates_bytes}
        self._waiting_bytes = waiting_bytes
        self._busy_timeout = busy_timeout
        self._file = SharedConnection(self._open, before_fork=self._leave)
        self._inode: int | None = None
        self.start_anew()
        renew_in_forks(self)

    def store(
        self,
        envelopes: Sequence[Envelope] = (),
        *,
        rejected: Sequence[RejectedRecord] = (),
        quarantined: Sequence[QuarantinedRequest] = (),
    ) -> Sequence[Outcome]:
        """See `trackcore.Sink.store`.  Returns after the commit that holds all of it.

        Raises:
            SinkUnavailable: nothing was stored: the disk is full, the file is damaged or cannot be written, or too much
                is waiting.
        """
        if not (envelopes or rejected or quarantined):
            return ()
        return self._run(WriteRequest(envelopes, rejected, quarantined))

    def check_ready(self) -> None:
        """Return when a message could be stored now; known by storing something, at most once a second.

        Raises:
            SinkUnavailable: as `store` does.
        """
        if time.monotonic() - self._ready_at >= _PROBE_SECONDS:
            self._run(WriteRequest(probe=True))
            self._ready_at = time.monotonic()

    def close(self) -> None:
        """Close the file.  A later call opens it again."""
        self._drop_connection()

    def _run(self, job: WriteRequest) -> list[Outcome]:
        know_process()
        try:
            return self._group.run(job)
        except SinkUnavailable:
            self._ready_at = -_PROBE_SECONDS  # what was found earlier does not hold any more
            raise

    def start_anew(self) -> None:
        """Begin as a new process does: the locks and the calls of a parent are not those of its child."""
        self._group = GroupCommitter(
            self._commit_together, waiting_bytes=self._waiting_bytes, transaction_bytes=_TRANSACTION_BYTES
        )
        self._duplicates = DuplicateKeeper()
        self._stretch = StretchWriter()
        self._ready_at = -_PROBE_SECONDS

    def _commit_together(self, take: TakeJobs) -> None:
        try:
            self._commit(take)
        except SinkUnavailable as error:
            for job in take():
                job.error = error
        except Exception:  # noqa: BLE001 - a fault of one job must not become the fault of those beside it
            for job in take():
                self._commit_alone(job)

    def _commit_alone(self, job: WriteRequest) -> None:
        try:
            self._commit(lambda: [job])
        except Exception as error:  # noqa: BLE001 - it is told to the thread that waits for it
            job.error = error

    def _commit(self, take: TakeJobs) -> None:
        """Commit what waits once the file is ours, so that all who waited for it meanwhile come along."""
        self._check_is_there()
        try:
            with self._file.use() as connection:
                self._commit_to(connection, take)
        except BaseException as error:
            if _is_the_logs_fault(error):
                raise unavailable(error) from error
            raise

    def _commit_to(self, connection: sqlite3.Connection, take: TakeJobs) -> None:
        try:
            self._begin(connection)
            self._write(connection, take())
            connection.execute("COMMIT")
        except BaseException:
            # By closing: after an IO error the state of a connection is not to be relied on.
            self._drop_connection()
            raise
        shorten_write_ahead_log(connection, self.path)

    def _check_is_there(self) -> None:
        """Refuse to write into a file that was deleted or moved away: nobody would find what is stored there.

        A fork closes the file, which changes nothing about that.
        """
        inode = self._inode  # read once: another thread may close the file now, which is no change of it
        if inode is not None and inode_of(self.path) != inode:
            raise SinkUnavailable(cause=Cause.UNAVAILABLE, detail=GONE, reason="gone", retry_after=30)

    def _begin(self, connection: sqlite3.Connection) -> None:
        """Begin to write when no other process does.  SQLite's own waiting would sleep up to 100 ms at a time."""
        deadline = time.monotonic() + self._busy_timeout
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if primary_code(error) not in _BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(_TURN_SECONDS)
            else:
                return

    def _open(self) -> sqlite3.Connection:
        connection = open_for_writing(self.path, self._busy_timeout)
        inode = inode_of(self.path)
        if self._inode != inode:
            self._stretch.forget()
        self._inode = inode
        connection.execute("PRAGMA busy_timeout = 0")
        self._stored_ids = ids.StoredIds(connection)
        self._stretch.open(connection)
        self._source_ids = {}
        return connection

    def _leave(self, connection: sqlite3.Connection) -> None:
        self._stretch.leave(connection)

    def _drop_connection(self) -> None:
        """Close the file.  When it is opened again it may be another."""
        self._file.close()
        self._stretch.forget()
        self._inode = None

    def _write(self, connection: sqlite3.Connection, jobs: Sequence[WriteRequest]) -> None:
        envelopes = [envelope for job in jobs for envelope in job.envelopes]
        if not envelopes:  # else it is seen with the look for their ids, which costs nothing more
            self._stretch.check(schema_of(connection))
        if not self._stretch.has_begun and not all(job.probe for job in jobs):
            self._stretch.begin(connection)
        if rejected := [record for job in jobs for record in job.rejected]:
            self._write_rejected(connection, rejected)
        if quarantined := [request for job in jobs for request in job.quarantined]:
            self._write_quarantined(connection, quarantined)
        if any(job.probe for job in jobs):
            connection.execute("UPDATE counters SET value = value + 1 WHERE name = 'probe'")
        if envelopes:
            outcomes = iter(self._write_messages(connection, envelopes))
            for job in jobs:
                job.outcomes = [next(outcomes) for _ in job.envelopes]

    def _write_messages(self, connection: sqlite3.Connection, envelopes: Sequence[Envelope]) -> Sequence[Outcome]:
        """Store those messages that are neither in the log nor earlier among these."""
        keys = [(self._source_id(connection, envelope.source), envelope.message_id) for envelope in envelopes]
        hashes = [ids.hash_of(*key) for key in keys]
        found = self._stored_ids.find(hashes)
        self._stretch.check(found.schema)
        again: list[tuple[object, ...]] = []
        known, outcomes, rows, new = found.known, [], [], []
        for envelope, key, id_hash in zip(envelopes, keys, hashes, strict=True):
            if key in known:
                outcomes.append(Outcome.DUPLICATE)
                again.append(_row(0, key, envelope))
                continue
            known.add(key)
            new.append(id_hash)
            rows.append(_row(found.seq + len(new), key, envelope))
            outcomes.append(Outcome.STORED)
        if rows:
            _insert(connection, rows)
            self._stored_ids.add(new, found)
            connection.execute(_COUNT_MESSAGES, (len(rows),))
        if sizes := self._duplicates.insert(connection, again):
            self._keep_bounded(connection, "duplicates", sizes)
        return outcomes

    def _write_rejected(self, connection: sqlite3.Connection, records: Sequence[RejectedRecord]) -> None:
        sizes = [_size(record.message, record.path, record.payload, record.batch or b"") for record in records]
        rows = [
            (
                self._source_id(connection, record.source),
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
        self._keep_bounded(connection, "quarantine", sizes)

    def _keep_bounded(self, connection: sqlite3.Connection, part: str, added: Sequence[int]) -> None:
        """Count what was added to a bounded part, by the bytes of each, and drop its oldest until it fits again."""
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

    def _source_id(self, connection: sqlite3.Connection, name: str) -> int:
        source_id = self._source_ids.get(name)
        if source_id is None:
            connection.execute("INSERT INTO sources (name) VALUES (?) ON CONFLICT DO NOTHING", (name,))
            (source_id,) = connection.execute("SELECT id FROM sources WHERE name = ?", (name,)).fetchone()
            self._source_ids[name] = source_id
        return source_id


def _row(seq: int, key: ids.Key, envelope: Envelope) -> tuple[object, ...]:
    return (
        seq,
        *key,
        envelope.call,
        envelope.user_id,
        envelope.anonymous_id,
        milliseconds(envelope.received_at),
        _names_text(envelope.destinations),
        _json_text(envelope.warnings) if envelope.warnings else None,
        envelope.payload,
        _names_text(envelope.inherited) if envelope.inherited else None,
        envelope.found_by,
    )


def _json_text(value: object) -> str:
    return msgspec.json.encode(value).decode()


@lru_cache(maxsize=1_000)
def _names_text(names: tuple[str, ...]) -> str:
    """Give names as a JSON array.  Remembered, since most messages of a source say the same."""
    return _json_text(names)


def _insert(connection: sqlite3.Connection, rows: Sequence[tuple[object, ...]]) -> None:
    start = 0
    for count in _ROWS_AT_ONCE:
        while len(rows) - start >= count:
            connection.execute(_INSERT_MESSAGES[count], list(chain.from_iterable(rows[start : start + count])))
            start += count


def _size(*parts: str | bytes) -> int:
    return sum(map(len, parts)) + _RECORD_OVERHEAD_BYTES


def _is_the_logs_fault(error: BaseException) -> bool:
    """Tell whether an error is about the file, and not about a value in a job that SQLite cannot take."""
    if isinstance(error, sqlite3.IntegrityError | sqlite3.ProgrammingError | sqlite3.DataError):
        return False
    return isinstance(error, sqlite3.DatabaseError | OSError | UnusableLog)


def unavailable(error: BaseException) -> SinkUnavailable:
    """Say why the log cannot be written now."""
    code = primary_code(error)
    if code in _FULL or (isinstance(error, OSError) and error.errno == errno.ENOSPC):
        return SinkUnavailable(cause=Cause.FULL, detail="the disk is full", retry_after=30)
    if code in _BUSY:
        return SinkUnavailable(cause=Cause.UNAVAILABLE, detail=LOCKED, reason="locked", retry_after=1)
    reason = "damaged" if getattr(error, "is_damaged", False) or is_damage(error) else "unwritable"
    return SinkUnavailable(cause=Cause.UNAVAILABLE, detail=f"the log cannot be written ({error})", reason=reason)
