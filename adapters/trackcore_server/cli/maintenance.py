"""`trackcore prune` and `trackcore check`: delete old messages from the log, and check it for damage."""

from __future__ import annotations

import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs
import click
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from trackcore_sqlite import CONSISTENT, check_log, prune, rebuild_ids

from trackcore_server.cli._options import FINDINGS, location_options, parsed_by
from trackcore_server.cli._output import counted
from trackcore_server.config.deployment import find_deployment
from trackcore_server.config.units import parse_age
from trackcore_server.storage.backends import backend_of
from trackcore_server.storage.log_changes import delivered_up_to
from trackcore_server.storage.recovery import describe

_PRUNE_EXAMPLES = """\b
Examples:
  trackcore prune --older-than 30d
  trackcore prune --older-than 12h --data /var/lib/trackcore
"""

_CHECK_EXAMPLES = """\b
Examples:
  trackcore check
  trackcore check --mend --data /var/lib/trackcore
"""


@click.command("prune", epilog=_PRUNE_EXAMPLES)
@location_options
@click.option(
    "--older-than",
    "age",
    required=True,
    callback=parsed_by(parse_age),
    metavar="AGE",
    help="Minimum age by receivedAt, such as 30d, 36h, 90m.",
)
def prune_log(*, config: Path | None, data: Path | None, age: timedelta) -> None:
    """Delete messages, duplicates, rejected messages and quarantined requests received longer ago than AGE.

    It works in small steps, so that a server can write the log meanwhile. The file does not shrink: its space is
    reused. Messages that are not yet delivered to every destination are kept. A deleted message that is sent again is
    stored again. To prune continuously, set `keep` in the table [log] of the configuration.
    """
    configuration = find_deployment(config=config, data=data).configuration
    backend = backend_of(configuration)
    path = backend.browser().path
    backend.require_log()  # pruning must not create it
    up_to = delivered_up_to(configuration, backend.feed())
    deleted: Counter[str] = Counter()
    with _progress() as progress:
        task = progress.add_task("Deleting")
        for step in prune(path, datetime.now(UTC) - age, up_to=up_to):
            deleted[step.part] += step.deleted
            progress.update(task, description=f"Deleting: {deleted.total():,} so far")
    click.echo(
        f"Deleted {counted(deleted['messages'], 'message')}, {deleted['rejected']:,} rejected,"
        f" {deleted['quarantine']:,} quarantined, {counted(deleted['duplicates'], 'duplicate')}.",
        err=True,
    )


@click.command("check", epilog=_CHECK_EXAMPLES)
@location_options
@click.option("--mend", "repairs", is_flag=True, help="Rebuild the id index if it does not match the messages.")
def check(*, config: Path | None, data: Path | None, repairs: bool) -> None:
    """Read the whole log and look for damage; a server may run meanwhile.

    Also checks that the de-duplication index matches the messages. If it does not (for example after messages were
    deleted with another program), --mend rebuilds the index and changes nothing else. A server waits meanwhile, some
    seconds for each million messages.

    Exit code: 0 if the log is sound, 1 if it is damaged or its index does not match, 2 if it is missing or unreadable.
    """
    backend = backend_of(find_deployment(config=config, data=data).configuration)
    path = backend.browser().path
    backend.require_log()
    with _progress() as progress:
        task = progress.add_task("Reading")
        condition = check_log(path, on_progress=lambda: progress.advance(task))
    for line in describe(condition):
        click.echo(line, err=True)
    inconsistency = condition.inconsistency
    if inconsistency.can_be_rebuilt and repairs:
        rebuild_ids(path)
        click.echo(f"{path}: its ids were rebuilt from its messages", err=True)
        inconsistency = attrs.evolve(CONSISTENT, doubled=inconsistency.doubled)
    elif inconsistency.can_be_rebuilt:
        click.echo("`trackcore check --mend` rebuilds the id index", err=True)
    result = "damaged" if condition.faults else "the id index does not match" if inconsistency else "sound"
    click.echo(f"{path}: {result}, {condition.size:,} bytes", err=True)
    sys.exit(0 if result == "sound" else FINDINGS)


def _progress() -> Progress:
    """Make a progress display for work whose length is unknown; it is shown only on a terminal."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
