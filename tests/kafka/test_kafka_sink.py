"""Writing to Kafka: the records, the errors, and the duplicates."""

from __future__ import annotations

import json
from functools import partial

import pytest
from adapter_helpers import NOON, Workers, envelope, run_python
from confluent_kafka import KafkaError, Message
from kafka_helpers import FATAL, connect
from mock_cluster import PRODUCE, MockCluster
from patience import wait_for
from trackcore_kafka import KafkaCluster, KafkaLog, KafkaSink, KafkaTopics, UnusableCluster
from trackcore_kafka.cluster import RESERVED, ClientSettingRefused

from trackcore import Cause, Envelope, MessageWarning, Outcome, SinkUnavailable, WarningCode

STORED, DUPLICATE = Outcome.STORED, Outcome.DUPLICATE


def headers_of(found: Message) -> dict[str, str]:
    """Return the headers as text."""
    return {name: value.decode() for name, value in found.headers() or ()}  # type: ignore[str-unpack,union-attr]


def murmur2(key: bytes) -> int:
    """Hash as Kafka's Java client does: MurmurHash2, 32 bits, seed 0x9747b28c."""
    mask, factor = 0xFFFFFFFF, 0x5BD1E995
    digest = 0x9747B28C ^ len(key)
    whole = len(key) // 4 * 4
    for at in range(0, whole, 4):
        word = int.from_bytes(key[at : at + 4], "little") * factor & mask
        word = (word ^ word >> 24) * factor & mask
        digest = (digest * factor & mask) ^ word
    if key[whole:]:
        digest = (digest ^ int.from_bytes(key[whole:], "little")) * factor & mask
    digest = (digest ^ digest >> 13) * factor & mask
    return digest ^ digest >> 15


class TestRecords:
    """A contract with other consumers: key, headers, timestamp, partition."""

    def test_a_message(self, cluster: MockCluster, topics: KafkaTopics, sink: KafkaSink) -> None:
        warning = MessageWarning(code=WarningCode.ID_FROM_NUMBER, message="kept as '7'", path="userId")
        sink.store(
            [envelope("é", user_id="7", anonymous_id="a", destinations=("Mixpanel", "Café"), warnings=(warning,))]
        )
        (found,) = cluster.records(topics.messages, topics.partitions)
        assert json.loads(found.key() or b"") == ["website", "7"]
        assert found.value() == envelope("é").payload
        headers = headers_of(found)
        assert json.loads(headers.pop("cautions")) == [
            {"code": "id_from_number", "message": "kept as '7'", "path": "userId"}
        ]
        assert headers == {
            "source": "website",
            "call": "track",
            "messageId": "é",
            "destinations": '["Mixpanel","Café"]',
            "receivedAt": "2024-05-06T12:00:00.250Z",
        }
        assert found.timestamp()[1] == NOON.timestamp() * 1_000

    @pytest.mark.parametrize(("user_id", "user"), [(None, "anon"), ("u", "u")])
    def test_key_is_the_user_id_else_the_anonymous_id(
        self, cluster: MockCluster, sink: KafkaSink, user_id: str | None, user: str
    ) -> None:
        sink.store([envelope("a", user_id=user_id, anonymous_id="anon")])
        (found,) = cluster.records(sink._topics.messages, sink._topics.partitions)
        assert json.loads(found.key() or b"") == ["website", user]

    def test_the_partition_is_what_a_java_producer_would_choose(
        self, cluster: MockCluster, topics: KafkaTopics, sink: KafkaSink
    ) -> None:
        sink.store([envelope(str(n), user_id=f"user-{n}") for n in range(50)])
        found = cluster.records(topics.messages, topics.partitions)
        assert len(found) == 50
        assert len({message.partition() for message in found}) > 1
        for message in found:
            assert message.partition() == (murmur2(message.key() or b"") & 0x7FFFFFFF) % topics.partitions


