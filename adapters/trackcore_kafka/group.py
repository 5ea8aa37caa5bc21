"""Reading as a consumer group: several processes share the partitions, and the cluster knows how far they are.

The caller commits a position when its messages are processed.  If a reader dies, the next one repeats only the messages
that were not committed yet (at least once, in order for each user).

A reader that is assigned a partition begins `duplicate_window` positions before the committed one, and reads only the
ids of these; so a duplicate is found no matter who read its original (see `trackcore_kafka.deduplication`).

The identity of the message is committed with the position (see `trackcore_kafka.proofs`).  If it shows that the topic
is another one than before, or if the position is behind the end, the partition is read from its first message.

Partitions are assigned and revoked only within `poll`, `rest` and `close`.  Each assignment is a new turn: messages
that were returned before it, and not committed, are returned again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import count

import attrs
import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from trackcore import StoredPayload
from trackcore_kafka.cluster import KafkaCluster, explain
from trackcore_kafka.deduplication import DuplicateWindow, identity
from trackcore_kafka.forks import OwnConsumer, is_of_a_parent
from trackcore_kafka.log import DUPLICATE_WINDOW, FOREIGN_RECORD
from trackcore_kafka.masking import log
from trackcore_kafka.proofs import Proof
from trackcore_kafka.records import message_identity, offset_of, partition_of, place_in_topic, stored_payload
from trackcore_kafka.topics import KafkaTopics

_SECONDS = 10.0
_END_SECONDS = 2.0
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
    """An assigned partition: where its messages start, and how far they were returned and examined."""

    turn: int
    start: int
    window: DuplicateWindow
    returned: int
    seen: int
    proof: Proof | None


class KafkaGroupReader:
    """Reads messages as a member of a consumer group.  For one thread, and for the process that made it.

    Each group reads everything, its members share it.  With `begin_at_end` a group that has committed nothing in a
    partition begins with its next message, not its oldest.
    """

    def __init__(
        self,
        cluster: KafkaCluster,
        topics: KafkaTopics | None = None,
        *,
        group: str,
        duplicate_window: int = DUPLICATE_WINDOW,
        begin_at_end: bool = False,
    ) -> None:
        self._cluster = cluster
        self._topic = (topics or KafkaTopics()).messages
        self._group = group
        self._duplicate_window = duplicate_window
        self._begin_at_end = begin_at_end
        self._shares: dict[int, _Share] = {}
        self._to_restart: set[int] = set()
        self._numbers = count(1)
        self._is_resting = False
        self._is_to_join_again = False
        self._error: KafkaException | None = None
        self._consumer = self._join()

    @property
    def partitions(self) -> frozenset[int]:
        """The partitions of this member now.  It can no longer commit messages of others."""
        return frozenset(self._shares)

    @property
    def turns(self) -> Mapping[int, int]:
        """The partitions of this member now, each with the number of its turn, which is never used again."""
        return {number: share.turn for number, share in self._shares.items()}

    def poll(self, limit: int = _PAGE, timeout: float = 1.0) -> list[StoredPayload]:
        """Return up to `limit` messages, in order within each partition; wait up to `timeout` seconds for the first.

        Call it, or `rest`, again within five minutes (`max.poll.interval.ms`), or the partitions go to another member.
        Raises `UnusableCluster` if the cluster refuses.
        """
        self._recover()
        if self._is_resting:
            self._is_resting = False
            self._consumer.resume(self._assigned())
        found, ready = self._read(1, timeout)
        while found and len(ready) < limit and self._error is None:
            # The messages that have arrived: `consume` would wait for as many as its argument.
            found, more = self._read(limit - len(ready), 0)
            ready += more
            if ready:
                break
        if self._error is not None and not ready:
            self._recover()
        return [stored for share, stored in ready if self._shares.get(partition_of(stored.seq)) is share]

    def rest(self) -> None:
        """Stay a member without reading messages, while those that were read cannot be processed yet.

        Raises `UnusableCluster` if the cluster has refused.
        """
        self._recover()
        if not self._is_resting:
            self._is_resting = True
            self._consumer.pause(self._assigned())
        try:
            self._consumer.poll(0)
        except KafkaException as error:
            self._must_join_again(error)

    def commit(self, done: Iterable[StoredPayload]) -> None:
        """Record in the cluster that these messages, and all before them in their partitions, are processed.

        Messages of a partition that has gone to another member are left to that member.  Raises `UnusableCluster` if
        the cluster does not answer; the messages may be returned again.
        """
        self._cluster.check_is_own(self._consumer)
        last: dict[int, StoredPayload] = {}
        for stored in sorted(done, key=lambda stored: stored.seq):
            if partition_of(stored.seq) in self._shares:
                last[partition_of(stored.seq)] = stored
        offsets = [
            TopicPartition(self._topic, number, self._passed(number, offset_of(stored.seq) + 1), str(Proof.of(stored)))
            for number, stored in last.items()
        ]
        if not offsets:
            return
        try:
            self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            if error.args[0].code() not in _LOST:
                raise self._cluster.unusable(error) from None
            log.info("partitions have gone to another reader: %s", explain(error.args[0]))
        else:
            self._to_restart -= last.keys()

    def ends(self) -> Mapping[int, int]:
        """Return for each partition of this member the offset of its next message.  Raises `UnusableCluster`."""
        ends = {}
        try:
            for part in self._assigned():
                _, ends[part.partition] = self._consumer.get_watermark_offsets(part, timeout=_END_SECONDS)
        except KafkaException as error:
            raise self._cluster.unusable(error) from None
        return ends

    def close(self) -> None:
        """Leave the group; others take over at once.  In a fork it does nothing: the parent is the member."""
        if not is_of_a_parent(self._consumer):
            self._consumer.close()

    def _join(self) -> OwnConsumer:
        consumer = self._cluster.make(
            OwnConsumer,
            group_id=self._group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            partition_assignment_strategy="cooperative-sticky",
            queued_max_messages_kbytes=16_384,
        )
        consumer.subscribe([self._topic], on_assign=self._assign, on_revoke=self._revoke, on_lost=self._revoke)
        return consumer

    def _recover(self) -> None:
        """Raise an error that came after messages had been returned, and join again if a turn could not begin.

        The cluster would count such a partition as assigned, but none of its messages would ever be returned.
        """
        self._cluster.check_is_own(self._consumer)
        error, self._error = self._error, None
        if error is not None:
            raise self._cluster.unusable(error) from None
        if self._is_to_join_again:
            self._consumer.close()
            self._shares.clear()
            self._is_resting = self._is_to_join_again = False
            self._consumer = self._join()

    def _read(self, limit: int, timeout: float) -> tuple[bool, list[tuple[_Share, StoredPayload]]]:
        """Return whether anything came, and the messages to return.  An error is kept until those are returned."""
        ready = []
        try:
            found = self._consumer.consume(limit, timeout)
        except KafkaException as refused:
            self._must_join_again(refused)
            return False, []
        for message in found:
            error = message.error()
            if error is not None:
                self._error = KafkaException(error)
                continue
            share = self._shares.get(place_in_topic(message)[0])
            stored = None if share is None else self._look_at(share, message)
            if share is not None and stored is not None:
                ready.append((share, stored))
        return bool(found), ready

    def _assigned(self) -> list[TopicPartition]:
        return [TopicPartition(self._topic, number) for number in self._shares]

    def _passed(self, number: int, end: int) -> int:
        """Skip the duplicates that follow the last message that was returned."""
        share = self._shares[number]
        return share.seen if end == share.returned else end

    def _look_at(self, share: _Share, found: Message) -> StoredPayload | None:
        number, offset = place_in_topic(found)
        share.seen = offset + 1
        if share.proof is not None and share.proof.is_refuted_by(found):
            self._restart(number)
            return None
        try:
            is_duplicate = share.window.is_duplicate(offset, identity(*message_identity(found)))
            if is_duplicate or offset < share.start:
                return None
            stored = stored_payload(found)
        except (KeyError, ValueError, msgspec.DecodeError):
            log.warning(FOREIGN_RECORD, number, offset, self._topic)
            return None
        share.returned = offset + 1
        return stored

    def _restart(self, number: int) -> None:
        """Start a turn in which a partition is read from its first message: it is not the one that was read before."""
        self._warn_of_another(number)
        self._to_restart.add(number)
        del self._shares[number]
        self._is_to_join_again = True

    def _warn_of_another(self, number: int) -> None:
        text = (
            "partition %d of topic %s is not the one that group %s has read so far; beginning with its oldest message"
        )
        log.warning(text, number, self._topic, self._group)

    def _assign(self, consumer: Consumer, assigned: list[TopicPartition]) -> None:
        """Start turns.  No error may leave a callback: the client would raise one that Python cannot catch as such."""
        try:
            begin = self._begin(consumer, assigned)
            consumer.incremental_assign(begin)
            if self._is_resting:
                consumer.pause(begin)
        except KafkaException as error:
            for part in assigned:
                self._shares.pop(part.partition, None)
            self._must_join_again(error)

    def _begin(self, consumer: Consumer, assigned: list[TopicPartition]) -> list[TopicPartition]:
        """Return where to start reading, and commit the start of a new group that begins at the end."""
        begin = []
        new = []
        for part in consumer.committed(assigned, timeout=_SECONDS):
            if part.error is not None:
                raise KafkaException(part.error)
            first, end = consumer.get_watermark_offsets(part, timeout=_SECONDS)
            start, proof = max(part.offset, first), Proof.parse(part.metadata)  # a negative offset: nothing committed
            if part.partition in self._to_restart:
                start, proof = first, None
            elif start > end:
                self._warn_of_another(part.partition)
                start, proof = first, None
            if part.offset < 0 and self._begin_at_end:
                start = end
                new.append(TopicPartition(part.topic, part.partition, end))
            window = DuplicateWindow(self._duplicate_window)
            self._shares[part.partition] = _Share(next(self._numbers), start, window, start, start, proof)
            earliest = min(start - self._duplicate_window, start if proof is None else proof.offset)
            begin.append(TopicPartition(part.topic, part.partition, max(first, earliest)))
        if new:  # the next member must not begin at a later end
            consumer.commit(offsets=new, asynchronous=False)
        return begin

    def _revoke(self, consumer: Consumer, revoked: list[TopicPartition]) -> None:
        for part in revoked:
            self._shares.pop(part.partition, None)
        try:
            consumer.incremental_unassign(revoked)
        except KafkaException as error:
            self._must_join_again(error)

    def _must_join_again(self, error: KafkaException) -> None:
        self._error = error
        self._is_to_join_again = True
