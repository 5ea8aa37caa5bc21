"""The embedded log as a backend: one SQLite file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar

import attrs
from trackcore_delivery import DeliveredDestination, DeliveryQueue, LogFeed, State, make_feed, make_queues
from trackcore_sqlite import ForgetStep, Forgotten, Received, SqliteBrowser, SqliteLog, clean, forget

from trackcore import Mark, Part
from trackcore.privacy import Subject
from trackcore_server.config.configuration import Configuration
from trackcore_server.config.log import LogSettings
from trackcore_server.storage.backend import (
    Backend,
    Backlog,
    ClosableSink,
    LogSize,
    OnProgress,
    no_progress,
    suppressing,
)
from trackcore_server.storage.log_changes import confirmed, delivered_up_to, examine_positions
from trackcore_server.storage.recovery import examine_log
from trackcore_server.storage.retention import start_retention


@attrs.frozen
class SqliteBackend(Backend):
    """A log in a file."""

    idle: ClassVar[str] = "stopped"
    _configuration: Configuration
    _settings: LogSettings

    def make_sink(self, on_commit: Callable[[float, int], None] | None = None) -> ClosableSink:
        """See `Backend.make_sink`."""
        from trackcore_sqlite import SqliteSink  # noqa: PLC0415 - most commands only read

        log = self._settings
        sink = SqliteSink(
            log.path,
            rejected_bytes=log.rejected_bytes,
            quarantine_bytes=log.quarantine_bytes,
            on_commit=on_commit,
        )
        return suppressing(sink, self._configuration)

    def open_log(self, on_progress: OnProgress = no_progress) -> SqliteLog:
        """See `Backend.open_log`."""
        return SqliteLog(self._settings.path, on_progress=on_progress)

    def browser(self, *, keep_open: bool = False) -> SqliteBrowser:
        """See `Backend.browser`."""
        return SqliteBrowser(self._settings.path, keep_open=keep_open)

    def feed(self) -> LogFeed:
        """See `Backend.feed`."""
        return make_feed(self.open_log(), self._configuration.sources, self._configuration.destinations)

    def queues(self, destination: DeliveredDestination, state: State) -> Sequence[DeliveryQueue]:
        """See `Backend.queues`."""
        return make_queues(destination, self.feed(), state)

    def backlog(self, destination: str, mark: Mark, *, most: int | None = None) -> Backlog:
        """See `Backend.backlog`."""
        position, change = confirmed(self.feed(), mark)
        waiting, oldest = self.open_log().backlog(destination, after=position, most=most)
        return Backlog(waiting=waiting, oldest=oldest, change=change)

    def forget(self, part: Part, forgotten: Forgotten, *, dry_run: bool = False) -> Iterator[ForgetStep]:
        """See `Backend.forget`."""
        return forget(self._settings.path, part, forgotten, dry_run=dry_run)

    def clean(self, subjects: Sequence[Subject]) -> str:
        """See `Backend.clean`."""
        return clean(self._settings.path, subjects)

    def received(self) -> Sequence[Received]:
        """See `Backend.received`."""
        return self.open_log().received()

    def size(self) -> LogSize:
        """See `Backend.size`."""
        log = self.open_log()
        return LogSize(messages=log.totals().messages, size=log.size())

    def require_log(self) -> None:
        """See `Backend.require_log`."""
        self.open_log().totals()

    def prepare(self) -> None:
        """See `Backend.prepare`."""
        examine_log(self._settings.path)

    def examine_positions(self) -> None:
        """See `Backend.examine_positions`."""
        examine_positions(self._configuration, self.feed())

    def start_retention(self) -> Callable[[], None]:
        """See `Backend.start_retention`."""
        if self._settings.keep is None:
            return lambda: None

        def up_to() -> int | None:
            return delivered_up_to(self._configuration, self.feed())

        return start_retention(self._settings.path, self._settings.keep, up_to=up_to)
