"""Examining the file before it is used: is it a log, was it closed cleanly, is it damaged.

After a crash SQLite recovers the file up to its last commit, from the write-ahead log next to it.  Damage that it
cannot repair (a disk that lied, a page that something else overwrote) is found by SQLite's check, which reads the whole
file.  SQLite does not know whether the ids fit the messages, so that is checked here.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path

import attrs
from trackcore_sqlitefile import used_once

from trackcore_sqlite.failures import unavailable
from trackcore_sqlite.id_check import CONSISTENT, Inconsistency, compare_ids
from trackcore_sqlite.tables import APPLICATION_ID, MIGRATIONS, UnusableLog, is_damage, open_for_checking

_OPERATIONS_BETWEEN_CALLS = 100_000
_MAX_FAULTS = 10
_BESIDE = ("-wal", "-shm")


@attrs.frozen(kw_only=True)
class Condition:
    """The condition of a log.  Sizes are in bytes; `faults` are the first ten messages of SQLite's check.

    `unfinished` is the size of the write-ahead log: another process uses the file, or the last one was killed.
    `is_checked` is true if the whole file was read, `is_older` if it was written by an older trackcore: it is migrated
    when it is next opened for writing.
    """

    size: int
    unfinished: int
    is_checked: bool
    is_older: bool = False
    faults: tuple[str, ...] = ()
    inconsistency: Inconsistency = CONSISTENT


def check_log(
    path: Path | str, *, most_bytes: int | None = None, on_progress: Callable[[], None] | None = None
) -> Condition:
    """Check a log; a file larger than `most_bytes` is not read completely.

    `on_progress` is called repeatedly while it is read.  Raises `UnusableLog` if there is not a log, or the file is of
    another program, and `SinkUnavailable` if it cannot be read now.
    """
    path = Path(path)
    size, unfinished = _size_of(path, ""), _size_of(path, "-wal")
    is_ours = _is_ours(path)
    is_checked = most_bytes is None or size + unfinished <= most_bytes
    condition = Condition(size=size, unfinished=unfinished, is_checked=is_checked)
    try:
        return _examined(condition, path, on_progress)
    except UnusableLog as error:
        if not (is_ours and error.is_damaged):
            raise
        return attrs.evolve(condition, faults=(error.detail,))
    except sqlite3.DatabaseError as error:
        if not (is_ours and is_damage(error)):
            raise unavailable(error) from error
        return attrs.evolve(condition, faults=(str(error),))


def set_aside(path: Path | str, now: datetime) -> Path:
    """Move a damaged log and the files of its write-ahead log aside; return its new path, which no file had before."""
    path = Path(path)
    aside = stem = path.with_name(f"{path.name}.damaged-{now:%Y%m%dT%H%M%S}")
    number = 1
    while any(aside.with_name(aside.name + suffix).exists() for suffix in ("", *_BESIDE)):
        number += 1
        aside = stem.with_name(f"{stem.name}-{number}")
    for suffix in ("", *_BESIDE):
        file = path.with_name(path.name + suffix)
        if file.exists():
            file.rename(aside.with_name(aside.name + suffix))
    return aside


def _size_of(path: Path, suffix: str) -> int:
    file = path.with_name(path.name + suffix)
    return file.stat().st_size if file.exists() else 0


def _is_ours(path: Path) -> bool:
    """Return whether the file starts like a log.  The file must not be open in this process."""
    if not path.exists():
        return False
    with path.open("rb") as file:
        head = file.read(72)  # the last field is the application id
    return head.startswith(b"SQLite format 3\0") and head[68:] == APPLICATION_ID.to_bytes(4)


def _examined(condition: Condition, path: Path, on_progress: Callable[[], None] | None) -> Condition:
    with used_once(partial(open_for_checking, path)) as connection:
        if on_progress is not None:
            connection.set_progress_handler(on_progress, _OPERATIONS_BETWEEN_CALLS)
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        condition = attrs.evolve(condition, is_older=0 < version < len(MIGRATIONS))
        if not condition.is_checked:
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            return condition
        rows = connection.execute(f"PRAGMA integrity_check({_MAX_FAULTS})").fetchall()
        faults = tuple(row[0] for row in rows if row[0] != "ok")
        inconsistency = CONSISTENT if faults or version != len(MIGRATIONS) else compare_ids(connection)
        return attrs.evolve(condition, faults=faults, inconsistency=inconsistency)
