"""What `trackcore serve` does with the log before it listens: look at it, and say what was found.

After a crash SQLite brings the log to its last commit by itself.  A log that is damaged is moved aside and a new one is
begun, so that messages are collected again at once; nothing of the old one is changed or lost.  Ids that do not fit
the messages are made anew from them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click
from trackcore_sqlite import Condition, Inconsistency, check_log, rebuild_ids, set_aside

from trackcore import SinkUnavailable

MOST_CHECKED_BYTES = 1 << 30
"""A larger log is not read as a whole at the start, which would take more than seconds; `trackcore check` does."""

_MIGRATION_SECONDS = 10
"""What bringing a log up to date takes at the most, on a slow machine, for each gigabyte."""


def examine_log(path: Path) -> None:
    """Look at the log, tell on standard error what was found, and move it aside when it is damaged.

    Raises:
        UnusableLog: the file is no log of ours, or from a newer trackcore.
    """
    if not path.exists():
        return
    try:
        condition = check_log(path, most_bytes=MOST_CHECKED_BYTES)
    except SinkUnavailable:
        return  # it cannot be read now; whoever writes it next will hear why
    for line in describe(condition):
        click.echo(f"{path}: {line}", err=True)
    if condition.faults:
        aside = set_aside(path, datetime.now(UTC))
        click.echo(
            f"It was moved to {aside}, and a new log is begun. What can be saved of the old one:\n"
            f"  sqlite3 '{aside}' .recover",
            err=True,
        )
    elif condition.inconsistency.can_be_rebuilt:
        try:
            mend(path)
        except SinkUnavailable as error:
            click.echo(f"{path}: its ids stay as they are for now: {error}", err=True)


def mend(path: Path) -> None:
    """Make the ids of a log anew, and say so.  Raises `SinkUnavailable` when it cannot be written now."""
    rebuild_ids(path)
    click.echo(f"{path}: its ids were made anew from its messages", err=True)


def describe(condition: Condition) -> list[str]:
    """Say in sentences what is remarkable about a log."""
    lines = []
    if condition.unfinished:
        lines.append(
            "it is in use, or was not closed when its last server ended; all that was committed is there"
            f" ({condition.unfinished:,} bytes of it from the write-ahead log)"
        )
    if condition.faults:
        lines.append(f"THE LOG IS DAMAGED: {'; '.join(condition.faults)}")
    elif condition.inconsistency:
        lines.append(f"its ids do not fit its messages: {'; '.join(_describe_inconsistency(condition.inconsistency))}")
    elif not condition.is_checked:
        lines.append(f"it has {condition.size:,} bytes, so it was not read as a whole; `trackcore check` does that")
    if condition.is_older:
        lines.append(
            "it is of an older trackcore, and is brought up to date when it is first written; that may take"
            f" {_MIGRATION_SECONDS} seconds for each gigabyte"
        )
    return lines


def _describe_inconsistency(inconsistency: Inconsistency) -> list[str]:
    lines = []
    if inconsistency.lacking:
        lines.append(f"{inconsistency.lacking:,} messages are not among them, and could be stored twice")
    if inconsistency.surplus:
        lines.append(f"{inconsistency.surplus:,} of them belong to no message")
    if inconsistency.miscounted:
        lines.append(f"not counted rightly: {', '.join(inconsistency.miscounted)}")
    if inconsistency.doubled:
        lines.append(f"{inconsistency.doubled:,} messages are there more than once")
    return lines
