"""The cost of one commit of the log, by the number of requests that it holds.

Requests that arrive together are committed together.  This calls the transaction itself, so it knows the size of each
commit.  CPU time is that of the process in its own code and in the kernel; it includes copying the write-ahead log.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
from growth import endless_envelopes
from tables import Report, middle
from trackcore_sqlite.committer import WriteRequest
from trackcore_sqlite.writer import LogWriter

from trackcore import Envelope
from trackcore.support import MEBIBYTE

_KINDS = ((1, 1), (10, 1), (30, 1), (64, 1), (1, 100))
"""The number of requests in a commit, and of messages in each of them."""

_MESSAGES_A_ROUND = 600
_FILL_MESSAGES = 5_000
_IO = Path("/proc/self/io")
"""The bytes that the process has written; on Linux alone."""


@click.command()
@click.option("--stored", default=20_000, show_default=True, metavar="N", help="Messages in the log before.")
@click.option("--rounds", default=25, show_default=True, metavar="N", help="Rounds of each kind.")
@click.option("--folder", type=click.Path(path_type=Path), help="The folder of the log: the disk to be measured.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def main(*, stored: int, rounds: int, folder: Path | None, as_json: bool) -> None:
    """Measure commits of single messages, and of a batch of 100."""
    with TemporaryDirectory(prefix="trackcore-bench-", dir=folder) as made_in:
        bounds = dict.fromkeys(("rejected", "quarantine", "duplicates"), 64 * MEBIBYTE)
        with closing(LogWriter(Path(made_in) / "trackcore.db", bounds=bounds, busy_timeout=5)) as writer:
            rows = _measure(writer, stored, rounds)
    Report(title="Commits", rows=rows, settings={"stored before": stored, "rounds": rounds}).tell(as_json=as_json)


def _measure(writer: LogWriter, stored: int, rounds: int) -> list[dict[str, Any]]:
    """Fill the log, then measure the kinds in turns."""
    envelopes = endless_envelopes()
    for _ in range(0, stored, _FILL_MESSAGES):
        _commit(writer, _requests(envelopes, 1, _FILL_MESSAGES))
    measured = [[_round(writer, envelopes, *kind) for kind in _KINDS] for _ in range(rounds)]
    return [_row(kind, costs) for kind, costs in zip(_KINDS, zip(*measured, strict=True), strict=True)]


def _round(writer: LogWriter, envelopes: Iterator[Envelope], requests: int, messages: int) -> dict[str, float]:
    """Commit some hundred messages, and return what a commit took."""
    commits = [_requests(envelopes, requests, messages) for _ in range(_MESSAGES_A_ROUND // (requests * messages))]
    calls, written = _written()
    started, cpu_started = time.perf_counter(), time.process_time()
    for commit in commits:
        _commit(writer, commit)
    took, cpu = time.perf_counter() - started, time.process_time() - cpu_started
    calls_after, written_after = _written()
    return {
        "seconds": took / len(commits),
        "cpu": cpu / len(commits),
        "calls": (calls_after - calls) / len(commits),
        "bytes": (written_after - written) / len(commits),
    }


def _row(kind: tuple[int, int], costs: tuple[dict[str, float], ...]) -> dict[str, Any]:
    """Return the median time, and the mean of everything else: the write-ahead log is copied in few rounds only."""
    mean = {name: sum(cost[name] for cost in costs) / len(costs) for name in costs[0]}
    requests, messages = kind
    return {
        "requests": requests,
        "messages each": messages,
        "CPU us a message": mean["cpu"] * 1e6 / (requests * messages),
        "ms a commit": middle([cost["seconds"] for cost in costs]) * 1e3,
        "write calls": mean["calls"],
        "KB written": mean["bytes"] / 1e3,
    }


def _requests(envelopes: Iterator[Envelope], requests: int, messages: int) -> list[WriteRequest]:
    return [WriteRequest(list(islice(envelopes, messages))) for _ in range(requests)]


def _commit(writer: LogWriter, requests: list[WriteRequest]) -> None:
    with writer.transaction() as write:
        write(requests)


def _written() -> tuple[int, int]:
    """Return how many write calls this process has made, and how many bytes it has written by them."""
    if not _IO.exists():
        return 0, 0
    values = dict(line.split(": ") for line in _IO.read_text(encoding="ascii").splitlines())
    return int(values["syscw"]), int(values["wchar"])


if __name__ == "__main__":
    main()
