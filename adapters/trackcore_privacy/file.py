"""The file of suppressed persons and of the jobs that forget persons; beside the log.

An id is in it in clear only while it is needed: for a suppressed person who was not forgotten, so that the list can be
read, and for a job until it has ended.  It is overwritten when it is removed (`secure_delete`), and the file has no
write-ahead log.
"""

from __future__ import annotations

import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import msgspec
from trackcore_forks import renew_in_forks
from trackcore_sqlitefile import Format, UnusableFile, make_private_file, used_once

from trackcore.privacy import Subject, Suppressions, digest_of

_APPLICATION_ID = int.from_bytes(b"trkp")
_BUSY_SECONDS = 10.0
_SALT_BYTES = 32
LOOK_SECONDS = 0.5
"""How long a list of suppressed persons may be out of date in a process that serves."""

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE salt (salt BLOB NOT NULL);
    INSERT INTO salt VALUES (randomblob(32));

    CREATE TABLE suppressed (
        digest BLOB PRIMARY KEY,        -- of scope, kind and id, with the salt
        scope TEXT NOT NULL,            -- the source, empty for all of them
        kind TEXT NOT NULL,             -- 'user' or 'anonymous'
        id TEXT,                        -- NULL for a person who was forgotten
        since REAL NOT NULL             -- seconds since 1970
    ) WITHOUT ROWID;

    CREATE TABLE jobs (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        type TEXT NOT NULL,             -- a regulationType of Segment
        scope TEXT NOT NULL,
        subjects TEXT,                  -- JSON array of [kind, id]; NULL once the job has ended
        keep_events INTEGER NOT NULL,
        created_at REAL NOT NULL,
        finished_at REAL
    );

    CREATE TABLE steps (
        job TEXT NOT NULL,
        store TEXT NOT NULL,
        status TEXT NOT NULL,
        changed INTEGER NOT NULL DEFAULT 0,
        detail TEXT NOT NULL DEFAULT '',
        finished_at REAL,
        PRIMARY KEY (job, store)
    ) WITHOUT ROWID;
    """,
)


@attrs.define(kw_only=True, eq=False)
class UnusablePrivacyFile(UnusableFile):
    """The file of suppressed persons cannot be used."""


_FORMAT = Format(application_id=_APPLICATION_ID, migrations=MIGRATIONS, error=UnusablePrivacyFile)


@attrs.frozen(kw_only=True)
class Suppressed:
    """An entry of the list.  `subject` is None for a person who was forgotten; `name` is the hash in its place."""

    kind: str
    scope: str
    subject: Subject | None
    name: str
    since: datetime


@attrs.frozen(kw_only=True)
class Step:
    """One store of a job: its status, and how many records were removed or changed there."""

    store: str
    status: str
    changed: int = 0
    detail: str = ""
    finished_at: datetime | None = None


@attrs.frozen(kw_only=True)
class Job:
    """A request about persons.  `subjects` is empty once it has ended."""

    id: str
    regulation: str
    scope: str
    subjects: tuple[Subject, ...]
    keep_events: bool
    created_at: datetime
    finished_at: datetime | None
    steps: tuple[Step, ...] = ()


class PrivacyFile:
    """The file at a path; it is created by the first write.  Threads and processes may share it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def suppressions(self) -> Suppressions:
        """Return who is suppressed now; nobody if there is no file."""
        if not self.path.exists():
            return Suppressions()
        with self._opened() as connection:
            rows = connection.execute("SELECT digest, scope FROM suppressed").fetchall()
            return Suppressions(
                salt=_salt(connection),
                digests=frozenset(digest for digest, _ in rows),
                scopes=frozenset({"", *(scope for _, scope in rows)}),
            )

    def suppress(self, subjects: Sequence[Subject], *, scope: str, now: datetime, keep_ids: bool) -> None:
        """Add persons to the list; with `keep_ids` the list can show them."""
        with self._transaction() as connection:
            salt = _salt(connection)
            connection.executemany(
                "INSERT INTO suppressed VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET id = excluded.id",
                [
                    (digest_of(salt, one, scope), scope, one.kind, one.id if keep_ids else None, now.timestamp())
                    for one in subjects
                ],
            )

    def unsuppress(self, subjects: Sequence[Subject], *, scope: str) -> int:
        """Remove persons from the list, and return how many were in it."""
        with self._transaction() as connection:
            salt = _salt(connection)
            digests = [digest_of(salt, subject, scope) for subject in subjects]
            return sum(
                connection.execute("DELETE FROM suppressed WHERE digest = ?", (digest,)).rowcount for digest in digests
            )

    def listed(self) -> list[Suppressed]:
        """Return the list."""
        if not self.path.exists():
            return []
        with self._opened() as connection:
            rows = connection.execute("SELECT kind, scope, id, digest, since FROM suppressed ORDER BY since, digest")
            return [
                Suppressed(
                    kind=kind,
                    scope=scope,
                    subject=None if found is None else Subject(kind, found),
                    name=f"hash:{digest.hex()}",
                    since=_time(since),
                )
                for kind, scope, found, digest, since in rows.fetchall()
            ]

    def name_of(self, subject: Subject) -> str:
        """Return the hash by which the audit names a person."""
        with self._transaction() as connection:
            return f"hash:{digest_of(_salt(connection), subject).hex()}"

    def add_job(
        self,
        subjects: Sequence[Subject],
        *,
        regulation: str,
        scope: str,
        keep_events: bool,
        stores: Sequence[str],
        now: datetime,
    ) -> str:
        """Add a job with a step for each store, and return its id."""
        number = f"reg_{secrets.token_hex(12)}"
        listed = msgspec.json.encode([(one.kind, one.id) for one in subjects]).decode() if stores else None
        finished_at = None if stores else now.timestamp()
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO jobs (id, type, scope, subjects, keep_events, created_at, finished_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (number, regulation, scope, listed, keep_events, now.timestamp(), finished_at),
            )
            connection.executemany(
                "INSERT INTO steps (job, store, status) VALUES (?, ?, 'INITIALIZED')",
                [(number, store) for store in stores],
            )
        return number

    def set_step(self, job: str, step: Step) -> None:
        """Store the state of a step."""
        finished_at = None if step.finished_at is None else step.finished_at.timestamp()
        with self._transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO steps VALUES (?, ?, ?, ?, ?, ?)",
                (job, step.store, step.status, step.changed, step.detail, finished_at),
            )

    def end_job(self, job: str, now: datetime) -> None:
        """End a job: its ids are overwritten."""
        with self._transaction() as connection:
            connection.execute("UPDATE jobs SET subjects = NULL, finished_at = ? WHERE id = ?", (now.timestamp(), job))

    def jobs(self, *, unfinished: bool = False) -> list[Job]:
        """Return all jobs, the oldest first."""
        if not self.path.exists():
            return []
        condition = "WHERE finished_at IS NULL" if unfinished else ""
        with self._opened() as connection:
            rows = connection.execute(f"SELECT {_JOB} FROM jobs {condition} ORDER BY number").fetchall()
            return [_as_job(row, connection) for row in rows]

    def job(self, number: str) -> Job | None:
        """Return a job by its id."""
        return next((job for job in self.jobs() if job.id == number), None)

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        try:
            with used_once(partial(_open, self.path)) as connection:
                yield connection
        except sqlite3.Error as error:
            raise UnusablePrivacyFile(path=self.path, detail=f"it cannot be used ({error})") from error

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._opened() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise


