"""Messages as a Parquet file, written by DuckDB, which is imported only for that.

DuckDB reads the rows as lines of JSON from a named pipe, while this process writes them: neither holds more than a part
of them.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

import attrs

from trackcore import JSONObject
from trackcore.text import encode_json
from trackcore_server.config.configuration import ConfigurationError
from trackcore_server.files.columns import MessageColumn

_WAIT_SECONDS = 0.01
_SETTINGS: dict[str, str | bool | int | float | list[str]] = {"memory_limit": "512MB", "threads": 1, "preserve_insertion_order": False}
"""With one thread the order stays; DuckDB limits a row group by its bytes only where it need not keep the order."""

_TIMES = ("time", "received_at")
_LONGEST_LINE = 16 << 20
_COPY = """
    COPY (SELECT {selected} FROM read_json(
        {pipe}, columns = {{{columns}}}, format = 'newline_delimited', compression = 'none',
        maximum_object_size = {longest}
    )) TO {file} (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE_BYTES '64MB')
"""


@attrs.define
class ParquetWriter:
    """Writes records as rows, once `parquet_writer` has opened it."""

    _columns: Sequence[MessageColumn]
    _stream: BinaryIO

    def write(self, record: JSONObject) -> None:
        """Write a row."""
        row = {column.name: _value(column, record) for column in self._columns}
        self._stream.write(encode_json(row) + b"\n")

    def flush(self) -> None:
        """Rows are written when there are enough."""


@contextmanager
def parquet_writer(
    file: Path, columns: Sequence[MessageColumn], *, seq_type: str = "BIGINT"
) -> Iterator[ParquetWriter]:
    """Write a Parquet file, which is complete at the end of the block.

    Raises `ConfigurationError` without DuckDB, `OSError` if DuckDB cannot write the file.
    """
    try:
        import duckdb  # noqa: PLC0415 - see the module
    except ModuleNotFoundError as error:
        detail = f"Parquet needs {error.name}: pip install 'trackcore[parquet]'"
        raise ConfigurationError(detail=detail) from error
    failures: list[Exception] = []

    def copy() -> None:
        try:
            with duckdb.connect(config=_SETTINGS) as connection:
                connection.execute(_statement(pipe, file, columns, seq_type))
        except Exception as error:  # noqa: BLE001 - raised again by the thread that waits for it
            failures.append(error)

    with TemporaryDirectory(prefix="trackcore-") as folder:
        pipe = Path(folder) / "rows"
        os.mkfifo(pipe, 0o600)
        reader = threading.Thread(target=copy, name="trackcore-parquet")
        reader.start()
        try:
            with _open_for_writing(pipe, reader) as stream:
                yield ParquetWriter(columns, stream)
        except BrokenPipeError:  # the reader has ended, so it has the reason
            reader.join()
            if not failures:
                raise
        finally:
            reader.join()
    if failures:
        raise OSError(f"{file}: DuckDB cannot write it ({failures[0]})") from failures[0]


def _open_for_writing(pipe: Path, reader: threading.Thread) -> BinaryIO:
    """Open a pipe once its reader has.  If the reader ends before, nobody reads what is written."""
    while reader.is_alive():
        try:
            descriptor = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            reader.join(_WAIT_SECONDS)
        else:
            os.set_blocking(descriptor, True)
            return os.fdopen(descriptor, "wb", buffering=1 << 20)
    return Path(os.devnull).open("wb")


def _statement(pipe: Path, file: Path, columns: Sequence[MessageColumn], seq_type: str) -> str:
    names = [_quoted(column.name, '"') for column in columns]
    types = [seq_type if column.name == "seq" else "VARCHAR" for column in columns]
    return _COPY.format(
        selected=", ".join(
            f"CAST({name} AS TIMESTAMP) AS {name}" if column.name in _TIMES else name
            for name, column in zip(names, columns, strict=True)
        ),
        columns=", ".join(f"{name}: '{kind}'" for name, kind in zip(names, types, strict=True)),
        pipe=_quoted(str(pipe), "'"),
        file=_quoted(str(file), "'"),
        longest=_LONGEST_LINE,
    )


def _value(column: MessageColumn, record: JSONObject) -> object:
    """Return the value of a cell: a number, text, or None."""
    return column.read(record) if column.name == "seq" else column.text(record) or None


def _quoted(text: str, mark: str) -> str:
    return mark + text.replace(mark, mark * 2) + mark
