"""The file itself: its tables, and how it is opened (see `trackcore_sqlitefile.opening` for the migrations)."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import attrs
from trackcore_sqlitefile import Format, UnusableFile, make_private_file, primary_code, use_write_ahead_log

from trackcore import LogUnavailable
from trackcore_sqlite.message_ids import hash_of
from trackcore_sqlite.views import keep_views

APPLICATION_ID = int.from_bytes(b"trkc")
_TIDY_SECONDS = 30.0
_PAGE_BYTES = 8_192
"""The size of the pages of a new log; an older one keeps its own, 4,096 bytes.  A page has several messages, and is the
least that a commit writes: with 8 KiB a commit of 100 messages makes half the calls of the system, and one of a single
message writes little more."""

GONE = "the log was deleted, moved or replaced while in use; put it back or restart the server"
"""No new log is created: processes that have the old one open would share its -wal and -shm files with the new one."""

_NO_LOG = "there is no log here; `trackcore serve` creates one"

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
    -- The index of ids; see `trackcore_sqlite.deduplication`, which has the function `message_id_hash`, and `.bloom`.
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
    """
    -- Each process that opens the log begins a stretch with its first write; see `trackcore.marks`.  The other columns
    -- are the last number of each part before it.
    CREATE TABLE stretches (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,        -- random, so that no other log has it but a copy
        messages INTEGER NOT NULL,
        duplicates INTEGER NOT NULL,
        rejected INTEGER NOT NULL,
        quarantine INTEGER NOT NULL
    );
    CREATE INDEX stretches_by_messages ON stretches (messages);
    INSERT INTO stretches (id, messages, duplicates, rejected, quarantine)
        VALUES (lower(hex(randomblob(8))), 0, 0, 0, 0);
    """,
    """
    -- `message_ids_0` had the ids of the newest messages.  Those are not in these tables any more until there are many
    -- of them; 'ids.seq' is the number of the last message whose id is.
    INSERT OR IGNORE INTO message_ids_1 SELECT hash, seq FROM message_ids_0;
    DROP TABLE message_ids_0;
    INSERT INTO counters SELECT 'ids.seq', value FROM counters WHERE name = 'messages.seq';
    """,
    """
    ALTER TABLE messages ADD COLUMN retry_count INTEGER;    -- how often its client had tried before, NULL for never
    ALTER TABLE duplicates ADD COLUMN retry_count INTEGER;
    """,
)


@attrs.define(kw_only=True, eq=False)
class UnusableLog(UnusableFile, LogUnavailable):
    """The file cannot be used as a log: it is damaged, not a SQLite file, or from a newer trackcore."""

    is_damaged: bool = False


def open_for_writing(path: Path, busy_timeout: float, migrations: Sequence[str] = MIGRATIONS) -> sqlite3.Connection:
    """Open the log; create or migrate it as needed.  Folder and file are accessible to the owner alone.

    Raises `UnusableLog` if the file is not a log of trackcore, `sqlite3.Error` if it cannot be opened or written now.
    """
    file_format = _format(migrations)
    make_private_file(path)
    connection = _connect(f"{path.resolve().as_uri()}?mode=rw", path, busy_timeout)
    try:
        file_format.version(connection, path)  # before anything is changed
        connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
        use_write_ahead_log(connection, busy_timeout)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = OFF")  # sources are never deleted
        file_format.migrate(connection, path)
        if migrations is MIGRATIONS:
            keep_views(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def open_to_tidy(path: Path) -> sqlite3.Connection:
    """Open an existing log as `open_for_writing` does.  Raises `UnusableLog` also if there is none."""
    if not path.exists():
        raise UnusableLog(path=path, detail=_NO_LOG)
    return open_for_writing(path, _TIDY_SECONDS)


def inode_of(path: Path) -> int | None:
    """Return the number by which SQLite identifies a file among those of its name; None if there is none."""
    try:
        return os.stat(path).st_ino  # noqa: PTH116 - called with each commit, and a Path makes it twice as long
    except OSError:
        return None


def open_for_reading(path: Path) -> sqlite3.Connection:
    """Open a log for reading.  Raises `UnusableLog` if there is none, it is empty, or it may not be read."""
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
    """Open a log of any schema to look for damage.  Raises `UnusableLog` if it is not a log of trackcore."""
    connection = _connect(f"{path.resolve().as_uri()}?mode=ro", path, busy_timeout=5)
    try:
        _format().version(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _check_is_migrated(connection: sqlite3.Connection, path: Path) -> None:
    version = _format().version(connection, path)
    if version < len(MIGRATIONS):
        found = f"schema {version}, this trackcore knows {len(MIGRATIONS)}" if version else "it is empty"
        raise UnusableLog(path=path, detail=f"not ready to be read ({found}); `trackcore serve` prepares it")


def _connect(uri: str, path: Path, busy_timeout: float) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, uri=True, timeout=busy_timeout, isolation_level=None, check_same_thread=False)
    try:
        connection.create_function("message_id_hash", 2, hash_of, deterministic=True)
        connection.execute("PRAGMA user_version")
    except BaseException as error:
        connection.close()
        if not is_damage(error):
            raise
        detail = f"not a SQLite file, or a damaged one ({error})"
        raise UnusableLog(path=path, detail=detail, is_damaged=True) from error
    return connection


def is_damage(error: BaseException) -> bool:
    """Return whether an error of SQLite concerns the content of the file, and not the access to it."""
    return primary_code(error) in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)


def _format(migrations: Sequence[str] = MIGRATIONS) -> Format:
    return Format(application_id=APPLICATION_ID, migrations=migrations, error=UnusableLog)
