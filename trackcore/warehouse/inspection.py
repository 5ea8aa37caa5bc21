"""The content of a warehouse: each kind implements one interface, so that commands show all kinds in the same way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import attrs

from trackcore.log import StoredMessage
from trackcore.warehouse.rows import Discard


@attrs.frozen(kw_only=True)
class TableInfo:
    """A table: its number of columns, and of rows; `discards` are values that its rows do not have as they were sent.

    Rows and discards are estimates unless `is_exact`.  `source` is None if the warehouse knows only its schema.
    """

    source: str | None = None
    schema: str
    table: str
    columns: int
    rows: int
    is_exact: bool = True
    discards: int


class WarehouseReader(Protocol):
    """Reads what a warehouse holds.  It changes nothing, and raises a `TrackcoreError` if it cannot be read now."""

    def tables(self) -> Sequence[TableInfo]:
        """Return the tables that are filled from messages, those of all sources; none if nothing has arrived."""

    def discards(self, message: StoredMessage) -> Sequence[tuple[str, Discard]]:
        """Return what the rows of a message do not have as it was sent, each with its table."""

    def close(self) -> None:
        """Release what the reader holds."""
