"""Writing the log.

Theory of operation.  A commit costs an fsync, whatever it holds.  So requests that arrive while one commit runs are
committed together by the next: each caller of `store` puts its job into a queue and then asks for the one writing
lock. Whoever gets it commits *all* that waits, its own job and the others', in one transaction; who gets it later
finds its job done and returns at once.  There is no writer thread to start, to lose in a fork or to stop.

Processes on one file take turns by SQLite's own lock (`BEGIN IMMEDIATE`).  `synchronous = FULL` makes the commit return
only after the fsync of the write-ahead log, so what was answered survives a crash of the process and of the machine.

If a transaction fails nothing of it is stored, and every job in it hears so.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path

import attrs
import msgspec

from trackcore import Cause, Envelope, Outcome, QuarantinedRequest, RejectedRecord, SinkUnavailable
from trackcore.timestamps import EPOCH, MILLISECOND
from trackcore_sqlite.schema import UnusableLog, open_for_writing

MEBIBYTE = 1 << 20

_TRANSACTION_BYTES = 16 * MEBIBYTE
"""How much is put into one transaction, so that no caller waits for very many others."""

_RECORD_OVERHEAD_BYTES = 100
"""What a rejected or quarantined record is counted for beside its payload, so that empty ones are bounded too."""

_PROBE_SECONDS = 1.0
"""How long the answer of `check_ready` holds: asking it often must not cost an fsync each time."""

_FULL = {sqlite3.SQLITE_FULL}
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_PRIMARY_CODE = 0xFF  # SQLite's extended codes carry the primary one in their low byte

_INSERT_MESSAGE = """
    INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (source_id, message_id) DO NOTHING
"""
_INSERT_REJECTED = """
    INSERT INTO rejected (source_id, received_at, code, message, path, size, payload) VALUES (?, ?, ?, ?, ?, ?, ?)
"""
_INSERT_QUARANTINED = """
    INSERT INTO quarantine (received_at, endpoint, write_key, client_ip, client_side, size, payload)
    VALUES (?, ?, ?, ?, ?, ?, ?)
