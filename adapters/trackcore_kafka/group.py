"""Reading as a consumer group: several processes share the partitions, and what they did is known to the cluster.

A position is committed when whoever reads says that its messages are dealt with; so a reader that dies leaves to the
next only what it had not committed yet, which is then given again (at least once, in order for each user).

A reader that gets a partition begins `duplicate_window` positions before the committed one, and looks at these for
their ids alone; so a duplicate is found wherever its original was read (see `trackcore_kafka.duplicates`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import attrs
import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from trackcore_kafka.cluster import KafkaCluster, log
from trackcore_kafka.duplicates import Window, identity
from trackcore_kafka.log import DUPLICATE_WINDOW
from trackcore_kafka.merging import consume_ready
from trackcore_kafka.records import StoredPayload, message_identity, stored_payload
from trackcore_kafka.topics import KafkaTopics

_SECONDS = 10.0
_PAGE = 1_000
_LOST = {
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError._STATE,  # noqa: SLF001
    KafkaError._NO_OFFSET,  # noqa: SLF001
}


@attrs.define(eq=False)
class _Share:
    """One partition that is ours: from where messages are given, and how far they were given and looked at."""

    start: int
    window: Window
    given: int
    seen: int


class KafkaGroupReader:
    """Reads messages as a member of a consumer group.  For one thread.

    Args:
        cluster: the cluster.
        topics: its topics.
        group: the name of the group; each group reads everything, its members share it.
        duplicate_window: upon how many positions of a partition is looked back to find duplicates.
    """

    def __init__(
        self,
        cluster: KafkaCluster,
        topics: KafkaTopics | None = None,
        *,
        group: str,
        duplicate_window: int = DUPLICATE_WINDOW,
    ) -> None:
        self._cluster = cluster
        self._topic = (topics or KafkaTopics()).messages
        self._duplicate_window = duplicate_window
        self._shares: dict[int, _Share] = {}
        self._is_resting = False
        self._consumer = Consumer(
            cluster.settings(
                group_id=group,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                partition_assignment_strategy="cooperative-sticky",
                queued_max_messages_kbytes=16_384,
            )
        )
        self._consumer.subscribe([self._topic], on_assign=self._take, on_revoke=self._give_up, on_lost=self._give_up)

    @property
    def partitions(self) -> frozenset[int]:
        """The partitions that are this member's now.  What was given of others is no longer its to commit."""
        return frozenset(self._shares)

    def poll(self, limit: int = _PAGE, timeout: float = 1.0) -> list[StoredPayload]:
        """Give up to `limit` messages, those of each partition in order, waiting up to `timeout` seconds for the first.

        It, or `rest`, must be called again within five minutes (`max.poll.interval.ms`), or the partitions go to
        another member.

        Raises:
            UnusableCluster: the cluster refuses.
        """
        given = []
        if self._is_resting:
            self._is_resting = False
            self._consumer.resume(self._assigned())
        try:
            found = consume_ready(self._consumer, limit, timeout)
        except KafkaException as refused:
            raise self._cluster.unusable(refused) from refused
        for message in found:
            error = message.error()
            if error is not None:
                raise self._cluster.unusable(KafkaException(error))
            stored = self._look_at(message)
            if stored is not None:
                given.append(stored)
        return given

    def rest(self) -> None:
        """Stay a member without taking messages: for who must wait before it can go on with what it has."""
        if not self._is_resting:
            self._is_resting = True
            self._consumer.pause(self._assigned())
        self._consumer.poll(0)

    def commit(self, done: Iterable[StoredPayload]) -> None:
        """Remember in the cluster that these messages, and all before them in their partitions, are dealt with.

        What belongs to a partition that has gone to another member meanwhile is left to that member.

        Raises:
            UnusableCluster: the cluster does not answer; the messages may be given again.
        """
        ends: dict[int, int] = {}
        for stored in done:
            if stored.partition in self._shares:
                ends[stored.partition] = max(ends.get(stored.partition, 0), stored.offset + 1)
        offsets = [TopicPartition(self._topic, number, self._passed(number, end)) for number, end in ends.items()]
        if not offsets:
            return
        try:
            self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            if error.args[0].code() not in _LOST:
                raise self._cluster.unusable(error) from error
            log.info("partitions have gone to another reader: %s", error.args[0].str())

    def close(self) -> None:
        """Leave the group; others take over at once."""
        self._consumer.close()

    def _assigned(self) -> list[TopicPartition]:
        return [TopicPartition(self._topic, number) for number in self._shares]

    def _passed(self, number: int, end: int) -> int:
        """Go past the duplicates that follow the last message that was given."""
        share = self._shares[number]
        return share.seen if end == share.given else end

    def _look_at(self, found: Message) -> StoredPayload | None:
        number, offset = cast("int", found.partition()), cast("int", found.offset())
        share = self._shares[number]
        share.seen = offset + 1
        try:
            is_duplicate = share.window.is_duplicate(offset, identity(*message_identity(found)))
            if is_duplicate or offset < share.start:
                return None
            stored = stored_payload(found)
        except (KeyError, ValueError, msgspec.DecodeError):
            log.warning("record %d-%d of topic %s is none of ours; it is passed over", number, offset, self._topic)
            return None
        share.given = offset + 1
        return stored

    def _take(self, consumer: Consumer, assigned: list[TopicPartition]) -> None:
        begin = []
        for part in consumer.committed(assigned, timeout=_SECONDS):
            first, _ = consumer.get_watermark_offsets(part, timeout=_SECONDS)
            start = max(part.offset, first)  # a negative offset says that nothing was committed
            self._shares[part.partition] = _Share(start, Window(self._duplicate_window), start, start)
            begin.append(TopicPartition(part.topic, part.partition, max(first, start - self._duplicate_window)))
        consumer.incremental_assign(begin)
        if self._is_resting:
            consumer.pause(begin)

    def _give_up(self, consumer: Consumer, revoked: list[TopicPartition]) -> None:
        for part in revoked:
            self._shares.pop(part.partition, None)
        consumer.incremental_unassign(revoked)
