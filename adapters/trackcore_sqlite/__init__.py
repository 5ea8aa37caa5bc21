"""The embedded log: one SQLite file that keeps messages, rejected messages and quarantined requests.

`SqliteSink` writes it (any number of threads and processes at once), `SqliteLog` reads it (while it is written),
`SqliteBrowser` looks into it by bounded queries.
"""

from trackcore_sqlite.browse import PARTS, Filter, Group, Part, SqliteBrowser, Window, spread
from trackcore_sqlite.log import SqliteLog, StoredMessage, StoredQuarantined, StoredRejected, Totals
from trackcore_sqlite.schema import UnusableLog
from trackcore_sqlite.sink import SqliteSink

__all__ = [
    "PARTS",
    "Filter",
    "Group",
    "Part",
    "SqliteBrowser",
    "SqliteLog",
    "SqliteSink",
    "StoredMessage",
    "StoredQuarantined",
    "StoredRejected",
    "Totals",
    "UnusableLog",
    "Window",
    "spread",
]
