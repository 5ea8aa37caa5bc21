"""The stretches of a log: the messages that each process wrote since it opened the log; see `trackcore.marks`."""

from __future__ import annotations

import sqlite3

import attrs

from trackcore import Cause, SinkUnavailable


@attrs.define
class StretchWriter:
    """Begins the stretches of a process: one with each connection, by its first write.

    A log may be rewound while processes write it, as by `.restore` of the sqlite3 shell.  No process may continue a
    stretch then, so each begins another.  SQLite changes the schema number of a database that is overwritten.

    A fork closes the connection, whatever the child does, so a process that forks repeatedly would begin ever more
    stretches.  It continues its own if it finds the log exactly as the fork has left it.
    """

    has_begun: bool = False
    _schema: int = 0
    _id: str = ""
    _left: tuple[object, ...] | None = None

    def open(self, connection: sqlite3.Connection) -> None:
        """Let the first write of a connection begin a stretch."""
        self.has_begun = False
        self._schema = schema_of(connection)

    def begin(self, connection: sqlite3.Connection) -> None:
        """Begin a stretch in the transaction of a connection, or continue the one from before a fork."""
        left, self._left = self._left, None
        if left is None or left != self._look(connection):
            (self._id,) = connection.execute(_BEGIN).fetchone()
        self.has_begun = True

    def leave(self, connection: sqlite3.Connection) -> None:
        """Note the state of the log before a fork closes the connection; until then it was not overwritten."""
        if self.has_begun:
            found = self._look(connection)
            self._left = found if found[:2] == (self._schema, self._id) else None

    def forget(self) -> None:
        """Begin a new stretch in any case: the file may be another one, or the last messages may be lost."""
        self._left = None

    def check(self, schema: int) -> None:
        """Raise `SinkUnavailable` if the schema number has changed: the log must be opened again."""
        check_schema(self._schema, schema)

    def _look(self, connection: sqlite3.Connection) -> tuple[object, ...]:
        found: tuple[object, ...] = connection.execute(_LOOK).fetchone()
        return found


def schema_of(connection: sqlite3.Connection) -> int:
    """Return SQLite's schema number, which another program changes by overwriting the log in place."""
    schema: int
    (schema,) = connection.execute("PRAGMA schema_version").fetchone()
    return schema


def check_schema(known: int, schema: int) -> None:
    """Raise `SinkUnavailable` if the schema number is not the known one."""
    if known != schema:
        detail = "another program has overwritten the log, or its schema, while in use; it is opened again"
        raise SinkUnavailable(cause=Cause.UNAVAILABLE, detail=detail, retry_after=1)


_LAST_OF = "coalesce((SELECT seq FROM sqlite_sequence WHERE name = '{}'), 0)"
_ENDS = f"""
    (SELECT value FROM counters WHERE name = 'messages.seq'),
    {", ".join(map(_LAST_OF.format, ("duplicates", "rejected", "quarantine")))}
"""
_BEGIN = f"""
    INSERT INTO stretches (id, messages, duplicates, rejected, quarantine)
    SELECT lower(hex(randomblob(8))), {_ENDS} RETURNING id
"""
_LOOK = f"""
    SELECT (SELECT schema_version FROM pragma_schema_version),
           (SELECT id FROM stretches ORDER BY number DESC LIMIT 1), {_ENDS}
"""