class TestFailure:
    """Raises SinkUnavailable unless every message of the call was acknowledged, with the right cause."""

    def test_no_broker_answers_and_then_they_do_again(self, own_cluster: MockCluster) -> None:
        topics = own_cluster.topics()
        sink = KafkaSink(own_cluster.address, topics, timeout=1)
        connect(sink)
        with own_cluster.down():
            with pytest.raises(SinkUnavailable) as raised:
                sink.store([envelope("during"), envelope("too", user_id="u2")])
            assert (raised.value.cause, raised.value.retry_after) == (Cause.UNAVAILABLE, 5)

        def is_stored() -> bool:
            try:
                return list(sink.store([envelope("during"), envelope("too", user_id="u2")])) == [STORED, STORED]
            except SinkUnavailable:
                return False

        wait_for(is_stored)
        log = KafkaLog(own_cluster.address, topics)
        assert sorted(stored.message["messageId"] for stored in log.messages()) == ["before", "during", "too"]
        sink.close()

    def test_while_one_call_tries_others_are_turned_away_at_once(self, own_cluster: MockCluster) -> None:
        sink = KafkaSink(own_cluster.address, own_cluster.topics(), timeout=2)
        connect(sink)
        with own_cluster.down():
            with pytest.raises(SinkUnavailable):
                sink.store([envelope("first")])
            trying = Workers([partial(sink.store, [envelope("trying")])])
            wait_for(lambda: sink._probe)
            with pytest.raises(SinkUnavailable, match="another request probes it"):
                sink.store([envelope("turned away")])
            assert sink._probe, "it did not wait for the one that tries"
            trying.finish()
            assert isinstance(trying.errors[0], SinkUnavailable)
        sink.close()

    def test_not_ready_while_no_broker_answers(self, own_cluster: MockCluster) -> None:
        sink = KafkaSink(own_cluster.address, own_cluster.topics())
        with own_cluster.down(), pytest.raises(SinkUnavailable) as raised:
            sink.check_ready()
        assert raised.value.cause is Cause.UNAVAILABLE
        sink.close()

    def test_too_much_is_waiting(self, own_cluster: MockCluster) -> None:
        sink = KafkaSink(own_cluster.address, own_cluster.topics(), timeout=2, waiting_bytes=1_000)
        connect(sink)
        with own_cluster.down():
            waiting = Workers([partial(sink.store, [envelope("waits")])])
            wait_for(lambda: sink._producer._waiting)
            with pytest.raises(SinkUnavailable) as raised:
                sink.store([envelope("a"), envelope("b")])
            assert (raised.value.cause, raised.value.retry_after) == (Cause.OVERLOADED, 1)
            waiting.finish()
        sink.close()

    def test_what_is_larger_than_may_wait_is_stored_when_nothing_waits(self, own_cluster: MockCluster) -> None:
        sink = KafkaSink(own_cluster.address, own_cluster.topics(), waiting_bytes=100)
        assert sink.store([envelope("a"), envelope("b")]) == [STORED, STORED]
        sink.close()

    def test_a_broker_refuses(self, own_cluster: MockCluster) -> None:
        sink = KafkaSink(own_cluster.address, own_cluster.topics())
        connect(sink)
        own_cluster.fail(PRODUCE, KafkaError.MSG_SIZE_TOO_LARGE)
        with pytest.raises(SinkUnavailable, match=r"max\.message\.bytes"):
            sink.store([envelope("a")])
        assert sink.store([envelope("a")]) == [STORED], "an unacknowledged message is not a duplicate"
        sink.close()

    def test_a_passing_error_is_not_reported(self, own_cluster: MockCluster) -> None:
        sink = KafkaSink(own_cluster.address, own_cluster.topics())
        connect(sink)
        own_cluster.fail(PRODUCE, KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.NOT_ENOUGH_REPLICAS)
        assert sink.store([envelope("a")]) == [STORED]
        sink.close()

    @pytest.mark.parametrize(("request_", "error"), FATAL)
    def test_a_producer_that_failed_for_good_is_replaced(
        self, own_cluster: MockCluster, request_: int, error: int
    ) -> None:
        topics = own_cluster.topics()
        sink = KafkaSink(own_cluster.address, topics)
        connect(sink)
        if request_ != PRODUCE:
            sink.close()
        own_cluster.fail(request_, error)
        with pytest.raises(SinkUnavailable):
            sink.store([envelope("a")])

        def is_stored() -> bool:
            try:
                return list(sink.store([envelope("a")])) == [STORED]
            except SinkUnavailable:
                return False

        wait_for(is_stored)
        assert [stored.message["messageId"] for stored in KafkaLog(own_cluster.address, topics).messages()] == [
            "before",
            "a",
        ]
        sink.close()

    def test_what_has_no_utf8_is_sent_no_part_of(self, sink: KafkaSink, log: KafkaLog) -> None:
        with pytest.raises(UnicodeEncodeError):
            sink.store([envelope("a"), envelope("\ud800")])
        with pytest.raises(UnicodeEncodeError):
            sink.store([envelope("a"), envelope("b", source="\ud800")])
        assert sink.store([envelope("a")]) == [STORED]
        assert len(list(log.messages())) == 1

    def test_topics_are_not_as_configured(self, own_cluster: MockCluster) -> None:
        own_cluster.topics(prefix="less", partitions=2)
        sink = KafkaSink(own_cluster.address, KafkaTopics(prefix="less", partitions=3))
        with pytest.raises(SinkUnavailable, match=r"topic less\.messages has 2 partitions where 3 are configured"):
            sink.store([envelope("a")])
        with pytest.raises(UnusableCluster):
            KafkaTopics(prefix="less", partitions=2, replication=4).prepare(own_cluster.address)


