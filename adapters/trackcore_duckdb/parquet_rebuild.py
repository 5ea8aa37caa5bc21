"""A rebuild of Parquet files: fresh ones are put in `_new`, and take their place at the end (`parquet_swap`).

The earlier files stay in `_old`: a rebuild deletes nothing, and refuses to begin while it would have to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
from trackcore_objects import ObjectStore, StoreWithin

from trackcore.warehouse import OldTablesRemain, WarehouseOptions
from trackcore_duckdb.engine import retried
from trackcore_duckdb.parquet import ParquetSender
from trackcore_duckdb.parquet_places import NEW, OLD
from trackcore_duckdb.parquet_swap import drop_unfinished, swap_files


@attrs.define(kw_only=True)
class ParquetRebuild:
    """A rebuild of Parquet files.  `sender` loads the messages; `location` is how people name the store."""

    _store: ObjectStore = attrs.field(repr=False, alias="store")
    _options: WarehouseOptions = attrs.field(alias="options")
    _pattern: str = attrs.field(alias="schema")
    _location: str = attrs.field(alias="location")
    sender: ParquetSender = attrs.field(init=False)

    @sender.default
    def _sender(self) -> ParquetSender:
        return ParquetSender(store=StoreWithin(self._store, NEW), options=self._options, schema=self._pattern)

    def begin(self, sources: Sequence[str]) -> None:
        """Complete what an interrupted rebuild has begun to swap, or delete its files.

        Raises:
            OldTablesRemain: the files from before an earlier rebuild are there.
            RetryLater: the store cannot be used now.
        """
        del sources
        with retried():
            drop_unfinished(self._store)
            if self._store.folders(OLD):
                raise OldTablesRemain(removal=f"the folder {self._location.rstrip('/')}/{OLD}")

    def swap(self, load_rest: Callable[[], None]) -> Sequence[str]:
        """Load the last messages, and let the fresh files take their place; return the schemas that were rebuilt.

        Nothing else may be stored meanwhile.  Raises `RetryLater`; whoever uses the store next completes a swap that
        has begun to change tables.
        """
        load_rest()
        with retried():
            return swap_files(self._store)

    def close(self) -> None:
        """Release nothing."""
