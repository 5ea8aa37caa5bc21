"""Group commit: requests that arrive together are committed together.

Theory of operation.  A commit costs an fsync, whatever it holds.  One thread at a time leads: it begins a transaction,
takes *all* requests that wait at that moment, and commits them as one.  Requests that arrive in the meantime wait; when
the leader is done, the first of them determines who leads next.  So under more load more requests share one fsync.

A request of a thread is led by that thread itself, so no other one has to be started or woken for it; the thread sleeps
until its request is done or it must lead.

An event loop must not wait, so its requests are led by a `WriterThread`.  Waking a thread or a loop costs more than
everything else here, so each is woken once for many requests: those that a loop makes in one iteration enter the queue
together, at the end of it, and those that were committed together are resolved together.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Protocol, TypeAlias

import attrs

from trackcore import Cause, Envelope, Outcome, QuarantinedRequest, RejectedRecord, SinkUnavailable
from trackcore.support import MEBIBYTE
from trackcore_sqlite.writer_thread import WriterThread, taken_lock

_TRANSACTION_BYTES = 16 * MEBIBYTE
"""How much one transaction contains, so that nobody waits for very many requests of others."""


@attrs.define(eq=False)
class WriteRequest:
    """The records of one call of `store` or `store_async`, and the result of it."""

    envelopes: Sequence[Envelope] = ()
    rejected: Sequence[RejectedRecord] = ()
    quarantined: Sequence[QuarantinedRequest] = ()
    probe: bool = False
    size: int = attrs.field(init=False)
    outcomes: Sequence[Outcome] = attrs.field(init=False, default=())
    error: Exception | None = attrs.field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        records: Iterable[Envelope | RejectedRecord | QuarantinedRequest]
        records = (*self.envelopes, *self.rejected, *self.quarantined)
        self.size = sum([len(record.payload) for record in records])

    def result(self) -> Sequence[Outcome]:
        """Return the outcomes of a request that is done, or raise its error."""
        if self.error is not None:
            raise self.error
        return self.outcomes


@attrs.define(eq=False)
class ThreadRequest(WriteRequest):
    """A request of a thread.  Its lock is released when the request is done, or when the thread must lead."""

    is_done: bool = attrs.field(init=False, default=False)
    wakeup: threading.Lock = attrs.field(init=False, factory=taken_lock)


@attrs.define(eq=False)
class LoopRequest(WriteRequest):
    """A request of the running event loop.  Its future has a result when the request is done."""

    done: asyncio.Future[None] = attrs.field(init=False, factory=lambda: asyncio.get_running_loop().create_future())


_Waiting: TypeAlias = ThreadRequest | LoopRequest


class _Gathered(threading.local):
    """The requests that the event loop of this thread has made in its current iteration."""

    loop: asyncio.AbstractEventLoop | None = None
    requests: list[LoopRequest]


class Writer(Protocol):
    """Runs the transactions of the committer, one at a time."""

    def transaction(self) -> AbstractContextManager[Callable[[Sequence[WriteRequest]], None]]:
        """Begin a transaction once no other process is writing, yield a function that writes requests, and commit.

        Raises `SinkUnavailable` if nothing was stored.
        """


class GroupCommitter:
    """Lets one thread at a time commit the requests of all that wait.

    `waiting_bytes` is how much may wait before further requests are rejected; `on_commit`: see `SqliteSink`.
    """

    def __init__(
        self, writer: Writer, *, waiting_bytes: int, on_commit: Callable[[float, int], None] | None = None
    ) -> None:
        self._writer = writer
        self._on_commit = on_commit
        self._waiting_bytes = waiting_bytes
        self._lock = threading.Lock()
        self._queue: deque[_Waiting] = deque()
        self._queued_bytes = 0
        self._leader: _Waiting | None = None
        self._thread = WriterThread(self._lead, lock=self._lock, is_idle=lambda: self._leader is None)
        self._gathered = _Gathered()

    def run(self, request: ThreadRequest) -> None:
        """Return when the request is done."""
        try:
            self._enter([request])
            request.wakeup.acquire()
            if not request.is_done:
                self._lead()
        except BaseException:
            self._leave(request)
            raise

    def gather(self, request: LoopRequest) -> asyncio.Future[None]:
        """Enter a request at the end of the current iteration of its loop, and return its future."""
        gathered, loop = self._gathered, request.done.get_loop()
        if gathered.loop is not loop:
            requests: list[LoopRequest] = []
            loop.call_soon(self._enter_gathered, requests)
            gathered.loop, gathered.requests = loop, requests
        gathered.requests.append(request)
        return request.done

    def drain(self) -> None:
        """Return when all requests that wait now are done."""
        if self._gathered.loop is not None:
            self._enter_gathered(self._gathered.requests)
        if self._queue:
            self.run(ThreadRequest(probe=True))

    def _enter_gathered(self, requests: list[LoopRequest]) -> None:
        self._gathered.loop = None
        self._enter(requests)
        requests.clear()  # after `drain`, the loop enters them once more

    def _enter(self, requests: Iterable[_Waiting]) -> None:
        """Add requests to the queue; those that may not wait are done at once, with an error."""
        refused = []
        with self._lock:
            try:
                for request in requests:
                    try:
                        self._append(request)
                    except SinkUnavailable as error:
                        request.error = error
                        refused.append(request)
            finally:
                if self._leader is None:
                    self._choose_leader()
        self._finish(refused)

    def _append(self, request: _Waiting) -> None:
        if self._queue and self._queued_bytes + request.size > self._waiting_bytes:
            raise SinkUnavailable(cause=Cause.OVERLOADED, detail="too much is waiting to be stored", retry_after=1)
        if isinstance(request, LoopRequest):
            self._thread.start()
        self._queue.append(request)
        self._queued_bytes += request.size

    def _leave(self, request: ThreadRequest) -> None:
        """Withdraw a request whose thread was interrupted before the request was taken: no thread would lead for it."""
        with self._lock:
            if request in self._queue:
                self._queue.remove(request)
                self._queued_bytes -= request.size
                if request is self._leader:
                    self._choose_leader()

    def _lead(self) -> None:
        taken: list[_Waiting] = []
        try:
            self._commit(taken)
        except BaseException:
            # This thread was interrupted; the others must not take silence for success.
            for request in taken:
                request.error = SinkUnavailable(cause=Cause.UNAVAILABLE, detail="interrupted", retry_after=1)
            raise
        finally:
            with self._lock:
                self._choose_leader()
            self._finish(taken)

    def _commit(self, taken: list[_Waiting]) -> None:
        """Begin a transaction, and only then take the waiting requests: those that arrived meanwhile are included."""
        started = time.perf_counter()
        try:
            with self._writer.transaction() as write:
                write(self._take(taken))
        except SinkUnavailable as error:
            for request in self._take(taken):
                request.error = error
        except Exception:  # noqa: BLE001 - a fault of one request must not fail the others
            for request in self._take(taken):
                self._commit_alone(request)
        else:
            if self._on_commit is not None:
                messages = sum([len(request.envelopes) for request in taken])
                self._on_commit(time.perf_counter() - started, messages)

    def _commit_alone(self, request: WriteRequest) -> None:
        try:
            with self._writer.transaction() as write:
                write([request])
        except Exception as error:  # noqa: BLE001 - raised by the caller that waits for it
            request.error = error

    def _take(self, taken: list[_Waiting]) -> Sequence[_Waiting]:
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
        """Let a thread lead for the first waiting request.  It still waits: only its leader takes it."""
        self._leader = self._queue[0] if self._queue else None
        if isinstance(self._leader, ThreadRequest):
            self._leader.wakeup.release()
        elif self._leader is not None:
            self._thread.call()

    @staticmethod
    def _finish(requests: Iterable[_Waiting]) -> None:
        """Wake the thread of each request, and each loop once."""
        of_loops: dict[asyncio.AbstractEventLoop, list[LoopRequest]] = defaultdict(list)
        for request in requests:
            if isinstance(request, ThreadRequest):
                request.is_done = True
                request.wakeup.release()
            else:
                of_loops[request.done.get_loop()].append(request)
        for loop, resolved in of_loops.items():
            with suppress(RuntimeError):  # the loop is closed, and so nobody waits
                loop.call_soon_threadsafe(_resolve, resolved)


def _resolve(requests: Iterable[LoopRequest]) -> None:
    for request in requests:
        if not request.done.done():  # it was cancelled
            request.done.set_result(None)
