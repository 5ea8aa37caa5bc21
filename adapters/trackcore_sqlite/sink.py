"""Writing the log: `SqliteSink`, the facade of `trackcore_sqlite.committer` and `trackcore_sqlite.writer`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from trackcore_forks import notice_fork, renew_in_forks

from trackcore import Envelope, Outcome, QuarantinedRequest, RejectedRecord, SinkUnavailable
from trackcore.support import MEBIBYTE
from trackcore_sqlite.committer import GroupCommitter, LoopRequest, ThreadRequest, WriteRequest
from trackcore_sqlite.writer import LogWriter

_PROBE_SECONDS = 1.0
"""How long the result of `check_ready` holds, so that frequent calls do not cost an fsync each."""


class SqliteSink:
    """A `trackcore.AsyncSink` that stores everything in one SQLite file.

    Threads, event loops and processes may share the file, and threads and loops one sink.  It may be used before and
    after a fork (see `trackcore_forks`): the parent stores the requests that its threads and loops have under way.

    Args:
        path: the file; its folder is created if missing, readable by the owner alone.
        rejected_bytes: the size of rejected messages above which the oldest are dropped.
        quarantine_bytes: the same for requests with an unknown write key.
        duplicates_bytes: the same for messages that were stored before.
        waiting_bytes: how much may wait to be committed before further requests are rejected as an overload.
        busy_timeout: seconds to wait for another process to finish writing.
        on_commit: called after each commit with its duration in seconds and the number of messages in it, in the thread
            that commits; such as `Metrics.count_commit`.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        rejected_bytes: int = 256 * MEBIBYTE,
        quarantine_bytes: int = 64 * MEBIBYTE,
        duplicates_bytes: int = 16 * MEBIBYTE,
        waiting_bytes: int = 64 * MEBIBYTE,
        busy_timeout: float = 5.0,
        on_commit: Callable[[float, int], None] | None = None,
    ) -> None:
        self.path = Path(path)
        bounds = {"rejected": rejected_bytes, "quarantine": quarantine_bytes, "duplicates": duplicates_bytes}
        self._writer = LogWriter(self.path, bounds=bounds, busy_timeout=busy_timeout)
        self._waiting_bytes = waiting_bytes
        self._on_commit = on_commit
        self.renew_after_fork()
        renew_in_forks(self)

    def renew_after_fork(self) -> None:
        """Reset after a fork: the parent's locks and its calls must not be used."""
        self._writer.renew_after_fork()
        self._committer = GroupCommitter(self._writer, waiting_bytes=self._waiting_bytes, on_commit=self._on_commit)
        self._ready_at: float = -_PROBE_SECONDS

    def store(
        self,
        envelopes: Sequence[Envelope] = (),
        *,
        rejected: Sequence[RejectedRecord] = (),
        quarantined: Sequence[QuarantinedRequest] = (),
    ) -> Sequence[Outcome]:
        """See `trackcore.Sink.store`.  Returns after the commit that holds all of it.

        Raises `SinkUnavailable` if nothing was stored: the disk is full, the file is damaged or cannot be written, or
        too much is waiting.
        """
        if not (envelopes or rejected or quarantined):
            return ()
        return self._run(ThreadRequest(envelopes, rejected, quarantined))

    async def store_async(
        self,
        envelopes: Sequence[Envelope] = (),
        *,
        rejected: Sequence[RejectedRecord] = (),
        quarantined: Sequence[QuarantinedRequest] = (),
    ) -> Sequence[Outcome]:
        """See `trackcore.AsyncSink.store_async`.  Raises as `store` does; the event loop is one of asyncio."""
        if not (envelopes or rejected or quarantined):
            return ()
        return await self._run_async(LoopRequest(envelopes, rejected, quarantined))

    def check_ready(self) -> None:
        """Check that a message could be stored now, by a small transaction, at most once a second.

        Raises `SinkUnavailable` as `store` does.
        """
        if not self._is_known_ready():
            self._run(ThreadRequest(probe=True))
            self._ready_at = time.monotonic()

    async def check_ready_async(self) -> None:
        """Check as `check_ready` does, without blocking the event loop."""
        if not self._is_known_ready():
            await self._run_async(LoopRequest(probe=True))
            self._ready_at = time.monotonic()

    def close(self) -> None:
        """Store what waits, and close the file.  A later call opens it again."""
        notice_fork()
        self._committer.drain()
        self._writer.close()

    def _is_known_ready(self) -> bool:
        return time.monotonic() - self._ready_at < _PROBE_SECONDS

    def _run(self, request: ThreadRequest) -> Sequence[Outcome]:
        notice_fork()
        self._committer.run(request)
        return self._result(request)

    async def _run_async(self, request: LoopRequest) -> Sequence[Outcome]:
        notice_fork()
        await self._committer.gather(request)
        return self._result(request)

    def _result(self, request: WriteRequest) -> Sequence[Outcome]:
        if isinstance(request.error, SinkUnavailable):
            self._ready_at = -_PROBE_SECONDS  # the earlier result of `check_ready` does not hold any more
        return request.result()
