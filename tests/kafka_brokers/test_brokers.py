"""Kafka on real brokers: topics, times, consumer groups, and killed brokers or servers."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest
from adapter_helpers import NOON, envelope, rejected_record
from confluent_kafka.admin import ConfigResource, ResourceType
from kafka_brokers.brokers import Brokers
from kafka_brokers.load import Load
from kafka_helpers import configure, lines, run, send, start
from patience import wait_for
from served import Served
from trackcore_kafka import KafkaGroupReader, KafkaLog, KafkaSink, KafkaTopics, KafkaTopicWriter, UnusableCluster

from trackcore import Outcome, Query, SinkUnavailable

UNDER_LOAD = 300
"""The number of acknowledged messages before something is killed, and again before the next event."""


@pytest.fixture(name="topics")
def _topics(whole: Brokers, prefix: str) -> KafkaTopics:
    topics = KafkaTopics(prefix=prefix, partitions=6)
    topics.prepare(whole.address)
    return topics


@pytest.fixture(name="sink")
def _sink(whole: Brokers, topics: KafkaTopics) -> Iterator[KafkaSink]:
    sink = KafkaSink(whole.address, topics)
    yield sink
    sink.close()


class TestTopics:
    """Created if missing, else checked."""

    def test_created_as_configured(self, whole: Brokers, prefix: str) -> None:
        topics = KafkaTopics(
            prefix=prefix, partitions=5, replication=3, min_insync_replicas=2, retention=timedelta(days=30)
        )
        topics.prepare(whole.address)
        admin = whole.address.admin()
        found = admin.list_topics(timeout=10).topics
        assert {name: len(found[name].partitions) for name in found if name.startswith(prefix)} == {
            topics.messages: 5,
            topics.rejected: 1,
            topics.quarantine: 1,
        }
        assert {len(part.replicas) for part in found[topics.messages].partitions.values()} == {3}
        (answer,) = admin.describe_configs([ConfigResource(ResourceType.TOPIC, topics.messages)]).values()
        config = {name: entry.value for name, entry in answer.result(10).items()}
        assert (config["min.insync.replicas"], config["retention.ms"]) == ("2", str(30 * 86_400_000))
        topics.prepare(whole.address)  # a second server finds them correct

    @pytest.mark.parametrize(
        ("change", "detail"),
        [
            ({"partitions": 7}, "has 6 partitions where 7 are configured"),
            ({"min_insync_replicas": 3}, "has min.insync.replicas=2 where at least 3 is configured"),
            ({"record_bytes": 2 << 20}, "has max.message.bytes=1048576 where at least 2097152 is configured"),
            ({"rejected_bytes": 1_000}, "has retention.bytes=268435456 where 1000 is configured"),
            ({"retention": timedelta(days=1)}, "where 86400000 is configured"),
        ],
    )
    def test_one_that_is_otherwise_is_refused(
        self, whole: Brokers, topics: KafkaTopics, change: dict[str, Any], detail: str
    ) -> None:
        with pytest.raises(UnusableCluster, match=r".") as raised:
            attrs.evolve(topics, **change).prepare(whole.address)
        assert detail in str(raised.value)

    def test_more_replicas_than_brokers(self, whole: Brokers, prefix: str) -> None:
        with pytest.raises(UnusableCluster, match="cannot be created") as raised:
            KafkaTopics(prefix=prefix, replication=4).prepare(whole.address)
        assert "replication factor" in str(raised.value).lower()


class TestReading:
    def test_since_a_time(self, whole: Brokers, topics: KafkaTopics, sink: KafkaSink) -> None:
        times = [NOON + timedelta(minutes=number) for number in range(20)]
        sent = [envelope(f"{n}", user_id=f"u{n % 5}", received_at=time) for n, time in enumerate(times)]
        sink.store(sent, rejected=[rejected_record()])
        log = KafkaLog(whole.address, topics)
        assert [stored.message["messageId"] for stored in log.messages()] == [str(n) for n in range(20)]
        since = times[12]
        assert [stored.received_at for stored in log.messages(Query(since=since))] == times[12:]
        assert [stored.received_at for stored in log.messages(Query(since=since, limit=3))] == times[17:]
        assert list(log.messages(Query(since=times[-1] + timedelta(seconds=1)))) == []
        assert len(list(log.rejected(Query(since=NOON)))) == 1
        assert list(log.rejected(Query(since=NOON + timedelta(seconds=1)))) == []

    def test_what_retention_has_deleted_is_counted(self, whole: Brokers, topics: KafkaTopics, sink: KafkaSink) -> None:
        sink.store([envelope("a"), envelope("b"), envelope("a")], rejected=[rejected_record()])
        totals = KafkaLog(whole.address, topics).totals()
        assert (totals.messages, totals.rejected, totals.rejected_dropped) == (2, 1, 0)


class TestGroup:
    def test_partitions_are_shared_and_taken_over(self, whole: Brokers, topics: KafkaTopics, sink: KafkaSink) -> None:
        """Committed messages are not read again; the others are read by the member that takes over."""
        sink.store([envelope(f"{n}", user_id=f"u{n}") for n in range(60)])
        readers = [KafkaGroupReader(whole.address, topics, group=topics.prefix) for _ in range(2)]
        seen: list[list[str]] = [[], []]

        def read() -> None:
            for reader, own in zip(readers, seen, strict=True):
                found = reader.poll(timeout=0.2)
                own.extend(stored.message_id for stored in found)
                reader.commit(found)

        def is_shared() -> bool:
            read()
            return all(len(reader.partitions) == 3 for reader in readers)

        wait_for(is_shared, patience=60)
        sink.store([envelope(f"{n}", user_id=f"u{n}") for n in range(60, 120)])

        def is_read() -> bool:
            read()
            return len({*seen[0], *seen[1]}) == 120

        wait_for(is_read, patience=60)
        assert sorted([*seen[0], *seen[1]], key=int) == [str(n) for n in range(120)]
        left, right = readers
        left.close()
        sink.store([envelope(f"{n}", user_id=f"u{n}") for n in range(120, 180)])
        taken: set[str] = set()

        def is_taken_over() -> bool:
            taken.update(stored.message_id for stored in right.poll(timeout=0.2))
            return len(taken) == 60

        wait_for(is_taken_over, patience=60)
        right.close()  # without a commit
        again = KafkaGroupReader(whole.address, topics, group=topics.prefix)
        given: list[str] = []

        def is_given_again() -> bool:
            given.extend(stored.message_id for stored in again.poll(timeout=0.2))
            return len(given) >= 60

        wait_for(is_given_again, patience=60)
        assert sorted(given, key=int) == [str(n) for n in range(120, 180)]
        again.close()

    def test_a_duplicate_of_what_was_committed_before(
        self, whole: Brokers, topics: KafkaTopics, sink: KafkaSink
    ) -> None:
        """A reader begins before the committed position, and reads ids there."""
        sink.store([envelope("a"), envelope("b")])
        first = KafkaGroupReader(whole.address, topics, group=topics.prefix)
        assert _read(first, 2) == ["a", "b"]
        first.close()
        other = KafkaSink(whole.address, topics)
        assert list(other.store([envelope("a"), envelope("c")])) == [Outcome.STORED] * 2
        other.close()
        second = KafkaGroupReader(whole.address, topics, group=topics.prefix)
        assert _read(second, 1) == ["c"]
        second.close()


def _read(reader: KafkaGroupReader, count: int) -> list[str]:
    found: list[str] = []

    def is_enough() -> bool:
        given = reader.poll(timeout=0.2)
        reader.commit(given)
        found.extend(stored.message_id for stored in given)
        return len(found) >= count

    wait_for(is_enough, patience=60)
    return found


class TestKilled:
    """No acknowledged message is lost, none is seen twice, and order per user holds."""

    def test_a_broker_under_load(
        self, whole: Brokers, prefix: str, tmp_path: Path, servers: list[Served], report: list[str]
    ) -> None:
        config = configure(tmp_path, whole.servers, prefix=prefix, partitions=6, min_insync=2)
        servers.append(start(config, "--workers", "2"))
        load = Load(servers[0])
        load.start()
        for broker in whole.all:
            _await(load)
            broker.kill()
            _await(load)
            broker.start()
            whole.await_whole()
        load.finish()
        copies = load.check(_log(whole, prefix, partitions=6))
        report.append(
            f"{load.count} messages acknowledged, none lost; {copies} lay in the log twice and were shown once; "
            f"answers {dict(load.answers)}; the longest batch took {load.longest_wait:.1f} s"
        )
        assert load.answers.keys() <= {"200", "503"}
        assert load.retry_after <= {str(seconds) for seconds in range(1, 301)}

    def test_a_broker_that_hangs_under_load(
        self, whole: Brokers, prefix: str, tmp_path: Path, servers: list[Served], report: list[str]
    ) -> None:
        """It keeps its connections and does not respond, as with a stalled disk."""
        config = configure(tmp_path, whole.servers, prefix=prefix, partitions=6, min_insync=2)
        servers.append(start(config, "--workers", "2"))
        load = Load(servers[0])
        load.start()
        _await(load)
        whole.all[0].send(signal.SIGSTOP)
        _await(load)
        whole.all[0].send(signal.SIGCONT)
        _await(load)
        load.finish()
        whole.await_whole()
        copies = load.check(_log(whole, prefix, partitions=6))
        report.append(
            f"{load.count} messages acknowledged, none lost; {copies} lay in the log twice and were shown once; "
            f"answers {dict(load.answers)}; the longest batch took {load.longest_wait:.1f} s"
        )

    def test_the_server_under_load(
        self, whole: Brokers, prefix: str, tmp_path: Path, servers: list[Served], report: list[str]
    ) -> None:
        config = configure(tmp_path, whole.servers, prefix=prefix, partitions=6, min_insync=2)
        servers.append(start(config, "--workers", "2"))
        load = Load(servers[0])
        load.start()
        for _ in range(5):
            _await(load)
            load.served.kill()
            servers.append(start(config, "--workers", "2"))
            load.served = servers[-1]
        _await(load)
        load.finish()
        copies = load.check(_log(whole, prefix, partitions=6))
        report.append(
            f"{load.count} messages acknowledged through 5 kills, none lost; {copies} lay in the log twice and were "
            f"shown once; answers {dict(load.answers)}"
        )

    def test_all_brokers(
        self, whole: Brokers, prefix: str, tmp_path: Path, servers: list[Served], report: list[str]
    ) -> None:
        """503 with Retry-After while they are down; then the server recovers by itself."""
        more = 'timeout = "2s"'
        config = configure(tmp_path, whole.servers, prefix=prefix, partitions=6, min_insync=2, more=more)
        servers.append(start(config))
        load = Load(servers[0])
        load.start()
        _await(load)
        whole.kill()
        wait_for(lambda: load.answers["503"] >= 3, patience=60)
        ready = servers[0].ask("GET", "/ready")
        assert (ready.status, servers[0].ask("GET", "/health").status) == (503, 200)
        assert ready.retry_after is not None
        assert 1 <= int(ready.retry_after) <= 300
        whole.start()
        _await(load)
        load.finish()
        assert servers[0].is_ready()
        copies = load.check(_log(whole, prefix, partitions=6))
        report.append(f"{load.count} messages acknowledged, none lost; {copies} twice; answers {dict(load.answers)}")


def _await(load: Load) -> None:
    """Wait until so many more messages are acknowledged."""
    wanted = load.count + UNDER_LOAD
    wait_for(lambda: load.count >= wanted, patience=120)


def _log(brokers: Brokers, prefix: str, *, partitions: int) -> KafkaLog:
    return KafkaLog(brokers.address, KafkaTopics(prefix=prefix, partitions=partitions))


class TestCommands:
    def test_events_and_rejected(self, whole: Brokers, prefix: str, tmp_path: Path, servers: list[Served]) -> None:
        config = configure(tmp_path, whole.servers, prefix=prefix, partitions=6, min_insync=2)
        servers.append(start(config))
        message = {"type": "track", "userId": "u", "event": "E", "messageId": "m1"}
        assert send(servers[0], {"batch": [message, {"type": "track"}]}).status == 200
        (event,) = lines(run("events", "--since", "1h", "--limit", "5", "--config", config))
        assert event["message"]["messageId"] == "m1"
        (refused,) = lines(run("rejected", "--since", "1h", "--config", config))
        assert refused["code"] == "no_user_anon_id"
        assert servers[0].terminate() == 0
        changed = configure(tmp_path, whole.servers, prefix=prefix, partitions=9, min_insync=2)
        done = run("serve", "--bind", "127.0.0.1:0", "--config", changed)
        assert done.returncode == 2
        assert "has 6 partitions where 9 are configured" in done.stderr


class TestDestination:
    def test_a_topic_that_is_not_there(self, whole: Brokers) -> None:
        destination = KafkaTopicWriter(whole.address, "nowhere", timeout=2)
        with pytest.raises(Exception, match="not acknowledged"):
            destination.send([(b"key", b"{}")])
        destination.close()


def test_a_cluster_that_is_not_there(prefix: str) -> None:
    """Reported as what it is, and in bounded time."""
    from trackcore_kafka import KafkaCluster  # noqa: PLC0415

    sink = KafkaSink(KafkaCluster(bootstrap_servers="127.0.0.1:9"), KafkaTopics(prefix=prefix))
    with pytest.raises(SinkUnavailable, match="no broker answers"):
        sink.store([envelope("a")])