class TestDuplicates:
    """A repeat that reaches the same process is a duplicate; any other is found by every reader."""

    def test_a_repeat_at_another_server(self, cluster: MockCluster, topics: KafkaTopics, log: KafkaLog) -> None:
        first, second = KafkaSink(cluster.address, topics), KafkaSink(cluster.address, topics)
        assert first.store([envelope("a", call="track"), envelope("b")]) == [STORED, STORED]
        assert second.store([envelope("a", call="page"), envelope("c")]) == [STORED, STORED]
        assert first.store([envelope("a")]) == [DUPLICATE]
        assert log.totals().messages == 4
        assert [(stored.message["messageId"], stored.call) for stored in log.messages()] == [
            ("a", "track"),
            ("b", "track"),
            ("c", "track"),
        ]
        first.close()
        second.close()

    def test_a_sink_remembers_so_many(self, cluster: MockCluster, topics: KafkaTopics, log: KafkaLog) -> None:
        sink = KafkaSink(cluster.address, topics, remembered=2)
        sink.store([envelope("a"), envelope("b"), envelope("c")])
        assert sink.store([envelope("c"), envelope("a")]) == [DUPLICATE, STORED]
        assert [stored.message["messageId"] for stored in log.messages()] == ["a", "b", "c"]
        sink.close()

    def test_a_call_waits_for_the_other_that_sends_the_same(self, own_cluster: MockCluster) -> None:
        """It must not report a message as a duplicate that may never be acknowledged."""
        sink = KafkaSink(own_cluster.address, own_cluster.topics(), timeout=2)
        connect(sink)
        with own_cluster.down():
            one = Workers([partial(sink.store, [envelope("a")])])
            wait_for(lambda: sink._in_flight)
            other = Workers([partial(sink.store, [envelope("a")])])
            for workers in (one, other):
                workers.finish()
                assert isinstance(workers.errors[0], SinkUnavailable)
        sink.close()


FORKING = """
import os, sys
from adapter_helpers import envelope, quarantined_request, rejected_record
from trackcore_kafka import KafkaCluster, KafkaSink, KafkaTopics

servers, prefix = sys.argv[1:]
sink = KafkaSink(KafkaCluster(bootstrap_servers=servers), KafkaTopics(prefix=prefix, partitions=6))
print(*sink.store([envelope("before")]), flush=True)
child = os.fork()
if not child:
    print(*sink.store([envelope("child")], rejected=[rejected_record()], quarantined=[quarantined_request()]))
    sink.close()
    sys.exit(3)  # through the whole end of an interpreter
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(*sink.store([envelope("after")]))
sink.close()
"""


def test_a_fork_connects_anew_and_its_parent_goes_on(cluster: MockCluster, topics: KafkaTopics, log: KafkaLog) -> None:
    """In another process, so that it forks without anything that other tests have left behind."""
    assert run_python(FORKING, cluster.servers, topics.prefix).split() == ["stored", "stored", "3", "stored"]
    assert {stored.message["messageId"] for stored in log.messages()} == {"before", "child", "after"}


