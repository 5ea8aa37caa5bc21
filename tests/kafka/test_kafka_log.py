"""Reading the log in Kafka: order, limits, filters, continuing, and records of other programs."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from adapter_helpers import NOON, envelope, rejected_record
from confluent_kafka import Producer
from hypothesis import given, settings
from hypothesis import strategies as st
from mock_cluster import MockCluster
from trackcore_kafka import (
    KafkaCluster,
    KafkaLog,
    KafkaSink,
    KafkaTopics,
    UnusableCluster,
    merging,
    partition_of,
    place_of,
    seq_of,
)

from trackcore import Envelope, Query


def ids(log: KafkaLog, **wanted: Any) -> list[str]:
    return [stored.message["messageId"] for stored in log.messages(Query(**wanted))]


def a_minute_apart(count: int, users: int = 5, first: int = 0) -> list[Envelope]:
    """Make messages of several users, each received a minute after the one before."""
    return [
        envelope(f"{n}", user_id=f"user-{n % users}", received_at=NOON + timedelta(minutes=n))
        for n in range(first, first + count)
    ]


class TestOrder:
    """Within a partition as stored; among partitions in the order of receivedAt."""

    def test_users_in_several_partitions(self, sink: KafkaSink, log: KafkaLog) -> None:
        sink.store(a_minute_apart(100))
        assert len({partition_of(stored.seq) for stored in log.messages()}) > 1
        assert ids(log) == [str(n) for n in range(100)]

    def test_one_that_was_stored_late_stays_behind_its_user(self, sink: KafkaSink, log: KafkaLog) -> None:
        late = envelope("late", user_id="user-0", received_at=NOON - timedelta(hours=1))
        sink.store([*a_minute_apart(10), late])
        own = [
            stored.message["messageId"]
            for stored in log.messages()
            if partition_of(stored.seq) == _partition(log, "late")
        ]
        assert own.index("late") > own.index("0")

    def test_a_partition_that_is_far_ahead_is_paused_and_nothing_is_lost(
        self, sink: KafkaSink, log: KafkaLog, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(merging, "_FAR_AHEAD", 20)
        monkeypatch.setattr(merging, "_NEAR", 5)
        monkeypatch.setattr(merging, "_PAGE", 30)
        sink.store(a_minute_apart(2_000, users=3))
        assert ids(log) == [str(n) for n in range(2_000)]

    def test_places(self, sink: KafkaSink, log: KafkaLog) -> None:
        sink.store([envelope("a"), envelope("b")])
        first, second = log.messages()
        partition = partition_of(first.seq)
        assert (place_of(first.seq), place_of(second.seq)) == (f"{partition}-0", f"{partition}-1")
        assert (first.seq, second.seq) == (seq_of(partition, 0), seq_of(partition, 1))


def _partition(log: KafkaLog, message_id: str) -> int:
    (found,) = (partition_of(stored.seq) for stored in log.messages() if stored.message["messageId"] == message_id)
    return found


class TestChoosing:
    def test_the_newest(self, sink: KafkaSink, log: KafkaLog) -> None:
        sink.store(a_minute_apart(50), rejected=[rejected_record(b"%d" % n) for n in range(9)])
        assert ids(log, limit=3) == ["47", "48", "49"]
        assert ids(log, limit=50) == ids(log, limit=500) == ids(log)
        assert [record.payload for record in log.rejected(Query(limit=2))] == [b"7", b"8"]

    def test_the_newest_of_those_that_match(self, sink: KafkaSink, log: KafkaLog) -> None:
        """However far back they are."""
        rare = [envelope(f"rare-{n}", call="page", user_id="rare") for n in range(3)]
        sink.store([*rare, *a_minute_apart(600)])
        assert ids(log, call="page", limit=2) == ["rare-1", "rare-2"]
        assert ids(log, call="page", limit=9) == ["rare-0", "rare-1", "rare-2"]


class TestTail:
    """Yields the messages that were not yielded before."""

    def test_what_comes_later(self, cluster: MockCluster, topics: KafkaTopics, sink: KafkaSink, log: KafkaLog) -> None:
        sink.store(a_minute_apart(10))
        tail = log.tail(Query(limit=2))
        assert [stored.message["messageId"] for stored in tail.read()] == ["8", "9"]
        assert list(tail.read()) == []
        other = KafkaSink(cluster.address, topics)
        other.store([envelope("3", user_id="user-3"), *a_minute_apart(3, first=10)])  # 3: a repeat
        assert [stored.message["messageId"] for stored in tail.read()] == ["10", "11", "12"]
        assert list(tail.read()) == []
        tail.close()
        other.close()


class TestEachOnce:
    """Each message is read once, and every reader decides alike, independent of where it begins."""

    def test_beyond_the_window_it_is_given_again(
        self, cluster: MockCluster, topics: KafkaTopics, log: KafkaLog
    ) -> None:
        for call in (["a", "b", "c"], ["a"]):
            sink = KafkaSink(cluster.address, topics)
            sink.store([envelope(message_id) for message_id in call])
            sink.close()
        assert ids(log) == ["a", "b", "c"]
        assert ids(KafkaLog(cluster.address, topics, duplicate_window=3)) == ["a", "b", "c"]
        assert ids(KafkaLog(cluster.address, topics, duplicate_window=2)) == ["a", "b", "c", "a"]
        assert ids(KafkaLog(cluster.address, topics, duplicate_window=0)) == ["a", "b", "c", "a"]

    def test_the_newest_are_no_duplicates_of_what_lies_further_back(
        self, cluster: MockCluster, topics: KafkaTopics, log: KafkaLog
    ) -> None:
        """However little of the log is read, the window before it is read as well."""
        for count in (10, 4):
            sink = KafkaSink(cluster.address, topics)
            sink.store([envelope(f"{n}") for n in range(count)])
            sink.close()
        assert ids(log, limit=1) == ["9"]

    @settings(max_examples=8)
    @given(sent=st.lists(st.sampled_from("abcdef"), min_size=1, max_size=20), limit=st.integers(1, 6))
    def test_the_newest_are_the_last_of_all(self, cluster: MockCluster, sent: list[str], limit: int) -> None:
        topics = cluster.topics(partitions=1)
        sink = KafkaSink(cluster.address, topics, remembered=0)
        for message_id in sent:
            sink.store([envelope(message_id)])
        log = KafkaLog(cluster.address, topics, duplicate_window=5)
        assert ids(log, limit=limit) == ids(log)[-limit:]
        sink.close()


class TestUnusable:
    def test_there_is_no_such_topic(self, cluster: MockCluster) -> None:
        with pytest.raises(UnusableCluster, match=r"there is no topic none\.rejected; `trackcore serve` makes it"):
            list(KafkaLog(cluster.address, KafkaTopics(prefix="none")).rejected())

    def test_no_broker_answers(self) -> None:
        log = KafkaLog(KafkaCluster(bootstrap_servers="127.0.0.1:9"))
        with pytest.raises(UnusableCluster, match=r"Kafka at 127\.0\.0\.1:9: "):
            list(log.messages())

    def test_a_record_of_somebody_else_is_passed_over(
        self,
        cluster: MockCluster,
        topics: KafkaTopics,
        sink: KafkaSink,
        log: KafkaLog,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        sink.store([envelope("a")])
        foreign = Producer({"bootstrap.servers": cluster.servers})
        foreign.produce(topics.messages, b"no JSON", b"key", 0)
        foreign.produce(topics.messages, b"{}", b"key", 0, headers={"source": b"\xff", "messageId": b"1"})
        foreign.produce(topics.messages, None, b"key", 0, headers={"source": "a"})
        foreign.flush(10)
        sink.store([envelope("b")])
        assert sorted(ids(log)) == ["a", "b"]
        assert caplog.text.count("was not written by trackcore") == 3
