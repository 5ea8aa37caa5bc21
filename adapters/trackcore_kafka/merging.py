"""Several partitions merged into one stream: each in its own order, among each other by receivedAt.

Finding the partition with the oldest message requires the next message of each.  The client returns messages as they
arrive, so early ones are buffered here; a partition that is far ahead of the others is paused.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping
from heapq import heapify, heappop, heappush

import attrs
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from trackcore_kafka.records import place_in_topic

_PAGE = 1_000
_POLL_SECONDS = 0.5
_SILENCE_SECONDS = 15.0
"""The time without an expected record after which the cluster counts as unreachable."""

_FAR_AHEAD = 2_000
_NEAR = 500


@attrs.define(eq=False)
class _PartitionBuffer:
    """One partition: the next offset to fetch, and the buffered records."""

    number: int
    position: int
    end: int = 0
    is_paused: bool = False
    waiting: deque[Message] = attrs.field(init=False, factory=deque)

    def has_next(self) -> bool:
        return bool(self.waiting) and place_in_topic(self.waiting[0])[1] < self.end

    def is_behind(self) -> bool:
        return not self.waiting and self.position < self.end

    def next_timestamp(self) -> int:
        return self.waiting[0].timestamp()[1]


def consume_ready(consumer: Consumer, limit: int, timeout: float) -> list[Message]:
    """Wait for the first record and return those available then; `Consumer.consume` would wait for the whole limit."""
    found = consumer.consume(1, timeout)
    return found + consumer.consume(limit - 1, 0) if found and limit > 1 else found


class MergedReader:
    """Reads partitions of a topic, beginning at given offsets."""

    def __init__(self, consumer: Consumer, topic: str, starts: Mapping[int, int]) -> None:
        self._consumer = consumer
        self._topic = topic
        self._buffers = {number: _PartitionBuffer(number, start) for number, start in starts.items()}
        consumer.assign([TopicPartition(topic, number, start) for number, start in starts.items()])

    def read_to(self, ends: Mapping[int, int]) -> Iterator[Message]:
        """Yield the next records, in each partition up to an offset (not included).  Raises `KafkaException`."""
        for number, buffer in self._buffers.items():
            buffer.end = ends[number]
        buffers = self._buffers.values()
        oldest = [(buffer.next_timestamp(), buffer.number) for buffer in buffers if self._await_next(buffer)]
        heapify(oldest)
        while oldest:
            _, number = heappop(oldest)
            buffer = self._buffers[number]
            yield buffer.waiting.popleft()
            if self._await_next(buffer):
                heappush(oldest, (buffer.next_timestamp(), number))

    def _await_next(self, buffer: _PartitionBuffer) -> bool:
        silent_since = time.monotonic()
        while buffer.is_behind():
            if self._fetch():
                silent_since = time.monotonic()
            elif time.monotonic() - silent_since > _SILENCE_SECONDS:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT))  # noqa: SLF001
        return buffer.has_next()

    def _fetch(self) -> bool:
        """Buffer the records that have arrived, and return whether there were any."""
        self._pause_and_resume()
        found = consume_ready(self._consumer, _PAGE, _POLL_SECONDS)
        for message in found:
            number, offset = place_in_topic(message)
            buffer, error = self._buffers[number], message.error()
            if error is None:
                buffer.waiting.append(message)
                buffer.position = offset + 1
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
                buffer.position = max(buffer.position, offset)
            else:
                raise KafkaException(error)
        return bool(found)

    def _pause_and_resume(self) -> None:
        for buffer in self._buffers.values():
            partition = TopicPartition(self._topic, buffer.number)
            if buffer.is_paused and len(buffer.waiting) < _NEAR:
                self._consumer.resume([partition])
                buffer.is_paused = False
            elif not buffer.is_paused and len(buffer.waiting) > _FAR_AHEAD:
                self._consumer.pause([partition])
                buffer.is_paused = True
