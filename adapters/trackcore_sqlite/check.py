"""Looking at the file before it is used: is it ours, was it left cleanly, is it damaged.

After a crash SQLite brings the file to its last commit by itself, from the write-ahead log beside it.  What it cannot
mend (a disk that lied, a page overwritten by something else) is found by its own check, which reads the whole file.
What SQLite does not know of, whether the ids fit the messages, is looked at as well.
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

_HEADER_BYTES = 72
_MAGIC = b"SQLite format 3\0"
_APPLICATION_ID_AT = 68
_OPERATIONS_BETWEEN_CALLS = 100_000
_MAX_FAULTS = 10
_BESIDE = ("-wal", "-shm")


@attrs.frozen(kw_only=True)
class Condition:
    """What was found.  Sizes are in bytes; `faults` are SQLite's own words, the first ten of them.

    `unfinished` is what lay in the write-ahead log: another process uses the file, or the last one was killed.
    `is_checked` says that the whole file was read, and `is_older` that it is of an older trackcore: it is brought up to
    date when it is next opened for writing.
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
    """Look at a log.

    Args:
        path: the log.
        most_bytes: a larger file is not read as a whole.
        on_progress: called again and again while it is read.

    Raises:
        UnusableLog: there is no log there, or the file is not ours.
        SinkUnavailable: it cannot be read now.
    """
    path = Path(path)
    size = path.stat().st_size if path.exists() else 0
    unfinished = _size_of(path, "-wal")
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
    """Move a damaged log, with the files beside it, out of the way; return its new path, which no file had before."""
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
    """Tell whether the head of the file says so.  To be asked while this process does not have the file open."""
    if not path.exists():
        return False
    with path.open("rb") as file:
        head = file.read(_HEADER_BYTES)
    return head.startswith(_MAGIC) and head[_APPLICATION_ID_AT:] == APPLICATION_ID.to_bytes(4)


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
        is_comparable = version == len(MIGRATIONS) and not faults
        return attrs.evolve(
            condition, faults=faults, inconsistency=compare_ids(connection) if is_comparable else CONSISTENT
        )