FORKING_BESIDE_CALLS = """
import os, sys, threading
from adapter_helpers import envelope
from trackcore_kafka import KafkaCluster, KafkaSink, KafkaTopics

servers, prefix, forks = sys.argv[1:]
sink = KafkaSink(KafkaCluster(bootstrap_servers=servers), KafkaTopics(prefix=prefix, partitions=6))
acknowledged = []

def store(message_ids):
    for message_id in message_ids:
        sink.store([envelope(message_id)])
        acknowledged.append(message_id)

for fork in range(int(forks)):
    threads = [
        threading.Thread(target=store, args=([f"parent-{fork}-{thread}-{number}" for number in range(100)],))
        for thread in range(3)
    ]
    for thread in threads:
        thread.start()
    store([f"forking-{fork}-{number}" for number in range(1 + fork % 10)])
    child = os.fork()
    if not child:
        sink.store([envelope(f"child-{fork}")])
        sink.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    acknowledged.append(f"child-{fork}")
    for thread in threads:
        thread.join()
sink.close()
print(*acknowledged)
"""


def test_forks_beside_calls_that_are_on_their_way(
    cluster: MockCluster, topics: KafkaTopics, log: KafkaLog, is_long: bool
) -> None:
    """A fork at any moment loses nothing and hangs nobody.  (A partition of this cluster keeps no more than 5 MB.)"""
    acknowledged = run_python(FORKING_BESIDE_CALLS, cluster.servers, topics.prefix, 60 if is_long else 5).split()
    assert set(acknowledged) <= {stored.message["messageId"] for stored in log.messages()}


FORKING_WITH_READERS = """
import os, sys
from adapter_helpers import envelope
from trackcore_kafka import KafkaCluster, KafkaGroupReader, KafkaLog, KafkaSink, KafkaTopics, UnusableCluster

cluster, topics = KafkaCluster(bootstrap_servers=sys.argv[1]), KafkaTopics(prefix=sys.argv[2], partitions=6)
sink = KafkaSink(cluster, topics)
sink.store([envelope(f"{n}") for n in range(50)])
log = KafkaLog(cluster, topics)
messages, tail, group = log.messages(), log.tail(), KafkaGroupReader(cluster, topics, group="all")
next(messages), list(tail.read()), group.poll()
child = os.fork()
if not child:
    for read in (lambda: list(messages), lambda: list(tail.read()), group.poll, group.rest, lambda: group.commit([])):
        try:
            read()
        except UnusableCluster as error:
            print("before a fork" in error.detail)
    tail.close()
    group.close()
    print(len(list(log.messages())))
    del messages, tail, group
    sys.exit(3)  # through the whole end of an interpreter
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
print(len(list(messages)), list(tail.read()), flush=True)
tail.close()
group.close()
sink.close()
"""


def test_a_reader_is_refused_in_a_fork_and_its_parent_goes_on(cluster: MockCluster, topics: KafkaTopics) -> None:
    printed = run_python(FORKING_WITH_READERS, cluster.servers, topics.prefix).splitlines()
    assert printed == [*["True"] * 5, "50", "3", "49 []"]


class TestSettings:
    @pytest.mark.parametrize("name", sorted(RESERVED))
    def test_what_the_promises_rest_on_cannot_be_changed(self, name: str) -> None:
        with pytest.raises(ClientSettingRefused):
            KafkaCluster(bootstrap_servers="localhost:9092", client={name: "1"})

    def test_an_unknown_setting_is_named(self) -> None:
        cluster = KafkaCluster(bootstrap_servers="localhost:9092", client={"sasl.usrname": "x"})
        with pytest.raises(ClientSettingRefused) as raised:
            cluster.check_settings()
        assert raised.value.name == "sasl.usrname"

    def test_no_secret_is_shown(self) -> None:
        assert "hunter2" not in repr(KafkaCluster(bootstrap_servers="h:1", client={"sasl.password": "hunter2"}))


def test_a_large_batch(sink: KafkaSink, log: KafkaLog) -> None:
    """A batch of the largest size is stored whole and in order for each user."""
    sent: list[Envelope] = [envelope(f"{n}", user_id=f"u{n % 7}") for n in range(2_500)]
    assert list(sink.store(sent)) == [STORED] * 2_500
    found = [stored.message["messageId"] for stored in log.messages()]
    assert sorted(found, key=int) == [str(n) for n in range(2_500)]
    for user in range(7):
        own = [int(number) for number in found if int(number) % 7 == user]
        assert own == sorted(own)
