"""The process beside the workers of `trackcore serve` that delivers: gunicorn's arbiter starts, watches and stops it.

The arbiter reaps every child of its process and looks after its workers about once a second; delivery is looked after
at the same time.  There is no thread for it: a process that forks workers must not have any.
"""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import Any

import click
from gunicorn.arbiter import Arbiter

from trackcore_server.config import Configuration
from trackcore_server.delivering import GRACEFUL_SECONDS

_COMMAND = (sys.executable, "-P", "-m", "trackcore_server.delivering")
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 30.0
_STEADY_SECONDS = 60.0
"""How long it must have run for its next end to count as the first again."""


class DeliveryProcess:
    """Delivery for one configuration, started again whenever it ends by itself."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._pause = _FIRST_PAUSE_SECONDS

    def keep_alive(self) -> None:
        """Start it if it does not run, with a longer pause each time that it ends soon."""
        now = time.monotonic()
        if self._process is None:
            self._start(now)
        elif self._process.poll() is not None:
            if now - self._started_at >= _STEADY_SECONDS:
                self._pause = _FIRST_PAUSE_SECONDS
            if now - self._started_at >= self._pause:
                click.echo("Delivery has ended by itself; starting it again", err=True)
                self._pause = min(2 * self._pause, _LONGEST_PAUSE_SECONDS)
                self._start(now)

    def ask_to_stop(self) -> None:
        """Tell it to settle what is in flight and end."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def wait(self) -> None:
        """Wait for its end, and bring it about if it takes too long."""
        if self._process is None:
            return
        try:
            self._process.wait(GRACEFUL_SECONDS + 2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()

    def _start(self, now: float) -> None:
        self._started_at = now
        self._process = subprocess.Popen(_COMMAND, stdin=subprocess.PIPE)  # noqa: S603 - our own module
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it ended at once: that is seen by the next look
            self._process.stdin.write(pickle.dumps(self._configuration))
            self._process.stdin.flush()


class DeliveringArbiter(Arbiter):  # type: ignore[misc]  # gunicorn has no types
    """An arbiter that looks after delivery too, where its application asks for it by `make_delivery_process`."""

    _delivery: DeliveryProcess | None = None

    def manage_workers(self) -> None:
        """Look after the workers, and after delivery."""
        super().manage_workers()
        if self._delivery is None:
            self._delivery = self.app.make_delivery_process()
        if self._delivery is not None:
            self._delivery.keep_alive()

    def reload(self) -> None:
        """Start workers and delivery anew."""
        self._end_delivery()
        super().reload()

    def stop(self, graceful: Any = True) -> None:  # noqa: FBT002 - as gunicorn has it
        """Stop the workers and, at the same time, delivery."""
        if self._delivery is not None:
            self._delivery.ask_to_stop()
        super().stop(graceful)
        self._end_delivery()

    def _end_delivery(self) -> None:
        if self._delivery is not None:
            self._delivery.ask_to_stop()
            self._delivery.wait()
            self._delivery = None
