"""Recovery of the log before `trackcore serve` listens, with what was found in the log of the server.

After a crash SQLite recovers the log up to its last commit.  A damaged log is moved aside and a new one is started, so
that messages are collected again at once; nothing in the old one is changed or lost.  If the ids do not fit the
messages, they are rebuilt from them.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path

from trackcore_sqlite import Condition, Inconsistency, check_log, rebuild_ids, set_aside

from trackcore import SinkUnavailable

MOST_CHECKED_BYTES = 1 << 30
"""A larger log is not read completely at the start, which would take too long; `trackcore check` reads it."""

log = logging.getLogger("trackcore.server")

_MIGRATION_SECONDS = 10
"""The longest time of a migration for each gigabyte, on a slow machine."""


def examine_log(path: Path) -> None:
    """Check the log, report what was found, and move it aside if it is damaged.  Raises `UnusableLog`."""
    if not path.exists():
        return
    try:
        condition = check_log(path, most_bytes=MOST_CHECKED_BYTES)
    except SinkUnavailable:
        return  # it cannot be read now; the next attempt to write it raises the reason
    for line in describe(condition):
        log.warning("%s: %s", path, line)
    if condition.faults:
        aside = set_aside(path, datetime.now(UTC))
        log.warning(
            "It was moved to %s, and a new log was started. To recover data from the old one: sqlite3 '%s' .recover",
            aside,
            aside,
        )
    elif condition.inconsistency.can_be_rebuilt:
        try:
            rebuild_ids(path)
        except SinkUnavailable as error:
            log.warning("%s: its ids cannot be rebuilt now: %s", path, error)
        else:
            log.warning("%s: its ids were rebuilt from its messages", path)


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
