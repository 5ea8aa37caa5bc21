"""The bar that shows progress on a terminal, by rich: a module of its own, imported only where a bar is shown."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn


class Bar:
    """A bar on standard error, with a number of bytes or a text beside it, and the time that is left."""

    def __init__(self, name: str, total: int | None, *, of_bytes: bool) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn() if of_bytes else TextColumn("{task.fields[text]}", markup=False),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._progress.add_task(name, total=total, text="")

    def start(self) -> None:
        """Show the bar, also again."""
        self._progress.start()

    def stop(self) -> None:
        """Remove the bar."""
        self._progress.stop()

    def update(self, completed: int, text: str, total: int | None) -> None:
        """Show how much is done; without `total` it stays what it was."""
        self._progress.update(self._task, completed=completed, text=text, total=total)
