"""Group commit: requests that arrive together are committed together.

Theory of operation.  A commit costs an fsync, whatever it holds.  The first thread to arrive with a request leads: it
begins a transaction, takes *all* requests that wait at that moment, its own first, and commits them as one.  Requests
that arrive in the meantime wait; when the leader is done, it hands the lead to the first of them and wakes the threads
whose requests are done.  So no writer thread has to be started, stopped or restored after a fork, each thread sleeps
until its own request is done, and under more load more requests share one fsync.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import attrs

from trackcore import Cause, Envelope, Outcome, QuarantinedRequest, RejectedRecord, SinkUnavailable
from trackcore.support import MEBIBYTE

_TRANSACTION_BYTES = 16 * MEBIBYTE
"""How much one transaction contains, so that no thread waits for very many requests of others."""


def _taken_lock() -> threading.Lock:
    lock = threading.Lock()
    lock.acquire()
    return lock


@attrs.define(eq=False)
class WriteRequest:
    """The records of one call of `store`, and the result of it."""

    envelopes: Sequence[Envelope] = ()
    rejected: Sequence[RejectedRecord] = ()
    quarantined: Sequence[QuarantinedRequest] = ()
    probe: bool = False
    size: int = attrs.field(init=False)
    done: bool = attrs.field(init=False, default=False)
    outcomes: list[Outcome] = attrs.field(init=False, factory=list)
    error: Exception | None = attrs.field(init=False, default=None)
    wakeup: threading.Lock = attrs.field(init=False, factory=_taken_lock)
    """Released when the request is done, or when its thread must lead."""

    def __attrs_post_init__(self) -> None:
        records: Iterable[Envelope | RejectedRecord | QuarantinedRequest]
        records = (*self.envelopes, *self.rejected, *self.quarantined)
        self.size = sum(len(record.payload) for record in records)


class Writer(Protocol):
    """Runs the transactions of the committer, one at a time."""

    def transaction(self) -> AbstractContextManager[Callable[[Sequence[WriteRequest]], None]]:
        """Begin a transaction once no other process is writing, yield a function that writes requests, and commit.

        Raises `SinkUnavailable` if nothing was stored.
        """


class GroupCommitter:
    """Lets one thread at a time commit the requests of all that wait.

    `waiting_bytes` is how much may wait before further requests are rejected.
    """

    def __init__(self, writer: Writer, *, waiting_bytes: int) -> None:
        self._writer = writer
        self._waiting_bytes = waiting_bytes
        self._lock = threading.Lock()
        self._queue: deque[WriteRequest] = deque()
        self._queued_bytes = 0
        self._leader: WriteRequest | None = None

    def run(self, request: WriteRequest) -> list[Outcome]:
        """Return when the request is committed.  Raises `SinkUnavailable` if nothing of it was stored."""
        try:
            if not self._enter(request):
                request.wakeup.acquire()
            if not request.done:
                self._lead()
        except BaseException:
            self._leave(request)
            raise
        if request.error is not None:
            raise request.error
        return request.outcomes

    def _enter(self, request: WriteRequest) -> bool:
        """Add a request to the queue, and return whether its thread leads at once."""
        with self._lock:
            if self._queue and self._queued_bytes + request.size > self._waiting_bytes:
                raise SinkUnavailable(cause=Cause.OVERLOADED, detail="too much is waiting to be stored", retry_after=1)
            self._queue.append(request)
            self._queued_bytes += request.size
            if self._leader is None:
                self._leader = request
            return self._leader is request

    def _leave(self, request: WriteRequest) -> None:
        """Withdraw a request whose thread was interrupted before the request was taken: no thread would lead for it."""
        with self._lock:
            if request in self._queue:
                self._queue.remove(request)
                self._queued_bytes -= request.size
                if request is self._leader:
                    self._choose_leader()

    def _lead(self) -> None:
        taken: list[WriteRequest] = []
        try:
            self._commit(taken)
        except BaseException:
            # This thread was interrupted; the others must not take silence for success.
            for request in taken:
                if not request.done:
                    request.error = SinkUnavailable(cause=Cause.UNAVAILABLE, detail="interrupted", retry_after=1)
            raise
        finally:
            with self._lock:
                self._choose_leader()
            for request in taken:
                request.done = True
                request.wakeup.release()

    def _commit(self, taken: list[WriteRequest]) -> None:
        """Begin a transaction, and only then take the waiting requests: those that arrived meanwhile are included."""
        try:
            with self._writer.transaction() as write:
                write(self._take(taken))
        except SinkUnavailable as error:
            for request in self._take(taken):
                request.error = error
        except Exception:  # noqa: BLE001 - a fault of one request must not fail the others
            for request in self._take(taken):
                self._commit_alone(request)

    def _commit_alone(self, request: WriteRequest) -> None:
        try:
            with self._writer.transaction() as write:
                write([request])
        except Exception as error:  # noqa: BLE001 - raised by the thread that waits for it
            request.error = error

    def _take(self, taken: list[WriteRequest]) -> Sequence[WriteRequest]:
        """Take the waiting requests.  A second call of the same leader returns the same ones."""
        if taken:
            return taken
        size = 0
        with self._lock:
            while self._queue and size < _TRANSACTION_BYTES:
                request = self._queue.popleft()
                size += request.size
                taken.append(request)
            self._queued_bytes -= size
        return taken

    def _choose_leader(self) -> None:
        """Let the first waiting thread lead.  It still waits: only a leader takes its request, which is itself."""
        self._leader = self._queue[0] if self._queue else None
        if self._leader is not None:
            self._leader.wakeup.release()
