"""The cost of metrics at intake: `trackcore serve` with `[metrics] bind`, scraped each second, and without.

    python benchmarks/metrics.py

The process that serves the metrics counts as part of the server.  Counting itself cannot be switched off: a few
additions for each request, and some rows of the log for each commit; `over_http.py --against` shows that.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import attrs
import click
from comparison import batches, compare, cost_goals, rows, singles
from servers import CURRENT, LOCALHOST, RunningServer, Trackcore, file_system, free_port
from tables import Report

MOST_COST = 1.03
"""How many times the CPU time of a server without `bind` is wanted at most."""

_SCRAPE_SECONDS = 1.0


@attrs.frozen(kw_only=True)
class Scraped(Trackcore):
    """A trackcore whose metrics are read each second."""

    @contextmanager
    def serve(self, data: Path) -> Iterator[RunningServer]:
        """Run it."""
        port, stopping = free_port(), threading.Event()
        server = attrs.evolve(self, tables=f'[metrics]\nbind = "{LOCALHOST}:{port}"\n')
        scraping = threading.Thread(target=_scrape, args=(port, stopping))
        with Trackcore.serve(server, data) as running:
            scraping.start()
            try:
                yield running
            finally:
                stopping.set()
                scraping.join()


def _scrape(port: int, stopping: threading.Event) -> None:
    while not stopping.wait(_SCRAPE_SECONDS):
        with closing(HTTPConnection(LOCALHOST, port)) as connection, suppress(OSError, HTTPException):
            connection.request("GET", "/metrics")
            connection.getresponse().read()


@click.command()
@click.option("--connections", default=64, show_default=True, metavar="N")
@click.option("--seconds", default=5.0, show_default=True, metavar="S", help="Length of one round.")
@click.option("--rounds", default=5, show_default=True, metavar="N", help="Rounds of each kind.")
@click.option("--folder", type=click.Path(path_type=Path), help="The folder of the log: the disk to be measured.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def main(*, connections: int, seconds: float, rounds: int, folder: Path | None, as_json: bool) -> None:
    """Measure what metrics cost, with single messages and with batches of 100.  Exits 1 above the target."""
    plain = attrs.evolve(CURRENT, name="without")
    scraped = Scraped(name="metrics", folder=CURRENT.folder)
    cases = [singles(connections), batches(connections)]
    results = compare([plain, scraped], cases, seconds=seconds, rounds=rounds, folder=folder)
    goals = cost_goals(results, plain.name, [scraped.name], MOST_COST)
    Report(
        title="Metrics, over HTTP",
        rows=rows(results, plain.name),
        goals=goals,
        settings={"seconds": seconds, "rounds": rounds, "file system": file_system(folder)},
    ).tell(as_json=as_json)
    failed = any(result.failures for result in results.values())
    sys.exit(failed or not all(goal.is_met for goal in goals))


if __name__ == "__main__":
    main()
