"""A pool of reader connections.

Opening costs several calls into SQLite; each gives up the interpreter's lock, and among many busy threads it takes long
to get it back.  An idle connection holds no snapshot.  Before each use the pool checks the file, and discards the
connection if the log is gone or was replaced.  A fork closes idle connections.

The file is not mapped into memory: a page that is not in memory yet would be read together with many around it, which
takes ten times as long, and browsing a large log reads scattered pages.
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


class ReaderPool:
    """A pool of connections that read the log at `path`, each used by one thread at a time.

    `max_idle` of them stay open while no thread uses them; with 0 no open file outlives its use.
    """

    def __init__(self, path: Path, *, max_idle: int) -> None:
        self._path = path
        self._max_idle = max_idle
        self._idle: deque[PooledConnection] = deque()

    @contextmanager
    def connection(self) -> Iterator[tuple[sqlite3.Connection, int]]:
        """Open or reuse a connection; yield it with its number, which no other one has.  Raises `UnusableLog`."""
        pooled = self._acquire()
        try:
            with pooled.shared.use() as connection:
                yield connection, pooled.number
        except sqlite3.DatabaseError as error:
            pooled.shared.close()
            raise UnusableLog(path=self._path, detail=f"it cannot be read ({error})") from error
        except BaseException:
            pooled.shared.close()
            raise
        if len(self._idle) < self._max_idle:
            self._idle.append(pooled)
        else:
            pooled.shared.close()

    def close(self) -> None:
        """Close the idle connections.  A later call opens another one."""
        while self._idle:
            self._idle.pop().shared.close()

    def _acquire(self) -> PooledConnection:
        identity = _identity(self._path) if self._max_idle else None
        while self._idle:
            try:
                pooled = self._idle.pop()
            except IndexError:  # another thread was faster
                break
            if pooled.identity == identity and pooled.shared.is_open:
                return pooled
            pooled.shared.close()
        return PooledConnection(SharedConnection(partial(open_for_reading, self._path)), next(_numbers), identity)


def _identity(path: Path) -> _Identity:
    try:
        found = os.stat(path)  # noqa: PTH116 - called before each query, and a Path makes it twice as long
    except OSError:
        return None
    return found.st_dev, found.st_ino
