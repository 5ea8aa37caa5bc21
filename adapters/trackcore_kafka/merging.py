"""Several partitions read as one stream: each in its own order, among each other by receivedAt.

To know which of the partitions has the oldest message one must have the next message of each.  The client gives what
arrives first, so what comes early waits here; a partition that is far ahead of the others is paused.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping
from heapq import heapify, heappop, heappush
from typing import cast

import attrs
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

_PAGE = 1_000
_POLL_SECONDS = 0.5
_SILENCE_SECONDS = 15.0
"""After this long without a record that should be there the cluster is taken for gone."""

_FAR_AHEAD = 2_000
_NEAR = 500


@attrs.define(eq=False)
class _PartitionBuffer:
    """One partition: the next offset that is to come, and the records that wait."""

    number: int
    position: int
    end: int = 0
    is_paused: bool = False
    waiting: deque[Message] = attrs.field(init=False, factory=deque)

    def has_next(self) -> bool:
        return bool(self.waiting) and cast("int", self.waiting[0].offset()) < self.end

    def is_behind(self) -> bool:
        return not self.waiting and self.position < self.end

    def next_timestamp(self) -> int:
        return self.waiting[0].timestamp()[1]


def consume_ready(consumer: Consumer, limit: int, timeout: float) -> list[Message]:
    """Wait for the first record and take what is there then; `Consumer.consume` would wait for the whole limit."""
    found = consumer.consume(1, timeout)
    return found + consumer.consume(limit - 1, 0) if found and limit > 1 else found


class MergedReader:
    """Reads partitions of a topic from given offsets on."""

    def __init__(self, consumer: Consumer, topic: str, starts: Mapping[int, int]) -> None:
        self._consumer = consumer
        self._topic = topic
        self._queues = {number: _PartitionBuffer(number, start) for number, start in starts.items()}
        consumer.assign([TopicPartition(topic, number, start) for number, start in starts.items()])

    def read_to(self, ends: Mapping[int, int]) -> Iterator[Message]:
        """Give the records that come next, in each partition up to an offset, which is not included.

        Raises:
            KafkaException: the cluster does not answer, or refuses.
        """
        for number, lane in self._queues.items():
            lane.end = ends[number]
        oldest = [(lane.next_timestamp(), lane.number) for lane in self._queues.values() if self._await_next(lane)]
        heapify(oldest)
        while oldest:
            _, number = heappop(oldest)
            lane = self._queues[number]
            yield lane.waiting.popleft()
            if self._await_next(lane):
                heappush(oldest, (lane.next_timestamp(), number))

    def _await_next(self, lane: _PartitionBuffer) -> bool:
        silent_since = time.monotonic()
        while lane.is_behind():
            if self._fetch():
                silent_since = time.monotonic()
            elif time.monotonic() - silent_since > _SILENCE_SECONDS:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT))  # noqa: SLF001
        return lane.has_next()

    def _fetch(self) -> bool:
        """Take in what has come, and tell whether there was anything."""
        self._pause_and_resume()
        found = consume_ready(self._consumer, _PAGE, _POLL_SECONDS)
        for message in found:
            lane = self._queues[cast("int", message.partition())]
            offset = cast("int", message.offset())
            error = message.error()
            if error is None:
                lane.waiting.append(message)
                lane.position = offset + 1
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
                lane.position = max(lane.position, offset)
            else:
                raise KafkaException(error)
        return bool(found)

    def _pause_and_resume(self) -> None:
        for lane in self._queues.values():
            partition = TopicPartition(self._topic, lane.number)
            if lane.is_paused and len(lane.waiting) < _NEAR:
                self._consumer.resume([partition])
                lane.is_paused = False
            elif not lane.is_paused and len(lane.waiting) > _FAR_AHEAD:
                self._consumer.pause([partition])
                lane.is_paused = True
