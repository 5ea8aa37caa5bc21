"""The questions of commands to a warehouse: each kind implements one interface, and reports the same of its rebuild."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import attrs

from trackcore.errors import TrackcoreError
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


@attrs.define(kw_only=True, eq=False)
class OldTablesRemain(TrackcoreError):
    """A rebuild cannot begin, since the tables from before an earlier one are still there; `removal` deletes them."""

    removal: str

    def __str__(self) -> str:
        return (
            "the tables from before the last rebuild are still there; when you need them no more, "
            f"delete them, and try again: {self.removal}"
        )
