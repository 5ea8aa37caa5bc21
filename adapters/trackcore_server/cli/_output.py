"""The output of commands: JSON lines and CSV for programs and tables for people, all written page by page.

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
from collections.abc import Callable, Mapping, Sequence
from typing import Any, BinaryIO, Protocol, TextIO

import attrs
import click
from rich.cells import cell_len
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from trackcore import JSONObject
from trackcore.text import encode_json, visible
from trackcore_server.files.columns import MessageColumn, selected

_ON_TERMINAL = 50
_PAGE_ROWS = 50
_PIPED_WIDTH = 160
_LEAST_WIDTH = 4


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


@attrs.define
class TableWriter:
    """Writes records as rows.

    The widths depend on the first page alone, so a table of any length, or one that is still growing, can be written
    page by page and stays aligned.
    """

    _stream: BinaryIO
    _columns: Sequence[Column]
    _none: str = ""
    _is_growing: bool = False
    _rows: list[list[str]] = attrs.field(init=False, factory=list)
    _widths: Sequence[int] | None = attrs.field(init=False, default=None)

    def write(self, record: JSONObject) -> None:
        self._rows.append([visible(column.cell(record)) for column in self._columns])
        if len(self._rows) >= _PAGE_ROWS:
            self._flush(has_more=True)

    def flush(self) -> None:
        if self._widths is None and not self._rows and self._none:
            click.echo(self._none, err=True)
            self._none = ""
        self._flush(has_more=self._is_growing)

    def _flush(self, *, has_more: bool) -> None:
        if self._rows:
            self._stream.write(self._rendered(has_more=has_more).encode("utf-8", "replace"))
            self._stream.flush()
            self._rows.clear()

    def _rendered(self, *, has_more: bool) -> str:
        page = io.StringIO()
        console = text_console(page)
        is_first = self._widths is None
        if self._widths is None:
            self._widths = fitting_widths(self._columns, self._rows, console.width, has_more=has_more)
        table = text_table(padding=(0, 1, 0, 0), show_header=is_first)
        for column, width in zip(self._columns, self._widths, strict=True):
            justify: JustifyMethod = "right" if column.is_number else "left"
            table.add_column(column.title, width=width, justify=justify, no_wrap=True, overflow="ellipsis")
        for row in self._rows:
            table.add_row(*map(Text, row))
        console.print(table)
        return page.getvalue()


def fitting_widths(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], room: int, *, has_more: bool
) -> Sequence[int]:
    """Return the widths of columns for some rows, and for others like them if there are more, in a line of `room`."""
    natural = [
        max(map(cell_len, (column.title, *cells)))
        for column, cells in zip(columns, zip(*rows, strict=True), strict=True)
    ]
    fixed = {place: column.width for place, column in enumerate(columns) if column.width is not None}
    widths = {place: max(min(natural[place], 2 * width), width if has_more else 0) for place, width in fixed.items()}
    left = room - (len(columns) - 1) - sum(widths.values())
    ratios = {place: column.ratio for place, column in enumerate(columns) if column.width is None}
    flexible = _shares(left, ratios, natural)
    if has_more and flexible:
        unused = max(0, left - sum(flexible.values()))
        flexible = {place: width + unused * ratios[place] // sum(ratios.values()) for place, width in flexible.items()}
    widths |= flexible
    return [widths[place] for place in range(len(columns))]


def _shares(room: int, ratios: Mapping[int, int], needed: Sequence[int]) -> dict[int, int]:
    """Share a room in proportion to ratios; no column gets more than is needed while another gets less."""
    widths: dict[int, int] = {}
    pending = dict(ratios)
    while pending:
        share = max(room, 0) / sum(pending.values())
        modest = [place for place, ratio in pending.items() if needed[place] <= share * ratio]
        if not modest:
            return widths | {place: max(_LEAST_WIDTH, int(share * ratio)) for place, ratio in pending.items()}
        for place in modest:
            del pending[place]
            widths[place] = needed[place]
            room -= needed[place]
    return widths


def text_table(**settings: Any) -> Table:
    """Make a table without lines."""
    return Table(box=None, pad_edge=False, header_style="bold", **settings)


def text_console(stream: TextIO) -> Console:
    """Make a console without markup, as wide as the terminal, or of a fixed width for a pipe."""
    width = Console().width if is_terminal() else _PIPED_WIDTH
    return Console(file=stream, width=width, force_terminal=is_terminal(), highlight=False, markup=False)
