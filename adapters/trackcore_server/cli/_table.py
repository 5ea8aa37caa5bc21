"""Tables for people, by rich, written page by page: a module of its own, imported only where a table is shown."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO, TextIO

import attrs
import click
from rich.cells import cell_len
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from trackcore import JSONObject
from trackcore.text import visible
from trackcore_server.cli._output import Column, is_terminal

_PAGE_ROWS = 50
_PIPED_WIDTH = 160
_LEAST_WIDTH = 4


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
