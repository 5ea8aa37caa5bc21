"""A connection that threads share and no fork inherits."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import ClassVar

from trackcore_forks import close_before_forks, delay_forks, make_immortal, notice_fork


class InheritedConnection(sqlite3.OperationalError):
    """This process was forked from one that had a connection open, so SQLite's locks do not work here."""

    def __init__(self) -> None:
        super().__init__(
            "this process was forked while its parent was using it; fork at another time, by Python's own means"
            " (os.fork, multiprocessing), or open the log only after the fork"
        )


class SharedConnection:
    """A connection that is opened when it is needed, used by one thread at a time, and closed before each fork.

    Users must leave no cursor open: SQLite closes a file only after the last statement on it.

    Args:
        open_: opens the file.
        before_fork: called with the connection before a fork closes it; it may look at the file, and must not wait.
    """

    _has_inherited: ClassVar[bool] = False
    """Whether a connection of a parent is open in this process."""

    def __init__(
        self,
        open_: Callable[[], sqlite3.Connection],
        *,
        before_fork: Callable[[sqlite3.Connection], object] = lambda _: None,
    ) -> None:
        self._open = open_
        self._before_fork = before_fork
        self._lock = threading.RLock()  # a finalizer may close while the thread waits to fork
        self._is_busy = False
        self._connection: sqlite3.Connection | None = None
        close_before_forks(self)

    @property
    def is_busy(self) -> bool:
        """Whether a thread is using it."""
        return self._is_busy

    @property
    def is_open(self) -> bool:
        """Whether the file is open; another thread, or a fork, may close it at once."""
        return self._connection is not None

    @contextmanager
    def use(self) -> Iterator[sqlite3.Connection]:
        """Use the connection exclusively for a block.  Raises the errors of opening, and `sqlite3.Error`."""
        notice_fork()
        with delay_forks(), self._lock:
            if self._is_busy:
                raise sqlite3.ProgrammingError("this thread is using the connection already")
            self._is_busy = True
            try:
                if self._connection is None:
                    if SharedConnection._has_inherited:
                        raise InheritedConnection
                    self._connection = self._open()
                yield self._connection
            finally:
                self._is_busy = False

    def close(self) -> None:
        """Close the file once no other thread uses it.  A later use opens it again."""
        notice_fork()
        with delay_forks(), self._lock:
            self._close()

    def pause(self, seconds: float) -> bool:
        """See `Closable.pause`."""
        lock = self._lock
        if not lock.acquire(timeout=seconds):
            return False
        if self._is_busy:  # this very thread forks while it uses the connection
            lock.release()
            return False
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._before_fork(self._connection)
        with suppress(sqlite3.Error):
            self._close()
        return True

    def resume(self) -> None:
        """See `Closable.resume`."""
        self._lock.release()

    def renew_after_fork(self) -> None:
        """See `Renewable.renew_after_fork`."""
        connection, self._connection = self._connection, None
        was_busy, self._is_busy = self._is_busy, False
        if connection is not None:
            make_immortal(connection)
            if was_busy and self._lock.acquire(blocking=False):
                # This thread continues inside its parent's transaction, and must not end it.
                connection.set_authorizer(_deny)
        self._lock = threading.RLock()
        if was_busy or connection is not None:
            SharedConnection._has_inherited = True

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


@contextmanager
def used_once(open_: Callable[[], sqlite3.Connection]) -> Iterator[sqlite3.Connection]:
    """Open a connection for a block.  Forks wait for the end of the block."""
    with closing(SharedConnection(open_)) as shared, shared.use() as connection:
        yield connection


def _deny(*_: object) -> int:
    return sqlite3.SQLITE_DENY
