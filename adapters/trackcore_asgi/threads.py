"""Sinks that only block, for event loops: threads call them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import attrs

from trackcore import Collector, Envelope, Outcome, QuarantinedRequest, RejectedRecord, Sink


@attrs.frozen
class ThreadedSink:
    """A `trackcore.AsyncSink` that stores in a sink without `store_async`, in the threads of the event loop."""

    sink: Sink

    def store(
        self,
        envelopes: Sequence[Envelope] = (),
        *,
        rejected: Sequence[RejectedRecord] = (),
        quarantined: Sequence[QuarantinedRequest] = (),
    ) -> Sequence[Outcome]:
        """See `trackcore.Sink.store`."""
        return self.sink.store(envelopes, rejected=rejected, quarantined=quarantined)

    def check_ready(self) -> None:
        """See `trackcore.Sink.check_ready`."""
        self.sink.check_ready()

    async def store_async(
        self,
        envelopes: Sequence[Envelope] = (),
        *,
        rejected: Sequence[RejectedRecord] = (),
        quarantined: Sequence[QuarantinedRequest] = (),
    ) -> Sequence[Outcome]:
        """See `trackcore.AsyncSink.store_async`."""
        return await asyncio.to_thread(self.sink.store, envelopes, rejected=rejected, quarantined=quarantined)

    async def check_ready_async(self) -> None:
        """See `trackcore.AsyncSink.check_ready_async`."""
        await asyncio.to_thread(self.sink.check_ready)


def with_async_sink(collector: Collector) -> Collector:
    """Return a collector that can store for an event loop: the same one, if it can."""
    if hasattr(collector.sink, "store_async"):
        return collector
    return attrs.evolve(collector, sink=ThreadedSink(collector.sink))
