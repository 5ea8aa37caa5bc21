"""Messages as a Parquet file, written by DuckDB, which is imported only for that.

DuckDB reads rows as lines of JSON from a file of limited size, and writes them as a part; at the end it joins the
parts.  So neither holds more than a few row groups, and beside the file there is once more its size on the disk.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import attrs

from trackcore import JSONObject, TrackcoreError
from trackcore.text import encode_json
from trackcore_server.files.columns import MessageColumn

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "memory_limit": "512MB",
    "threads": 1,
    "preserve_insertion_order": False,
}
"""With one thread the order stays; DuckDB limits a row group by its bytes only where it need not keep the order."""

_PART_BYTES = 16 << 20
_ROW_BYTES = 16 << 20
_TIMES = ("time", "received_at")
_AS_PARQUET = "(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE_BYTES '64MB')"


@attrs.define(kw_only=True, eq=False)
class ParquetUnavailable(TrackcoreError):
    """The package that writes Parquet is not installed."""

    missing: str

    def __str__(self) -> str:
        return f"Parquet needs {self.missing}: pip install 'trackcore[parquet]'"


@attrs.define
class ParquetWriter:
    """Writes records as rows of a Parquet file; see `parquet_writer`."""

    _duckdb: DuckDBPyConnection
    _folder: Path
    _columns: Sequence[MessageColumn]
    _seq_type: str
    _rows: list[bytes] = attrs.field(init=False, factory=list)
    _size: int = attrs.field(init=False, default=0)
    _parts: list[Path] = attrs.field(init=False, factory=list)

    def write(self, record: JSONObject) -> None:
        """Write a row."""
        row = encode_json({column.name: _value(column, record) for column in self._columns})
        self._rows.append(row)
        self._size += len(row)
        if self._size >= _PART_BYTES:
            self._write_part()

    def flush(self) -> None:
        """Do nothing: the file is complete at the end of `parquet_writer`."""

    def join(self, file: Path) -> None:
        """Write the file."""
        if self._rows or not self._parts:
            self._write_part()
        parts = ", ".join(_literal(part) for part in self._parts)
        self._duckdb.execute(f"COPY (FROM read_parquet([{parts}])) TO {_literal(file)} {_AS_PARQUET}")

    def _write_part(self) -> None:
        lines, part = self._folder / "rows.jsonl", self._folder / f"{len(self._parts)}.parquet"
        lines.write_bytes(b"\n".join(self._rows))
        self._rows.clear()
        self._size = 0
        self._duckdb.execute(f"COPY ({self._select(lines)}) TO {_literal(part)} {_AS_PARQUET}")
        self._parts.append(part)

    def _select(self, lines: Path) -> str:
        names = [_name(column.name) for column in self._columns]
        types = [self._seq_type if column.name == "seq" else "VARCHAR" for column in self._columns]
        columns = ", ".join(f"{name}: '{kind}'" for name, kind in zip(names, types, strict=True))
        selected = ", ".join(
            f"CAST({name} AS TIMESTAMP) AS {name}" if column.name in _TIMES else name
            for name, column in zip(names, self._columns, strict=True)
        )
        options = f"format = 'newline_delimited', maximum_object_size = {_ROW_BYTES}"
        return f"SELECT {selected} FROM read_json({_literal(lines)}, columns = {{{columns}}}, {options})"  # noqa: S608 - quoted


@contextmanager
def parquet_writer(
    file: Path, columns: Sequence[MessageColumn], *, seq_type: str = "BIGINT"
) -> Iterator[ParquetWriter]:
    """Write a Parquet file, which is complete at the end of the block.

    Raises `ParquetUnavailable` without DuckDB, `OSError` if DuckDB cannot write the file.
    """
    try:
        import duckdb  # noqa: PLC0415 - see the module
    except ModuleNotFoundError as error:
        raise ParquetUnavailable(missing=str(error.name)) from error
    with (
        TemporaryDirectory(prefix=".trackcore-", dir=file.parent) as folder,
        duckdb.connect(config={**_SETTINGS, "temp_directory": folder}) as connection,
    ):
        writer = ParquetWriter(connection, Path(folder), columns, seq_type)
        try:
            yield writer
            writer.join(file)
        except duckdb.Error as error:
            raise OSError(f"{file}: DuckDB cannot write it ({error})") from error


def _value(column: MessageColumn, record: JSONObject) -> object:
    """Return the value of a cell: a number, text, or None."""
    return column.read(record) if column.name == "seq" else column.text(record) or None


def _literal(value: object) -> str:
    return "'" + str(value).replace("'", "''") + "'"


def _name(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'
