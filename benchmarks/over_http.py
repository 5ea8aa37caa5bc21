"""Durable intake over HTTP: `trackcore serve`, beside other installed versions of it, a bare app, and SQLite alone.

    python benchmarks/over_http.py
    python benchmarks/over_http.py --against previous=../previous/.venv/bin --minutes 5

`comparison.py` describes how servers are measured, and `peers.md` why so.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import attrs
import click
from comparison import COST, MEMORY, MESSAGES, P99, REQUESTS, Results, batches, compare, rows, singles
from servers import CURRENT, Bare, Trackcore, against_option, file_system
from sqlite_alone import SqliteAlone
from tables import Goal, Report, middle

MOST_WORKER_MB = 100
MOST_GROWTH_PERCENT = 5
LEAST_OF_BARE = 0.5
LEAST_OF_SQLITE = 0.5

AGAINST_BASELINE = (
    ("", singles(64), COST, 4.0),
    (", aimed at", singles(64), COST, 6.0),
    ("", singles(64), REQUESTS, 3.0),
    ("", singles(64), P99, 1.0),
    ("", singles(8), COST, 2.0),
    ("", batches(64), COST, 1.4),
    (", aimed at", batches(64), COST, 2.0),
)
"""The ratios to the baseline that are wanted: at least, and of p99 at most."""

_BARE_THREADS = 16
_HALF_A_MINUTE = 30.0


@click.command()
@against_option
@click.option("--workers", default=1, show_default=True, metavar="N", help="Worker processes of each server.")
@click.option("--connections", multiple=True, default=(8, 64), show_default=True, metavar="N", help="Can be repeated.")
@click.option("--seconds", default=5.0, show_default=True, metavar="S", help="Length of one round.")
@click.option("--rounds", default=3, show_default=True, metavar="N", help="Rounds of each kind.")
@click.option(
    "--minutes",
    type=click.IntRange(min=0),
    default=0,
    metavar="M",
    help="Minutes of further load, to see whether memory grows.",
)
@click.option("--folder", type=click.Path(path_type=Path), help="The folder of the log: the disk to be measured.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def main(
    *,
    against: list[Trackcore],
    workers: int,
    connections: Sequence[int],
    seconds: float,
    rounds: int,
    minutes: int,
    folder: Path | None,
    as_json: bool,
) -> None:
    """Measure durable intake over HTTP, with single messages and with batches of 100."""
    options = ("--workers", str(workers))
    bare = Bare(workers=workers, threads=_BARE_THREADS)
    servers = [attrs.evolve(server, options=options) for server in (*against, CURRENT)]
    cases = [make(count) for make in (singles, batches) for count in connections]
    results = compare([*servers, bare], cases, seconds=seconds, rounds=rounds, folder=folder)
    sqlite = _sqlite_alone(seconds, rounds, folder)
    sizes = _grow(servers[-1], max(connections), minutes, folder)
    Report(
        title="Durable intake over HTTP",
        rows=[*rows(results, servers[0].name), {"load": "SQLite alone, 100 rows a transaction", "messages/s": sqlite}],
        goals=[
            *(_goals_against(results, against[0].name) if against else ()),
            *_goals(results, bare.name, max(connections), sqlite),
            *_memory_goals(results, sizes),
        ],
        settings={
            "workers": workers,
            "seconds": seconds,
            "rounds": rounds,
            "file system": file_system(folder),
        },
    ).tell(as_json=as_json)
    sys.exit(any(result.failures for result in results.values()))


def _goals_against(results: Results, baseline: str) -> Iterator[Goal]:
    for remark, case, column, bound in AGAINST_BASELINE:
        if (case, baseline) in results:
            before, now = (results[case, name].medians[column] for name in (baseline, CURRENT.name))
            name = f"{case.name}, {case.connections} connections: times the {column} of {baseline}{remark}"
            yield Goal(name=name, measured=now / before, bound=bound, at_most=column == P99)


def _goals(results: Results, bare: str, connections: int, sqlite: float) -> list[Goal]:
    single, floor = (results[singles(connections), name].medians for name in (CURRENT.name, bare))
    batch = results[batches(connections), CURRENT.name].medians
    return [
        Goal(
            name=f"single messages: {COST} of bare Werkzeug's",
            measured=single[COST] / floor[COST],
            bound=LEAST_OF_BARE,
        ),
        Goal(
            name=f"batches: {MESSAGES} of SQLite alone's",
            measured=batch[MESSAGES] / sqlite,
            bound=LEAST_OF_SQLITE,
        ),
        Goal(
            name="requests and messages not acknowledged, or not stored",
            measured=sum(result.failures for result in results.values()),
            bound=0,
            at_most=True,
        ),
    ]


def _memory_goals(results: Results, sizes: Sequence[float]) -> Iterator[Goal]:
    measured = [result.medians[MEMORY] for (_, name), result in results.items() if name == CURRENT.name]
    name = "memory of a worker"
    yield Goal(name=name, measured=max(*measured, *sizes), bound=MOST_WORKER_MB, at_most=True, unit=" MB")
    if len(sizes) > 1:
        percent = (sizes[-1] / sizes[0] - 1) * 100
        name = f"memory of a worker, growth from minute 1 to {len(sizes)}"
        yield Goal(name=name, measured=percent, bound=MOST_GROWTH_PERCENT, at_most=True, unit=" %")


def _sqlite_alone(seconds: float, rounds: int, folder: Path | None) -> float:
    click.echo("SQLite alone", err=True)
    with (
        TemporaryDirectory(prefix="trackcore-bench-", dir=folder) as name,
        closing(SqliteAlone(Path(name) / "alone.db")) as alone,
    ):
        return middle([alone.messages_per_second(seconds) for _ in range(rounds)])


def _grow(server: Trackcore, connections: int, minutes: int, folder: Path | None) -> list[float]:
    """Load one server with singles and batches in turn; return the memory of a worker after each minute, in MB."""
    sizes: list[float] = []
    with TemporaryDirectory(prefix="trackcore-bench-", dir=folder) as name, server.serve(Path(name)) as running:
        for minute in range(1, minutes + 1):
            for case in (singles(connections), batches(connections)):
                case.put(running, _HALF_A_MINUTE)
            sizes.append(running.processes.megabytes()[0])
            click.echo(f"minute {minute}: {sizes[-1]:.1f} MB", err=True)
    return sizes


if __name__ == "__main__":
    main()
