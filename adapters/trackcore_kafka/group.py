"""Reading as a consumer group: several processes share the partitions, and what they did is known to the cluster.

A position is committed when whoever reads says that its messages are dealt with; so a reader that dies leaves to the
next only what it had not committed yet, which is then given again (at least once, in order for each user).

A reader that gets a partition begins `duplicate_window` positions before the committed one, and looks at these for
their ids alone; so a duplicate is found wherever its original was read (see `trackcore_kafka.duplicate_window`).

With a position the identity of its message is committed (see `trackcore_kafka.proofs`).  Where that shows that the
topic is another one than before, or the position lies behind the end, the partition is given from its first message.

Partitions come and go only within `poll`, `rest` and `close`.  Each time that one comes is a new turn: what was given
of it before, and not committed, is given again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import count
from typing import cast

import attrs
import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from trackcore import StoredPayload
from trackcore_kafka.cluster import KafkaCluster, explain
from trackcore_kafka.duplicate_window import DuplicateWindow, identity
from trackcore_kafka.forks import OwnConsumer, is_of_a_parent
from trackcore_kafka.log import DUPLICATE_WINDOW, FOREIGN_RECORD
from trackcore_kafka.masking import log
from trackcore_kafka.proofs import Proof
from trackcore_kafka.records import message_identity, offset_of, partition_of, stored_payload
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
    """One partition that is ours: from where messages are given, and how far they were given and looked at."""

    turn: int
    start: int
    window: DuplicateWindow
    given: int
    seen: int
    proof: Proof | None


class KafkaGroupReader:
    """Reads messages as a member of a consumer group.  For one thread, and for the process that made it.

    Args:
        cluster: the cluster.
        topics: its topics.
        group: the name of the group; each group reads everything, its members share it.
        duplicate_window: upon how many positions of a partition is looked back to find duplicates.
        begin_at_end: a group that has committed nothing in a partition begins with its next message, not its oldest.
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
        self._to_begin_anew: set[int] = set()
        self._numbers = count(1)
        self._is_resting = False
        self._is_to_join_again = False
        self._trouble: KafkaException | None = None
        self._consumer = self._join()

    @property
    def partitions(self) -> frozenset[int]:
        """The partitions that are this member's now.  What was given of others is no longer its to commit."""
        return frozenset(self._shares)

    @property
    def turns(self) -> Mapping[int, int]:
        """The partitions that are this member's now, each with the number of its turn, which is never used again."""
        return {number: share.turn for number, share in self._shares.items()}

    def poll(self, limit: int = _PAGE, timeout: float = 1.0) -> list[StoredPayload]:
        """Give up to `limit` messages, those of each partition in order, waiting up to `timeout` seconds for the first.

        It, or `rest`, must be called again within five minutes (`max.poll.interval.ms`), or the partitions go to
        another member.

        Raises:
            UnusableCluster: the cluster refuses.
        """
        self._recover()
        if self._is_resting:
            self._is_resting = False
            self._consumer.resume(self._assigned())
        found, given = self._read(1, timeout)
        while found and len(given) < limit and self._trouble is None:
            # What is there by now; `consume` would wait for as many as it is asked for.
            found, more = self._read(limit - len(given), 0)
            given += more
            if given:
                break
        if self._trouble is not None and not given:
            self._recover()
        return [stored for share, stored in given if self._shares.get(partition_of(stored.seq)) is share]

    def rest(self) -> None:
        """Stay a member without taking messages: for who must wait before it can go on with what it has.

        Raises:
            UnusableCluster: the cluster has refused.
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
        """Remember in the cluster that these messages, and all before them in their partitions, are dealt with.

        What belongs to a partition that has gone to another member meanwhile is left to that member.

        Raises:
            UnusableCluster: the cluster does not answer; the messages may be given again.
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
            self._to_begin_anew -= last.keys()

    def ends(self) -> Mapping[int, int]:
        """Return of each partition that is this member's now the offset that its next message will have.

        Raises:
            UnusableCluster: the cluster does not answer.
        """
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
        consumer.subscribe([self._topic], on_assign=self._take, on_revoke=self._give_up, on_lost=self._give_up)
        return consumer

    def _recover(self) -> None:
        """Tell of trouble that came after messages had been given, and join again where a turn could not begin.

        Such a partition is ours to the cluster, yet nothing of it would ever be given.
        """
        self._cluster.check_is_own(self._consumer)
        trouble, self._trouble = self._trouble, None
        if trouble is not None:
            raise self._cluster.unusable(trouble) from None
        if self._is_to_join_again:
            self._consumer.close()
            self._shares.clear()
            self._is_resting = self._is_to_join_again = False
            self._consumer = self._join()

    def _read(self, limit: int, timeout: float) -> tuple[bool, list[tuple[_Share, StoredPayload]]]:
        """Tell whether anything came, and give what of it is to be given.  Trouble is kept: nothing gets lost by it."""
        given = []
        try:
            found = self._consumer.consume(limit, timeout)
        except KafkaException as refused:
            self._must_join_again(refused)
            return False, []
        for message in found:
            error = message.error()
            if error is not None:
                self._trouble = KafkaException(error)
                continue
            share = self._shares.get(cast("int", message.partition()))
            stored = None if share is None else self._look_at(share, message)
            if share is not None and stored is not None:
                given.append((share, stored))
        return bool(found), given

    def _assigned(self) -> list[TopicPartition]:
        return [TopicPartition(self._topic, number) for number in self._shares]

    def _passed(self, number: int, end: int) -> int:
        """Go past the duplicates that follow the last message that was given."""
        share = self._shares[number]
        return share.seen if end == share.given else end

    def _look_at(self, share: _Share, found: Message) -> StoredPayload | None:
        number, offset = cast("int", found.partition()), cast("int", found.offset())
        share.seen = offset + 1
        if share.proof is not None and share.proof.is_refuted_by(found):
            self._begin_anew(number)
            return None
        try:
            is_duplicate = share.window.is_duplicate(offset, identity(*message_identity(found)))
            if is_duplicate or offset < share.start:
                return None
            stored = stored_payload(found)
        except (KeyError, ValueError, msgspec.DecodeError):
            log.warning(FOREIGN_RECORD, number, offset, self._topic)
            return None
        share.given = offset + 1
        return stored

    def _begin_anew(self, number: int) -> None:
        """Read a partition from its first message, in a turn of its own: it is not the one that was read before."""
        self._tell_of_another(number)
        self._to_begin_anew.add(number)
        del self._shares[number]
        self._is_to_join_again = True

    def _tell_of_another(self, number: int) -> None:
        log.warning(
            "partition %d of topic %s is not the one that group %s has read so far; beginning with its oldest message",
            number,
            self._topic,
            self._group,
        )

    def _take(self, consumer: Consumer, assigned: list[TopicPartition]) -> None:
        """Begin turns.  No error may leave a callback: the client would raise what Python does not take for one."""
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
        """Give from where to read, and say to the cluster where a group begins that begins at the end."""
        begin = []
        new = []
        for part in consumer.committed(assigned, timeout=_SECONDS):
            if part.error is not None:
                raise KafkaException(part.error)
            first, end = consumer.get_watermark_offsets(part, timeout=_SECONDS)
            start, proof = max(part.offset, first), Proof.parse(part.metadata)  # a negative offset: nothing committed
            if part.partition in self._to_begin_anew:
                start, proof = first, None
            elif start > end:
                self._tell_of_another(part.partition)
                start, proof = first, None
            if part.offset < 0 and self._begin_at_end:
                start = end
                new.append(TopicPartition(part.topic, part.partition, end))
            window = DuplicateWindow(self._duplicate_window)
            self._shares[part.partition] = _Share(next(self._numbers), start, window, start, start, proof)
            earliest = min(start - self._duplicate_window, start if proof is None else proof.offset)
            begin.append(TopicPartition(part.topic, part.partition, max(first, earliest)))
        if new:  # who comes next must not begin at a later end
            consumer.commit(offsets=new, asynchronous=False)
        return begin

    def _give_up(self, consumer: Consumer, revoked: list[TopicPartition]) -> None:
        for part in revoked:
            self._shares.pop(part.partition, None)
        try:
            consumer.incremental_unassign(revoked)
        except KafkaException as error:
            self._must_join_again(error)

    def _must_join_again(self, error: KafkaException) -> None:
        self._trouble = error
        self._is_to_join_again = True