"""


@attrs.define(eq=False)
class _Job:
    """What one call of `store` waits for."""

    envelopes: Sequence[Envelope]
    rejected: Sequence[RejectedRecord]
    quarantined: Sequence[QuarantinedRequest]
    probe: bool = False
    size: int = attrs.field(init=False)
    done: bool = attrs.field(init=False, default=False)
    outcomes: list[Outcome] = attrs.field(init=False, factory=list)
    error: Exception | None = attrs.field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        records: Iterable[Envelope | RejectedRecord | QuarantinedRequest]
        records = (*self.envelopes, *self.rejected, *self.quarantined)
        self.size = sum(len(record.payload) for record in records)


_PARENTS_CONNECTIONS: list[sqlite3.Connection | None] = []
"""What a fork found open.  It is kept, since SQLite forbids that a child closes the connection of its parent."""


class SqliteSink:
    """A `trackcore.Sink` that keeps everything in one SQLite file.  Threads and processes may share the file.

    Args:
        path: the file; its folder is made when missing, readable by the owner alone.
        rejected_bytes: how much is kept of rejected messages before the oldest are dropped.
        quarantine_bytes: likewise for requests with an unknown write key.
        waiting_bytes: how much may wait to be committed before further requests are told to come back later.
        busy_timeout: seconds to wait for another process to finish writing.
    """

    _pid: int
    _queueing: threading.Lock
    _writing: threading.Lock
    _queue: deque[_Job]
    _queued_bytes: int
    _connection: sqlite3.Connection | None
    _source_ids: dict[str, int]
    _ready_at: float

    def __init__(
        self,
        path: Path | str,
        *,
        rejected_bytes: int = 256 * MEBIBYTE,
        quarantine_bytes: int = 64 * MEBIBYTE,
        waiting_bytes: int = 64 * MEBIBYTE,
        busy_timeout: float = 5.0,
    ) -> None:
        self.path = Path(path)
        self._bounds = {"rejected": rejected_bytes, "quarantine": quarantine_bytes}
        self._waiting_bytes = waiting_bytes
        self._busy_timeout = busy_timeout
        self._forget_process()

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
        return self._run(_Job(envelopes, rejected, quarantined))

    def check_ready(self) -> None:
        """Return when a message could be stored now; known by storing something, at most once a second.

        Raises:
            SinkUnavailable: as `store` does.
        """
        if time.monotonic() - self._ready_at >= _PROBE_SECONDS:
            self._run(_Job((), (), (), probe=True))
            self._ready_at = time.monotonic()

    def close(self) -> None:
        """Close the file.  A later call opens it again."""
        self._know_process()
        with self._writing:
            self._drop_connection()

    def _run(self, job: _Job) -> list[Outcome]:
        self._know_process()
        with self._queueing:
            if self._queued_bytes + job.size > self._waiting_bytes and self._queued_bytes:
                raise SinkUnavailable(cause=Cause.OVERLOADED, detail="too much is waiting to be stored", retry_after=1)
            self._queue.append(job)
            self._queued_bytes += job.size
        with self._writing:
            while not job.done:
                self._commit_together(self._take_waiting())
        if job.error is not None:
            raise job.error
        return job.outcomes

    def _know_process(self) -> None:
        """Start anew in a fork: the locks and the connection of its parent are not its own."""
        if self._pid != os.getpid():
            _PARENTS_CONNECTIONS.append(self._connection)
            self._forget_process()

    def _forget_process(self) -> None:
        self._pid = os.getpid()
        self._queueing = threading.Lock()
        self._writing = threading.Lock()
        self._queue = deque()
        self._queued_bytes = 0
        self._connection = None
        self._source_ids = {}
        self._ready_at = -_PROBE_SECONDS

    def _take_waiting(self) -> list[_Job]:
        jobs = []
        size = 0
        with self._queueing:
            while self._queue and size < _TRANSACTION_BYTES:
                job = self._queue.popleft()
                size += job.size
                jobs.append(job)
            self._queued_bytes -= size
        return jobs

    def _commit_together(self, jobs: list[_Job]) -> None:
        try:
            self._commit(jobs)
        except SinkUnavailable as error:
            for job in jobs:
                job.error = error
        except Exception as error:  # noqa: BLE001 - a fault of one job must not become the fault of those beside it
            if len(jobs) > 1:
                for job in jobs:
                    self._commit_together([job])
            else:
                jobs[0].error = error
        except BaseException:
            # This thread is told to stop; the others must not take silence for success.
            for job in jobs:
                job.error = SinkUnavailable(cause=Cause.UNAVAILABLE, detail="interrupted", retry_after=1)
            raise
        finally:
            for job in jobs:
                job.done = True

    def _commit(self, jobs: list[_Job]) -> None:
        try:
            connection = self._connect()
            connection.execute("BEGIN IMMEDIATE")
            for job in jobs:
                job.outcomes = self._write(connection, job)
            connection.execute("COMMIT")
        except BaseException as error:
            self._roll_back()
            if _is_the_logs_fault(error):
                raise _unavailable(error) from error
            raise

    def _connect(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = open_for_writing(self.path, self._busy_timeout)
        return self._connection

    def _roll_back(self) -> None:
        """Undo what was begun, by closing: after an IO error the state of a connection is not to be relied on."""
        self._source_ids.clear()
        self._drop_connection()

    def _drop_connection(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _write(self, connection: sqlite3.Connection, job: _Job) -> list[Outcome]:
        if job.rejected:
            self._write_rejected(connection, job.rejected)
        if job.quarantined:
            self._write_quarantined(connection, job.quarantined)
        if job.probe:
            connection.execute("UPDATE counters SET value = value + 1 WHERE name = 'probe'")
        return self._write_messages(connection, job.envelopes) if job.envelopes else []

    def _write_messages(self, connection: sqlite3.Connection, envelopes: Sequence[Envelope]) -> list[Outcome]:
        (seq,) = connection.execute("SELECT value FROM counters WHERE name = 'messages.seq'").fetchone()
        outcomes = []
        for envelope in envelopes:
            row = (
                seq + 1,
                self._source_id(connection, envelope.source),
                envelope.message_id,
                envelope.call,
                envelope.user_id,
                envelope.anonymous_id,
                milliseconds(envelope.received_at),
                _names_text(envelope.destinations),
                _json_text(envelope.cautions) if envelope.cautions else None,
                envelope.payload,
                _names_text(envelope.inherited) if envelope.inherited else None,
            )
            if connection.execute(_INSERT_MESSAGE, row).rowcount:
                seq += 1
                outcomes.append(Outcome.STORED)
            else:
                outcomes.append(Outcome.DUPLICATE)
        connection.execute("UPDATE counters SET value = ? WHERE name = 'messages.seq'", (seq,))
        return outcomes

    def _write_rejected(self, connection: sqlite3.Connection, records: Sequence[RejectedRecord]) -> None:
        sizes = [_size(record.message, record.path, record.payload) for record in records]
        rows = [
            (
                self._source_id(connection, record.source),
                milliseconds(record.received_at),
                record.code,
                record.message,
                record.path,
                size,
                record.payload,
            )
            for record, size in zip(records, sizes, strict=True)
        ]
        connection.executemany(_INSERT_REJECTED, rows)
        self._keep_bounded(connection, "rejected", sum(sizes))

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
        self._keep_bounded(connection, "quarantine", sum(sizes))

    def _keep_bounded(self, connection: sqlite3.Connection, part: str, added: int) -> None:
        """Count what was added to a bounded part, in bytes, and drop its oldest records until it fits again."""
        (size,) = connection.execute("SELECT value FROM counters WHERE name = ?", (f"{part}.bytes",)).fetchone()
        size += added
        dropped = last = 0
        oldest = connection.execute(f"SELECT seq, size FROM {part} ORDER BY seq")
        while size > self._bounds[part]:
            last, length = oldest.fetchone()
            size -= length
            dropped += 1
        oldest.close()
        connection.execute(f"DELETE FROM {part} WHERE seq <= ?", (last,))
        connection.execute("UPDATE counters SET value = ? WHERE name = ?", (size, f"{part}.bytes"))
        connection.execute("UPDATE counters SET value = value + ? WHERE name = ?", (dropped, f"{part}.dropped"))

    def _source_id(self, connection: sqlite3.Connection, name: str) -> int:
        source_id = self._source_ids.get(name)
        if source_id is None:
            connection.execute("INSERT INTO sources (name) VALUES (?) ON CONFLICT DO NOTHING", (name,))
            (source_id,) = connection.execute("SELECT id FROM sources WHERE name = ?", (name,)).fetchone()
            self._source_ids[name] = source_id
        return source_id


def _json_text(value: object) -> str:
    return msgspec.json.encode(value).decode()


@lru_cache(maxsize=1_000)
def _names_text(names: tuple[str, ...]) -> str:
    """Give names as a JSON array.  Remembered, since most messages of a source say the same."""
    return _json_text(names)


def _size(*parts: str | bytes) -> int:
    return sum(map(len, parts)) + _RECORD_OVERHEAD_BYTES


def milliseconds(time: datetime) -> int:
    """Give a time as the log keeps it: milliseconds since 1970."""
    return (time - EPOCH) // MILLISECOND


def from_milliseconds(count: int) -> datetime:
    """Give back a time that the log keeps."""
    return EPOCH + timedelta(milliseconds=count)


def _is_the_logs_fault(error: BaseException) -> bool:
    """Tell whether an error is about the file, and not about a value in a job that SQLite cannot take."""
    if isinstance(error, sqlite3.IntegrityError | sqlite3.ProgrammingError | sqlite3.DataError):
        return False
    return isinstance(error, sqlite3.DatabaseError | OSError | UnusableLog)


def _unavailable(error: BaseException) -> SinkUnavailable:
    code = getattr(error, "sqlite_errorcode", 0) & _PRIMARY_CODE
    if code in _FULL or (isinstance(error, OSError) and error.errno == errno.ENOSPC):
        return SinkUnavailable(cause=Cause.FULL, detail="the disk is full", retry_after=30)
    if code in _BUSY:
        return SinkUnavailable(cause=Cause.UNAVAILABLE, detail="another process holds the log", retry_after=1)
    return SinkUnavailable(cause=Cause.UNAVAILABLE, detail=f"the log cannot be written ({error})")
