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

from trackcore_server.config.configuration import Configuration
from trackcore_server.delivery.service import GRACEFUL_SECONDS
from trackcore_server.process.signals import GROUP_SIGNALS, STOP_SIGNALS, held_back, ignore_stops

_COMMAND = (sys.executable, "-P", "-m", "trackcore_server.delivery.child")
_LOOK_SECONDS = 0.02
_MORE_SECONDS = 2.0
"""How much longer than it gives its batches it may take to end."""

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
        self._kill_at: float | None = None

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
        if self._kill_at is None:
            self._kill_at = time.monotonic() + GRACEFUL_SECONDS + _MORE_SECONDS
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def has_ended(self) -> bool:
        """Return whether it has ended; end it by force if that takes too long.  It was asked to stop before."""
        assert self._kill_at is not None
        if self._process is None:
            return True
        if self._process.poll() is None:
            if time.monotonic() < self._kill_at:
                return False
            self._process.kill()
            self._process.wait()
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()
        return True

    def wait(self) -> None:
        """Wait for its end, which comes in time."""
        while not self.has_ended():
            time.sleep(_LOOK_SECONDS)

    def let_go(self) -> None:
        """Let go of it in a child of the server: the end of the server ends it, and not that of the child."""
        if self._process is not None:
            assert self._process.stdin is not None
            with suppress(BrokenPipeError):
                self._process.stdin.close()
            self._process.returncode = 0  # a child cannot wait for it, and is not to complain of that

    def _start(self, now: float) -> None:
        self._started_at = now
        with held_back(*GROUP_SIGNALS):  # for good in the child: it is told by SIGTERM
            self._process = subprocess.Popen(_COMMAND, stdin=subprocess.PIPE)  # noqa: S603 - our own module
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it ended at once: that is seen by the next look
            self._process.stdin.write(pickle.dumps(self._configuration))
            self._process.stdin.flush()


class DeliveringArbiter(Arbiter):  # type: ignore[misc]  # gunicorn has no types
    """An arbiter that looks after delivery too, where its application asks for it by `make_delivery_process`."""

    _delivery: DeliveryProcess | None = None
    _ending: DeliveryProcess | None = None
    """The process before, which has been asked to stop."""

    _is_reloading = False
    _is_told_to_stop = False

    def signal(self, sig: int, frame: Any) -> None:
        """Note a signal; the loop handles it."""
        if sig in STOP_SIGNALS:
            self._is_told_to_stop = True
        super().signal(sig, frame)

    def spawn_worker(self) -> Any:
        """Start a worker.

        It is born with the handlers of the arbiter, which put a signal into a queue that nobody reads in a worker.  So
        it holds signals back until it has handlers of its own.
        """
        with held_back(*STOP_SIGNALS, *GROUP_SIGNALS):
            return super().spawn_worker()

    def let_go(self) -> None:
        """Let go, in a new worker, of the processes that deliver."""
        for process in self._delivering():
            process.let_go()

    def manage_workers(self) -> None:
        """Look after the workers, and after delivery."""
        super().manage_workers()
        if self._ending is not None:
            if not self._ending.has_ended():
                return
            self._ending = None
        if self._delivery is None:
            self._delivery = self.app.make_delivery_process()
        if self._delivery is not None:
            self._delivery.keep_alive()

    def reload(self) -> None:
        """Start workers and delivery anew.  Delivery begins when the one before has ended, which nothing waits for."""
        if self._delivery is not None:
            self._delivery.ask_to_stop()
            self._ending, self._delivery = self._delivery, None
        self._is_reloading = True
        try:
            super().reload()
        finally:
            self._is_reloading = False

    def reap_workers(self) -> None:
        """Reap workers; in the midst of a reload, which waits for them, a signal to stop ends that wait."""
        super().reap_workers()
        if self._is_reloading and self._is_told_to_stop:
            raise StopIteration  # as gunicorn's handler of SIGTERM does

    def stop(self, graceful: Any = True) -> None:  # noqa: FBT002 - as gunicorn has it
        """Stop the workers and, at the same time, delivery."""
        processes = self._delivering()
        self._ending = self._delivery = None
        for process in processes:
            process.ask_to_stop()
        super().stop(graceful)
        for process in processes:
            process.wait()
        ignore_stops()

    def _delivering(self) -> list[DeliveryProcess]:
        return [process for process in (self._ending, self._delivery) if process is not None]
