"""The processes beside the workers of `trackcore serve`: gunicorn's arbiter starts, watches and stops them.

The arbiter reaps every child of its process and checks its workers about once a second, and these at the same time.  It
uses no thread for that: a process that forks workers must not have any.
"""

from __future__ import annotations

import logging
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from gunicorn.arbiter import Arbiter

from trackcore_server.delivery.service import GRACEFUL_SECONDS
from trackcore_server.process.signals import GROUP_SIGNALS, STOP_SIGNALS, held_back, ignore_stops

log = logging.getLogger("trackcore.server")

_COMMAND: tuple[str, ...] = (sys.executable, "-P", "-m")
_POLL_SECONDS = 0.02
_EXTRA_SECONDS = 2.0
"""How much longer than the grace period of its batches the process may take to end."""

_FIRST_PAUSE_SECONDS = 1.0
_MAX_PAUSE_SECONDS = 30.0
_STEADY_SECONDS = 60.0
"""How long a process must run to reset the pause."""


class ChildProcess:
    """A process of one configuration, restarted whenever it ends by itself; see `trackcore_server.process.children`.

    Args:
        name: the name in the log.
        module: the module to run.
        order: what it gets on its standard input.
        descriptors: the open files that it inherits.
    """

    def __init__(self, name: str, module: str, order: tuple[Any, ...], descriptors: Sequence[int] = ()) -> None:
        self._name, self._module, self._order, self._descriptors = name, module, order, descriptors
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._pause = _FIRST_PAUSE_SECONDS
        self._kill_at: float | None = None

    def keep_alive(self) -> None:
        """Start the process if it does not run, after a pause that grows each time that it ends soon."""
        now = time.monotonic()
        if self._process is None:
            self._start(now)
        elif self._process.poll() is not None:
            if now - self._started_at >= _STEADY_SECONDS:
                self._pause = _FIRST_PAUSE_SECONDS
            if now - self._started_at >= self._pause:
                log.error("%s ended unexpectedly; restarting it", self._name)
                self._pause = min(2 * self._pause, _MAX_PAUSE_SECONDS)
                self._start(now)

    def ask_to_stop(self) -> None:
        """Ask the process to settle the batches in flight and end."""
        if self._kill_at is None:
            self._kill_at = time.monotonic() + GRACEFUL_SECONDS + _EXTRA_SECONDS
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def has_ended(self) -> bool:
        """Return whether the process has ended; kill it if that takes too long.  Call `ask_to_stop` before."""
        assert self._kill_at is not None
        if self._process is None:
            return True
        if self._process.poll() is None:
            if time.monotonic() < self._kill_at:
                return False
            self._process.kill()
            self._process.wait()
        self._close_input(self._process)
        return True

    def release(self) -> None:
        """Release the process in a forked worker: it must end with the server, not with the worker."""
        if self._process is not None:
            self._close_input(self._process)
            self._process.returncode = 0  # a worker cannot wait for it, and must not warn about that

    @staticmethod
    def _close_input(process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        with suppress(BrokenPipeError):
            process.stdin.close()

    def _start(self, now: float) -> None:
        self._started_at = now
        with held_back(*GROUP_SIGNALS):  # also later in the child, which is stopped by SIGTERM
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                [*_COMMAND, self._module], stdin=subprocess.PIPE, pass_fds=self._descriptors
            )
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it ended at once: the next check sees that
            self._process.stdin.write(pickle.dumps(self._order))
            self._process.stdin.flush()


class SupervisingArbiter(Arbiter):  # type: ignore[misc]  # gunicorn has no types
    """An arbiter that also supervises the other processes that its application makes."""

    _is_reloading = False
    _is_stopping = False
    _has_announced_stop = False

    def __init__(self, app: Any) -> None:
        self._children: dict[str, ChildProcess] | None = None
        self._ending: dict[str, ChildProcess] = {}  # the previous ones, which have been asked to stop
        super().__init__(app)

    def signal(self, sig: int, frame: Any) -> None:
        """Note a signal; the loop handles it."""
        if sig in STOP_SIGNALS:
            self._is_stopping = True
        super().signal(sig, frame)

    def spawn_worker(self) -> Any:
        """Start a worker.

        It inherits the handlers of the arbiter, which put a signal into a queue that no worker reads.  So signals are
        blocked until the worker has installed its handlers.
        """
        with held_back(*STOP_SIGNALS, *GROUP_SIGNALS):
            return super().spawn_worker()

    def release_children(self) -> None:
        """Release the other processes in a new worker."""
        for process in self._all_children():
            process.release()

    def manage_workers(self) -> None:
        """Check the workers and the other processes; one starts once the previous one of its name has ended."""
        super().manage_workers()
        self._ending = {name: process for name, process in self._ending.items() if not process.has_ended()}
        if self._children is None:
            self._children = self.app.make_children()
        for name, process in self._children.items():
            if name not in self._ending:
                process.keep_alive()

    def reload(self) -> None:
        """Restart the workers and the other processes."""
        for name, process in (self._children or {}).items():
            if name not in self._ending:  # else it has not been started yet
                process.ask_to_stop()
                self._ending[name] = process
        self._children = None
        self._is_reloading = True
        try:
            super().reload()
        finally:
            self._is_reloading = False

    def reap_workers(self) -> None:
        """Reap workers; a stop signal during a reload, which waits for them, ends that wait."""
        super().reap_workers()
        if self._is_reloading and self._is_stopping:
            raise StopIteration  # as gunicorn's handler of SIGTERM does

    def stop(self, graceful: Any = True) -> None:  # noqa: FBT002 - as gunicorn has it
        """Stop the workers and, at the same time, the other processes."""
        if not self._has_announced_stop:
            self._has_announced_stop = True
            log.info("Stopping")
        processes = self._all_children()
        self._ending, self._children = {}, {}
        for process in processes:
            process.ask_to_stop()
        super().stop(graceful)
        while not all(process.has_ended() for process in processes):
            time.sleep(_POLL_SECONDS)
        ignore_stops()

    def _all_children(self) -> list[ChildProcess]:
        return [*self._ending.values(), *(self._children or {}).values()]
