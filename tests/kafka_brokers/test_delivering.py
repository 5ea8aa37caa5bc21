"""Delivery from real brokers, shared by processes that are killed under load."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import attrs
import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import NewTopic
from delivery_helpers import EndpointServer, envelopes
from kafka_brokers.brokers import Brokers
from kafka_brokers.load import Load
from kafka_helpers import configure, start
from patience import PATIENCE, wait_for
from served import COMMAND, Running, Served
from trackcore_kafka import KafkaLog, KafkaSink, KafkaTopics, user_key

PARTITIONS = 6
BATCH = 50
UNDER_LOAD = 300
KILLS = 5
LONG_PATIENCE = 3 * PATIENCE

_TOPIC = """
[[destinations]]
name = "There"
kind = "kafka"
bootstrap_servers = "{servers}"
topic = "{topic}"
client.compression.type = "gzip"
"""
_WEBHOOK = """
[log.client]
session.timeout.ms = 6000
[[destinations]]
name = "There"
kind = "webhook"
url = "{url}"
batch_messages = {batch}
batch_wait = "0s"
"""


@attrs.define
class Site:
    """An endpoint, and the processes that deliver to it, each with its own folder and state file."""

    folder: Path
    endpoint: EndpointServer = attrs.field(factory=EndpointServer)
    running: list[Running] = attrs.field(factory=list)

    def configure(self, name: str, servers: str, prefix: str, destination: str | None = None) -> Path:
        """Write the configuration of one process; it delivers to the endpoint unless `destination` is passed."""
        (self.folder / name).mkdir()
        more = destination or _WEBHOOK.format(url=self.endpoint.url, batch=BATCH)
        return configure(self.folder / name, servers, prefix=prefix, partitions=PARTITIONS, min_insync=2, more=more)

    def deliver(self, config: Path) -> Running:
        """Start to deliver."""
        stderr_file = config.with_name(f"stderr-{len(self.running)}")
        with stderr_file.open("wb") as stderr:
            command = [*COMMAND, "deliver", "--config", str(config)]
            process = subprocess.Popen(command, stderr=stderr, start_new_session=True)
        self.running.append(Running(process, stderr_file))
        return self.running[-1]

    def await_arrivals(self, count: int) -> None:
        """Wait until so many more messages have arrived."""
        wanted = len(self.endpoint.ids) + count
        wait_for(lambda: len(self.endpoint.ids) >= wanted, patience=LONG_PATIENCE)


@pytest.fixture(name="site")
def _site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    for running in site.running:
        running.kill()
    site.endpoint.stop()


def test_killed_under_load(whole: Brokers, prefix: str, site: Site, servers: list[Served], report: list[str]) -> None:
    """Every acknowledged message arrives, in order for each user; only what was in flight arrives twice."""
    configs = [site.configure(name, whole.servers, prefix) for name in ("one", "other")]
    servers.append(start(configs[0], "--workers", "2", "--no-deliver"))
    delivering = [site.deliver(config) for config in configs]
    load = Load(servers[0], senders=8)
    load.start()
    for kill in range(KILLS):
        site.await_arrivals(UNDER_LOAD)
        delivering[kill % 2].kill()
        site.await_arrivals(UNDER_LOAD)  # by the other one
        delivering[kill % 2] = site.deliver(configs[kill % 2])
    whole.all[0].kill()
    site.await_arrivals(UNDER_LOAD)
    whole.all[0].start()
    whole.await_whole()
    load.finish()
    sent = {message_id for ids in load.acknowledged.values() for message_id in ids}
    wait_for(lambda: sent <= set(site.endpoint.ids), patience=LONG_PATIENCE)
    for running in delivering:
        assert running.terminate() == 0, running.stderr()
        assert "Traceback" not in running.stderr()
    arrived = site.endpoint.ids
    in_first_order = list(dict.fromkeys(arrived))
    for user, ids in load.acknowledged.items():
        assert [message_id for message_id in in_first_order if message_id.startswith(f"{user}-")] == ids
    twice = len(arrived) - len(sent)
    log = KafkaLog(whole.address, KafkaTopics(prefix=prefix, partitions=PARTITIONS))
    assert log.behind(f"{prefix}.delivery.There") == 0
    report.append(f"{len(sent)} messages delivered through {KILLS} kills and the loss of a broker; {twice} twice")
    assert twice <= (KILLS + 2) * BATCH


def test_from_the_log_to_a_topic(whole: Brokers, prefix: str, site: Site) -> None:
    """Records are keyed as in the log, so the order of each user's messages holds."""
    topics = KafkaTopics(prefix=prefix, partitions=PARTITIONS)
    topics.prepare(whole.address)
    onward = f"{prefix}.onward"
    admin = whole.address.admin()
    (made,) = admin.create_topics([NewTopic(onward, 4, 3)]).values()
    made.result(30)
    sent = envelopes(300, users=20)
    with closing(KafkaSink(whole.address, topics)) as sink:
        sink.store(sent)
    config = site.configure("one", whole.servers, prefix, _TOPIC.format(servers=whole.servers, topic=onward))
    running = site.deliver(config)
    log = KafkaLog(whole.address, topics)
    wait_for(lambda: log.behind(f"{prefix}.delivery.There") == 0, patience=LONG_PATIENCE)
    assert running.terminate() == 0
    found: dict[bytes | None, list[bytes | None]] = {}
    consumer = Consumer({"bootstrap.servers": whole.servers, "group.id": prefix})
    consumer.assign([TopicPartition(onward, number, 0) for number in range(4)])
    for _ in sent:
        record = consumer.poll(30)
        assert record is not None
        assert record.error() is None
        found.setdefault(record.key(), []).append(record.value())
    consumer.close()
    expected: dict[bytes | None, list[bytes | None]] = {}
    for envelope in sent:
        expected.setdefault(user_key(envelope.source, envelope.user_id), []).append(envelope.payload)
    assert found == expected
