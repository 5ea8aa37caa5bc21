"""Connections that are kept open, for who reads a log again and again.

Opening costs several calls into SQLite; each gives up the interpreter's lock, and beside many busy threads it takes
long to get it back.  A connection that is kept holds no snapshot while nobody uses it.  Before each use the file is
looked at: a log that is gone, or another in its place, is noticed.  A fork closes what is kept.

The file is not mapped into memory: a page that is not in memory yet would be read with many around it, which takes ten
times as long, and reading here and there is what looking into a large log is.
"""

from __future__ import annotations

import os
import sqlite3
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import NamedTuple, TypeAlias

from trackcore_sqlitefile import SharedConnection

from trackcore_sqlite.tables import UnusableLog, open_for_reading

_numbers = count()

_Identity: TypeAlias = tuple[int, int] | None


class PooledConnection(NamedTuple):
    """A connection, its number in this process, and the file that it was opened for."""

    shared: SharedConnection
    number: int
    identity: _Identity


class LentConnection(NamedTuple):
    """A connection to read by, and its number: a connection that is opened anew has another one."""

    connection: sqlite3.Connection
    number: int


class ReaderPool:
    """Lends connections that read the log at `path`, each to one thread at a time.

    Args:
        path: the log.
        most_kept: how many are kept open while nobody uses them; none, so that no file outlives its use.
    """

    def __init__(self, path: Path, *, most_kept: int = 0) -> None:
        self._path = path
        self._most_kept = most_kept
        self._idle: deque[PooledConnection] = deque()

    @contextmanager
    def connection(self) -> Iterator[LentConnection]:
        """Lend a connection.  Raises `UnusableLog`."""
        kept = self._take()
        try:
            with kept.shared.use() as connection:
                yield LentConnection(connection, kept.number)
        except sqlite3.DatabaseError as error:
            kept.shared.close()
            raise UnusableLog(path=self._path, detail=f"it cannot be read ({error})") from error
        except BaseException:
            kept.shared.close()
            raise
        if len(self._idle) < self._most_kept:
            self._idle.append(kept)
        else:
            kept.shared.close()

    def close(self) -> None:
        """Close what nobody uses.  A later call opens anew."""
        while self._idle:
            self._idle.pop().shared.close()

    def _take(self) -> PooledConnection:
        identity = _identity(self._path) if self._most_kept else None
        while self._idle:
            try:
                kept = self._idle.pop()
            except IndexError:  # another thread was faster
                break
            if kept.identity == identity and kept.shared.is_open:
                return kept
            kept.shared.close()
        return PooledConnection(SharedConnection(partial(open_for_reading, self._path)), next(_numbers), identity)


def _identity(path: Path) -> _Identity:
    """Return what tells a file from another of its name."""
    try:
        found = os.stat(path)  # noqa: PTH116 - asked before each query, and a Path makes it twice as long
    except OSError:
        return None
    return found.st_dev, found.st_ino
