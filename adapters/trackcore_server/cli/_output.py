"""The output of commands: JSON lines for programs and tables for people, both written page by page.

The text of a message is untrusted.  In a table it is never interpreted as markup, and control characters are shown as
escapes, so that it cannot move the cursor, colour the screen or retitle the window.  JSON escapes most of them by
itself; this module escapes the rest: DEL, the C1 controls (a terminal may obey them as it does ESC), the line
separators of Unicode, at which some line readers break a line, and the characters that change the direction of text.
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, TextIO

import attrs
from rich.console import Console
from rich.table import Table
from rich.text import Text

from trackcore import JSONObject
from trackcore.text import encode_json, visible

_ON_TERMINAL = 50
_PAGE_ROWS = 50
_PIPED_WIDTH = 160


@attrs.frozen(kw_only=True)
class Column:
    """A column, by default of the field `title`.  Those without a `width` share the rest in proportion to `ratio`."""

    title: str
    cell: Callable[[JSONObject], str] = attrs.field()
    width: int | None = None
    ratio: int | None = None

    @cell.default
    def _(self) -> Callable[[JSONObject], str]:
        return field_cell(self.title)


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


def make_writer(output_format: str | None, columns: Sequence[Column]) -> LineWriter | TableWriter:
    """Make a writer for a format; by default, a table on a terminal and JSON lines elsewhere."""
    stream = sys.stdout.buffer
    if output_format == "table" or (output_format is None and is_terminal()):
        return TableWriter(stream, columns)
    return LineWriter(stream)


def write_line(stream: BinaryIO, record: JSONObject) -> None:
    stream.write(json_line(record) + b"\n")


def json_line(record: JSONObject) -> bytes:
    """Return a record as JSON in which no character acts on a terminal or ends a line."""
    return _CONTROLS.sub(lambda found: b"\\u%04x" % ord(found[0].decode()), encode_json(record))


_CONTROLS = re.compile(rb"\x7f|\xc2[\x80-\x9f]|\xe2\x80[\xa8-\xae]|\xe2\x81[\xa6-\xa9]")


@attrs.define
class LineWriter:
    """Writes each record as a line of JSON."""

    _stream: BinaryIO

    def write(self, record: JSONObject) -> None:
        write_line(self._stream, record)

    def flush(self) -> None:
        self._stream.flush()


@attrs.define
class TableWriter:
    """Writes records as rows.

    The widths depend on the screen alone, so a table of any length, or one that is still growing, can be written page
    by page and stays aligned.
    """

    _stream: BinaryIO
    _columns: Sequence[Column]
    _rows: list[list[str]] = attrs.field(init=False, factory=list)
    _has_header: bool = attrs.field(init=False, default=False)

    def write(self, record: JSONObject) -> None:
        self._rows.append([visible(column.cell(record)) for column in self._columns])
        if len(self._rows) >= _PAGE_ROWS:
            self.flush()

    def flush(self) -> None:
        if self._rows:
            self._stream.write(self._rendered().encode("utf-8", "replace"))
            self._stream.flush()
            self._rows.clear()

    def _rendered(self) -> str:
        table = text_table(padding=(0, 1, 0, 0), expand=True, show_header=not self._has_header)
        for column in self._columns:
            table.add_column(
                column.title, width=column.width, ratio=column.ratio, no_wrap=True, overflow="ellipsis", min_width=4
            )
        for row in self._rows:
            table.add_row(*map(Text, row))
        self._has_header = True
        page = io.StringIO()
        text_console(page).print(table)
        return page.getvalue()


def text_table(**settings: Any) -> Table:
    """Make a table without lines."""
    return Table(box=None, pad_edge=False, header_style="bold", **settings)


def text_console(stream: TextIO) -> Console:
    """Make a console without markup, as wide as the terminal, or of a fixed width for a pipe."""
    width = Console().width if is_terminal() else _PIPED_WIDTH
    return Console(file=stream, width=width, force_terminal=is_terminal(), highlight=False, markup=False)
