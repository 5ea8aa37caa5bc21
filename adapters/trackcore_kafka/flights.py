"""Records on their way, and waiting for them: in a thread, or in an event loop without blocking it.

A flight is settled when the result of each of its records is known.  All that wait for it are then woken: a thread by a
lock of its own, the tasks of an event loop by one call of `call_soon_threadsafe` for all flights that were settled
together.
"""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress

import attrs
from confluent_kafka import KafkaError

from trackcore_kafka.records import Record

NO_REPORT = KafkaError(KafkaError._MSG_TIMED_OUT)  # noqa: SLF001 - librdkafka's own codes begin with an underscore
"""The result of a record until another one is known."""


@attrs.define(eq=False)
class Flight:
    """The records of one call, and their results.

    `errors` has None for each record that was acknowledged, else its error.  `failure` is set if a record could not be
    passed to the client at all.
    """

    records: Sequence[Record]
    size: int = attrs.field(init=False)
    errors: list[KafkaError | None] = attrs.field(init=False)
    missing: int = attrs.field(init=False)
    """The number of records whose result is not known yet."""
    failure: Exception | None = attrs.field(init=False, default=None)
    _is_settled: bool = attrs.field(init=False, default=False)
    _waiters: list[threading.Lock | asyncio.Future[None]] = attrs.field(init=False, factory=list)

    def __attrs_post_init__(self) -> None:
        self.size = sum(record.size for record in self.records)
        self.missing = len(self.records)
        self.errors = [NO_REPORT] * self.missing

    def wait(self, seconds: float) -> None:
        """Return when the flight is settled, or after so many seconds."""
        lock = threading.Lock()
        lock.acquire()
        self._waiters.append(lock)
        if not self._is_settled:
            lock.acquire(timeout=seconds)

    async def wait_async(self) -> None:
        """Return when the flight is settled.  A task that is cancelled meanwhile does not affect it."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(future)
        if not self._is_settled:
            await future

    def on_settled(self) -> None:
        """Use the results, before those that wait are woken."""

    def settle(self) -> Sequence[threading.Lock | asyncio.Future[None]]:
        """Return all that wait.  A waiter that is added later finds the flight settled, and does not wait."""
        self.on_settled()
        self._is_settled = True
        return self._waiters.copy()


def settle(flights: Iterable[Flight]) -> None:
    """Settle flights, and wake all that wait for them."""
    woken: defaultdict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = defaultdict(list)
    for flight in flights:
        for waiter in flight.settle():
            if isinstance(waiter, asyncio.Future):
                woken[waiter.get_loop()].append(waiter)
            else:
                waiter.release()
    for loop, futures in woken.items():
        with suppress(RuntimeError):  # the loop is closed: nothing waits in it any more
            loop.call_soon_threadsafe(_wake, futures)


def _wake(futures: Iterable[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():  # it is if its task was cancelled
            future.set_result(None)
