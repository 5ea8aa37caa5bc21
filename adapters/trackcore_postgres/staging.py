"""The staging table: all rows of a batch come by one COPY, and are inserted from there.

It is a temporary table of the session with columns of text, wide enough for each row; `number` names the target, and
the statement that fills a target converts the texts.  So a batch costs one COPY, however many tables it has, and no
table has to be made for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
from psycopg import Connection

from trackcore_postgres.statements import quoted

_NAME = "_trackcore_staging"
_FIRST_WIDTH = 64
_MAX_WIDTH = 1599


@attrs.frozen
class StagedTable:
    """Rows for one table: the names of its columns with their types, and the values in that order."""

    schema: str
    table: str
    columns: Mapping[str, str]
    rows: Sequence[Sequence[Any]]


@attrs.define
class Staging:
    """The staging table of a connection."""

    _connection: Connection[Any]
    _width: int = 0
    _has_rows: bool = False

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
            write = copy.write_row
            for number, table in enumerate(tables):
                padding = [None] * (width - len(table.columns))
                for row in table.rows:
                    write([number, *row, *padding])

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
