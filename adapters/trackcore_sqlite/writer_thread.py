"""The thread that commits for event loops, which must not wait for a commit themselves."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

from trackcore import Cause, SinkUnavailable

IDLE_SECONDS = 5.0
"""How long the thread waits for its next call before it ends."""


def taken_lock() -> threading.Lock:
    """Return a lock that one thread waits for, and that another one releases."""
    lock = threading.Lock()
    lock.acquire()
    return lock


class WriterThread:
    """A thread that runs `lead` once for each call.

    It is started when it is first needed, ends by itself once it has been idle for a while, and is then started again.
    So nothing has to stop it, and a sink that is not used any more keeps no thread.  It does not keep the process from
    ending either: a commit that is cut off there was not acknowledged.

    `start`, `call` and `is_idle` are called with `lock` held.  While `is_idle` returns false, the thread does not end.
    """

    def __init__(self, lead: Callable[[], None], *, lock: threading.Lock, is_idle: Callable[[], bool]) -> None:
        self._lead = lead
        self._lock = lock
        self._is_idle = is_idle
        self._is_running = False
        self._called = taken_lock()

    def start(self) -> None:
        """Start the thread unless it is running.  Raises `SinkUnavailable` if the system allows no further thread."""
        if self._is_running:
            return
        try:
            threading.Thread(target=self._run, name="trackcore-writer", daemon=True).start()
        except RuntimeError as error:
            raise SinkUnavailable(cause=Cause.UNAVAILABLE, detail=f"no thread can be started ({error})") from error
        self._is_running = True

    def call(self) -> None:
        """Let the thread, which is running, lead once; it has done so before the next call."""
        self._called.release()

    def _run(self) -> None:
        while self._is_called():
            with suppress(BaseException):  # every request has its answer, and the next one needs this thread
                self._lead()

    def _is_called(self) -> bool:
        """Wait for the next call; return false if there was none for so long that the thread ends."""
        while not self._called.acquire(timeout=IDLE_SECONDS):
            with self._lock:
                if self._is_idle():
                    self._is_running = False
                    return False
        return True
