"""The stretches of a log: what each process wrote since it opened the log; see `trackcore.marks`."""

from __future__ import annotations

import sqlite3

import attrs

from trackcore import Cause, SinkUnavailable

_OVERWRITTEN = "another program has overwritten the log, or its schema, while in use; it is opened anew"


@attrs.define
class StretchWriter:
    """Begins the stretches of a process: one with each connection, by its first write.

    A log may be rewound under those who write it, as by `.restore` of the sqlite3 shell.  Nobody may write on in a
    stretch then, so each begins another.  SQLite gives a database that is overwritten a new number of its schema.
    """

    has_begun: bool = False
    _schema: int = 0

    def open(self, connection: sqlite3.Connection) -> None:
        """Let the first write of a connection begin a stretch."""
        self.has_begun = False
        self._schema = schema_of(connection)

    def begin(self, connection: sqlite3.Connection) -> None:
        """Begin a stretch with what the transaction of a connection writes."""
        connection.execute(_BEGIN)
        self.has_begun = True

    def check(self, schema: int) -> None:
        """Raise `SinkUnavailable` where the number of the schema is another: the log must be opened anew."""
        check_schema(self._schema, schema)


def schema_of(connection: sqlite3.Connection) -> int:
    """Return SQLite's number of the schema, which another program that overwrites the log in place changes."""
    schema: int
    (schema,) = connection.execute("PRAGMA schema_version").fetchone()
    return schema


def check_schema(known: int, schema: int) -> None:
    """Raise `SinkUnavailable` where the number of the schema is another than the known one."""
    if known != schema:
        raise SinkUnavailable(cause=Cause.UNAVAILABLE, detail=_OVERWRITTEN, retry_after=1)


_LAST_OF = "coalesce((SELECT seq FROM sqlite_sequence WHERE name = '{}'), 0)"
_BEGIN = f"""
    INSERT INTO stretches (id, messages, duplicates, rejected, quarantine)
    SELECT lower(hex(randomblob(8))), (SELECT value FROM counters WHERE name = 'messages.seq'),
           {", ".join(map(_LAST_OF.format, ("duplicates", "rejected", "quarantine")))}
"""
