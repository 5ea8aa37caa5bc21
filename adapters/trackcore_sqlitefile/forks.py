"""Forks: nothing that a parent has open, and no lock of it, is used in its child.

Theory.  SQLite keeps the locks that a process holds on a file in the memory of the process, and the system does not let
a child inherit them.  So with a connection of its parent in its memory a child believes itself to hold locks that it
does not hold, for that connection and for every other one to the same file: another process then takes the write-ahead
log away, and with it what the child has stored (https://www.sqlite.org/howtocorrupt.html, section 2.6).  To keep such a
connection unused does not help; it must not be there.

Hence every connection is closed before a fork (`os.register_at_fork`), once the transaction that is under way has
ended, and no other begins until the fork is over.  Parent and child open their own when they next need one.

A thread that uses one connection may need another before it is done, or close one: it reads within a snapshot, or a
reader is collected in the midst of a commit.  It must not wait for the fork that waits for it.  So every thread notes
that it is inside before it takes any lock of a connection; the forking thread first waits until no other is inside, and
takes those locks only then.  Meanwhile only threads that are inside already may go further in.

There are two cases in which a connection cannot be closed: a thread that holds one for longer than `PATIENCE_SECONDS`
(or forks while it holds it, as a signal handler may), and a fork that was not made by Python, so that nobody hears of
it.  The child finds what was left open, keeps it from ever being closed, and refuses to open files.  It loses nothing,
because it acknowledges nothing.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol
from weakref import WeakSet

PATIENCE_SECONDS = 30.0
"""How long a fork waits for the transactions under way."""

_LOOK_SECONDS = 0.001
"""How often a fork looks whether they have ended."""

INHERITED = (
    "this process was forked while its parent was using it; fork at another time, by Python's own means (os.fork,"
    " multiprocessing), or open the log only after the fork"
)


class InheritedConnection(sqlite3.OperationalError):
    """This process was forked from one that had a connection open, so SQLite's locks do not work here."""

    def __init__(self) -> None:
        super().__init__(INHERITED)


class Closable(Protocol):
    """Something that has a connection open."""

    def rest(self, seconds: float) -> bool:
        """Wait until nobody uses the connection, close it, and let nobody open it; False when that took too long."""

    def resume(self) -> None:
        """Let it be opened again."""

    def start_anew(self) -> bool:
        """Forget what a parent had; return whether a connection was left open."""


class Renewable(Protocol):
    """Something that has locks, or other things that a child must not use."""

    def start_anew(self) -> object:
        """Make new locks, and forget what only the parent may use.  No other thread runs meanwhile."""


class _Process:
    """What this process knows of forks."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        """Held by a thread that forks, until it has."""
        self.forking: int | None = None
        self.inside: dict[int, int] = {}
        """How deep each thread is in blocks that forks wait for."""
        self.registering = threading.RLock()
        self.pid = os.getpid()
        self.has_inherited = False
        self.closables: WeakSet[Closable] = WeakSet()
        self.renewables: WeakSet[Renewable] = WeakSet()
        self.resting: dict[int, list[Closable | None]] = {}
        """What each forking thread has brought to rest; None stands for the lock."""
        self.renewing: dict[int, threading.Lock] = {}


_process = _Process()


@contextmanager
def held_off() -> Iterator[None]:
    """Keep forks waiting during a block, and wait for one that is under way unless this thread is in such a block.

    There is no lock around this, and none may be added: a finalizer may come here from anywhere.  Both sides first note
    what they want, and then look at the other's note, so at least one of the two sees the other.
    """
    thread = threading.get_ident()
    while True:
        depth = _process.inside.get(thread, 0)
        _process.inside[thread] = depth + 1
        if depth or _process.forking in {None, thread}:
            break
        _leave(thread)
        with _process.lock:
            pass
    try:
        yield
    finally:
        _leave(thread)


def _leave(thread: int) -> None:
    depth = _process.inside.get(thread, 0)
    if depth > 1:
        _process.inside[thread] = depth - 1
    else:
        _process.inside.pop(thread, None)


def close_before_forks(closable: Closable) -> None:
    """Have a connection closed before each fork, for as long as the object lives."""
    with _process.registering:
        _process.closables.add(closable)


def renew_in_forks(renewable: Renewable) -> None:
    """Have `start_anew` called in each child, for as long as the object lives."""
    with _process.registering:
        _process.renewables.add(renewable)


def know_process() -> None:
    """Find out whether this process is a child of a fork that nobody has told of."""
    if _process.pid != os.getpid():
        # A lock of this process alone: one of the parent may have been copied in a held state.
        with _process.renewing.setdefault(os.getpid(), threading.Lock()):
            if _process.pid != os.getpid():
                _after_in_child()


def check_may_open() -> None:
    """Raise `InheritedConnection` where SQLite's locks do not work."""
    if _process.has_inherited:
        raise InheritedConnection


def _before() -> None:
    thread = threading.get_ident()
    deadline = time.monotonic() + PATIENCE_SECONDS
    resting = _process.resting[thread] = []
    if _process.lock.acquire(timeout=PATIENCE_SECONDS):
        resting.append(None)
        _process.forking = thread
        while any(other != thread for other in list(_process.inside)) and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
    with _process.registering:
        closables = _process.closables.copy()
    resting.extend(closable for closable in closables if closable.rest(max(0.0, deadline - time.monotonic())))


def _after_in_parent() -> None:
    for closable in reversed(_process.resting.pop(threading.get_ident(), [])):
        if closable is None:
            _process.forking = None
            _process.lock.release()
        else:
            closable.resume()


def _after_in_child() -> None:
    thread = threading.get_ident()
    _process.lock, _process.registering = threading.RLock(), threading.RLock()
    _process.forking = None
    _process.inside = {other: depth for other, depth in _process.inside.items() if other == thread}
    _process.resting.clear()
    for closable in _process.closables.copy():
        if closable.start_anew():
            _process.has_inherited = True
    for renewable in _process.renewables.copy():
        renewable.start_anew()
    _process.pid = os.getpid()  # the last, since it tells other threads that all is done


os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
