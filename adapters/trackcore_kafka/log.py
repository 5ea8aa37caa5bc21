"""Reading the log, from any process and while it is written.

Each message is read once, by the rule of `trackcore_kafka.deduplication`.  Within a partition, and so for each user
of a source, messages come in the order in which they were stored; messages of different partitions are put in the order
of their receivedAt.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import datetime
from functools import partial
from typing import Generic, TypeVar

import attrs
import msgspec
from confluent_kafka import OFFSET_END, KafkaException, Message, TopicPartition

from trackcore import EVERYTHING, Query, StoredMessage, StoredPayload, StoredQuarantined, StoredRejected, Totals
from trackcore.support import EPOCH, MILLISECOND
from trackcore_kafka.cluster import KafkaCluster
from trackcore_kafka.deduplication import DuplicateWindow, identity
from trackcore_kafka.forks import OwnConsumer, is_of_a_parent
from trackcore_kafka.masking import log
from trackcore_kafka.merging import MergedReader
from trackcore_kafka.records import (
    message_identity,
    place_in_topic,
    stored_message,
    stored_payload,
    stored_quarantined,
    stored_rejected,
)
from trackcore_kafka.topics import KafkaTopics

T = TypeVar("T")

DUPLICATE_WINDOW = 20_000
"""How many positions of a partition a reader looks back to find duplicates."""

FOREIGN_RECORD = "record %d-%d of topic %s was not written by trackcore; it is skipped"

_SECONDS = 10.0
_LOOK_BACK = 4
_LOOK_BACK_FURTHER = 16
"""To find the newest n: how many times n is read at first, and how many times more each further time."""


class KafkaLog:
    """Reads the log in a cluster: a `trackcore.Log`.

    The `seq` of a message is made of its partition and offset (see `seq_of`); that of other records is their number.

    A reader looks back `duplicate_window` positions of a partition to find duplicates.  Methods raise `UnusableCluster`
    if the cluster does not answer, or has no such topics.
    """

    def __init__(
        self, cluster: KafkaCluster, topics: KafkaTopics | None = None, *, duplicate_window: int = DUPLICATE_WINDOW
    ) -> None:
        self._cluster = cluster
        self._topics = topics or KafkaTopics()
        self._duplicate_window = duplicate_window

    def messages(self, query: Query = EVERYTHING) -> Iterator[StoredMessage]:
        """See `trackcore.Log.messages`."""
        return _read_once(self.tail(query))

    def payloads(self, query: Query = EVERYTHING) -> Iterator[StoredPayload]:
        """See `trackcore.Log.payloads`."""

        def pick(found: Message) -> StoredPayload | None:
            return None if _pick_message(found, query) is None else stored_payload(found)

        return _read_once(self._tail(self._topics.messages, pick, query, self._duplicate_window))

    def tail(self, query: Query = EVERYTHING) -> KafkaTail[StoredMessage]:
        """See `trackcore.Log.tail`."""
        pick = partial(_pick_message, query=query)
        return self._tail(self._topics.messages, pick, query, self._duplicate_window)

    def rejected(self, query: Query = EVERYTHING) -> Iterator[StoredRejected]:
        """See `trackcore.Log.rejected`."""
        pick = partial(_pick, stored_rejected, query.matches_rejected)
        return _read_once(self._tail(self._topics.rejected, pick, query))

    def quarantined(self, query: Query = EVERYTHING) -> Iterator[StoredQuarantined]:
        """See `trackcore.Log.quarantined`."""
        pick = partial(_pick, stored_quarantined, query.matches_quarantined)
        return _read_once(self._tail(self._topics.quarantine, pick, query))

    def totals(self) -> Totals:
        """See `trackcore.Log.totals`.  Duplicates among the messages count."""
        with _reading(self._cluster) as consumer:
            messages = _bounds(self._cluster, consumer, self._topics.messages).values()
            ((rejected_first, rejected_end),) = _bounds(self._cluster, consumer, self._topics.rejected).values()
            ((first, end),) = _bounds(self._cluster, consumer, self._topics.quarantine).values()
        return Totals(
            messages=sum(end - first for first, end in messages),
            rejected=rejected_end - rejected_first,
            rejected_dropped=rejected_first,
            quarantined=end - first,
            quarantined_dropped=first,
        )

    def _tail(self, topic: str, pick: Callable[[Message], T | None], query: Query, window: int = 0) -> KafkaTail[T]:
        return KafkaTail(self._cluster, topic, pick, query.since, query.limit, window)

    def behind(self, group: str) -> int:
        """Count the messages behind the positions that a consumer group has committed, duplicates included."""
        with _reading(self._cluster, group) as consumer:
            bounds = _bounds(self._cluster, consumer, self._topics.messages)
            asked = [TopicPartition(self._topics.messages, number) for number in bounds]
            committed = {part.partition: part.offset for part in consumer.committed(asked, timeout=_SECONDS)}
        return sum(max(0, end - max(committed[number], first)) for number, (first, end) in bounds.items())


@attrs.define(eq=False)
class KafkaTail(Generic[T]):
    """A reader that stays where it was left: a `trackcore.Tail`.

    `pick` reads a record, and returns None if it does not match.  With a `window` each message is read once.
    """

    _cluster: KafkaCluster
    _topic: str
    _pick: Callable[[Message], T | None]
    _since: datetime | None
    _limit: int | None
    _window: int = 0
    _consumer: OwnConsumer | None = attrs.field(init=False, default=None)
    _reader: MergedReader | None = attrs.field(init=False, default=None)
    _starts: Mapping[int, int] = attrs.field(init=False, factory=dict)
    _windows: Mapping[int, DuplicateWindow] = attrs.field(init=False, factory=dict)

    def read(self) -> Iterator[T]:
        """See `trackcore.Tail.read`.

        Raises `UnusableCluster` if the cluster does not answer, the topic does not exist, or a parent process has read
        from this reader.
        """
        with _readable(self._cluster):
            if self._consumer is None:
                self._consumer = _consumer(self._cluster)
            self._cluster.check_is_own(self._consumer)
            bounds = _bounds(self._cluster, self._consumer, self._topic)
            ends = {number: end for number, (_, end) in bounds.items()}
            if self._reader is not None:
                yield from self._read_to(self._reader, ends)
                return
            firsts = {number: first for number, (first, _) in bounds.items()}
            if self._limit is None:
                yield from self._read_to(self._begin(firsts, self._since_offsets(firsts, ends)), ends)
            else:
                yield from self._newest(self._limit, firsts, ends)

    def close(self) -> None:
        """Close the connection to the cluster."""
        if self._consumer is not None and not is_of_a_parent(self._consumer):
            self._consumer.close()

    def _newest(self, limit: int, firsts: Mapping[int, int], ends: Mapping[int, int]) -> deque[T]:
        """Return the newest records, reading further and further back until there are enough."""
        lowest = self._since_offsets(firsts, ends)
        back = _LOOK_BACK * limit
        while True:
            starts = {number: max(lowest[number], end - back) for number, end in ends.items()}
            newest = deque(self._read_to(self._begin(firsts, starts), ends), maxlen=limit)
            if len(newest) == limit or starts == lowest:
                return newest
            back *= _LOOK_BACK_FURTHER

    def _begin(self, firsts: Mapping[int, int], starts: Mapping[int, int]) -> MergedReader:
        """Start to read where duplicates of the messages at `starts` could be."""
        assert self._consumer is not None
        self._starts = starts
        self._windows = {number: DuplicateWindow(self._window) for number in starts}
        primed = {number: max(firsts[number], start - self._window) for number, start in starts.items()}
        self._reader = MergedReader(self._consumer, self._topic, primed)
        return self._reader

    def _read_to(self, reader: MergedReader, ends: Mapping[int, int]) -> Iterator[T]:
        for found in reader.read_to(ends):
            number, offset = place_in_topic(found)
            try:
                if self._window and self._windows[number].is_duplicate(offset, identity(*message_identity(found))):
                    continue
                picked = self._pick(found) if offset >= self._starts[number] else None
            except (KeyError, ValueError, msgspec.DecodeError):
                log.warning(FOREIGN_RECORD, number, offset, self._topic)
                continue
            if picked is not None:
                yield picked
                assert self._consumer is not None
                self._cluster.check_is_own(self._consumer)

    def _since_offsets(self, firsts: Mapping[int, int], ends: Mapping[int, int]) -> Mapping[int, int]:
        """Return for each partition the first offset whose message was received at `since` or later."""
        if self._since is None:
            return firsts
        assert self._consumer is not None
        time = (self._since - EPOCH) // MILLISECOND
        asked = [TopicPartition(self._topic, number, time) for number in firsts]
        found = self._consumer.offsets_for_times(asked, timeout=_SECONDS)
        return {part.partition: ends[part.partition] if part.offset == OFFSET_END else part.offset for part in found}


def _pick_message(found: Message, query: Query) -> StoredMessage | None:
    stored = stored_message(found)
    return stored if query.matches_message(stored, found.value() or b"") else None


def _pick(read: Callable[[Message], T], matches: Callable[[T], bool], found: Message) -> T | None:
    stored = read(found)
    return stored if matches(stored) else None


def _read_once(tail: KafkaTail[T]) -> Iterator[T]:
    with closing(tail):
        yield from tail.read()


def _consumer(cluster: KafkaCluster, group: str = "trackcore") -> OwnConsumer:
    """Build a consumer that is a member of no group: it reads the partitions it is assigned, and commits nothing."""
    return cluster.make(
        OwnConsumer,
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        enable_partition_eof=True,
        queued_max_messages_kbytes=16_384,
        fetch_wait_max_ms=100,
    )


@contextmanager
def _reading(cluster: KafkaCluster, group: str = "trackcore") -> Iterator[OwnConsumer]:
    with _readable(cluster), closing(_consumer(cluster, group)) as consumer:
        yield consumer


@contextmanager
def _readable(cluster: KafkaCluster) -> Iterator[None]:
    try:
        yield
    except KafkaException as error:
        raise cluster.unusable(error) from None


def _bounds(cluster: KafkaCluster, consumer: OwnConsumer, topic: str) -> dict[int, tuple[int, int]]:
    """Return for each partition the first offset that is there, and the one that will be next."""
    found = consumer.list_topics(topic, timeout=_SECONDS).topics[topic]
    if not found.partitions:
        raise cluster.unusable(f"there is no topic {topic}; `trackcore serve` makes it")
    return {
        number: consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=_SECONDS)
        for number in sorted(found.partitions)
    }
