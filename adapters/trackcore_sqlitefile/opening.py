"""Opening a file and migrating it.

`PRAGMA user_version` holds the number of migrations that a file has had.  A migration, once released, is never changed;
a change of the tables is a new entry at the end.  A file from a newer trackcore is rejected.
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

_IDENTITY = """
    SELECT (SELECT user_version FROM pragma_user_version),
           (SELECT application_id FROM pragma_application_id),
           (SELECT count(*) FROM sqlite_schema)
"""
"""Read in one statement, so that another process cannot migrate the file between the values."""

_PAUSE_SECONDS = 0.01

WAL_BYTES = 16 << 20
"""The size to which the write-ahead log is cut once its content is copied: at least twice the amount that SQLite
collects before it copies it into the file, 1,000 pages, so that the write-ahead log does not grow again each time."""


@attrs.define(kw_only=True, eq=False)
class UnusableFile(TrackcoreError):
    """The file cannot be used: it is damaged, of another program, or from a newer trackcore."""

    path: Path
    detail: str


@attrs.frozen(kw_only=True)
class Format:
    """A kind of file.

    Attributes:
        application_id: marks a file as one of trackcore, so that files of other programs are neither read nor changed.
        migrations: SQL scripts, the first of which creates the tables.
        error: the class of error to raise for an unusable file.
    """

    application_id: int
    migrations: Sequence[str]
    error: type[UnusableFile]

    def version(self, connection: sqlite3.Connection, path: Path) -> int:
        """Return the number of migrations that a file has had.  Raises `error` for a foreign or a newer file."""
        version: int
        version, application, objects = connection.execute(_IDENTITY).fetchone()
        if objects and application != self.application_id:
            raise self.error(path=path, detail="this is a SQLite file of another program")
        if version > len(self.migrations):
            detail = f"written by a newer trackcore (schema {version}, this one knows {len(self.migrations)})"
            raise self.error(path=path, detail=detail)
        return version

    def migrate(self, connection: sqlite3.Connection, path: Path) -> None:
        """Run the migrations that a file has not had, in one transaction.  Raises as `version` does."""
        if self.version(connection, path) == len(self.migrations):
            return
        connection.execute("BEGIN IMMEDIATE")
        try:
            # Read again: another process may have migrated the file while this one waited for the lock.
            for migration in self.migrations[self.version(connection, path) :]:
                for statement in _statements(migration):
                    connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {self.application_id}")
            connection.execute(f"PRAGMA user_version = {len(self.migrations)}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def make_private_file(path: Path) -> None:
    """Create a file and its folder, for their owner alone, unless they exist.

    SQLite copies the permissions of the main file to its -wal and -shm files, so they are set before it opens it.  An
    existing file is not opened here: closing it again would drop the locks that SQLite holds on it for this process
    (https://www.sqlite.org/howtocorrupt.html, section 2.2).
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def use_write_ahead_log(connection: sqlite3.Connection, busy_timeout: float) -> None:
    """Switch to a write-ahead log that does not keep its peak size.

    SQLite does not wait for other connections that do the same at this moment, so this function does.
    """
    connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
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


def shorten_write_ahead_log(connection: sqlite3.Connection, path: Path) -> None:
    """Cut the write-ahead log if it is longer than `WAL_BYTES` and no reader needs it; to be called after a commit.

    SQLite restarts it only at a moment at which all of it was copied, and if several processes write in turn that
    moment may never come.  So its content is copied while others may write, and only if no reader needs any of it, the
    few commits since then are copied while others have to wait.  This function does not wait for others.
    """
    try:
        if os.stat(f"{path}-wal").st_size <= WAL_BYTES:  # noqa: PTH116 - called with each commit
            return
        _, pages, copied = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if copied == pages:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except (OSError, sqlite3.Error):
        return  # the commit is safe; the next one tries again, and fails if the disk does


def primary_code(error: BaseException) -> int:
    """Return the primary code of an error of SQLite, which is the low byte of its code; 0 for any other error."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _statements(script: str) -> list[str]:
    """Split a script into statements: `executescript` would commit the transaction that it is to run in."""
    statements = [""]
    for line in script.splitlines(keepends=True):
        statements[-1] += line
        if sqlite3.complete_statement(statements[-1]):
            statements.append("")
    return [statement for statement in statements if statement.strip()]
