"""The signals that stop a process, handled so that they cannot hang it.

Python runs a signal handler in the main thread between any two of its instructions, so also while that thread holds a
lock.  A handler that takes a lock, such as that of a `threading.Event` or of a thread pool, can wait for its own thread
for ever.  So a handler here only notes the signal; what there is to do is done outside of it.
"""

from __future__ import annotations

import queue
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import click

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
"""What tells a process to stop."""

GROUP_SIGNALS = (signal.SIGINT, signal.SIGHUP)
"""What a terminal sends to all processes of a server at once.  Its first process tells the others what to do."""


class StopFlag:
    """A flag that can be set in a signal handler, also in one that interrupts `set` or `wait`."""

    def __init__(self) -> None:
        self._told: queue.SimpleQueue[None] = queue.SimpleQueue()  # `put` is reentrant, unlike `Event.set`

    def set(self) -> None:
        """Set it, for good."""
        self._told.put(None)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until it is set, for so long at most, and tell whether it is.  It stays set."""
        try:
            self._told.get(timeout=seconds)
        except queue.Empty:
            return False
        self._told.put(None)
        return True


@contextmanager
def held_back(*signals: signal.Signals) -> Iterator[None]:
    """Hold signals back in the block.

    A process that is started in the block holds them back from its first instruction on, until it lets them in.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_stops() -> None:
    """Ignore further signals, at the end of a process that stops.

    Python takes its handlers away before it clears its modules up.  One more signal would kill it there, and its exit
    code would be that of a failure.
    """
    for number in (*STOP_SIGNALS, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def die_of_interrupt(context: click.Context) -> None:
    """Let Ctrl-C kill the command, as SIGTERM does, until it has handlers of its own.

    Python would raise an exception wherever the command is at that moment.
    """

    def restore() -> None:
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
            signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    context.call_on_close(restore)
