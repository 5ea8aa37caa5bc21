"""The signals that stop a process, handled so that they cannot hang it.

Python runs a signal handler in the main thread between any two instructions, so also while that thread holds a lock.  A
handler that acquires a lock, such as that of a `threading.Event` or of a thread pool, can deadlock with its own thread.
So a handler here only notes the signal; the work is done outside of it.
"""

from __future__ import annotations

import queue
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import click

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
"""The signals that stop a process."""

GROUP_SIGNALS = (signal.SIGINT, signal.SIGHUP)
"""The signals that a terminal sends to all processes of a server at once.  The first process controls the others."""


class StopFlag:
    """A flag that can be set in a signal handler, even in one that interrupts `set` or `wait`."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[None] = queue.SimpleQueue()  # `put` is reentrant, unlike `Event.set`

    def set(self) -> None:
        """Set the flag permanently."""
        self._queue.put(None)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until the flag is set, at most `seconds`, and return whether it is.  It stays set."""
        try:
            self._queue.get(timeout=seconds)
        except queue.Empty:
            return False
        self._queue.put(None)
        return True


@contextmanager
def held_back(*signals: signal.Signals) -> Iterator[None]:
    """Block signals in the `with` block.

    A process that is started in the block has them blocked from its first instruction on, until it unblocks them.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_stops() -> None:
    """Ignore further signals while a process exits.

    Python removes its handlers before it clears its modules.  Another signal would kill it there, with the exit code
    of a failure.
    """
    for number in (*STOP_SIGNALS, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def die_of_interrupt(context: click.Context) -> None:
    """Let Ctrl-C kill the command, as SIGTERM does, until it installs handlers.

    Python would raise an exception at an arbitrary instruction of the command.
    """

    def restore() -> None:
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
            signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    context.call_on_close(restore)
