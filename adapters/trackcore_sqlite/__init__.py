"""The embedded log: one SQLite file of messages, rejected messages and quarantined requests.

`SqliteSink` writes it (any number of threads and processes at once), `SqliteLog` reads it (while it is written),
`SqliteBrowser` runs bounded queries on it, `prune` deletes old messages and `forget` those of a person, `check_log`
looks for damage, and `rebuild_ids` rebuilds the index of de-duplication from the messages.  `open_collector` is the
short way to embed: a collector with such a log, the clock of the machine and random ids.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from trackcore_sqlite.browse import (
    GroupCount,
    Head,
    Listed,
    Sampled,
    SeqRange,
    SqliteBrowser,
    spread,
)
from trackcore_sqlite.check import Condition, check_log, set_aside
from trackcore_sqlite.forgetting import ForgetStep, Forgotten, clean, forget
from trackcore_sqlite.id_check import CONSISTENT, Inconsistency, rebuild_ids
from trackcore_sqlite.log import SqliteLog
from trackcore_sqlite.pruning import PruneStep, prune
from trackcore_sqlite.received import Received
from trackcore_sqlite.search import is_slow
from trackcore_sqlite.snapshot import Snapshot
from trackcore_sqlite.tables import UnusableLog

if TYPE_CHECKING:
    from trackcore_sqlite.embedding import SqliteCollector, open_collector
    from trackcore_sqlite.sink import SqliteSink

__all__ = [
    "CONSISTENT",
    "Condition",
    "ForgetStep",
    "Forgotten",
    "GroupCount",
    "Head",
    "Inconsistency",
    "Listed",
    "PruneStep",
    "Received",
    "Sampled",
    "SeqRange",
    "Snapshot",
    "SqliteBrowser",
    "SqliteCollector",
    "SqliteLog",
    "SqliteSink",
    "UnusableLog",
    "check_log",
    "clean",
    "forget",
    "is_slow",
    "open_collector",
    "prune",
    "rebuild_ids",
    "set_aside",
    "spread",
]

_WRITING = {"SqliteCollector": "embedding", "SqliteSink": "sink", "open_collector": "embedding"}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import what writes the log when it is used: who reads it begins at once."""
        if name not in _WRITING:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_WRITING[name]}"), name)
