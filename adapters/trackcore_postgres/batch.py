"""The rows of a batch, collected by source and table, before any of them is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any, NamedTuple

import attrs

from trackcore.warehouse import (
    PROFILE_TABLES,
    Change,
    ColumnType,
    Discard,
    Schema,
    Stamp,
    Value,
    WidenColumn,
    read_rows,
    storable,
    widen,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class SentMessage(NamedTuple):
    """A message of a batch: its position in the log, its source, and its stored text."""

    position: int
    source: str
    message_id: str
    received_at: datetime
    payload: bytes


class DiscardRow(NamedTuple):
    """A row of the table of discards."""

    message_id: str
    table_name: str
    number: int
    column_name: str
    column_value: str
    reason: str
    received_at: datetime


@attrs.define(eq=False)
class _Layout:
    """The columns that rows have, in their order."""

    columns: tuple[str, ...]

    def cells_of(self, columns: Sequence[str]) -> Callable[[tuple[Any, ...]], Sequence[Any]] | None:
        """Return what makes cells of the values of a row and a null behind them; None if the values are the cells."""
        if self.columns == columns:
            return None
        places = {name: place for place, name in enumerate(self.columns)}
        return itemgetter(*[places.get(name, len(places)) for name in columns])


@attrs.define
class TableRows:
    """The rows for one table; `columns` are all that any of them has, with their types.

    Of a row only the values are kept: a batch has many rows of few layouts.
    """

    columns: dict[str, ColumnType] = attrs.field(factory=dict)
    _rows: list[tuple[Value, ...]] = attrs.field(factory=list)
    _layouts: list[_Layout] = attrs.field(factory=list)
    _known: dict[tuple[str, ...], _Layout] = attrs.field(factory=dict)
    _widened: dict[str, ColumnType] = attrs.field(factory=dict)

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, values: Mapping[str, Value], types: Mapping[str, ColumnType]) -> None:
        """Add a row."""
        names = tuple(values)
        layout = self._known.get(names)
        if layout is None:
            layout = self._known[names] = _Layout(names)
            self.columns.update((name, types[name]) for name in names)
        self._rows.append(tuple(values.values()))
        self._layouts.append(layout)

    def widen(self, column: str, to: ColumnType) -> None:
        """Note that a column was widened: the rows before have values of its earlier type."""
        self._widened[column] = to
        if column in self.columns:
            self.columns[column] = to

    def cells(self) -> Iterator[Sequence[Any]]:
        """Yield the values of each row, in the order of the columns; None for null."""
        columns = tuple(self.columns)
        cells_of = {layout: layout.cells_of(columns) for layout in self._known.values()}
        for row, layout in zip(self._rows, self._layouts, strict=True):
            values = row if not self._widened else tuple(self._as_widened(layout, row))
            getter = cells_of[layout]
            yield values if getter is None else getter((*values, None))

    def clear(self) -> None:
        """Forget the rows."""
        self._rows.clear()
        self._layouts.clear()

    def _as_widened(self, layout: _Layout, row: tuple[Value, ...]) -> Iterator[Value]:
        for name, value in zip(layout.columns, row, strict=True):
            to = self._widened.get(name)
            yield value if to is None else widen(value, to)


@attrs.define
class SourceRows:
    """The rows of one source: changes of its schema first, then tables, the latest traits, and discards."""

    name: str
    schema: Schema
    changes: list[Change] = attrs.field(factory=list)
    tables: dict[str, TableRows] = attrs.field(factory=dict)
    profiles: dict[str, dict[str, list[tuple[Stamp, Mapping[str, Value]]]]] = attrs.field(factory=dict)
    discards: list[DiscardRow] = attrs.field(factory=list)

    def add(self, message: SentMessage) -> None:
        """Add the rows of a message.  Raises `ValueError` if it is not a JSON object."""
        for row in read_rows(message.payload, self.schema.options):
            changes, values, discards = self.schema.merge(row)
            if changes:
                self._add_changes(changes)
            if row.table in PROFILE_TABLES:
                self._add_profile(row.table, values, message)
            elif values:
                self.table(row.table).add(values, self.schema.tables[row.table])
            if discards:
                self._add_discards(message, row.table, discards)

    def table(self, table: str) -> TableRows:
        """Return the rows for a table."""
        found = self.tables.get(table)
        if found is None:
            found = self.tables[table] = TableRows()
        return found

    def _add_changes(self, changes: Sequence[Change]) -> None:
        self.changes.extend(changes)
        for change in changes:
            if isinstance(change, WidenColumn):
                self.table(change.table).widen(change.column, change.column_type)

    def _add_profile(self, table: str, merged: Mapping[str, Value], message: SentMessage) -> None:
        values = {**merged}
        profile_id = str(values.pop("id"))
        received_at = values.get("received_at", message.received_at)
        assert isinstance(received_at, datetime)
        stamp = Stamp((received_at - _EPOCH) // _MICROSECOND, message.position)
        self.profiles.setdefault(table, {}).setdefault(profile_id, []).append((stamp, values))

    def _add_discards(self, message: SentMessage, table: str, found: Sequence[Discard]) -> None:
        message_id = storable(message.message_id)
        for number, one in enumerate(found):
            self.discards.append(
                DiscardRow(message_id, table, number, one.column, one.value, one.reason, message.received_at)
            )
