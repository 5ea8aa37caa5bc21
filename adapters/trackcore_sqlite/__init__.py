"""The embedded log: one SQLite file that keeps messages, rejected messages and quarantined requests.

`SqliteSink` writes it (any number of threads and processes at once), `SqliteLog` reads it (while it is written),
`SqliteBrowser` looks into it by bounded queries, `prune` deletes what is old, `check_log` looks for
damage, and `mend_ids` makes anew what de-duplication goes by.
"""

from trackcore_sqlite.browse import PARTS, Filter, Group, Head, Listed, Part, Sampled, SqliteBrowser, Window, spread
from trackcore_sqlite.check import Condition, check_log, set_aside
from trackcore_sqlite.id_check import FITTING, Misfit, mend_ids
from trackcore_sqlite.log import SqliteLog, StoredMessage, Totals
from trackcore_sqlite.prune import PruneStep, prune
from trackcore_sqlite.schema import UnusableLog
from trackcore_sqlite.sink import SqliteSink
from trackcore_sqlite.snapshot import Snapshot, StoredPayload

__all__ = [
    "FITTING",
    "PARTS",
    "Condition",
    "Filter",
    "Group",
    "Head",
    "Listed",
    "Misfit",
    "Part",
    "PruneStep",
    "Sampled",
    "Snapshot",
    "SqliteBrowser",
    "SqliteLog",
    "SqliteSink",
    "StoredMessage",
    "StoredPayload",
    "Totals",
    "UnusableLog",
    "Window",
    "check_log",
    "mend_ids",
    "prune",
    "set_aside",
    "spread",
]
