"""COPY of rows: into their tables where all of them are new, else into a staging table, from which new ones are taken.

Nearly all batches have only new rows, and COPY into the tables themselves takes half the time.  If one row is there
already, that fails as a whole; then all rows of the batch come by one COPY into the staging table, and are inserted
from there.  It is a temporary table of the session with columns of text, wide enough for each row; `number` names the
target, and the statement that fills a target converts the texts.  So no table has to be made for a batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import zip_longest
from typing import Any

import attrs
from psycopg import Connection

from trackcore import format_timestamp
from trackcore_postgres.statements import quoted

_NAME = "_trackcore_staging"
_FIRST_WIDTH = 64
_MAX_WIDTH = 1599


_ROWS_AT_ONCE = 50
_STAGED_BATCHES = 20
"""After a batch with rows that were there already, so many more go through the staging table at once."""


_escape = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})


def _line(cells: Sequence[str | None]) -> str:
    """Return the cells of a row as the text format of COPY has them."""
    nulls = cells.count(None)
    line = "\t".join([r"\N" if cell is None else cell for cell in cells])
    if line.count("\t") < len(cells) and line.count("\\") == nulls and "\n" not in line and "\r" not in line:
        return line
    return "\t".join([r"\N" if cell is None else cell.translate(_escape) for cell in cells])


def _text(value: Any) -> Any:
    kind = value.__class__
    if kind is str or value is None:
        return value
    return _time_text(value) if kind is datetime else str(value)


def _time_text(value: datetime) -> str:
    return format_timestamp(value) if value.microsecond % 1000 == 0 else str(value)  # a third of the time


class _Texts(dict[Any, Any]):
    """The texts of the values of columns of times; a batch has each time in several rows."""

    def __missing__(self, value: Any) -> Any:
        text = self[value] = _text(value)
        return text


@attrs.frozen
class StagedTable:
    """Rows for one table: the names of its columns with their types, and the values in that order."""

    schema: str
    table: str
    columns: Mapping[str, str]
    rows: Sequence[Sequence[Any]]


def copy_into(connection: Connection[Any], tables: Sequence[StagedTable]) -> None:
    """Copy rows into their tables.  While PostgreSQL stores those of one table, those of the next are prepared."""
    prepared: Iterable[str] = copy_lines(tables[0], "", "\n") if tables else ()
    for table, following in zip_longest(tables, tables[1:]):
        names = ", ".join(map(quoted, table.columns))
        statement = f"COPY {quoted(table.schema)}.{quoted(table.table)} ({names}) FROM STDIN"
        with connection.cursor() as cursor, cursor.copy(statement.encode()) as copy:
            for lines in prepared:
                copy.write(lines)
            prepared = [*copy_lines(following, "", "\n")] if following is not None else ()


def copy_lines(table: StagedTable, begin: str, end: str) -> Iterator[str]:
    r"""Yield the lines of some rows at a time, each between two texts.

    They have the text format of COPY: a tab between two cells, `\N` for null.
    """
    texts = _Texts()
    converted = {
        place: texts.__getitem__ if type_name == "timestamptz" else _text
        for place, type_name in enumerate(table.columns.values())
        if type_name != "text"
    }
    for start in range(0, len(table.rows), _ROWS_AT_ONCE):
        columns: list[Sequence[Any]] = [*zip(*table.rows[start : start + _ROWS_AT_ONCE], strict=True)]
        for place, convert in converted.items():
            columns[place] = [*map(convert, columns[place])]
        lines = _plain_lines(columns) or map(_line, zip(*columns, strict=True))
        yield f"{begin}{(end + begin).join(lines)}{end}"


def _plain_lines(columns: Sequence[Sequence[str | None]]) -> list[str] | None:
    """Return the lines of rows, as `_line` does, but of all at once; None if a text needs an escape."""
    nulls = 0
    try:
        lines = [*map("\t".join, zip(*columns, strict=True))]
    except TypeError:  # a null: to look for one takes longer than all the rest
        nulls = sum(column.count(None) for column in columns)
        shown = ([r"\N" if cell is None else cell for cell in column] for column in columns)
        lines = [*map("\t".join, zip(*shown, strict=True))]
    text = "\n".join(lines)
    is_plain = (
        text.count("\t") == len(lines) * (len(columns) - 1)
        and text.count("\n") == len(lines) - 1
        and text.count("\\") == nulls
        and "\r" not in text
    )
    return lines if is_plain else None


@attrs.define
class Staging:
    """The staging table of a connection."""

    _connection: Connection[Any]
    _width: int = 0
    _has_rows: bool = False
    _batches_until_direct: int = 0

    def begin(self) -> None:
        """Note that a transaction begins: what the one before has staged is gone."""
        self._has_rows = False

    def forget(self) -> None:
        """Note that a transaction was rolled back, and perhaps the making of the table with it."""
        self._width, self._has_rows = 0, False

    def prepare(self, width: int) -> None:
        """Make the table wide enough."""
        if width <= self._width:
            return
        new = max(self._width, _FIRST_WIDTH)
        while new < width:
            new *= 2
        new = min(new, _MAX_WIDTH)
        columns = ", ".join(f"c{number} text" for number in range(new))
        self._connection.execute(f"DROP TABLE IF EXISTS pg_temp.{_NAME}".encode())
        statement = f"CREATE TEMP TABLE {_NAME} (number int, {columns}) ON COMMIT DELETE ROWS"
        self._connection.execute(statement.encode())
        self._width = new

    def copy(self, tables: Sequence[StagedTable]) -> None:
        """Write the rows of some tables, in place of those of an earlier COPY of the transaction."""
        if self._has_rows:
            self._connection.execute(f"TRUNCATE pg_temp.{_NAME}".encode())
        self._has_rows = True
        width = max((len(table.columns) for table in tables), default=0)
        names = "".join(f", c{number}" for number in range(width))
        statement = f"COPY pg_temp.{_NAME} (number{names}) FROM STDIN".encode()
        with self._connection.cursor() as cursor, cursor.copy(statement) as copy:
            for number, table in enumerate(tables):
                begin, end = f"{number}\t", "\t\\N" * (width - len(table.columns)) + "\n"
                for lines in copy_lines(table, begin, end):
                    copy.write(lines)

    def may_copy_directly(self) -> bool:
        """Return whether rows are likely to be new, so that COPY into their tables is tried before the staging."""
        self._batches_until_direct = max(0, self._batches_until_direct - 1)
        return self._batches_until_direct == 0

    def note_duplicates(self) -> None:
        """Note that rows were there already: more of them follow, such as in a replay."""
        self._batches_until_direct = _STAGED_BATCHES

    def insert(self, number: int, table: StagedTable, key: str) -> int:
        """Insert the rows of a table, except those whose key it has already.  Returns their number."""
        names = ", ".join(map(quoted, table.columns))
        values = ", ".join(self._values(table))
        statement = (
            f"INSERT INTO {quoted(table.schema)}.{quoted(table.table)} ({names}) "
            f"SELECT {values} FROM pg_temp.{_NAME} WHERE number = {number} ON CONFLICT ({key}) DO NOTHING"
        )
        return self._connection.execute(statement.encode()).rowcount

    def update(self, number: int, table: StagedTable, key: str) -> None:
        """Set the values of rows that exist; a null leaves the value that is there."""
        changed = [(quoted(name), value) for name, value in zip(table.columns, self._values(table), strict=True)]
        settings = ", ".join(f"{name} = coalesce({value}, t.{name})" for name, value in changed if name != quoted(key))
        value_of_key = next(value for name, value in changed if name == quoted(key))
        statement = (
            f"UPDATE {quoted(table.schema)}.{quoted(table.table)} t SET {settings} "
            f"FROM pg_temp.{_NAME} s WHERE s.number = {number} AND t.{quoted(key)} = {value_of_key}"
        )
        self._connection.execute(statement.encode())

    @staticmethod
    def _values(table: StagedTable) -> Iterator[str]:
        for number, type_name in enumerate(table.columns.values()):
            yield f"c{number}" if type_name == "text" else f"c{number}::{type_name}"
