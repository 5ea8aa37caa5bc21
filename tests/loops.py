"""Event loops for the tests of asynchronous sinks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import attrs
from patience import PATIENCE

from trackcore import AsyncSink, Envelope, Outcome, QuarantinedRequest, RejectedRecord

T = TypeVar("T")

_PAUSE_SECONDS = 0.005


def run_quietly(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in a new event loop, and expect no error in the loop itself."""
    problems: list[dict[str, Any]] = []
    with asyncio.Runner() as runner:
        runner.get_loop().set_exception_handler(lambda _, problem: problems.append(problem))
        result = runner.run(asyncio.wait_for(coroutine, PATIENCE))
    assert problems == []
    return result


async def wait_in_loop(condition: Callable[[], object]) -> None:
    """Wait until a condition holds, without blocking the event loop."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - other threads make it true
            await asyncio.sleep(_PAUSE_SECONDS)


@contextmanager
def running_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Run an event loop in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE)
        assert not thread.is_alive(), "the loop hangs"
        loop.close()


@attrs.frozen
class AsyncFace:
    """A blocking sink that calls the asynchronous methods of another one, all in the same event loop."""

    sink: AsyncSink
    loop: asyncio.AbstractEventLoop

    def store(
        self,
        envelopes: Sequence[Envelope] = (),
        *,
        rejected: Sequence[RejectedRecord] = (),
        quarantined: Sequence[QuarantinedRequest] = (),
    ) -> Sequence[Outcome]:
        return self._call(self.sink.store_async(envelopes, rejected=rejected, quarantined=quarantined))

    def check_ready(self) -> None:
        self._call(self.sink.check_ready_async())

    def _call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(PATIENCE)
