"""Forks: a child uses nothing that its parent has open, and no lock of its parent.

Theory.  SQLite keeps the locks that a process holds on a file in the memory of the process, and the system does not let
a child inherit them.  So with a connection of its parent in its memory a child believes that it holds locks that it
does not hold, for that connection and for every other one to the same file: another process then removes the
write-ahead log, and with it the messages that the child has stored (https://www.sqlite.org/howtocorrupt.html, section
2.6).  Keeping such a connection unused does not help; it must not be there.

Hence every connection is closed before a fork (`os.register_at_fork`), once the transaction that is under way has
ended, and no other begins until the fork is over.  Parent and child open their own when they next need one.

A thread that uses one connection may need another before it is done, or close one: it reads within a snapshot, or the
garbage collector finds a reader during a commit.  It must not wait for the fork that waits for it.  So every thread
notes that it is inside before it acquires any lock of a connection; the forking thread first waits until no other
thread is inside, and acquires those locks only then.  Meanwhile only threads that are inside already may enter further
blocks.

A connection cannot be closed in two cases: a thread holds one for longer than `PATIENCE_SECONDS` (or forks while it
holds it, as a signal handler may), or Python did not make the fork, so that no handler ran.  The child finds the open
connection, keeps it from ever being closed, and refuses to open files.  It loses nothing, because it acknowledges
nothing.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol
from weakref import WeakKeyDictionary, WeakSet

PATIENCE_SECONDS = 30.0
"""How long a fork waits for the transactions under way."""

_POLL_SECONDS = 0.001


class Renewable(Protocol):
    """An object with locks, or other things, that a child must not use."""

    def renew_after_fork(self) -> None:
        """Make new locks, and forget everything that only the parent may use.  No other thread runs meanwhile."""


class Closable(Renewable, Protocol):
    """An object that has a connection open."""

    def pause(self, seconds: float) -> bool:
        """Wait until no thread uses the connection, close it, and keep it closed; False if that took too long."""

    def resume(self) -> None:
        """Allow opening it again."""


class _Process:
    """The state of this process with regard to forks."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        """Held by a thread that forks, until it has."""
        self.forking: int | None = None
        self.inside: dict[int, int] = {}
        """How deep each thread is in blocks that forks wait for."""
        self.registering = threading.RLock()
        self.pid = os.getpid()
        self.closables: WeakSet[Closable] = WeakSet()
        self.renewables: WeakKeyDictionary[Renewable, None] = WeakKeyDictionary()
        self.paused: dict[int, list[Closable | None]] = {}
        """The objects that each forking thread has paused; None represents the lock."""
        self.renewing: dict[int, threading.Lock] = {}


_process = _Process()


@contextmanager
def delay_forks() -> Iterator[None]:
    """Keep forks waiting during a block, and wait for one that is under way unless this thread is in such a block.

    Nothing locks this, and no lock may be added: a finalizer may call it at any point.  Both sides first note
    their intention, and then read the other's note, so at least one of the two sees the other.
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
    """Close a connection before each fork, and renew it in each child, for as long as the object lives."""
    with _process.registering:
        _process.closables.add(closable)
    renew_in_forks(closable)


def renew_in_forks(renewable: Renewable) -> None:
    """Call `renew_after_fork` in each child, for as long as the object lives; in the order of these calls."""
    with _process.registering:
        _process.renewables[renewable] = None


def notice_fork() -> None:
    """Renew everything if this process is a child of a fork that Python did not make."""
    if _process.pid != os.getpid():
        # A lock of this process alone: one of the parent may have been copied in a held state.
        with _process.renewing.setdefault(os.getpid(), threading.Lock()):
            if _process.pid != os.getpid():
                _after_in_child()


def make_immortal(inherited: object) -> None:
    """Keep Python from ever destroying an object of a parent: not even the end of the interpreter may."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(inherited))


def _before() -> None:
    thread = threading.get_ident()
    deadline = time.monotonic() + PATIENCE_SECONDS
    paused = _process.paused[thread] = []
    if _process.lock.acquire(timeout=PATIENCE_SECONDS):
        paused.append(None)
        _process.forking = thread
        while any(other != thread for other in list(_process.inside)) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
    with _process.registering:
        closables = _process.closables.copy()
    paused.extend(closable for closable in closables if closable.pause(max(0.0, deadline - time.monotonic())))


def _after_in_parent() -> None:
    for closable in reversed(_process.paused.pop(threading.get_ident(), [])):
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
    _process.paused.clear()
    for renewable in list(_process.renewables):
        renewable.renew_after_fork()
    _process.pid = os.getpid()  # the last step: it signals to other threads that all is done


os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
