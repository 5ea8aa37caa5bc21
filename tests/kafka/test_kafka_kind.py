"""A topic as a destination: its settings, and the records that it rejects.  See also the contract."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from delivery_helpers import fed, sender_context
from mock_cluster import MockCluster
from trackcore_delivery import DeliveryBatch, RetryLater
from trackcore_kafka import user_key
from trackcore_server import ConfigurationError, parse_configuration
from trackcore_server.config.kafka_destination import KafkaTopicDestination
from trackcore_server.delivery.service import check_destinations

KAFKA = '[[destinations]]\nname = "Lake"\nkind = "kafka"\nbootstrap_servers = "one:9092,two:9092"\ntopic = "tracking"\n'


def test_everything_said() -> None:
    (lake,) = parse_configuration(KAFKA + 'timeout = "5s"\nclient.sasl.password = "env:PASSWORD"').delivered
    assert isinstance(lake, KafkaTopicDestination)
    assert (lake.bootstrap_servers, lake.topic, lake.timeout) == ("one:9092,two:9092", "tracking", timedelta(seconds=5))
    assert dict(lake.client) == {"sasl.password": "env:PASSWORD"}
    assert [name for name, _ in lake.secrets()] == ["client.sasl.password"]


@pytest.mark.parametrize(
    ("text", "path", "detail"),
    [
        (KAFKA.replace("bootstrap_servers", "servers"), "destinations[0].servers", "unknown setting"),
        (KAFKA.replace('topic = "tracking"', ""), "destinations[0].topic", "is missing"),
        (KAFKA.replace("tracking", "a b"), "destinations[0].topic", "expected at most 200 letters"),
        (KAFKA.replace("two:9092", "two"), "destinations[0].bootstrap_servers", "expected HOST:PORT"),
        (KAFKA + 'timeout = "0s"', "destinations[0].timeout", "at least 1 second"),
        (KAFKA + "client.acks = []", "destinations[0].client.acks", "expected a string"),
    ],
)
def test_mistakes_are_reported_with_their_path(text: str, path: str, detail: str) -> None:
    with pytest.raises(ConfigurationError, check=lambda error: error.path == path and detail in error.detail):
        parse_configuration(text)


@pytest.mark.parametrize(
    ("client", "path", "detail"),
    [
        ("client.acks = 1", "destinations[0]", "client.acks: trackcore decides"),
        ('client.sasl.usrname = "me"', "destinations[0]", "client.sasl.usrname: No such configuration property"),
        ('client.sasl.password = "env:NOWHERE"', "destinations[0].client.sasl.password", "NOWHERE is not set"),
    ],
)
def test_mistakes_in_what_goes_to_librdkafka_are_reported_at_the_start(client: str, path: str, detail: str) -> None:
    with pytest.raises(ConfigurationError, check=lambda error: error.path == path and detail in error.detail):
        check_destinations(parse_configuration(KAFKA + client), environ={})


def test_keys_are_those_of_the_log_and_what_is_too_large_is_refused_alone(cluster: MockCluster, tmp_path: Path) -> None:
    """A record that the topic never accepts becomes a dead letter; the rest of its batch arrives."""
    cluster.create("with-keys", 4)
    sender = KafkaTopicDestination(name="Lake", bootstrap_servers=cluster.servers, topic="with-keys").make_sender(
        sender_context(tmp_path)
    )
    small, large, other = fed(3)
    large = large._replace(payload=b'"%s"' % (b"x" * (2 << 20)))
    (refusal,) = sender.send(DeliveryBatch(destination="Lake", messages=[small, large, other]))
    assert refusal.index == 1
    assert "larger than the topic takes" in refusal.detail
    found = {record.key(): record.value() for record in cluster.records("with-keys", 4)}
    assert found == {user_key("website", message.user): message.payload for message in (small, other)}
    sender.close()


def test_what_was_not_acknowledged_is_sent_again(tmp_path: Path) -> None:
    sender = KafkaTopicDestination(
        name="Lake", bootstrap_servers="127.0.0.1:9", topic="nowhere", timeout=timedelta(seconds=1)
    ).make_sender(sender_context(tmp_path))
    with pytest.raises(RetryLater, match="2 of 2 records"):
        sender.send(DeliveryBatch(destination="Lake", messages=fed(2)))
    sender.close()
