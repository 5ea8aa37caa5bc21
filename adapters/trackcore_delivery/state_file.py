"""The state file: its tables, and how it is opened (see `trackcore_sqlitefile.opening` for the migrations).

It is a separate file beside the log, so that delivery never waits for processes that write the log, nor they for it.

`synchronous = NORMAL`: committed transactions survive the death of the process.  A crash of the machine may undo the
last transactions, whole and in order; then the messages that they recorded as sent are sent again, which at-least-once
allows.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

import attrs
from trackcore_sqlitefile import Format, UnusableFile, make_private_file, use_write_ahead_log

_APPLICATION_ID = int.from_bytes(b"trkd")
_BUSY_SECONDS = 10.0

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
    """
    -- What proves the position, JSON (see `trackcore.marks`); NULL where it was kept without a proof.
    ALTER TABLE destinations ADD COLUMN mark TEXT;
    ALTER TABLE destinations ADD COLUMN log_change TEXT;      -- what was found when the log was last another one
    ALTER TABLE destinations ADD COLUMN log_changed_at REAL;
    ALTER TABLE replays ADD COLUMN mark TEXT;                 -- what proves `last`
    """,
    """
    CREATE TABLE attempts (                 -- how the attempts of a lane have failed, in a row
        destination TEXT NOT NULL,
        lane TEXT NOT NULL,                 -- '': the destination as a whole cannot be reached
        failures INTEGER NOT NULL,
        seconds REAL NOT NULL,              -- for how long, by clocks that nobody sets
        marks TEXT NOT NULL,                -- how far the lane reached when, JSON
        paused_at REAL NOT NULL,            -- when a wait began, and how long it was planned
        pause REAL NOT NULL,
        PRIMARY KEY (destination, lane)
    ) WITHOUT ROWID;

    CREATE TABLE held_users (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        destination TEXT NOT NULL,
        source TEXT NOT NULL,
        user TEXT NOT NULL,
        since REAL NOT NULL,
        UNIQUE (destination, source, user)
    );

    CREATE TABLE held_messages (
        number INTEGER PRIMARY KEY AUTOINCREMENT,  -- the order in which they are sent
        holder INTEGER NOT NULL,            -- their user
        position INTEGER NOT NULL,
        call TEXT NOT NULL,
        message_id TEXT NOT NULL,
        received_at REAL NOT NULL,
        size INTEGER NOT NULL,              -- what it counts for in the bound
        payload BLOB NOT NULL
    );
    CREATE INDEX held_messages_by_holder ON held_messages (holder, number, size);
    """,
    """
    CREATE TABLE erasures (                 -- requests to forget persons
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        job TEXT NOT NULL,
        destination TEXT NOT NULL,
        request BLOB,                       -- JSON; NULL once it is settled
        status TEXT NOT NULL,
        detail TEXT NOT NULL DEFAULT '',
        UNIQUE (job, destination)
    );
    """,
    """
    CREATE TABLE deliveries (               -- when the newest messages were settled, for people who ask
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        destination TEXT NOT NULL,
        is_single INTEGER NOT NULL,         -- 1: one message, sent apart from its neighbours
        first INTEGER NOT NULL,             -- the positions from here to `last`
        last INTEGER NOT NULL,
        settled_at REAL NOT NULL,
        attempts INTEGER NOT NULL,
        refused INTEGER NOT NULL            -- how many of them became dead letters
    );
    CREATE INDEX deliveries_by_position ON deliveries (destination, is_single, last);
    CREATE INDEX dead_letters_by_position ON dead_letters (destination, position);
    CREATE INDEX held_messages_by_position ON held_messages (position);
    """,
)


@attrs.define(kw_only=True, eq=False)
class UnusableState(UnusableFile):
    """The state of delivery cannot be read or written."""


_FORMAT = Format(application_id=_APPLICATION_ID, migrations=MIGRATIONS, error=UnusableState)


def open_state_file(path: Path, *, must_exist: bool = False) -> sqlite3.Connection:
    """Open the state file, creating it (for its owner alone) or migrating it as needed.

    Raises `UnusableState` if it is not a state file of trackcore, is from a newer version, or cannot be opened.
    """
    try:
        if not must_exist:
            make_private_file(path)
        uri = f"{path.resolve().as_uri()}?mode=rw"
        connection = sqlite3.connect(
            uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
    except (OSError, sqlite3.Error) as error:
        raise UnusableState(path=path, detail=f"it cannot be opened ({error})") from error
    try:
        _FORMAT.version(connection, path)  # before any change
        use_write_ahead_log(connection, _BUSY_SECONDS)
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA secure_delete = ON")  # persons are forgotten here too, and deletions are few
        _FORMAT.migrate(connection, path)
    except sqlite3.Error as error:
        connection.close()
        raise UnusableState(path=path, detail=f"it cannot be used ({error})") from error
    except BaseException:
        connection.close()
        raise
    return connection
