"""Reading as a consumer group, and sending to a topic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest
from adapter_helpers import envelope
from confluent_kafka import KafkaError, TopicPartition
from mock_cluster import PRODUCE, MockCluster
from patience import wait_for
from trackcore_kafka import (
    KafkaCluster,
    KafkaGroupReader,
    KafkaLog,
    KafkaSink,
    KafkaTopics,
    KafkaTopicWriter,
    NotAcknowledged,
    UnusableCluster,
    partition_of,
)

from trackcore import StoredPayload

OFFSET_FETCH = 9


def _quick(cluster: MockCluster) -> KafkaCluster:
    """Notice soon that a member has left: the mock cluster waits for its session to end."""
    return attrs.evolve(cluster.address, client={"session.timeout.ms": 3_000, "heartbeat.interval.ms": 200})


def read(reader: KafkaGroupReader, is_enough: Callable[[list[StoredPayload]], bool]) -> list[StoredPayload]:
    """Poll until there is enough."""
    found: list[StoredPayload] = []

    def poll() -> bool:
        found.extend(reader.poll(timeout=0.1))
        return is_enough(found)

    wait_for(poll)
    return found


def ids(found: list[StoredPayload]) -> list[str]:
    return [stored.message_id for stored in found]


class TestGroup:
    def test_a_message_with_all_that_delivery_needs(self, cluster: MockCluster, sink: KafkaSink) -> None:
        sent = envelope("a", user_id=None, anonymous_id="anon", destinations=("Mixpanel",))
        sink.store([sent])
        reader = KafkaGroupReader(_quick(cluster), sink._topics, group=sink._topics.prefix)
        (found,) = read(reader, lambda found: len(found) == 1)
        assert (found.source, found.user, found.call, found.destinations, found.payload, found.received_at) == (
            "website",
            "anon",
            "track",
            ("Mixpanel",),
            sent.payload,
            sent.received_at,
        )
        assert partition_of(found.seq) in reader.partitions
        reader.close()

    def test_what_was_committed_is_not_given_again(self, cluster: MockCluster) -> None:
        """Messages that were not committed are read again, from the first of them on."""
        topics = cluster.topics(partitions=1)
        sink = KafkaSink(cluster.address, topics)
        sink.store([envelope(f"{n}") for n in range(6)])
        first = KafkaGroupReader(_quick(cluster), topics, group=topics.prefix)
        found = read(first, lambda found: len(found) == 6)
        first.commit(found[:4])
        first.close()
        second = KafkaGroupReader(_quick(cluster), topics, group=topics.prefix)
        assert ids(read(second, lambda found: len(found) == 2)) == ["4", "5"]
        second.close()
        sink.close()

    def test_a_duplicate_of_what_was_committed_before(self, cluster: MockCluster) -> None:
        """A reader begins before the committed position, and reads ids there."""
        topics = cluster.topics(partitions=1)
        for sent in (["a", "b"], ["a", "c"]):
            sink = KafkaSink(cluster.address, topics)
            sink.store([envelope(message_id) for message_id in sent])
            sink.close()
            reader = KafkaGroupReader(_quick(cluster), topics, group=topics.prefix)
            found = read(reader, lambda found: ids(found)[-1:] in (["b"], ["c"]))
            reader.commit(found)
            reader.close()
        assert ids(found) == ["c"]

    def test_duplicates_after_the_last_message_are_left_behind(self, cluster: MockCluster) -> None:
        topics = cluster.topics(partitions=1)
        sinks = [KafkaSink(cluster.address, topics) for _ in range(2)]
        for sink in sinks:
            sink.store([envelope("a")])
            sink.close()
        reader = KafkaGroupReader(_quick(cluster), topics, group=topics.prefix)
        found = read(reader, lambda _: reader._shares.get(0) is not None and reader._shares[0].seen == 2)
        reader.commit(found)
        assert [part.offset for part in reader._consumer.committed(reader._consumer.assignment(), timeout=10)] == [2]
        reader.close()

    def test_a_reader_that_rests_takes_nothing_and_misses_nothing(self, cluster: MockCluster) -> None:
        topics = cluster.topics(partitions=1)
        sink = KafkaSink(cluster.address, topics)
        sink.store([envelope("a")])
        reader = KafkaGroupReader(cluster.address, topics, group=topics.prefix)
        assert ids(read(reader, lambda found: len(found) == 1)) == ["a"]
        reader.rest()
        sink.store([envelope("b"), envelope("c")])
        for _ in range(20):
            reader.rest()
        assert reader.partitions == {0}
        assert ids(read(reader, lambda found: len(found) == 2)) == ["b", "c"]
        reader.close()
        sink.close()

    @pytest.mark.parametrize(
        ("offset", "proof"),
        [(9, ""), (9, "8 other"), (3, "2 other")],
        ids=["behind the end", "and its proof", "within"],
    )
    @pytest.mark.parametrize("window", [0, 100])
    def test_a_topic_that_was_made_again_is_given_from_its_oldest_message(
        self, cluster: MockCluster, caplog: pytest.LogCaptureFixture, offset: int, proof: str, window: int
    ) -> None:
        """An offset means nothing in another topic: other messages have the offsets that were read before."""
        topics = cluster.topics(partitions=1)
        sink = KafkaSink(cluster.address, topics)
        sink.store([envelope(f"{n}") for n in range(6)])
        sink.close()
        before = KafkaGroupReader(_quick(cluster), topics, group=topics.prefix)
        read(before, lambda _: before.partitions == {0})
        before._consumer.commit(offsets=[TopicPartition(topics.messages, 0, offset, proof)], asynchronous=False)
        before.close()
        after = KafkaGroupReader(_quick(cluster), topics, group=topics.prefix, duplicate_window=window)
        found = read(after, lambda found: len(found) == 6)
        assert ids(found) == [f"{n}" for n in range(6)]
        after.commit(found[:4])
        after.close()
        assert f"is not the one that group {topics.prefix} has read so far" in caplog.text
        third = KafkaGroupReader(_quick(cluster), topics, group=topics.prefix, duplicate_window=window)
        assert ids(read(third, lambda found: len(found) == 2)) == ["4", "5"]
        third.close()

    def test_a_partition_whose_position_cannot_be_had_is_joined_again(self, own_cluster: MockCluster) -> None:
        """It is reported, and then everything is read: no partition is held without being read."""
        topics = own_cluster.topics(partitions=1)
        sink = KafkaSink(own_cluster.address, topics)
        sink.store([envelope("a"), envelope("b")])
        own_cluster.fail(OFFSET_FETCH, KafkaError.GROUP_AUTHORIZATION_FAILED)
        reader = KafkaGroupReader(_quick(own_cluster), topics, group=topics.prefix)
        with pytest.raises(UnusableCluster):
            read(reader, lambda _: False)
        assert ids(read(reader, lambda found: len(found) == 2)) == ["a", "b"]
        reader.close()
        sink.close()

    def test_each_time_that_a_partition_comes_is_another_turn(self, cluster: MockCluster) -> None:
        """Messages that were read before that, and not committed, are read again."""
        topics = cluster.topics(partitions=1)
        sink = KafkaSink(cluster.address, topics)
        sink.store([envelope("a"), envelope("b")])
        reader = KafkaGroupReader(_quick(cluster), topics, group=topics.prefix)
        found = read(reader, lambda found: len(found) == 2)
        reader.commit(found[:1])
        (turn,) = reader.turns.values()
        reader._is_to_join_again = True
        assert ids(read(reader, lambda found: len(found) == 1)) == ["b"]
        assert list(reader.turns.values()) == [turn + 1]
        reader.close()
        sink.close()

    def test_nothing_to_commit(self, cluster: MockCluster, topics: KafkaTopics) -> None:
        reader = KafkaGroupReader(_quick(cluster), topics, group=topics.prefix)
        reader.commit([])
        assert reader.poll(timeout=0) == []
        reader.close()


class TestDestination:
    """Send pairs, in order for each key; return when all are acknowledged."""

    def test_order_for_each_key(self, cluster: MockCluster) -> None:
        cluster.create("sent-on", 4)
        destination = KafkaTopicWriter(cluster.address, "sent-on")
        destination.send([(f"user-{n % 3}".encode(), b"%d" % n) for n in range(30)])
        destination.send([(f"user-{n % 3}".encode(), b"%d" % n) for n in range(30, 60)])
        found: dict[str, list[int]] = {}
        for message in cluster.records("sent-on", 4):
            found.setdefault((message.key() or b"").decode(), []).append(int(message.value() or b""))
        assert found == {f"user-{user}": list(range(user, 60, 3)) for user in range(3)}
        destination.close()

    def test_what_is_refused_for_good(self, cluster: MockCluster) -> None:
        """A record that is too large is distinguished from those that may be sent again."""
        cluster.create("refusing", 1)
        destination = KafkaTopicWriter(cluster.address, "refusing", record_bytes=1_000)
        with pytest.raises(NotAcknowledged, match="1 of 2 records") as raised:
            destination.send([(b"a", b"x" * 2_000), (b"a", b"small")])
        assert raised.value.refused.keys() == {0}
        assert raised.value.unsettled == ()
        destination.close()

    def test_what_is_no_record_is_reported_and_the_next_one_is_sent(self, cluster: MockCluster) -> None:
        cluster.create("typed", 1)
        destination = KafkaTopicWriter(cluster.address, "typed")
        wrong: Any = [(b"a", b"1"), (b"a", [2]), (b"a", b"3")]
        with pytest.raises(TypeError):
            destination.send(wrong)
        destination.send([(b"a", b"4")])
        assert [found.value() for found in cluster.records("typed", 1)] == [b"1", b"4"]
        destination.close()

    def test_no_broker_answers(self) -> None:
        destination = KafkaTopicWriter(KafkaCluster(bootstrap_servers="127.0.0.1:9"), "topic", timeout=1)
        with pytest.raises(NotAcknowledged) as raised:
            destination.send([(b"a", b"1"), (b"b", b"2")])
        assert (raised.value.refused, raised.value.unsettled) == ({}, (0, 1))
        destination.close()

    def test_a_broker_that_refuses_is_not_taken_for_an_answer(self, own_cluster: MockCluster) -> None:
        own_cluster.create("topic", 1)
        destination = KafkaTopicWriter(own_cluster.address, "topic")
        destination.send([(b"a", b"1")])
        own_cluster.fail(PRODUCE, KafkaError.TOPIC_AUTHORIZATION_FAILED)
        with pytest.raises(NotAcknowledged) as raised:
            destination.send([(b"a", b"2")])
        assert raised.value.unsettled == (0,)
        destination.close()


def test_a_log_of_another_prefix_is_another_log(cluster: MockCluster) -> None:
    one, other = cluster.topics(), cluster.topics()
    sink = KafkaSink(cluster.address, one)
    sink.store([envelope("a")])
    assert len(list(KafkaLog(cluster.address, one).messages())) == 1
    assert list(KafkaLog(cluster.address, other).messages()) == []
    sink.close()
