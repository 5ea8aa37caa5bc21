"""The shape of a backend: a kind of log with everything that the rest of the server needs of it.

Commands and the app ask the backend of their configuration (see `backends`) and never which kind of log it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import ClassVar, Protocol, TypeAlias

import attrs
from trackcore_delivery import DeliveredDestination, DeliveryQueue, LogFeed, State
from trackcore_sqlite import SqliteBrowser

from trackcore import AsyncSink, Log, LogChanged, Mark
from trackcore_server.config.configuration import ConfigurationError

Browser: TypeAlias = SqliteBrowser
"""Bounded queries for looking into a log; only the embedded log has them."""


OnProgress: TypeAlias = Callable[[int, int], object]
"""Called with how much of a log was examined, and of how much."""


def no_progress(_: int, __: int, /) -> None:
    """Show no progress."""


@attrs.define(kw_only=True, eq=False)
class Unsupported(ConfigurationError):
    """The configured kind of log cannot do what was asked for."""

    detail: str = "this needs a log of the kind 'sqlite'"
    path: str = "log.kind"


@attrs.frozen(kw_only=True)
class Backlog:
    """How many messages wait for a destination.

    `oldest` is when the first of them was received, None if it is not known; `change` is set if the position of the
    destination does not hold in the log.
    """

    waiting: int
    oldest: datetime | None = None
    change: LogChanged | None = None


class ClosableSink(AsyncSink, Protocol):
    """A sink that holds files or connections."""

    def close(self) -> None:
        """Release them.  A later call opens them again."""


class Backend(Protocol):
    """A kind of log, as it is configured.  Whatever a kind does not define, it cannot do or need not do.

    `idle` is the state of a destination to which no process delivers with this data folder.
    """

    idle: ClassVar[str]

    def make_sink(self) -> ClosableSink:
        """Build the sink that writes the log; nothing is opened yet.  Raises `ConfigurationError`."""

    def open_log(self, on_progress: OnProgress = no_progress) -> Log:
        """Open the log for reading.  Raises `ConfigurationError` if the settings of its client cannot be used.

        `on_progress` is called while it is searched, where a kind of log can tell how far.
        """

    def browser(self, *, keep_open: bool = False) -> Browser:
        """Return the bounded queries of the log.  Raises `Unsupported`."""
        del keep_open
        raise Unsupported

    def feed(self) -> LogFeed:
        """Return the log as a feed for delivery, from which the past can be replayed.  Raises `Unsupported`."""
        raise Unsupported

    def queues(self, destination: DeliveredDestination, state: State) -> Sequence[DeliveryQueue]:
        """Build the queues of a destination."""

    def backlog(self, destination: str, mark: Mark) -> Backlog:
        """Count the messages that wait for a destination behind its position."""

    def place(self, seq: int) -> int | str:
        """Return the number of a message as people read it."""
        return seq

    def require_log(self) -> None:
        """Raise `LogUnavailable` if the log does not exist yet."""
        return

    def prepare(self) -> None:
        """Examine the log before it is first written, and log what was found or repaired."""
        return

    def examine_positions(self) -> None:
        """Report on standard error if the positions of delivery were reached in another log, and correct them."""
        return

    def start_retention(self) -> Callable[[], None]:
        """Start to delete what is older than configured, in the background; return the function that stops it."""
        return lambda: None
