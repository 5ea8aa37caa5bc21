"""`trackcore prune` and `trackcore check`: the log kept short, and looked at for damage."""

from __future__ import annotations

import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs
import click
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from trackcore_sqlite import CONSISTENT, check_log, prune

from trackcore_server.cli._options import FINDINGS, location_options
from trackcore_server.config.deployment import find_deployment
from trackcore_server.config.units import parse_age
from trackcore_server.storage.backends import backend_of
from trackcore_server.storage.log_changes import delivered_up_to
from trackcore_server.storage.recovery import describe, rebuild

_PRUNE_EXAMPLES = """\b
Examples:
  trackcore prune --older-than 30d
  trackcore prune --older-than 12h --data /var/lib/trackcore
"""


def _read_age(_: click.Context, parameter: click.Parameter, text: str) -> timedelta:
    try:
        return parse_age(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param=parameter) from error


@click.command("prune", epilog=_PRUNE_EXAMPLES, short_help="Delete what is older than an age.")
@location_options
@click.option(
    "--older-than",
    "age",
    required=True,
    callback=_read_age,
    metavar="AGE",
    help="Such as 30d, 36h, 90m: by receivedAt.",
)
def prune_log(*, config: Path | None, data: Path | None, age: timedelta) -> None:
    """Delete messages, duplicates, rejected messages and quarantined requests received longer ago than AGE.

    It works in small steps, so that a server can write the log meanwhile. The file does not become smaller: its space
    is used again. Messages that a destination has not got yet are kept. A message that was deleted and is sent once
    more is stored again. To have this done all the time, set `keep` in the table [log] of the configuration.
    """
    configuration = find_deployment(config=config, data=data).configuration
    backend = backend_of(configuration)
    path = backend.browser().path
    backend.require_log()  # pruning must not make one
    up_to = delivered_up_to(configuration, backend.feed())
    deleted: Counter[str] = Counter()
    with _progress() as progress:
        task = progress.add_task("Deleting")
        for step in prune(path, datetime.now(UTC) - age, up_to=up_to):
            deleted[step.part] += step.deleted
            progress.update(task, description=f"Deleting: {deleted.total():,} so far")
    click.echo(
        f"Deleted {deleted['messages']:,} messages, {deleted['rejected']:,} rejected,"
        f" {deleted['quarantine']:,} quarantined, {deleted['duplicates']:,} duplicates.",
        err=True,
    )


@click.command("check", short_help="Look for damage in the log.")
@location_options
@click.option("--mend", "mends", is_flag=True, help="Make the ids anew where they do not fit the messages.")
def check(*, config: Path | None, data: Path | None, mends: bool) -> None:
    """Read the whole log and look for damage; a server may be running meanwhile.

    It also looks whether the ids by which messages are known again fit the messages. Where they do not (someone deleted
    messages with another program, say), --mend makes them anew; nothing else is changed. A server waits meanwhile, some
    seconds for each million messages.

    Exit code: 0 when it is sound, 1 when it is damaged or its ids do not fit, 2 when there is none or it cannot be
    read.
    """
    backend = backend_of(find_deployment(config=config, data=data).configuration)
    path = backend.browser().path
    backend.require_log()
    with _progress() as progress:
        task = progress.add_task("Reading")
        condition = check_log(path, on_progress=lambda: progress.advance(task))
    for line in describe(condition):
        click.echo(line, err=True)
    misfit = condition.inconsistency
    if misfit.can_be_rebuilt and mends:
        rebuild(path)
        misfit = attrs.evolve(CONSISTENT, doubled=misfit.doubled)
    elif misfit.can_be_rebuilt:
        click.echo("`trackcore check --mend` makes the ids anew", err=True)
    verdict = "damaged" if condition.faults else "its ids do not fit" if misfit else "sound"
    click.echo(f"{path}: {verdict}, {condition.size:,} bytes", err=True)
    sys.exit(0 if verdict == "sound" else FINDINGS)


def _progress() -> Progress:
    """Give a sign of life on a terminal; how long it takes cannot be known."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
