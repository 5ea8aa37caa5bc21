"""The measurement of servers beside each other, under the same load, in one run.

The measure is messages per CPU-second of all processes of a server.  It says what a message costs, on however many
cores, and other load on the machine disturbs it less than it does requests per second.  Each round starts a new server
on an empty log, and afterwards reads this log: what was acknowledged must be stored.  The rounds are interleaved, so
that other load affects all servers alike; the results are medians.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import attrs
import click
from corpus import BATCH_MESSAGES
from load import Plan, Tally, put_load
from servers import RunningServer
from tables import Goal, middle

REQUESTS = "requests/s"
MESSAGES = "messages/s"
COST = "messages/CPU-s"
P99 = "p99 ms"
MEMORY = "worker MB"
"""The largest process of a server; \"all MB\" is the sum, in which pages that processes share count more than once."""

_WARM_UP_SECONDS = 1.0


class Contestant(Protocol):
    """A server to be measured."""

    @property
    def name(self) -> str:
        """Its name in the report."""

    def serve(self, data: Path) -> AbstractContextManager[RunningServer]:
        """Run it, with its files in an empty folder."""

    def count_messages(self, data: Path) -> int | None:
        """Return how many messages it has stored there; None if it stores nothing."""


@attrs.frozen(kw_only=True)
class Case:
    """A kind of load."""

    name: str
    messages: int
    """Of each request."""
    connections: int

    def put(self, server: RunningServer, seconds: float) -> Tally:
        """Load a server."""
        plan = Plan(
            address=server.address,
            requests=server.requests(self.messages),
            connections=self.connections,
            seconds=seconds,
        )
        return put_load(plan)


def singles(connections: int) -> Case:
    """Return the load of clients that send each message on its own, such as browsers and phones."""
    return Case(name="single messages", messages=1, connections=connections)


def batches(connections: int) -> Case:
    """Return the load of clients that send batches, such as servers."""
    return Case(name=f"batches of {BATCH_MESSAGES}", messages=BATCH_MESSAGES, connections=connections)


@attrs.frozen(kw_only=True)
class Result:
    """The rounds of one contestant in one case."""

    medians: dict[str, float]
    """Of the rounds, by the names of columns."""
    refused: int
    broken: int
    missing: int | None
    """Acknowledged messages less the stored ones, which must be 0; None if nothing is stored."""

    @property
    def failures(self) -> int:
        """How many requests and messages did not fare as they should."""
        return self.refused + self.broken + abs(self.missing or 0)


Results = dict[tuple[Case, str], Result]
"""By the case and the name of the contestant."""


def compare(
    contestants: Sequence[Contestant], cases: Sequence[Case], *, seconds: float, rounds: int, folder: Path | None
) -> Results:
    """Measure all contestants in all cases."""
    found: dict[tuple[Case, str], list[Result]] = {}
    for number in range(rounds):
        for case in cases:
            for contestant in _in_turn(contestants, number):
                what = f"{case.name}, {case.connections} connections: {contestant.name}"
                click.echo(f"round {number + 1} of {rounds}: {what}", err=True)
                found.setdefault((case, contestant.name), []).append(_measure(contestant, case, seconds, folder))
    return {key: _combine(results) for key, results in found.items()}


def rows(results: Results, first: str) -> list[dict[str, Any]]:
    """Build the rows of a report; ratios are those to the contestant named `first`."""
    return [_row(case, name, result, results[case, first]) for (case, name), result in results.items()]


def cost_goals(results: Results, first: str, others: Sequence[str], most: float) -> list[Goal]:
    """Return the goals for what the others cost: at most so many times the CPU time of the one named `first`."""
    return [
        Goal(
            name=f"{case.name}: CPU time of {name!r}, times that of {first!r}",
            measured=results[case, first].medians[COST] / result.medians[COST],
            bound=most,
            at_most=True,
        )
        for (case, name), result in results.items()
        if name in others
    ]


def _in_turn(contestants: Sequence[Contestant], number: int) -> Sequence[Contestant]:
    """Reverse the order every other time, so that nobody always follows the same one."""
    return contestants if number % 2 == 0 else contestants[::-1]


def _measure(contestant: Contestant, case: Case, seconds: float, folder: Path | None) -> Result:
    with TemporaryDirectory(prefix="trackcore-bench-", dir=folder) as name:
        data = Path(name)
        with contestant.serve(data) as server:
            warm_up = case.put(server, _WARM_UP_SECONDS)
            used = server.processes.cpu_seconds()
            tally = case.put(server, seconds)
            used = server.processes.cpu_seconds() - used
            memory = server.processes.megabytes()
        stored = contestant.count_messages(data)
    if refusal := warm_up.first_refusal or tally.first_refusal:
        click.echo(f"refused: {refusal}", err=True)
    if not tally.messages:
        sys.exit(f"{contestant.name} acknowledged nothing")
    return Result(
        medians={
            REQUESTS: tally.requests / tally.seconds,
            MESSAGES: tally.messages / tally.seconds,
            COST: tally.messages / used,
            "CPU us/message": 1e6 * used / tally.messages,
            "p50 ms": tally.p50,
            P99: tally.p99,
            MEMORY: memory[0],
            "all MB": sum(memory),
        },
        refused=tally.refused + warm_up.refused,
        broken=tally.broken + warm_up.broken,
        missing=None if stored is None else tally.messages + warm_up.messages - stored,
    )


def _combine(rounds: Sequence[Result]) -> Result:
    missing = [found.missing for found in rounds if found.missing is not None]
    return Result(
        medians={column: middle([found.medians[column] for found in rounds]) for column in rounds[0].medians},
        refused=sum(found.refused for found in rounds),
        broken=sum(found.broken for found in rounds),
        missing=sum(missing) if missing else None,
    )


def _row(case: Case, name: str, result: Result, first: Result) -> dict[str, Any]:
    return {
        "load": case.name,
        "connections": case.connections,
        "server": name,
        **result.medians,
        "refused": result.refused,
        "broken": result.broken,
        "stored": {None: "-", 0: "all"}.get(result.missing, f"NO: {result.missing} missing"),
        **{f"x {column}": result.medians[column] / first.medians[column] for column in (COST, REQUESTS)},
    }
