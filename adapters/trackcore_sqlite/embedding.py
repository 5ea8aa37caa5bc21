"""A collector with a log in a SQLite file: the clock and the ids, which the core takes from outside, are filled in."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import uuid4

import attrs

from trackcore import DEFAULT_LIMITS, Collector, Destination, Limits, Metrics, Source
from trackcore_sqlite.sink import SqliteSink


@attrs.define(kw_only=True)
class SqliteCollector(Collector):
    """A `trackcore.Collector` that owns its sink; as a context manager it closes it at the end of the block."""

    sink: SqliteSink

    def close(self) -> None:
        """Store what waits, and close the log."""
        self.sink.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def open_collector(
    path: Path | str,
    *,
    sources: Iterable[Source],
    destinations: Iterable[Destination] = (),
    limits: Limits = DEFAULT_LIMITS,
) -> SqliteCollector:
    """Return a collector that stores in a SQLite file; the first message creates it, and its folder, if missing.

    Its clock is that of the machine, and its message ids are random UUIDs.

    >>> from tempfile import mkdtemp
    >>> from trackcore import Metrics, Source, Track
    >>> website = Source(name="website", write_keys=["abc123"])
    >>> with open_collector(mkdtemp() + "/trackcore.db", sources=[website]) as collector:
    ...     receipt = collector.submit(Track(user_id="42", event="Paid"), source="website")
    >>> receipt.accepted
    1

    Raises:
        ValueError: two sources have the same name or write key, or a source names an unknown destination.
    """
    metrics = Metrics()
    return SqliteCollector(
        sources=sources,
        destinations=tuple(destinations),
        limits=limits,
        sink=SqliteSink(path, on_commit=metrics.count_commit),
        metrics=metrics,
        clock=lambda: datetime.now(UTC),
        new_message_id=lambda: str(uuid4()),
    )
