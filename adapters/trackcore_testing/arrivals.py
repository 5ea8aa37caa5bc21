"""Arrivals: everything that a server under test has received, and how to wait for more.

Theory.  One condition guards all of it.  A request holds its lock from when its messages are stored until it is
recorded, so a test that has waited for a message also finds its request.  Each change wakes those who wait, and they
look again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias

import attrs

from trackcore import (
    Envelope,
    MemorySink,
    Outcome,
    QuarantinedRequest,
    RejectedRecord,
    StoredMessage,
    StoredQuarantined,
    StoredRejected,
    Tail,
)
from trackcore.plans import PLAN_WARNINGS
from trackcore_testing.requests import RecordedRequest

Watch: TypeAlias = Callable[["Stored"], None]


@attrs.frozen(kw_only=True)
class Stored:
    """The records that one request has added, without duplicates."""

    messages: Sequence[StoredMessage] = ()
    rejected: Sequence[RejectedRecord] = ()
    quarantined: Sequence[QuarantinedRequest] = ()


@attrs.define(eq=False)
class Arrivals:
    """A `trackcore.AsyncSink` in memory, with the requests.  Messages and requests are in their order.

    `watch` is called with what each request has added, one request after another.
    """

    _watch: Watch | None = None
    changed: threading.Condition = attrs.field(init=False, factory=threading.Condition, repr=False)
    requests: list[RecordedRequest] = attrs.field(init=False, factory=list)
    in_progress: int = attrs.field(init=False, default=0)
    messages: list[StoredMessage] = attrs.field(init=False, factory=list)
    _sink: MemorySink = attrs.field(init=False, factory=MemorySink)
    _tail: Tail = attrs.field(init=False, default=attrs.Factory(lambda self: self._sink.log.tail(), takes_self=True))
    _cleared_rejected: list[RejectedRecord] = attrs.field(init=False, factory=list)
    _cleared_quarantined: list[QuarantinedRequest] = attrs.field(init=False, factory=list)
    _cleared_violating: list[StoredMessage] = attrs.field(init=False, factory=list)
    _changes: int = attrs.field(init=False, default=0)

    # Reading

    @property
    def rejected(self) -> list[StoredRejected]:
        """The rejected messages and requests, the oldest first."""
        return list(self._sink.log.rejected())

    @property
    def quarantined(self) -> list[StoredQuarantined]:
        """The requests with an unknown write key, the oldest first."""
        return list(self._sink.log.quarantined())

    @property
    def ever_rejected(self) -> Sequence[RejectedRecord]:
        """All rejected messages and requests, also those that were cleared."""
        return [*self._cleared_rejected, *self._sink.rejected]

    @property
    def ever_quarantined(self) -> Sequence[QuarantinedRequest]:
        """All requests with an unknown write key, also those that were cleared."""
        return [*self._cleared_quarantined, *self._sink.quarantined]

    @property
    def ever_violating(self) -> Sequence[StoredMessage]:
        """All messages that violate the tracking plan, also those that were cleared."""
        return [*self._cleared_violating, *filter(_is_violating, self.messages)]

    def clear(self) -> None:
        """Forget everything, except that something was rejected or violates the plan."""
        with self.changing():
            self._cleared_violating += filter(_is_violating, self.messages)
            self._cleared_rejected += self._sink.rejected
            self._cleared_quarantined += self._sink.quarantined
            self._sink = MemorySink()
            self._tail = self._sink.log.tail()
            self.messages, self.requests = [], []

    # Waiting

    def wait_until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait until a condition holds, at most so many seconds, and return whether it does."""
        with self.changed:
            return self.changed.wait_for(condition, seconds)

    def wait_until_quiet(self, quiet: float, seconds: float) -> bool:
        """Wait for a pause of `quiet` seconds without a request, at most `seconds`; return whether there was one."""
        end = time.monotonic() + seconds
        with self.changed:
            while time.monotonic() < end:
                if self._is_unchanged_for(quiet) and not self.in_progress:
                    return True
        return False

    def _is_unchanged_for(self, seconds: float) -> bool:
        changes = self._changes
        return not self.changed.wait_for(lambda: self._changes != changes, seconds)

    @contextmanager
    def request(self) -> Iterator[None]:
        """Count a request as in progress within the `with` block."""
        with self.changing():
            self.in_progress += 1
        try:
            yield
        finally:
            with self.changing():
                self.in_progress -= 1

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Hold the lock within the `with` block, and then wake those who wait."""
        with self.changed:
            yield
            self._changes += 1
            self.changed.notify_all()

    # The sink

    def store(
        self,
        envelopes: Sequence[Envelope] = (),
        *,
        rejected: Sequence[RejectedRecord] = (),
        quarantined: Sequence[QuarantinedRequest] = (),
    ) -> Sequence[Outcome]:
        """See `trackcore.Sink.store`."""
        with self.changing():
            outcomes = self._sink.store(envelopes, rejected=rejected, quarantined=quarantined)
            stored = list(self._tail.read())
            self.messages += stored
            if self._watch is not None:
                self._watch(Stored(messages=stored, rejected=rejected, quarantined=quarantined))
        return outcomes

    def check_ready(self) -> None:
        """Memory is always ready."""

    async def store_async(
        self,
        envelopes: Sequence[Envelope] = (),
        *,
        rejected: Sequence[RejectedRecord] = (),
        quarantined: Sequence[QuarantinedRequest] = (),
    ) -> Sequence[Outcome]:
        """See `trackcore.AsyncSink.store_async`."""
        return self.store(envelopes, rejected=rejected, quarantined=quarantined)

    async def check_ready_async(self) -> None:
        """Memory is always ready."""


def _is_violating(message: StoredMessage) -> bool:
    return any(warning["code"] in PLAN_WARNINGS for warning in message.warnings)
