"""How far the reading of a long file has come, shown on a terminal while it lasts."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from trackcore_delivery import visible

from trackcore.limits import MEBIBYTE

_LONG_BYTES = 16 << 20
"""From how much on it takes long enough to show."""

_STEP_BYTES = MEBIBYTE


class ReadingProgress:
    """A bar on standard error.  It is shown for long files only, and only on a terminal."""

    def __init__(self, name: str, size: int) -> None:
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
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
        """Say that so many more bytes have been read."""
        self._waiting += count
        if self._waiting >= _STEP_BYTES:
            self._bar.advance(self._task, self._waiting)
            self._waiting = 0

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Take the bar away while something else is written to the same terminal."""
        is_in_the_way = self._is_shown and sys.stdout.isatty()
        if is_in_the_way:
            self._bar.stop()
        yield
        if is_in_the_way:
            sys.stdout.flush()
            self._bar.start()


class CountProgress:
    """A bar on standard error for work whose end is a number, shown on a terminal only."""

    def __init__(self, name: str, total: int | None) -> None:
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[told]}", markup=False),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._bar.add_task(visible(name), total=total, told="")

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if sys.stderr.isatty():
            self._bar.stop()

    def show(self, completed: int, told: str, *, total: int | None = None) -> None:
        """Show how far the work has come, and in words."""
        self._bar.update(self._task, completed=completed, told=told, total=total)
