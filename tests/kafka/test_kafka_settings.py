"""`[log]` with `kind = "kafka"`: what may be said, and how a mistake is told."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from trackcore_delivery import ByteCount
from trackcore_kafka import KafkaLog, KafkaSink
from trackcore_server import Configuration, ConfigurationMistake, KafkaLogSettings, LogSettings, parse_configuration
from trackcore_server.config import rebase
from trackcore_server.kafka_log import ClientSettings
from trackcore_server.logs import make_sink, open_log
from trackcore_sqlite import SqliteLog, SqliteSink

KAFKA = '[log]\nkind = "kafka"\nbootstrap_servers = "one:9092,two:9092"\n'
WHOLE = """
topic_prefix = "tracking"
partitions = 24
replication = 5
min_insync_replicas = 3
timeout = "5s"
retention = "30d"
duplicate_window = 50_000
rejected_bytes = "1 GiB"
quarantine_bytes = 1000
[log.client]
security.protocol = "SASL_PLAINTEXT"
sasl.mechanism = "PLAIN"
"sasl.username" = "me"
sasl.password = "env:KAFKA_PASSWORD"
queued.min.messages = 1000
"""


def test_sqlite_is_the_default() -> None:
    assert parse_configuration("").log == parse_configuration('[log]\nkind = "sqlite"').log == LogSettings()
    assert isinstance(make_sink(Configuration()), SqliteSink)
    assert isinstance(open_log(Configuration()), SqliteLog)


def test_everything_said() -> None:
    assert parse_configuration(KAFKA + WHOLE).log == KafkaLogSettings(
        bootstrap_servers="one:9092,two:9092",
        topic_prefix="tracking",
        partitions=24,
        replication=5,
        min_insync_replicas=3,
        timeout=timedelta(seconds=5),
        retention=timedelta(days=30),
        duplicate_window=50_000,
        rejected_bytes=ByteCount(1 << 30),
        quarantine_bytes=ByteCount(1_000),
        client=ClientSettings(
            {
                "security.protocol": "SASL_PLAINTEXT",
                "sasl.mechanism": "PLAIN",
                "sasl.username": "me",
                "sasl.password": "env:KAFKA_PASSWORD",
                "queued.min.messages": 1_000,
            }
        ),
    )


def test_sink_and_log_are_made_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a word to the cluster."""
    monkeypatch.setenv("KAFKA_PASSWORD", "hunter2")
    configuration = parse_configuration(KAFKA + WHOLE)
    sink, log = make_sink(configuration), open_log(configuration)
    assert isinstance(sink, KafkaSink)
    assert isinstance(log, KafkaLog)
    assert sink._topics == log._topics
    assert (sink._topics.messages, sink._topics.partitions) == ("tracking.messages", 24)
    assert log._cluster.client["sasl.password"] == "hunter2"
    assert "hunter2" not in repr(configuration) + repr(log._cluster)
    assert "env:" not in repr(configuration)


@pytest.mark.parametrize(
    ("text", "path", "told"),
    [
        ('[log]\nkind = "kafak"', "log.kind", "did you mean 'kafka'?"),
        ("[log]\nkind = 1", "log.kind", "expected a string"),
        ('[log]\nkind = "kafka"', "log.bootstrap_servers", "is missing"),
        ('[log]\nbootstrap_servers = "a:1"', "log.bootstrap_servers", "there is no such setting"),
        (KAFKA + 'path = "x"', "log.path", "there is no such setting"),
        (KAFKA + "partition = 3", "log.partition", "did you mean 'partitions'?"),
        (KAFKA + "partitions = 0", "log.partitions", "must be >= 1"),
        (KAFKA + 'partitions = "3"', "log.partitions", "expected an integer"),
        (KAFKA + "min_insync_replicas = 4", "log.min_insync_replicas", "there are only 3 replicas"),
        (KAFKA + 'timeout = "0s"', "log.timeout", "a second at least"),
        (KAFKA + 'topic_prefix = "a b"', "log.topic_prefix", "expected letters"),
        (KAFKA.replace("two:9092", "two"), "log.bootstrap_servers", "expected HOST:PORT"),
        (KAFKA + "client = 1", "log.client", "expected a table"),
        (KAFKA + "[log.client]\nsasl.username = []", "log.client.sasl.username", "expected a string"),
    ],
)
def test_mistakes_are_told_with_their_path(text: str, path: str, told: str) -> None:
    with pytest.raises(ConfigurationMistake) as raised:
        parse_configuration(text)
    assert raised.value.path == path
    assert told in raised.value.detail


@pytest.mark.parametrize(
    ("client", "path", "told"),
    [
        ("acks = 1", "log.client.acks", "trackcore decides"),
        ('sasl.usrname = "me"', "log.client.sasl.usrname", "No such configuration property"),
        ('security.protocol = "x"', "log.client.security.protocol", "Invalid value"),
        ('sasl.password = "env:NOT_SET_ANYWHERE"', "log.client.sasl.password", "NOT_SET_ANYWHERE is not set"),
    ],
)
def test_mistakes_in_what_goes_to_librdkafka(client: str, path: str, told: str) -> None:
    configuration = parse_configuration(f"{KAFKA}[log.client]\n{client}")
    for use in (make_sink, open_log):
        with pytest.raises(ConfigurationMistake) as raised:
            use(configuration)
        assert raised.value.path == path
        assert told in raised.value.detail


def test_what_needs_the_embedded_log_says_so() -> None:
    with pytest.raises(ConfigurationMistake, match="'sqlite'"):
        _ = parse_configuration(KAFKA).log_path


def test_the_state_of_delivery_lies_beside_the_configuration(tmp_path: Path) -> None:
    """A log in Kafka has no folder; what destinations write is relative to where that state lies."""
    configuration = rebase(parse_configuration(KAFKA), tmp_path)
    assert configuration.delivery_path == tmp_path / "trackcore-delivery.db"
    assert configuration.folder == tmp_path
    elsewhere = rebase(parse_configuration(KAFKA + '[delivery]\npath = "state/own.db"'), tmp_path)
    assert elsewhere.delivery_path == tmp_path / "state" / "own.db"
    assert elsewhere.folder == tmp_path / "state"
