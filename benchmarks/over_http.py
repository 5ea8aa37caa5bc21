"""Durable intake over HTTP: `trackcore serve` under wrk, compared with a bare Werkzeug app and SQLite alone.

The rounds are interleaved, so that other load on the machine affects all alike; the results are medians.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import attrs
import click
from corpus import BATCH_MESSAGES, make_bodies, make_singles
from load import Load, RunningServer, bare, check_tools, put_load, trackcore
from sqlite_alone import SqliteAlone
from tables import Goal, Report, middle
from trackcore_server.config.configuration import ServerSettings

MOST_RSS_MB = 80
MOST_GROWTH_PERCENT = 5
MOST_P99_MS = 25
LEAST_OF_BARE = 0.5
LEAST_OF_SQLITE = 0.5

_SINGLES = 500
_BODIES = 50
_WARM_UP_SECONDS = 2


@click.command()
@click.option("--workers", default=2, show_default=True, metavar="N", help="Worker processes of both servers.")
@click.option("--threads", default=None, type=int, metavar="N", help="Threads of each.  [default: that of serve]")
@click.option("--connections", default=64, show_default=True, metavar="N", help="Connections for single messages.")
@click.option("--batch-connections", default=16, show_default=True, metavar="N", help="Connections for batches.")
@click.option("--seconds", default=8.0, show_default=True, metavar="S", help="Length of one round.")
@click.option("--rounds", default=3, show_default=True, metavar="N", help="Rounds of each kind.")
@click.option(
    "--minutes",
    type=click.IntRange(min=0),
    default=0,
    metavar="M",
    help="Minutes of further load, to see whether memory grows.",
)
@click.option("--compare", is_flag=True, help="Compare numbers of workers and threads instead (singles).")
@click.option("--folder", type=click.Path(path_type=Path), help="The folder of the log: the disk to be measured.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def main(
    *,
    workers: int,
    threads: int | None,
    connections: int,
    batch_connections: int,
    seconds: float,
    rounds: int,
    minutes: int,
    compare: bool,
    folder: Path | None,
    as_json: bool,
) -> None:
    """Measure durable intake over HTTP, with single messages and with batches of 100."""
    check_tools()
    with TemporaryDirectory(prefix="trackcore-bench-", dir=folder) as name:
        setting = _Setting(
            folder=Path(name),
            workers=workers,
            threads=threads or ServerSettings().threads,
            connections=connections,
            batch_connections=batch_connections,
            seconds=seconds,
            rounds=rounds,
        )
        report = _compare(setting) if compare else _measure(setting, minutes)
    report.tell(as_json=as_json)


@attrs.frozen(kw_only=True)
class _Setting:
    """The settings of the measurement."""

    folder: Path
    workers: int
    threads: int
    connections: int
    batch_connections: int
    seconds: float
    rounds: int

    def told(self) -> dict[str, Any]:
        return {name: value for name, value in attrs.asdict(self).items() if name != "folder"} | {"load": "wrk"}


def _measure(setting: _Setting, minutes: int) -> Report:
    with ExitStack() as stack:
        size = {"workers": setting.workers, "threads": setting.threads}
        server = stack.enter_context(trackcore(setting.folder, **size))
        floor = stack.enter_context(bare(setting.folder, **size))
        alone = SqliteAlone(setting.folder / "alone.db")
        stack.callback(alone.close)
        rounds = _rounds(setting, server, floor, alone)
        sizes = _watch_growth(setting, server, minutes)
    sqlite = middle(rounds.pop("sqlite"))
    loads = {kind: _middle_of(found) for kind, found in rounds.items()}
    return Report(
        title="Durable intake over HTTP",
        rows=_rows(setting, loads, sqlite),
        goals=[*_goals(loads, sqlite), *_memory_goals(loads, sizes)],
        settings=setting.told(),
    )


def _rows(setting: _Setting, loads: dict[str, Load], sqlite: float) -> list[dict[str, Any]]:
    few, many = setting.batch_connections, setting.connections
    return [
        _row("trackcore, single messages", loads["single"], 1, many),
        _row("bare Werkzeug, the same requests", loads["bare"], 1, many),
        _row("trackcore, batches of 100", loads["batch"], BATCH_MESSAGES, few),
        _row("bare Werkzeug, the same requests", loads["bare batch"], BATCH_MESSAGES, few),
        {"what": "SQLite alone, 100 rows a transaction", "messages/s": sqlite},
    ]


def _goals(loads: dict[str, Load], sqlite: float) -> list[Goal]:
    single, batch, floor = loads["single"], loads["batch"], loads["bare"]
    return [
        Goal(
            name="single messages: requests/s of bare Werkzeug's",
            measured=single.requests_per_second / floor.requests_per_second,
            bound=LEAST_OF_BARE,
        ),
        Goal(name="single messages: p99", measured=single.p99, bound=MOST_P99_MS, at_most=True, unit=" ms"),
        Goal(
            name="batches: messages/s of SQLite alone's",
            measured=batch.requests_per_second * BATCH_MESSAGES / sqlite,
            bound=LEAST_OF_SQLITE,
        ),
    ]


def _memory_goals(loads: dict[str, Load], sizes: list[float]) -> list[Goal]:
    largest = max(loads["single"].rss, loads["batch"].rss, *sizes)
    goal = Goal(name="memory of a worker", measured=largest, bound=MOST_RSS_MB, at_most=True, unit=" MB")
    if len(sizes) < 2:  # noqa: PLR2004 - a first and a last
        return [goal]
    percent = (sizes[-1] / sizes[0] - 1) * 100
    name = f"memory of a worker, growth from minute 1 to {len(sizes)}"
    return [goal, Goal(name=name, measured=percent, bound=MOST_GROWTH_PERCENT, at_most=True, unit=" %")]


def _rounds(setting: _Setting, server: RunningServer, floor: RunningServer, alone: SqliteAlone) -> dict[str, list[Any]]:
    singles, batches = _requests()
    put = partial(put_load, folder=setting.folder)
    kinds: dict[str, Callable[[float], Any]] = {
        "bare": lambda seconds: put(floor, singles, connections=setting.connections, seconds=seconds),
        "single": lambda seconds: put(server, singles, connections=setting.connections, seconds=seconds),
        "sqlite": alone.messages_per_second,
        "batch": lambda seconds: put(server, batches, connections=setting.batch_connections, seconds=seconds),
        "bare batch": lambda seconds: put(floor, batches, connections=setting.batch_connections, seconds=seconds),
    }
    for measure in kinds.values():
        measure(_WARM_UP_SECONDS)
    found = defaultdict(list)
    for number in range(setting.rounds):
        for kind, measure in kinds.items():
            click.echo(f"round {number + 1} of {setting.rounds}: {kind}", err=True)
            found[kind].append(measure(setting.seconds))
    return found


def _requests() -> tuple[list[tuple[str, bytes]], list[tuple[str, bytes]]]:
    singles = [(f"/v1/{call}", body) for call, body in make_singles(_SINGLES, message_ids=False)]
    return singles, [("/v1/batch", body) for body in make_bodies(_BODIES, message_ids=False)]


def _watch_growth(setting: _Setting, server: RunningServer, minutes: int) -> list[float]:
    """Load singles and batches in turn, and return the memory at the end of each minute, in MB."""
    singles, batches = _requests()
    sizes = []
    for minute in range(1, minutes + 1):
        put_load(server, singles, folder=setting.folder, connections=setting.connections, seconds=30)
        put_load(server, batches, folder=setting.folder, connections=setting.batch_connections, seconds=30)
        sizes.append(server.largest_worker())
        click.echo(f"minute {minute}: {sizes[-1]:.1f} MB", err=True)
    return sizes


def _compare(setting: _Setting) -> Report:
    singles, _ = _requests()
    rows = []
    for workers in (1, 2):
        for threads in (8, 16, 32, 64):
            for make in (bare, trackcore):
                with make(setting.folder, workers=workers, threads=threads) as server:
                    put = partial(put_load, server, singles, folder=setting.folder, connections=setting.connections)
                    put(seconds=_WARM_UP_SECONDS)
                    load = put(seconds=setting.seconds)
                click.echo(f"{server.name}: {workers} workers, {threads} threads", err=True)
                row = _row(server.name, load, 1, setting.connections)
                rows.append({"workers": workers, "threads": threads, **row})
    return Report(title="Workers and threads, single messages", rows=rows, settings=setting.told())


def _middle_of(loads: list[Load]) -> Load:
    """Return the medians, and the sum of the failures."""
    columns = {name: [getattr(load, name) for load in loads] for name in attrs.fields_dict(Load)}
    return Load(
        **{name: sum(values) if name in ("refused", "broken") else middle(values) for name, values in columns.items()}
    )


def _row(what: str, load: Load, messages: int, connections: int) -> dict[str, Any]:
    return {
        "what": what,
        "connections": connections,
        "requests/s": load.requests_per_second,
        "messages/s": load.requests_per_second * messages,
        "p50 ms": load.p50,
        "p99 ms": load.p99,
        "CPU cores": load.cpu,
        "CPU us/request": load.cpu / load.requests_per_second * 1e6,
        "RSS MB": load.rss,
        "refused": load.refused,
        "broken": load.broken,
    }


if __name__ == "__main__":
    main()
