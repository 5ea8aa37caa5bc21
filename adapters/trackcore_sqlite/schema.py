"""The file itself: how it is opened, its tables, and how an older file is brought up to date.

`PRAGMA user_version` holds the number of migrations that a file has had.  A migration, once released, is never changed;
a new shape is a new entry at the end.  A file from a newer trackcore is refused, not guessed at.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import attrs

from trackcore import TrackcoreError
from trackcore_sqlite import ids

APPLICATION_ID = int.from_bytes(b"trkc")
"""Marks the file as ours, so that another program's is neither read nor changed."""

_IDENTITY = """
    SELECT (SELECT user_version FROM pragma_user_version),
           (SELECT application_id FROM pragma_application_id),
           (SELECT count(*) FROM sqlite_schema)
"""
"""Read in one statement, so that another process cannot migrate the file between the answers."""

GONE = "the log was deleted, moved or replaced while in use; put it back or restart the server"
"""No new one is made: those who have the old one open would share the files beside it with the new one."""

_PAUSE_SECONDS = 0.01
_NO_LOG = "there is no log here; `trackcore serve` makes one"

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE sources (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);

    -- `seq` is given out by the writer, from `counters`: it rises by one with each message, is never used again, and
    -- a reader that has seen one has seen all before it, since there is one writing transaction at a time.
    CREATE TABLE messages (
        seq INTEGER PRIMARY KEY,
        source_id INTEGER NOT NULL REFERENCES sources (id),
        message_id TEXT NOT NULL,
        call TEXT NOT NULL,
        user_id TEXT,
        anonymous_id TEXT,
        received_at INTEGER NOT NULL,   -- milliseconds since 1970
        destinations TEXT NOT NULL,     -- JSON array of names
        cautions TEXT,                  -- JSON array of {code, message, path}, NULL for none
        payload BLOB NOT NULL           -- the message, JSON
    );
    CREATE UNIQUE INDEX messages_by_id ON messages (source_id, message_id);

    CREATE TABLE rejected (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        source_id INTEGER NOT NULL REFERENCES sources (id),
        received_at INTEGER NOT NULL,
        code TEXT NOT NULL,
        message TEXT NOT NULL,
        path TEXT NOT NULL,
        size INTEGER NOT NULL,          -- what it counts for in the bound of this part
        payload BLOB NOT NULL           -- as received
    );

    CREATE TABLE quarantine (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        received_at INTEGER NOT NULL,
        endpoint TEXT NOT NULL,
        write_key TEXT,
        client_ip TEXT,
        client_side INTEGER NOT NULL,
        size INTEGER NOT NULL,          -- likewise
        payload BLOB NOT NULL           -- as received, after decompression
    );

    CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    INSERT INTO counters VALUES
        ('messages.seq', 0),
        ('rejected.bytes', 0), ('rejected.dropped', 0),
        ('quarantine.bytes', 0), ('quarantine.dropped', 0),
        ('probe', 0);
    """,
    """
    ALTER TABLE messages ADD COLUMN inherited TEXT;  -- JSON array of wire paths, NULL for none
    """,
    """
    -- Which ids are there; see `trackcore_sqlite.ids` and `.sieve`; the former gives the function `message_id_hash`.
    CREATE TABLE message_ids_0 (hash INTEGER NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (hash, seq)) WITHOUT ROWID;
    CREATE TABLE message_ids_1 (hash INTEGER NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (hash, seq)) WITHOUT ROWID;
    CREATE TABLE message_ids_2 (hash INTEGER NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (hash, seq)) WITHOUT ROWID;
    CREATE TABLE message_ids_3 (hash INTEGER NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (hash, seq)) WITHOUT ROWID;
    CREATE TABLE message_ids_4 (hash INTEGER NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (hash, seq)) WITHOUT ROWID;
    CREATE TABLE id_moves (number INTEGER PRIMARY KEY, hashes TEXT);  -- JSON array, NULL for anything
    INSERT INTO message_ids_4 SELECT message_id_hash(source_id, message_id), seq FROM messages ORDER BY 1, 2;

    INSERT INTO counters
        SELECT 'messages.count', count(*) FROM messages
        UNION ALL SELECT 'rejected.count', count(*) FROM rejected
        UNION ALL SELECT 'quarantine.count', count(*) FROM quarantine;

    DROP INDEX messages_by_id;
    CREATE INDEX rejected_by_code ON rejected (code);
    """,
    """
    ALTER TABLE messages ADD COLUMN found_by TEXT;  -- where the write key stood, NULL where nobody has said it
    ALTER TABLE rejected ADD COLUMN batch BLOB;     -- what the batch said for all, JSON; NULL for no batch

    -- The newest of what was not stored, since its source had sent a message of its id before.
    CREATE TABLE duplicates (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        source_id INTEGER NOT NULL REFERENCES sources (id),
        message_id TEXT NOT NULL,
        call TEXT NOT NULL,
        user_id TEXT,
        anonymous_id TEXT,
        received_at INTEGER NOT NULL,
        destinations TEXT NOT NULL,
        cautions TEXT,
        payload BLOB NOT NULL,          -- as it would have been stored
        inherited TEXT,
        found_by TEXT,
        size INTEGER NOT NULL           -- what it counts for in the bound of this part
    );
    INSERT INTO counters VALUES ('duplicates.bytes', 0), ('duplicates.count', 0), ('duplicates.dropped', 0);
    """,
    """
    ALTER TABLE rejected ADD COLUMN endpoint TEXT;  -- what the request was sent as, NULL where nobody has said it
    """,
)


@attrs.define(kw_only=True, eq=False)
class UnusableLog(TrackcoreError):
    """The file cannot be used as a log: it is damaged, no SQLite file, or from a newer trackcore."""

    path: Path
    detail: str
    is_damaged: bool = False

    def __str__(self) -> str:
        return f"{self.path}: {self.detail}"


def open_for_writing(path: Path, busy_timeout: float, migrations: Sequence[str] = MIGRATIONS) -> sqlite3.Connection:
    """Open the log, making or migrating it as needed.  Folder and file are the owner's alone.

    Raises:
        UnusableLog: the file is no log of ours.
        sqlite3.Error: it cannot be opened or written now.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # SQLite gives the files beside it (-wal, -shm) the rights of the main file, so they are set before it opens it.  A
    # file that is there must not be opened here: closing it again would drop the locks that SQLite holds on it for this
    # process (https://www.sqlite.org/howtocorrupt.html, section 2.2).
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    connection = _connect(f"{path.resolve().as_uri()}?mode=rw", path, busy_timeout)
    try:
        _check_version(connection, path, len(migrations))
        _use_write_ahead_log(connection, busy_timeout)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = OFF")  # sources are never deleted
        _migrate(connection, path, migrations)
    except BaseException:
        connection.close()
        raise
    return connection


