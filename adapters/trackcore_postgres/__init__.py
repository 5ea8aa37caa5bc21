"""The warehouse in PostgreSQL, in the layout of Segment: `PostgresWarehouse` loads batches of messages exactly once.

It is `trackcore.warehouse` that decides which rows a message has; this package makes the tables and writes the rows.
"""

from trackcore_postgres.batch import SentMessage
from trackcore_postgres.errors import CursorMoved, UnusableUrl, WarehouseUnavailable
from trackcore_postgres.rebuild import Rebuild
from trackcore_postgres.warehouse import Cursor, PostgresWarehouse, Refused

__all__ = [
    "Cursor",
    "CursorMoved",
    "PostgresWarehouse",
    "Rebuild",
    "Refused",
    "SentMessage",
    "UnusableUrl",
    "WarehouseUnavailable",
]
