"""The output of commands: JSON lines and CSV for programs, and tables for people (`_table`).

The text of a message is untrusted.  In a table it is never interpreted as markup, and control characters are shown as
escapes, so that it cannot move the cursor, colour the screen or retitle the window.  JSON escapes most of them by
itself; this module escapes the rest: DEL, the C1 controls (a terminal may obey them as it does ESC), the line
separators of Unicode, at which some line readers break a line, and the characters that change the direction of text.
"""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Callable, Sequence
from typing import BinaryIO, Protocol

import attrs

from trackcore import JSONObject
from trackcore.text import encode_json, visible
from trackcore_server.files.columns import MessageColumn, selected

_ON_TERMINAL = 50


@attrs.frozen(kw_only=True)
class Column:
    """A column, by default of the field `title`.

    One with a `width` is about so wide; the others share what is left in proportion to `ratio`.  Numbers are aligned at
    their right end.
    """

    title: str
    cell: Callable[[JSONObject], str] = attrs.field()
    width: int | None = None
    ratio: int = 1
    is_number: bool = False

    @cell.default
    def _(self) -> Callable[[JSONObject], str]:
        return field_cell(self.title)


class Writer(Protocol):
    """Writes records in a format."""

    def write(self, record: JSONObject) -> None:
        """Write a record, or keep it for the next page."""

    def flush(self) -> None:
        """Write what was kept."""


def is_terminal() -> bool:
    return sys.stdout.isatty()


def listing_limit(limit: int | None) -> int | None:
    """Return how many records to list: by default, all of them except on a terminal."""
    return _ON_TERMINAL if limit is None and is_terminal() else limit


def field_cell(name: str) -> Callable[[JSONObject], str]:
    """Make a cell that shows one field; it is empty if the record lacks the field."""
    return lambda record: cell_text(record.get(name))


def time_cell(cell: Callable[[JSONObject], str]) -> Callable[[JSONObject], str]:
    """Make a cell that shows a wire time to the second: `2012-12-02 00:30:08`."""
    return lambda record: to_the_second(cell(record))


def cell_text(value: object) -> str:
    return "" if value is None else str(value)


def to_the_second(time: str) -> str:
    """Return a wire time without its fraction of a second."""
    return time[:19].replace("T", " ")


def make_writer(
    output_format: str | None,
    columns: Sequence[Column],
    *,
    of_message: Sequence[MessageColumn] | None = None,
    none: str = "",
    is_growing: bool = False,
) -> Writer:
    """Make a writer for a format; by default, a table on a terminal and JSON lines elsewhere.

    Lines of JSON have the columns `of_message` only, if there are any.  A table without rows is the sentence `none` on
    standard error.  One that `is_growing` is flushed several times.
    """
    stream = sys.stdout.buffer
    if output_format == "table" or (output_format is None and is_terminal()):
        from trackcore_server.cli._table import TableWriter  # noqa: PLC0415 - it imports rich, which takes a while

        return TableWriter(stream, columns, none, is_growing)
    return LineWriter(stream, of_message)


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun: `1 message`, `1,200 messages`."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def bytes_text(size: float) -> str:
    """Return a size as people read it: `512 B`, `1.4 KiB`, `3.3 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < _UNIT:
            return f"{size:,.0f} B" if unit == "B" else f"{size:,.1f} {unit}"
        size /= _UNIT
    return f"{size:,.1f} TiB"


_UNIT = 1_024


def write_line(stream: BinaryIO, record: JSONObject) -> None:
    stream.write(json_line(record) + b"\n")


def json_line(record: JSONObject) -> bytes:
    """Return a record as JSON in which no character acts on a terminal or ends a line."""
    return _CONTROLS.sub(lambda found: b"\\u%04x" % ord(found[0].decode()), encode_json(record))


_CONTROLS = re.compile(rb"\x7f|\xc2[\x80-\x9f]|\xe2\x80[\xa8-\xae]|\xe2\x81[\xa6-\xa9]")


@attrs.define
class LineWriter:
    """Writes each record as a line of JSON; of a message with `columns` only those."""

    _stream: BinaryIO
    _columns: Sequence[MessageColumn] | None = None

    def write(self, record: JSONObject) -> None:
        write_line(self._stream, record if self._columns is None else selected(self._columns, record))

    def flush(self) -> None:
        self._stream.flush()


@attrs.define
class CsvWriter:
    """Writes each record as a line of CSV, after one with the names of the columns.

    On a terminal, control characters are shown as escapes.
    """

    _stream: BinaryIO
    _columns: Sequence[MessageColumn]
    _has_header: bool = attrs.field(init=False, default=False)

    def write(self, record: JSONObject) -> None:
        self._write_header()
        self._write_row([column.text(record) for column in self._columns])

    def flush(self) -> None:
        self._write_header()
        self._stream.flush()

    def _write_header(self) -> None:
        if not self._has_header:
            self._has_header = True
            self._write_row([column.name for column in self._columns])

    def _write_row(self, cells: Sequence[str]) -> None:
        line = io.StringIO(newline="")
        csv.writer(line, lineterminator="\n").writerow(map(visible, cells) if is_terminal() else cells)
        self._stream.write(line.getvalue().encode("utf-8", "replace"))