def open_to_tidy(path: Path, busy_timeout: float) -> sqlite3.Connection:
    """Do as `open_for_writing`, but make no log where there is none, which raises `UnusableLog` as well."""
    if not path.exists():
        raise UnusableLog(path=path, detail=_NO_LOG)
    return open_for_writing(path, busy_timeout)


def inode_of(path: Path) -> int | None:
    """Give what tells a file from another of its name, as SQLite does; None where there is none."""
    try:
        return os.stat(path).st_ino  # noqa: PTH116 - asked with each commit, and a Path makes it twice as long
    except OSError:
        return None


def open_for_reading(path: Path) -> sqlite3.Connection:
    """Open a log for reading.  Raises `UnusableLog` when there is none, nothing in it yet, or it may not be read."""
    try:
        if not path.exists():
            raise UnusableLog(path=path, detail=_NO_LOG)
        connection = _connect(f"{path.resolve().as_uri()}?mode=ro", path, busy_timeout=5)
    except (OSError, sqlite3.Error) as error:
        raise UnusableLog(path=path, detail=f"it cannot be read ({error})") from error
    try:
        _check_is_migrated(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def open_for_checking(path: Path) -> sqlite3.Connection:
    """Open a log as it is, of whatever age, to look for damage.  Raises `UnusableLog` when it is not ours."""
    connection = _connect(f"{path.resolve().as_uri()}?mode=ro", path, busy_timeout=5)
    try:
        _check_version(connection, path, len(MIGRATIONS))
    except BaseException:
        connection.close()
        raise
    return connection


def _check_is_migrated(connection: sqlite3.Connection, path: Path) -> None:
    version = _check_version(connection, path, len(MIGRATIONS))
    if version < len(MIGRATIONS):
        found = f"schema {version}, this trackcore knows {len(MIGRATIONS)}" if version else "it is empty"
        raise UnusableLog(path=path, detail=f"not ready to be read ({found}); `trackcore serve` makes it so")


def _use_write_ahead_log(connection: sqlite3.Connection, busy_timeout: float) -> None:
    """Switch to the write-ahead log.  SQLite does not wait for others that do the same just now, so we do."""
    deadline = time.monotonic() + busy_timeout
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if primary_code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE_SECONDS)
        else:
            return


def _connect(uri: str, path: Path, busy_timeout: float) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, uri=True, timeout=busy_timeout, isolation_level=None, check_same_thread=False)
    connection.create_function("message_id_hash", 2, ids.hash_of, deterministic=True)
    try:
        connection.execute("PRAGMA user_version")
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        detail = f"this is no SQLite file, or a damaged one ({error})"
        raise UnusableLog(path=path, detail=detail, is_damaged=True) from error
    return connection


def is_damage(error: sqlite3.DatabaseError) -> bool:
    """Tell whether SQLite complains of the content of the file, and not of what it may do with it."""
    return primary_code(error) in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)


def primary_code(error: BaseException) -> int:
    """Give what SQLite complains of, 0 for another's error: the low byte of a code that may say more."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _check_version(connection: sqlite3.Connection, path: Path, known: int) -> int:
    version: int
    version, application, objects = connection.execute(_IDENTITY).fetchone()
    if objects and application != APPLICATION_ID:
        raise UnusableLog(path=path, detail="this is a SQLite file of another program")
    if version > known:
        detail = f"written by a newer trackcore (schema {version}, this one knows {known})"
        raise UnusableLog(path=path, detail=detail)
    return version


def _migrate(connection: sqlite3.Connection, path: Path, migrations: Sequence[str]) -> None:
    if _check_version(connection, path, len(migrations)) == len(migrations):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Read again: another process may have migrated the file while this one waited for the lock.
        version = _check_version(connection, path, len(migrations))
        for migration in migrations[version:]:
            for statement in _statements(migration):
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(migrations)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _statements(script: str) -> list[str]:
    """Split a script into statements: `executescript` would commit the transaction that it is to run in."""
    statements = []
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            statements.append(statement)
            statement = ""
    return [*statements, statement] if statement.strip() else statements
