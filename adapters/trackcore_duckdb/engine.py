"""DuckDB at work on files: lines of JSON to Parquet, ids in a Parquet file, several Parquet files to one.

One thread and a bound of memory: delivery runs beside a server.  Nothing is installed or loaded from the network.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import duckdb
from trackcore_delivery import RetryLater
from trackcore_objects import StoreUnavailable

from trackcore.warehouse import ColumnType
from trackcore_duckdb.stored_rows import SQL_TYPES

MEMORY_LIMIT = "512MB"
NEWLINE = "\n"

_TIME_TEXT = "%Y-%m-%dT%H:%M:%S.%fZ"
"""The text of a time as `trackcore.warehouse.text_of` returns it."""

_FORMAT = "(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 20480)"
"""DuckDB holds a row group in memory: with the 122,880 rows of its default, a merge takes the more the larger it is."""

_TYPES = {name: column_type for column_type, name in SQL_TYPES.items()}


def connect(database: str, scratch: Path, *, is_read_only: bool = False) -> duckdb.DuckDBPyConnection:
    """Open a database.  Raises `duckdb.Error`."""
    config: dict[str, Any] = {
        "threads": 1,
        "memory_limit": MEMORY_LIMIT,
        "temp_directory": str(scratch / "duckdb"),
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "enable_external_file_cache": False,  # it may take a file for an earlier one of its name
    }
    connection = duckdb.connect(database, read_only=is_read_only, config=config)
    connection.execute("SET TimeZone = 'UTC'")
    return connection


@attrs.frozen
class Engine:
    """Files in, files out.  Every method raises `duckdb.Error`."""

    _connection: duckdb.DuckDBPyConnection

    def write(
        self, lines: Path, columns: Mapping[str, ColumnType], target: Path, *, id_column: str, absent: AbstractSet[str]
    ) -> None:
        """Write rows as a Parquet file, except those of messages in `absent`."""
        where = ""
        parameters: list[Any] = []
        if absent:
            where = f" WHERE {quoted(id_column)} NOT IN (SELECT unnest(?::VARCHAR[]))"
            parameters = [sorted(absent)]
        select = f"SELECT * FROM {json_lines(lines, columns)}{where}"
        self._connection.execute(f"COPY ({select}) TO {text(target)} {_FORMAT}", parameters)

    def ids(self, file: Path, column: str, where: str = "TRUE") -> Iterator[str]:
        """Yield the ids of the messages in a Parquet file, those of its rows to which a condition applies."""
        found = self._connection.execute(
            f"SELECT DISTINCT {quoted(column)} FROM read_parquet({text(file)}) WHERE {where}"
        )
        while some := found.fetchmany(10_000):
            yield from (one for (one,) in some)

    def columns(self, file: Path) -> dict[str, ColumnType]:
        """Return the columns of a Parquet file."""
        found = self._connection.execute(f"DESCRIBE SELECT * FROM read_parquet({text(file)})").fetchall()
        return {name: _TYPES.get(type_name, ColumnType.TEXT) for name, type_name, *_ in found}

    def merge(self, files: Sequence[Path], columns: Mapping[str, ColumnType], target: Path) -> None:
        """Write the rows of Parquet files, in their order, as one with these columns."""
        selects = " UNION ALL ".join(self._as_columns(file, columns) for file in files)
        self._connection.execute(f"COPY ({selects}) TO {text(target)} {_FORMAT}")

    def without(self, file: Path, where: str, parameters: Sequence[Any], target: Path) -> tuple[int, int]:
        """Write the rows of a Parquet file to which a condition does not apply; return how many it has, and these."""
        rows = f"FROM read_parquet({text(file)})"
        before = self._count(f"SELECT count(*) {rows}")
        return before, self._count(f"COPY (SELECT * {rows} WHERE NOT {where}) TO {text(target)} {_FORMAT}", *parameters)

    def change(self, file: Path, where: str, changes: Mapping[str, str], target: Path) -> None:
        """Write the rows of a Parquet file, those to which a condition applies with other values."""
        cells = (
            f"CASE WHEN {where} THEN {changes[name]} ELSE {quoted(name)} END::{SQL_TYPES[type_]} AS {quoted(name)}"
            if name in changes
            else quoted(name)
            for name, type_ in self.columns(file).items()
        )
        self._connection.execute(
            f"COPY (SELECT {', '.join(cells)} FROM read_parquet({text(file)})) TO {text(target)} {_FORMAT}"
        )

    def row_counts(self, files: Iterable[Path]) -> dict[Path, int]:
        """Return the number of rows of Parquet files, as their metadata says."""
        listed = ", ".join(map(text, files))
        if not listed:
            return {}
        found = self.query(f"SELECT file_name, num_rows FROM parquet_file_metadata([{listed}])")
        return {Path(name): count for name, count in found}

    def query(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        return self._connection.execute(query, parameters).fetchall()

    def _count(self, query: str, *parameters: Any) -> int:
        row = self._connection.execute(query, parameters).fetchone()
        assert row is not None
        return int(row[0])

    def _as_columns(self, file: Path, columns: Mapping[str, ColumnType]) -> str:
        present = self.columns(file)
        cells = (
            f"{widened(name, present.get(name), column_type)} AS {quoted(name)}"
            for name, column_type in columns.items()
        )
        return f"SELECT {', '.join(cells)} FROM read_parquet({text(file)})"


def widened(name: str, before: ColumnType | None, after: ColumnType) -> str:
    """Return the expression of a column with a wider type, as `trackcore.warehouse.widen` converts values."""
    if before is None:
        return f"NULL::{SQL_TYPES[after]}"
    if before is ColumnType.TIMESTAMP and after is ColumnType.TEXT:
        return f"strftime({quoted(name)}, '{_TIME_TEXT}')"
    return quoted(name) if before is after else f"{quoted(name)}::{SQL_TYPES[after]}"


def json_lines(lines: Path, columns: Mapping[str, ColumnType]) -> str:
    """Return the expression that reads rows from lines of JSON."""
    types = ", ".join(f"{text(name)}: {text(SQL_TYPES[column_type])}" for name, column_type in columns.items())
    return f"read_json({text(lines)}, format = 'newline_delimited', columns = {{{types}}})"


def quoted(name: str) -> str:
    """Return the name of a column, a table or a schema in SQL."""
    return '"' + name.replace('"', '""') + '"'


def text(value: object) -> str:
    """Return a text in SQL."""
    return "'" + str(value).replace("'", "''") + "'"


@contextmanager
def retried() -> Iterator[None]:
    """Turn failures of the store, of DuckDB and of temporary files into `RetryLater`: no message is at fault."""
    try:
        yield
    except StoreUnavailable as error:
        raise RetryLater(detail=error.detail, of_destination=True) from error
    except duckdb.Error as error:
        raise RetryLater(detail=f"DuckDB: {str(error).partition(NEWLINE)[0]}", of_destination=True) from error
    except OSError as error:
        raise RetryLater(detail=f"temporary files: {error.strerror}", of_destination=True) from error


@contextmanager
def opened(scratch: Path) -> Iterator[Engine]:
    """Open DuckDB in memory, for files alone."""
    connection = connect(":memory:", scratch)
    try:
        yield Engine(connection)
    finally:
        connection.close()
