"""The embedded log: one SQLite file that keeps messages, rejected messages and quarantined requests.

`SqliteSink` writes it (any number of threads and processes at once), `SqliteLog` reads it (while it is written).
"""

from trackcore_sqlite.log import SqliteLog, StoredMessage, StoredPayload, StoredQuarantined, StoredRejected, Totals
from trackcore_sqlite.schema import UnusableLog
from trackcore_sqlite.sink import SqliteSink

__all__ = [
    "SqliteLog",
    "SqliteSink",
    "StoredMessage",
    "StoredPayload",
    "StoredQuarantined",
    "StoredRejected",
    "Totals",
    "UnusableLog",
]
