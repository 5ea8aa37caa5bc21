"""The log as it grows: its insert rate, its response times and its size.

Insert rates are those of `SqliteSink.store` with 100 messages a call, each call durable; the rate of CPU is the number
of messages in a second of it.  Between the points of measurement the log is filled by larger calls.  At each point a
new log is measured in alternation with the one that has grown, so that other load on the machine slows both, and their
ratio stays meaningful.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import cycle, islice
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any
from uuid import uuid4

import click
import msgspec
from corpus import BATCH_MESSAGES, ORIGIN, make_bodies, make_collector
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from tables import Goal, Report, middle
from trackcore_sqlite import SqliteLog, SqliteSink

from trackcore import Envelope, MemorySink, Query, RejectedRecord

LEAST_OF_EMPTY = 0.7

_FILE = "trackcore.db"
_ISSUE_POINTS = (0, 1_000_000, 5_000_000)
_FILL_MESSAGES = 5_000
_ROUNDS = 7
_ROUND_CALLS = 40
_QUERY_ROUNDS = 5
_REJECTED_EVERY = 50
_PAGE = 50


@click.command()
@click.option(
    "--messages",
    default=200_000,
    show_default=True,
    metavar="N",
    help="Grow to this many messages, e.g. 5000000.",
)
@click.option("--folder", type=click.Path(path_type=Path), help="The folder of the log: the disk to be measured.")
@click.option("--keep", is_flag=True, help="Keep the log, and print its path.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def main(*, messages: int, folder: Path | None, keep: bool, as_json: bool) -> None:
    """Measure the log at 0 messages, at a fifth of --messages, and at --messages."""
    points = sorted({point for point in _ISSUE_POINTS if point < messages} | {0, messages // 5, messages})
    made_in = Path(mkdtemp(prefix="trackcore-bench-", dir=folder))
    try:
        rows = _grow(made_in, points)
    finally:
        if keep:
            click.echo(f"The log was kept: {made_in / _FILE}", err=True)
        else:
            rmtree(made_in)
    Report(
        title="The log as it grows",
        rows=rows,
        goals=[
            Goal(
                name=f"insert rate at {messages:,} of that of a new log",
                measured=rows[-1]["inserts/s"] / rows[-1]["new log inserts/s"],
                bound=LEAST_OF_EMPTY,
            ),
            Goal(
                name=f"messages per CPU-second at {messages:,} of those of a new log",
                measured=rows[-1]["inserts/CPU-s"] / rows[-1]["new log inserts/CPU-s"],
                bound=LEAST_OF_EMPTY,
            ),
        ],
        settings={"messages a call": BATCH_MESSAGES, "rejected": f"1 in {_REJECTED_EVERY}", "page": _PAGE},
    ).tell(as_json=as_json)


def _grow(folder: Path, points: Sequence[int]) -> list[dict[str, Any]]:
    """Grow a log in the folder from point to point, and measure at each."""
    rows = []
    with _progress() as progress, closing(_GrowingLog(folder / _FILE)) as growing:
        task = progress.add_task("messages stored", total=points[-1])
        for point in points:
            for _ in growing.fill(point):
                progress.update(task, completed=growing.count)
            rows.append({"messages": growing.count, **_insert_rates(growing), **growing.measure()})
            progress.console.print(f"at {point:,} messages: {rows[-1]['inserts/s']:,.0f} inserts/s")
    return rows


def _insert_rates(growing: _GrowingLog) -> dict[str, float]:
    """Measure the grown log and a new one in turns.  This stores some thousand messages."""
    with (
        TemporaryDirectory(prefix="new-", dir=growing.file.parent) as folder,
        closing(_GrowingLog(Path(folder) / _FILE)) as new,
    ):
        rates = [(*growing.insert_rates(), *new.insert_rates()) for _ in range(_ROUNDS)]
    names = ("inserts/s", "inserts/CPU-s", "new log inserts/s", "new log inserts/CPU-s")
    return {name: middle(values) for name, values in zip(names, zip(*rates, strict=True), strict=True)}


class _GrowingLog:
    """A log filled from the corpus, each message with a new id."""

    def __init__(self, file: Path) -> None:
        self.count = 0
        self.file = file
        self._sink = SqliteSink(file)
        self._log = SqliteLog(file)
        self._envelopes = endless_envelopes()
        self._last_user: str | None = None

    def fill(self, count: int) -> Iterator[None]:
        """Store until the log has `count` messages, yielding sometimes to show progress."""
        while self.count < count:
            self._store(min(_FILL_MESSAGES, count - self.count))
            yield

    def measure(self) -> dict[str, Any]:
        """Measure its size and its response times."""
        return {
            "file bytes per message": self._size() / self.count,
            **{
                f"{name} ms": middle([_milliseconds(query) for _ in range(_QUERY_ROUNDS)])
                for name, query in self._queries()
            },
        }

    def close(self) -> None:
        """Close the file."""
        self._sink.close()

    def insert_rates(self) -> tuple[float, float]:
        """Store some thousand messages, 100 a call, and return the number per second, and per second of CPU."""
        calls = [list(islice(self._envelopes, BATCH_MESSAGES)) for _ in range(_ROUND_CALLS)]
        started, cpu_started = time.perf_counter(), time.process_time()
        for envelopes in calls:
            self._sink.store(envelopes)
        took, cpu = time.perf_counter() - started, time.process_time() - cpu_started
        count = _ROUND_CALLS * BATCH_MESSAGES
        self.count += count
        return count / took, count / cpu

    def _store(self, count: int) -> None:
        envelopes = list(islice(self._envelopes, count))
        self._last_user = envelopes[-1].user_id
        self._sink.store(envelopes, rejected=[_rejected(envelope) for envelope in envelopes[::_REJECTED_EVERY]])
        self.count += count

    def _queries(self) -> list[tuple[str, Callable[[], object]]]:
        log = self._log
        return [
            ("events, newest 50:", lambda: list(log.messages(Query(limit=_PAGE)))),
            ("of one call:", lambda: list(log.messages(Query(call="alias", limit=_PAGE)))),
            ("of one user:", lambda: list(log.messages(Query(user=self._last_user or "user-1", limit=_PAGE)))),
            ("after a seq:", lambda: list(islice(log.messages(after=self.count // 2), _PAGE))),
            ("rejected, newest 50:", lambda: list(log.rejected(Query(limit=_PAGE)))),
            ("of one code:", lambda: list(log.rejected(Query(code="no_type", limit=_PAGE)))),
            ("totals", log.totals),
        ]

    def _size(self) -> int:
        """Return the size of the file and of the files beside it, in bytes."""
        return sum(file.stat().st_size for file in self.file.parent.glob(self.file.name + "*"))


def endless_envelopes() -> Iterator[Envelope]:
    """Yield the messages of the corpus again and again, each time with new ids."""
    sink = MemorySink()
    collector = make_collector(sink)
    for body in make_bodies(20, message_ids=False):
        collector.receive(body, origin=ORIGIN)
    for envelope in cycle(sink.envelopes):
        yield msgspec.structs.replace(envelope, message_id=str(uuid4()))


def _rejected(envelope: Envelope) -> RejectedRecord:
    return RejectedRecord(
        source=envelope.source,
        received_at=envelope.received_at,
        code="no_user_anon_id",
        message="a message needs a userId or an anonymousId",
        path="",
        payload=envelope.payload,
    )


def _milliseconds(query: Callable[[], object]) -> float:
    started = time.perf_counter()
    query()
    return (time.perf_counter() - started) * 1e3


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)


if __name__ == "__main__":
    main()
