"""The shape of a backend: a kind of log with everything that the rest of the server needs of it.

Commands and the app ask the backend of their configuration (see `backends`) and never which kind of log it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import ClassVar, Protocol, TypeAlias

import attrs
from trackcore_delivery import DeliveredDestination, DeliveryQueue, LogFeed, State
from trackcore_privacy import PrivacyFile, SuppressionReader
from trackcore_sqlite import ForgetStep, Forgotten, Received, SqliteBrowser

from trackcore import AsyncSink, Log, LogChanged, Mark, Part
from trackcore.privacy import Subject, SuppressingSink
from trackcore_server.config.configuration import Configuration, ConfigurationError

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


@attrs.frozen(kw_only=True)
class LogSize:
    """How many messages a log has, and its bytes on the disk."""

    messages: int
    size: int


class ClosableSink(AsyncSink, Protocol):
    """A sink that holds files or connections."""

    def close(self) -> None:
        """Release them.  A later call opens them again."""


def suppressing(sink: ClosableSink, configuration: Configuration) -> ClosableSink:
    """Return a sink that does not keep the messages of suppressed persons."""
    return SuppressingSink(sink, SuppressionReader(PrivacyFile(configuration.privacy_path)))


class Backend(Protocol):
    """A kind of log, as it is configured.  Whatever a kind does not define, it cannot do or need not do.

    `idle` is the state of a destination to which no process delivers with this data folder.
    """

    idle: ClassVar[str]

    def make_sink(self, on_commit: Callable[[float, int], None] | None = None) -> ClosableSink:
        """Build the sink that writes the log; nothing is opened yet.  Raises `ConfigurationError`.

        `on_commit` is called with the seconds and the messages of each commit, if the log has any.
        """

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

    def backlog(self, destination: str, mark: Mark, *, most: int | None = None) -> Backlog:
        """Count the messages that wait for a destination behind its position.

        With `most`, only so many are examined; the others count as messages for the destination.
        """

    def received(self) -> Sequence[Received] | None:
        """Return how much the log has received in all, by source; None if the log does not count.

        Raises `LogUnavailable`.
        """
        return None

    def size(self) -> LogSize | None:
        """Return the size of the log, if it is on this machine.  Raises `LogUnavailable`."""
        return None

    def place(self, seq: int) -> int | str:
        """Return the number of a message as people read it."""
        return seq

    def forget(self, part: Part, forgotten: Forgotten, *, dry_run: bool = False) -> Iterator[ForgetStep]:
        """Forget persons in a part of the log; see `trackcore_sqlite.forget`.  Raises `Unsupported`."""
        del part, forgotten, dry_run
        raise Unsupported

    def clean(self, subjects: Sequence[Subject]) -> str:
        """Remove the ids of forgotten persons from the bytes of the log.  Raises `Unsupported`."""
        del subjects
        raise Unsupported

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