class SuppressionReader:
    """The suppressed persons, for a process that serves: it looks at the file twice a second at most."""

    def __init__(self, file: PrivacyFile, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._file = file
        self._monotonic = monotonic
        self._known = Suppressions()
        self._looked_at = float("-inf")
        self._seen: object = None
        self.renew_after_fork()
        renew_in_forks(self)

    def renew_after_fork(self) -> None:
        """Reset after a fork: the copied lock of the parent may be held."""
        self._lock = threading.Lock()

    def __call__(self) -> Suppressions:
        """Return who is suppressed.  While the file cannot be read, those of before are."""
        now = self._monotonic()
        if now - self._looked_at >= LOOK_SECONDS and self._lock.acquire(blocking=False):
            try:
                self._look()
                self._looked_at = now
            finally:
                self._lock.release()
        return self._known

    def _look(self) -> None:
        try:
            status = self._file.path.stat()
            found: object = (status.st_ino, status.st_mtime_ns, status.st_size)
        except OSError:
            found = None
        if found == self._seen:
            return
        try:
            self._known = self._file.suppressions()
        except UnusablePrivacyFile:
            return
        self._seen = found


def _open(path: Path) -> sqlite3.Connection:
    make_private_file(path)
    connection = sqlite3.connect(
        f"{path.resolve().as_uri()}?mode=rw",
        uri=True,
        timeout=_BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        _FORMAT.version(connection, path)
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("PRAGMA synchronous = FULL")
        _FORMAT.migrate(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _salt(connection: sqlite3.Connection) -> bytes:
    (salt,) = connection.execute("SELECT salt FROM salt").fetchone()
    return bytes(salt)


def _as_job(row: tuple[Any, ...], connection: sqlite3.Connection) -> Job:
    number, regulation, scope, subjects, keep_events, created_at, finished_at = row
    steps = connection.execute("SELECT store, status, changed, detail, finished_at FROM steps WHERE job = ?", (number,))
    return Job(
        id=number,
        regulation=regulation,
        scope=scope,
        subjects=tuple(Subject(*one) for one in msgspec.json.decode(subjects)) if subjects else (),
        keep_events=bool(keep_events),
        created_at=_time(created_at),
        finished_at=None if finished_at is None else _time(finished_at),
        steps=tuple(
            Step(store=store, status=status, changed=changed, detail=detail, finished_at=at and _time(at))
            for store, status, changed, detail, at in steps.fetchall()
        ),
    )


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


_JOB = "id, type, scope, subjects, keep_events, created_at, finished_at"
