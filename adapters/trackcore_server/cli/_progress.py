"""Progress bars, shown on a terminal while a command reads a long file or waits."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn

from trackcore.support import MEBIBYTE
from trackcore.text import visible

_LONG_BYTES = 16 << 20
"""The size from which reading takes long enough to show a bar."""

_STEP_BYTES = MEBIBYTE


class ReadingProgress:
    """A bar on standard error, shown only for long files and only on a terminal."""

    def __init__(self, name: str, size: int) -> None:
        self._bar = _make_bar(DownloadColumn())
        self._task = self._bar.add_task(visible(name), total=size)
        self._is_shown = size >= _LONG_BYTES and sys.stderr.isatty()
        self._waiting = 0

    def __enter__(self) -> Self:
        if self._is_shown:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_shown:
            self._bar.stop()

    def advance(self, count: int) -> None:
        """Report that `count` more bytes were read."""
        self._waiting += count
        if self._waiting >= _STEP_BYTES:
            self._bar.advance(self._task, self._waiting)
            self._waiting = 0

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Hide the bar while something else is written to the same terminal."""
        is_in_the_way = self._is_shown and sys.stdout.isatty()
        if is_in_the_way:
            self._bar.stop()
        yield
        if is_in_the_way:
            sys.stdout.flush()
            self._bar.start()


class CountProgress:
    """A bar on standard error for work that counts towards a total, shown only on a terminal."""

    def __init__(self, name: str, total: int | None) -> None:
        self._bar = _make_bar(TextColumn("{task.fields[text]}", markup=False))
        self._task = self._bar.add_task(visible(name), total=total, text="")

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if sys.stderr.isatty():
            self._bar.stop()

    def show(self, completed: int, text: str, *, total: int | None = None) -> None:
        """Show the progress, as a bar and as text."""
        self._bar.update(self._task, completed=completed, text=text, total=total)


def _make_bar(column: ProgressColumn) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        column,
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
