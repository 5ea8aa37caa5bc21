"""Progress bars, shown on a terminal while a command reads a long file or waits."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from trackcore.support import MEBIBYTE
from trackcore.text import visible
from trackcore_server.files.inputs import OpenFile

if TYPE_CHECKING:
    from trackcore_server.cli._bar import Bar

_LONG_BYTES = 16 << 20
"""The size from which reading takes long enough to show a bar."""


class _ProgressBar:
    """A bar on standard error, shown only on a terminal and only if the work takes long."""

    def __init__(self, name: str, total: int | None, *, of_bytes: bool = False, is_long: bool = True) -> None:
        self._name, self._total, self._of_bytes = visible(name), total, of_bytes
        self._is_shown = is_long and sys.stderr.isatty()
        self._bar: Bar | None = None

    def __enter__(self) -> Self:
        if self._is_shown:
            self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def _start(self) -> None:
        if self._bar is None:
            from trackcore_server.cli._bar import Bar  # noqa: PLC0415 - it imports rich, which takes a while

            self._bar = Bar(self._name, self._total, of_bytes=self._of_bytes)
        self._bar.start()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _update(self, completed: int, text: str = "", *, total: int | None = None) -> None:
        if self._bar is not None:
            self._bar.update(completed, text, total)


class ReadingProgress(_ProgressBar):
    """How much of a file has been read."""

    def __init__(self, name: str, file: OpenFile) -> None:
        super().__init__(name, file.size, of_bytes=True, is_long=file.size >= _LONG_BYTES)
        self._file = file
        self._shown = 0

    def update(self) -> None:
        if self._is_shown and (position := self._file.position()) - self._shown >= MEBIBYTE:
            self._update(position)
            self._shown = position

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Hide the bar while something else is written to the same terminal."""
        is_in_the_way = self._is_shown and sys.stdout.isatty()
        if is_in_the_way:
            self._stop()
        yield
        if is_in_the_way:
            sys.stdout.flush()
            self._start()


class CountProgress(_ProgressBar):
    """The progress of work that counts towards a total, as a bar and as text."""

    def show(self, completed: int, text: str, *, total: int | None = None) -> None:
        self._update(completed, text, total=total)


class SearchProgress(_ProgressBar):
    """How much of the log was examined, and how much was found.

    It is shown if the search takes long, and not while records are written to the same terminal.
    """

    def __init__(self, name: str, *, writes_to_terminal: bool) -> None:
        super().__init__(name, None)
        self._begins_at = time.monotonic() + _PATIENCE_SECONDS
        self._writes_to_terminal = writes_to_terminal
        self._is_started = False
        self.found = 0

    def __enter__(self) -> Self:
        return self

    def examined(self, count: int, total: int) -> None:
        """Show that `count` of `total` records of the log were examined."""
        if not self._is_shown or time.monotonic() < self._begins_at:
            return
        if not self._is_started:
            self._is_started = True
            self._start()
        self._update(count, f"{self.found:,} found" if self.found else "", total=total)

    def step_aside(self) -> None:
        """Remove the bar before a record is written to the terminal."""
        self.found += 1
        if self._writes_to_terminal and self._is_shown:
            self._stop()
            self._is_shown = False


_PATIENCE_SECONDS = 0.3
