"""Runs `trackcore` and stops it at a critical moment, which the first argument names.

The process has an hour to stop, so that a test notices one that hangs: nothing kills it in time.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from gunicorn.workers import gthread
from gunicorn.workers.base import Worker
from gunicorn.workers.gthread import ThreadWorker
from trackcore_server import create_app
from trackcore_server.cli import main as command
from trackcore_server.delivery import child as delivery_child
from trackcore_server.hosting import application
from trackcore_server.hosting import supervisor as delivery_process

HOUR = 3_600
AT_ANY_TIME = "whenever the test likes"
WITH_THREADS = "whenever the test likes, with threads"
_PAUSE_SECONDS = 0.01


def wait_for(condition: Callable[[], object]) -> None:
    """Wait for the effect of a signal; a test that waits in vain kills this process."""
    while not condition():
        time.sleep(_PAUSE_SECONDS)


class InterruptedLock:
    """The lock of a worker's thread pool; a thread that has just acquired it is interrupted by a stop."""

    def __init__(self, lock: Any, worker: ThreadWorker) -> None:
        self._lock = lock
        self._worker = worker

    def __enter__(self) -> None:
        self._lock.acquire()
        if self._worker.booted and self._worker.alive:
            os.kill(os.getppid(), signal.SIGINT)
            wait_for(lambda: not self._worker.alive)  # the handler runs in here

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def while_its_first_configuration_is_written() -> None:
    """The file is there, and still empty."""
    open_file = os.open

    def open_and_interrupt(path: str | Path, flags: int, *more: Any, **options: Any) -> int:
        descriptor = open_file(path, flags, *more, **options)
        if Path(path).name == "trackcore.toml" and flags & os.O_EXCL:
            os.kill(os.getpid(), signal.SIGTERM)
        return descriptor

    os.open = open_and_interrupt  # type: ignore[assignment]


def while_a_request_is_handed_over() -> None:
    """A worker passes a request to its thread pool."""
    serve_with_threads()
    get_thread_pool = ThreadWorker.get_thread_pool

    def get_interrupted_pool(worker: ThreadWorker) -> Any:
        pool = get_thread_pool(worker)
        pool._shutdown_lock = InterruptedLock(pool._shutdown_lock, worker)
        return pool

    ThreadWorker.get_thread_pool = get_interrupted_pool


def at_birth() -> None:
    """A worker is forked, and has done nothing yet: the signal comes before it continues."""
    fork = os.fork

    def fork_and_interrupt() -> int:
        if (pid := fork()) == 0:
            arbiter = signal.getsignal(signal.SIGTERM).__self__  # type: ignore[union-attr]
            os.kill(os.getppid(), signal.SIGTERM)
            wait_for(lambda: signal.SIGTERM in signal.sigpending() or not arbiter.SIG_QUEUE.empty())
        return pid

    os.fork = fork_and_interrupt


def while_a_worker_loads() -> None:
    """A worker loads the app, and waits there without end."""

    def load_in_vain(_: Worker) -> None:
        os.kill(os.getppid(), signal.SIGTERM)
        wait_for(lambda: False)

    Worker.load_wsgi = load_in_vain


def serve_with_threads() -> None:
    """Serve with the threaded worker, which only gunicorn's own command uses otherwise."""
    gunicorn_settings = application._gunicorn_settings
    threads = {"worker_class": "trackcore_server.worker.Worker", "threads": 16}
    application._gunicorn_settings = lambda server: gunicorn_settings(server) | threads
    application.create_asgi_app = create_app  # type: ignore[assignment,attr-defined]


def while_a_thread_waits_for_bytes() -> None:
    """A connection has sent nothing, and a thread waits for its bytes."""
    serve_with_threads()
    gthread.DEFAULT_WORKER_DATA_TIMEOUT = HOUR


def while_a_connection_is_set_aside() -> None:
    """A connection has sent nothing for so long that its thread was released; it may stay open without limit."""
    serve_with_threads()
    murder_pending = ThreadWorker.murder_pending

    def report_pending(worker: ThreadWorker) -> None:
        if worker.pending_conns:
            print("set aside", file=sys.stderr, flush=True)  # noqa: T201 - for the test
        murder_pending(worker)

    gthread.DEFAULT_WORKER_DATA_TIMEOUT = 0
    application.KEEPALIVE_SECONDS = HOUR
    ThreadWorker.murder_pending = report_pending


def while_delivery_starts() -> None:
    """Ctrl-C comes when the process that delivers has just started; a terminal sends it to the whole group."""
    delivery_process._COMMAND = (sys.executable, "-P", __file__, _DELIVERY_CHILD)


def at_the_end() -> None:
    """The server has stopped, and gets one more signal when Python has removed its handlers."""

    class Late:
        def __init__(self) -> None:
            self._signal = partial(os.kill, os.getpid(), signal.SIGTERM)

        def __del__(self) -> None:
            self._signal()

    sys.modules["late"] = Late()  # type: ignore[assignment]


_DELIVERY_CHILD = "the process that delivers"

MOMENTS: dict[str, Callable[[], None]] = {
    "while its first configuration is written": while_its_first_configuration_is_written,
    "while a request is handed over": while_a_request_is_handed_over,
    "at birth": at_birth,
    "while a worker loads": while_a_worker_loads,
    "while a thread waits for bytes": while_a_thread_waits_for_bytes,
    "while a connection is set aside": while_a_connection_is_set_aside,
    "while delivery starts": while_delivery_starts,
    "at the end": at_the_end,
    WITH_THREADS: serve_with_threads,
    AT_ANY_TIME: lambda: None,
}


def main() -> None:
    """Run the command that follows the moment in the arguments."""
    moment, *arguments = sys.argv[1:]
    if moment == _DELIVERY_CHILD:
        os.killpg(0, signal.SIGINT)
        delivery_child.main()
        return
    application.GRACEFUL_SECONDS = HOUR
    delivery_process.GRACEFUL_SECONDS = HOUR  # type: ignore[attr-defined]
    MOMENTS[moment]()
    command(arguments, prog_name="trackcore")


if __name__ == "__main__":
    main()
