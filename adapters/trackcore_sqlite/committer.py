"""Group commit: what arrives together is committed together.

Theory of operation.  A commit costs an fsync, whatever it holds.  The first thread to come with a job leads: it begins
a transaction, takes *all* jobs that wait by then, its own first, and commits them as one.  The jobs that arrive in the
meantime wait; when the leader is done it hands the lead to the first of them, and wakes those whose jobs are done.  So
there is no writer thread to start, to lose in a fork or to stop, each thread sleeps until its own job is done, and the
busier it gets, the more share one fsync.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

import attrs

from trackcore import Cause, Envelope, Outcome, QuarantinedRequest, RejectedRecord, SinkUnavailable


def _taken_lock() -> threading.Lock:
    lock = threading.Lock()
    lock.acquire()
    return lock


@attrs.define(eq=False)
class WriteRequest:
    """What one call of `store` waits for."""

    envelopes: Sequence[Envelope] = ()
    rejected: Sequence[RejectedRecord] = ()
    quarantined: Sequence[QuarantinedRequest] = ()
    probe: bool = False
    size: int = attrs.field(init=False)
    done: bool = attrs.field(init=False, default=False)
    outcomes: list[Outcome] = attrs.field(init=False, factory=list)
    error: Exception | None = attrs.field(init=False, default=None)
    wakeup: threading.Lock = attrs.field(init=False, factory=_taken_lock)
    """Released when the job is done, or when it is to lead."""

    def __attrs_post_init__(self) -> None:
        records: Iterable[Envelope | RejectedRecord | QuarantinedRequest]
        records = (*self.envelopes, *self.rejected, *self.quarantined)
        self.size = sum(len(record.payload) for record in records)


TakeJobs: TypeAlias = Callable[[], Sequence[WriteRequest]]
"""Gives the jobs that wait now, to be committed together; they must all be done when `Commit` returns."""

Commit: TypeAlias = Callable[[TakeJobs], None]
"""Begins a transaction, takes the jobs, commits them, and sets what became of each.  It takes them in any case."""


class GroupCommitter:
    """Has `commit` called by one thread at a time, for all that wait.

    Args:
        commit: commits jobs.
        waiting_bytes: how much may wait before further jobs are refused.
        transaction_bytes: how much is taken at once, so that nobody waits for very many others.
    """

    def __init__(self, commit: Commit, *, waiting_bytes: int, transaction_bytes: int) -> None:
        self._commit = commit
        self._waiting_bytes = waiting_bytes
        self._transaction_bytes = transaction_bytes
        self._lock = threading.Lock()
        self._queue: deque[WriteRequest] = deque()
        self._queued_bytes = 0
        self._leader: WriteRequest | None = None

    def run(self, job: WriteRequest) -> list[Outcome]:
        """Return when the job is committed.

        Raises:
            SinkUnavailable: nothing of it was stored, or too much is waiting.
        """
        try:
            if not self._enter(job):
                job.wakeup.acquire()
            if not job.done:
                self._lead()
        except BaseException:
            self._leave(job)
            raise
        if job.error is not None:
            raise job.error
        return job.outcomes

    def _enter(self, job: WriteRequest) -> bool:
        """Let a job wait, and tell whether it is to lead at once."""
        with self._lock:
            if self._queue and self._queued_bytes + job.size > self._waiting_bytes:
                raise SinkUnavailable(cause=Cause.OVERLOADED, detail="too much is waiting to be stored", retry_after=1)
            self._queue.append(job)
            self._queued_bytes += job.size
            if self._leader is None:
                self._leader = job
            return self._leader is job

    def _leave(self, job: WriteRequest) -> None:
        """Withdraw a job whose thread was told to stop before it was taken: nobody would lead in its place."""
        with self._lock:
            if job in self._queue:
                self._queue.remove(job)
                self._queued_bytes -= job.size
                if job is self._leader:
                    self._choose_leader()

    def _lead(self) -> None:
        taken: list[WriteRequest] = []
        try:
            self._commit(lambda: self._take(taken))
        except BaseException:
            # This thread is told to stop; the others must not take silence for success.
            for job in taken:
                if not job.done:
                    job.error = SinkUnavailable(cause=Cause.UNAVAILABLE, detail="interrupted", retry_after=1)
            raise
        finally:
            self._hand_over()
            for job in taken:
                job.done = True
                job.wakeup.release()

    def _take(self, taken: list[WriteRequest]) -> Sequence[WriteRequest]:
        """Take what waits.  Asked once more by the same leader, it gives the same jobs."""
        if taken:
            return taken
        size = 0
        with self._lock:
            while self._queue and size < self._transaction_bytes:
                job = self._queue.popleft()
                size += job.size
                taken.append(job)
            self._queued_bytes -= size
        return taken

    def _hand_over(self) -> None:
        with self._lock:
            self._choose_leader()

    def _choose_leader(self) -> None:
        """Let the first that waits lead.  It is always there: its job is taken by a leader, and that is itself."""
        self._leader = self._queue[0] if self._queue else None
        if self._leader is not None:
            self._leader.wakeup.release()
