"""The schema of one source, which evolves as rows come: what must be changed in the database, and what is stored.

Theory.  A table is made for its first row, a column for its first value, whose type it gets; the columns of the layout
and the well-known ones of the context have theirs from the start.  A later value of another type is converted if
nothing of it is lost (`"42"` into a column of integers).  If that is impossible the column is widened: one of integers
to floats for a number with a fraction, one of booleans or timestamps to text for anything else.  A value that still
does not fit is discarded, and so is one beyond the bounds of the options; standard columns are never widened.

With `on_conflict = "discard"` nothing is widened, and a column of integers keeps the integer part of a number, as
Segment does it.

An empty text makes no column, and a column of another type than text has it as null: forms send it for "nothing".
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import Any, NamedTuple, TypeAlias

import attrs

from trackcore.warehouse.columns import CONTEXT, known_columns, standard_columns
from trackcore.warehouse.names import STANDARD_TABLES
from trackcore.warehouse.options import DEFAULT_OPTIONS, WIDEN, WarehouseOptions
from trackcore.warehouse.rows import Discard, DiscardReason, Row, discard, limited
from trackcore.warehouse.values import (
    ColumnType,
    Scalar,
    Value,
    convert,
    is_storable,
    text_of,
    truncated,
    type_of,
    widened_type,
)


@attrs.frozen
class CreateTable:
    """A table is to be made, with these columns."""

    table: str
    columns: Mapping[str, ColumnType]


@attrs.frozen
class AddColumn:
    """A column is to be added to a table."""

    table: str
    column: str
    column_type: ColumnType


@attrs.frozen
class WidenColumn:
    """A column is to get another type, and its values with it: `trackcore.warehouse.values.widen`."""

    table: str
    column: str
    before: ColumnType
    column_type: ColumnType


Change: TypeAlias = CreateTable | AddColumn | WidenColumn


class Merged(NamedTuple):
    """The changes that a row needs first, in their order, and its values.  Without values no row is to be stored."""

    changes: tuple[Change, ...]
    values: Mapping[str, Value]
    discards: tuple[Discard, ...]


_Shape: TypeAlias = Hashable
"""The shape of a row, else its columns and the classes of its values."""

_Conversions: TypeAlias = tuple[tuple[str, ColumnType], ...]
"""The columns of a row whose values are not stored as they are."""

_MAX_SHAPES = 200
"""For each table; a client that sends other columns each time gains nothing."""

_STORED_AS_THEY_ARE = {ColumnType.TEXT: str, ColumnType.BOOLEAN: bool, ColumnType.TIMESTAMP: datetime}


def _shape_of(row: Row) -> _Shape:
    return row.shape or (*row.values, *map(type, row.values.values()))


def _are_storable(values: Mapping[str, Scalar]) -> bool:
    return is_storable("".join([one for one in values.values() if one.__class__ is str]))


@attrs.define
class Schema:
    """The tables of one source with the types of their columns.  `merge` changes it.

    `pinned` are columns, by table and name, that the database refuses to widen.
    """

    options: WarehouseOptions = DEFAULT_OPTIONS
    tables: dict[str, dict[str, ColumnType]] = attrs.field(factory=dict)
    pinned: set[tuple[str, str]] = attrs.field(factory=set)
    _shapes: dict[str, dict[_Shape, _Conversions]] = attrs.field(init=False, factory=dict, eq=False, repr=False)

    def copy(self) -> Schema:
        """Return a copy, to go back to if the changes cannot be made."""
        return Schema(self.options, {table: {**columns} for table, columns in self.tables.items()}, {*self.pinned})

    def merge(self, row: Row) -> Merged:
        """Fit a row into the schema, and the schema to the row."""
        merged = self._merge_known(row)
        if merged is not None:
            return merged
        columns = self.tables.get(row.table)
        is_new = columns is None
        if columns is None:
            if self._is_full(row.table):
                return Merged((), {}, (Discard("", row.table, DiscardReason.TOO_MANY_TABLES),))
            columns = self.tables[row.table] = self.first_columns(row.table)
        merge = _RowMerge(self.options, row, columns, self.pinned)
        changes: list[Change] = merge.run()
        if is_new:  # what was added to it is made with it
            changes = [CreateTable(row.table, {**columns})]
        if changes:
            self._shapes.pop(row.table, None)
        elif not merge.discards and row.values.keys() <= columns.keys():
            self._learn(row, columns)
        return Merged(tuple(changes), merge.values, limited([*row.discards, *merge.discards]))

    def _merge_known(self, row: Row) -> Merged | None:
        """Merge a row like one before it: with the same columns, of the same types; None for another.

        Most rows are such, and need no look at each value: only some must be converted, and all texts can be checked at
        once, if they are not known to be storable.
        """
        values, shapes = row.values, self._shapes.get(row.table)
        if shapes is None:
            return None
        conversions = shapes.get(_shape_of(row))
        if conversions is None or (row.shape is None and not _are_storable(values)):
            return None
        if not conversions:
            return Merged((), values, row.discards)  # type: ignore[arg-type]
        converted: dict[str, Any] = {**values}
        for column, column_type in conversions:
            value = convert(values[column], column_type)
            if value is None:
                return None
            converted[column] = value
        return Merged((), converted, row.discards)

    def _learn(self, row: Row, columns: Mapping[str, ColumnType]) -> None:
        shapes = self._shapes.setdefault(row.table, {})
        if len(shapes) >= _MAX_SHAPES:
            shapes.clear()
        shapes[_shape_of(row)] = tuple(
            (column, columns[column])
            for column, value in row.values.items()
            if _STORED_AS_THEY_ARE.get(columns[column]) is not value.__class__
        )

    def first_columns(self, table: str) -> dict[str, ColumnType]:
        """Return the columns that a table has before its first row."""
        return dict(known_columns(table) if CONTEXT in self.options.declare else standard_columns(table))

    def _is_full(self, table: str) -> bool:
        if table in STANDARD_TABLES:
            return False
        return len(self.tables.keys() - STANDARD_TABLES) >= self.options.max_tables

    def __iter__(self) -> Iterator[str]:
        return iter(self.tables)


class _RowMerge:
    """One row and the columns of its table."""

    def __init__(
        self, options: WarehouseOptions, row: Row, columns: dict[str, ColumnType], pinned: AbstractSet[tuple[str, str]]
    ) -> None:
        self._options, self._row, self._columns, self._pinned = options, row, columns, pinned
        self._standard = standard_columns(row.table)
        self._changes: list[Change] = []
        self.values: dict[str, Value] = {}
        self.discards: list[Discard] = []

    def run(self) -> list[Change]:
        columns, values = self._columns, self.values
        text, timestamp = ColumnType.TEXT, ColumnType.TIMESTAMP
        for column, scalar in self._row.values.items():
            column_type = columns.get(column)
            # Most values are stored as they are.
            if column_type is text:
                if scalar.__class__ is str and (scalar.isascii() and "\0" not in scalar):
                    values[column] = scalar
                    continue
            elif column_type is timestamp and isinstance(scalar, datetime):
                values[column] = scalar
                continue
            if column_type is None:
                column_type = self._add(column, scalar)
                if column_type is None:
                    continue
            value = convert(scalar, column_type)
            if value is None:
                value = self._resolve(column, column_type, scalar)
                if value is None:
                    continue
            elif column_type is ColumnType.TEXT and value is not scalar:
                self._note_replacement(column, scalar, value)
            values[column] = value
        return self._changes

    def _add(self, column: str, scalar: Scalar) -> ColumnType | None:
        known = known_columns(self._row.table).get(column)
        if known is None and scalar == "":
            return None
        if known is None and len(self._columns) >= self._options.max_columns:
            self.discards.append(discard(column, scalar, DiscardReason.TOO_MANY_COLUMNS))
            return None
        column_type = self._columns[column] = known or type_of(scalar)
        self._changes.append(AddColumn(self._row.table, column, column_type))
        return column_type

    def _resolve(self, column: str, column_type: ColumnType, scalar: Scalar) -> Value | None:
        """Return what is stored of a value that does not fit its column, None for nothing."""
        if scalar == "":
            return None
        by_option = self._options.on_conflict == WIDEN
        is_fixed = column in self._standard or (self._row.table, column) in self._pinned
        wider = widened_type(column_type, scalar) if by_option and not is_fixed else None
        if wider is not None:
            self._columns[column] = wider
            self._changes.append(WidenColumn(self._row.table, column, column_type, wider))
            return convert(scalar, wider)
        whole = truncated(scalar) if column_type is ColumnType.INTEGER and not by_option else None
        reason = DiscardReason.DOES_NOT_FIT if whole is None else DiscardReason.FRACTION_CUT
        self.discards.append(discard(column, scalar, reason))
        return whole

    def _note_replacement(self, column: str, scalar: Scalar, value: Value) -> None:
        """Record that text was stored with other characters; other values only have become text."""
        if isinstance(scalar, str) and text_of(scalar) != value:
            self.discards.append(discard(column, scalar, DiscardReason.CHARACTER_REPLACED))
