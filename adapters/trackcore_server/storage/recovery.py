"""Recovery of the log before `trackcore serve` listens, with a report of what was found.

After a crash SQLite recovers the log up to its last commit.  A damaged log is moved aside and a new one is started, so
that messages are collected again at once; nothing in the old one is changed or lost.  If the ids do not fit the
messages, they are rebuilt from them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click
from trackcore_sqlite import Condition, Inconsistency, check_log, rebuild_ids, set_aside

from trackcore import SinkUnavailable

MOST_CHECKED_BYTES = 1 << 30
"""A larger log is not read completely at the start, which would take too long; `trackcore check` reads it."""

_MIGRATION_SECONDS = 10
"""The longest time of a migration for each gigabyte, on a slow machine."""


def examine_log(path: Path) -> None:
    """Check the log, report on standard error, and move it aside if it is damaged.  Raises `UnusableLog`."""
    if not path.exists():
        return
    try:
        condition = check_log(path, most_bytes=MOST_CHECKED_BYTES)
    except SinkUnavailable:
        return  # it cannot be read now; the next attempt to write it raises the reason
    for line in describe(condition):
        click.echo(f"{path}: {line}", err=True)
    if condition.faults:
        aside = set_aside(path, datetime.now(UTC))
        click.echo(
            f"It was moved to {aside}, and a new log was started. To recover data from the old one:\n"
            f"  sqlite3 '{aside}' .recover",
            err=True,
        )
    elif condition.inconsistency.can_be_rebuilt:
        try:
            rebuild(path)
        except SinkUnavailable as error:
            click.echo(f"{path}: its ids cannot be rebuilt now: {error}", err=True)


def rebuild(path: Path) -> None:
    """Rebuild the ids of a log, and report it on standard error.  Raises `SinkUnavailable`."""
    rebuild_ids(path)
    click.echo(f"{path}: its ids were rebuilt from its messages", err=True)


def describe(condition: Condition) -> list[str]:
    """Return sentences on a log that is not as usual."""
    lines = []
    if condition.unfinished:
        lines.append(
            "it is in use, or was not closed when its last server ended; all that was committed is there"
            f" ({condition.unfinished:,} bytes of it from the write-ahead log)"
        )
    if condition.faults:
        lines.append(f"THE LOG IS DAMAGED: {'; '.join(condition.faults)}")
    elif condition.inconsistency:
        lines.append(f"its ids do not fit its messages: {'; '.join(_describe(condition.inconsistency))}")
    elif not condition.is_checked:
        lines.append(f"it has {condition.size:,} bytes, so it was not read completely; `trackcore check` does that")
    if condition.is_older:
        lines.append(
            "it is of an older trackcore, and is migrated when it is first written; that may take"
            f" {_MIGRATION_SECONDS} seconds for each gigabyte"
        )
    return lines


def _describe(inconsistency: Inconsistency) -> list[str]:
    lines = []
    if inconsistency.lacking:
        lines.append(f"{inconsistency.lacking:,} messages are not among them, and could be stored twice")
    if inconsistency.surplus:
        lines.append(f"{inconsistency.surplus:,} of them belong to no message")
    if inconsistency.miscounted:
        lines.append(f"wrong counters: {', '.join(inconsistency.miscounted)}")
    if inconsistency.doubled:
        lines.append(f"{inconsistency.doubled:,} messages are stored more than once")
    return lines
