"""A process that the server starts beside its workers, seen from inside.

It reads its order from standard input.  The end of that input, which comes with any end of the server, ends it too.
Ctrl-C does not, since a terminal sends it to all processes: the server stops this one.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any, Protocol

from trackcore_server.process.signals import ignore_stops
from trackcore_server.process.stderr_log import log_to_stderr

_NICENESS = 5
"""If the machine has not enough processor for all, receiving comes first: waiting messages are safe in the log."""


class Run(Protocol):
    """The work of a process."""

    def run(self) -> None:
        """Work until `stop` is called."""

    def stop(self) -> None:
        """Make `run` return; may be called from a signal handler or another thread."""


def run_until_signal(run: Run) -> None:
    """Run until SIGTERM or SIGINT, at the end of the process."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: run.stop())
    run.run()
    ignore_stops()


def run_child(make: Callable[..., Run]) -> None:
    """Make the work from the order, a tuple of arguments, and do it until the process is stopped."""
    log_to_stderr()
    os.nice(_NICENESS)
    try:
        order: tuple[Any, ...] = pickle.load(sys.stdin.buffer)  # noqa: S301 - from the process that started this one
    except EOFError:  # it ended before it wrote the order
        return
    run = make(*order)
    threading.Thread(target=_wait_for_end, args=(run.stop,), daemon=True).start()
    run_until_signal(run)


def _wait_for_end(stop: Callable[[], None]) -> None:
    while os.read(sys.stdin.fileno(), 1_000):
        pass
    stop()
