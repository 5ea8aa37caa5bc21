"""The state file: how it is opened, its tables, and how an older one is brought up to date.

It lies beside the log and is a file of its own, so that delivery never waits for those who write the log, nor they for
it.  `PRAGMA user_version` holds the number of migrations it has had; a migration, once released, is never changed.

`synchronous = NORMAL`: what was committed survives the death of the process.  A crash of the machine may undo the last
transactions, whole and in order; then what they had recorded as sent is sent again, which at-least-once allows.
"""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import suppress
from pathlib import Path

import attrs

from trackcore import TrackcoreError

_APPLICATION_ID = int.from_bytes(b"trkd")
_BUSY_SECONDS = 10.0
_PAUSE_SECONDS = 0.01
_PRIMARY_CODE = 0xFF  # the low byte of a code that may say more

_IDENTITY = """
    SELECT (SELECT user_version FROM pragma_user_version),
           (SELECT application_id FROM pragma_application_id),
           (SELECT count(*) FROM sqlite_schema)
"""
"""Read in one statement, so that another process cannot make the file between the answers."""

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE destinations (
        name TEXT PRIMARY KEY,
        position INTEGER NOT NULL,          -- everything up to here is settled
        delivered INTEGER NOT NULL DEFAULT 0,
        delivered_at REAL,                  -- times are seconds since 1970
        rate REAL NOT NULL DEFAULT 0,       -- messages a second, at `rated_at`
        rated_at REAL NOT NULL DEFAULT 0,
        failures INTEGER NOT NULL DEFAULT 0,  -- attempts that failed in a row
        failing_since REAL,
        next_try_at REAL,
        last_error TEXT,
        last_error_at REAL,
        dead_bytes INTEGER NOT NULL DEFAULT 0,
        dead_dropped INTEGER NOT NULL DEFAULT 0
    ) WITHOUT ROWID;

    CREATE TABLE dead_letters (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        destination TEXT NOT NULL,
        position INTEGER NOT NULL,
        source TEXT NOT NULL,
        user TEXT NOT NULL,
        call TEXT NOT NULL,
        message_id TEXT NOT NULL,
        received_at REAL NOT NULL,
        died_at REAL NOT NULL,
        reason TEXT NOT NULL,
        retried_at REAL,                    -- set: it is to be sent once more
        size INTEGER NOT NULL,              -- what it counts for in the bound
        payload BLOB NOT NULL
    );
    CREATE INDEX dead_letters_by_destination ON dead_letters (destination, id);
    CREATE INDEX dead_letters_to_retry ON dead_letters (destination, id) WHERE retried_at IS NOT NULL;

    CREATE TABLE replays (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        destination TEXT NOT NULL,
        asked_at REAL NOT NULL,
        since REAL,
        until REAL,
        call TEXT,
        user TEXT,
        position INTEGER NOT NULL DEFAULT 0,
        last INTEGER NOT NULL,              -- the position of the last message that there was when it was asked for
        sent INTEGER NOT NULL DEFAULT 0,
        refused INTEGER NOT NULL DEFAULT 0,
        finished_at REAL
    );
    """,
)


@attrs.define(kw_only=True, eq=False)
class UnusableState(TrackcoreError):
    """The state of delivery cannot be read or written."""

    path: Path
    detail: str

    def __str__(self) -> str:
        return f"{self.path}: {self.detail}"


def open_state_file(path: Path, *, must_exist: bool = False) -> sqlite3.Connection:
    """Open the state file, making it (for its owner alone) or migrating it as needed.

    Raises:
        UnusableState: it is no state file of ours, is from a newer trackcore, or cannot be opened.
    """
    try:
        if not must_exist:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with suppress(FileExistsError):
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        uri = f"{path.resolve().as_uri()}?mode=rw"
        connection = sqlite3.connect(
            uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
    except (OSError, sqlite3.Error) as error:
        raise UnusableState(path=path, detail=f"it cannot be opened ({error})") from error
    try:
        _version(connection, path)  # before anything is changed
        _use_write_ahead_log(connection)
        connection.execute("PRAGMA synchronous = NORMAL")
        _migrate(connection, path)
    except sqlite3.Error as error:
        connection.close()
        raise UnusableState(path=path, detail=f"it cannot be used ({error})") from error
    except BaseException:
        connection.close()
        raise
    return connection


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    """Switch to the write-ahead log.  SQLite does not wait for others that do the same just now, so we do."""
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & _PRIMARY_CODE != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE_SECONDS)
        else:
            return


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    if _version(connection, path) == len(MIGRATIONS):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        for migration in MIGRATIONS[_version(connection, path) :]:
            for statement in _statements(migration):
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _version(connection: sqlite3.Connection, path: Path) -> int:
    version, application, objects = connection.execute(_IDENTITY).fetchone()
    if objects and application != _APPLICATION_ID:
        raise UnusableState(path=path, detail="this is a SQLite file of another program")
    if version > len(MIGRATIONS):
        detail = f"written by a newer trackcore (schema {version}, this one knows {len(MIGRATIONS)})"
        raise UnusableState(path=path, detail=detail)
    return int(version)


def _statements(script: str) -> list[str]:
    """Split a script into statements: `executescript` would commit the transaction that it is to run in."""
    statements = []
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            statements.append(statement)
            statement = ""
    return statements
