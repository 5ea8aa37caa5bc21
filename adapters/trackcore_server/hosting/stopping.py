"""Stopping a worker of gunicorn reliably.

gunicorn stops a worker inside its signal handler, with locks that the interrupted thread may hold; then it hangs until
it is killed.  Here a handler only sets a flag, and the loop of the worker stops it.
"""

from __future__ import annotations

import os
import signal
from typing import Any

from gunicorn.workers.base import Worker

from trackcore_server.process.signals import GROUP_SIGNALS, STOP_SIGNALS, ignore_stops


class StoppableWorker(Worker):  # type: ignore[misc]  # gunicorn has no types
    """A worker whose signal handlers only note the signal: `alive` and `quits` are for its loop."""

    quits = False

    def init_signals(self) -> None:
        """Install the handlers, then unblock the signals that were blocked since the process started."""
        super().init_signals()
        for number in GROUP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {*STOP_SIGNALS, *GROUP_SIGNALS})

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Note SIGTERM.  A worker that does not serve yet exits at once."""
        if not self.booted:
            os._exit(0)
        super().handle_exit(sig, frame)

    def handle_quit(self, sig: int, frame: Any) -> None:
        """Note SIGQUIT: like SIGTERM, but idle connections are closed at once."""
        self.quits = True
        self.handle_exit(sig, frame)

    def run(self) -> None:
        """Serve until a signal stops the worker and the requests in progress are answered."""
        super().run()
        ignore_stops()
