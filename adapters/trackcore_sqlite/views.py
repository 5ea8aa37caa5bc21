"""Views for people who open the log with another program: `sqlite3`, DuckDB, datasette.

They do not belong to the schema, and no code of trackcore reads them: so a log without them needs no migration, and is
read as it is.  A process that opens the log for writing creates them, or replaces those of an older version.  A table
or a view of the same name that somebody else created is left alone.

DuckDB executes a view itself if it can, and lets SQLite do it else.  `strftime` has other arguments there, so that
SQLite executes both views.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

_OURS = "/* kept by trackcore */"

VIEWS: Mapping[str, str] = {
    "events": f"""CREATE VIEW events AS {_OURS}
SELECT
    seq,
    json_extract(CAST(payload AS TEXT), '$.timestamp') AS time,
    strftime('%Y-%m-%dT%H:%M:%fZ', received_at / 1000.0, 'unixepoch') AS received_at,
    sources.name AS source,
    call,
    json_extract(
        CAST(payload AS TEXT),
        CASE call WHEN 'track' THEN '$.event' WHEN 'page' THEN '$.name' WHEN 'screen' THEN '$.name' END
    ) AS event,
    user_id,
    anonymous_id,
    json_extract(CAST(payload AS TEXT), '$.properties') AS properties,
    json_extract(CAST(payload AS TEXT), '$.traits') AS traits,
    json_extract(CAST(payload AS TEXT), '$.context') AS context,
    message_id,
    destinations,
    cautions AS warnings
FROM messages JOIN sources ON sources.id = messages.source_id""",
    "daily_counts": f"""CREATE VIEW daily_counts AS {_OURS}
SELECT substr(time, 1, 10) AS day, source, call, event, count(*) AS messages
FROM events
GROUP BY 1, 2, 3, 4
ORDER BY 1, 2, 3, 4""",
}
"""The statement that creates each view, as SQLite keeps it."""

_FOUND = "SELECT name, sql FROM sqlite_schema WHERE name IN ('events', 'daily_counts')"


def keep_views(connection: sqlite3.Connection) -> None:
    """Create the views, or replace those of an older version, in a transaction of its own.  Raises `sqlite3.Error`."""
    if not _missing(connection):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        for name in _missing(connection):  # read again: another process may have created them meanwhile
            connection.execute(f"DROP VIEW IF EXISTS {name}")
            connection.execute(VIEWS[name])
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _missing(connection: sqlite3.Connection) -> list[str]:
    """Return the names of the views that are not there, or are those of another version."""
    found = dict(connection.execute(_FOUND))
    return [name for name, sql in VIEWS.items() if name not in found or (_OURS in found[name] and found[name] != sql)]
