"""`[log]` with `kind = "kafka"`: its settings, and the errors for wrong ones."""

from __future__ import annotations

import logging
import traceback
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError
from trackcore_delivery import ByteCount
from trackcore_kafka import (
    ClientSettingRefused,
    KafkaCluster,
    KafkaLog,
    KafkaSink,
    KafkaTopics,
    KafkaTopicWriter,
    NotAcknowledged,
)
from trackcore_kafka.cluster import explain
from trackcore_kafka.masking import ClientSetting, MaskingLogger
from trackcore_server import Configuration, ConfigurationError, KafkaLogSettings, LogSettings, parse_configuration
from trackcore_server.config.configuration import rebase
from trackcore_server.config.kafka_log import ClientSettings
from trackcore_server.storage.backend import Unsupported
from trackcore_server.storage.backends import backend_of
from trackcore_sqlite import SqliteLog, SqliteSink

from trackcore import Envelope, SinkUnavailable
from trackcore.privacy import SuppressingSink

SECRET = "s3cr3t-of-the-test"  # noqa: S105 - a test secret
TOPICS = KafkaTopics()
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
    sink = backend_of(Configuration()).make_sink()
    assert isinstance(sink, SuppressingSink)
    assert isinstance(sink.sink, SqliteSink)
    assert isinstance(backend_of(Configuration()).open_log(), SqliteLog)


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
    """Without contacting the cluster."""
    monkeypatch.setenv("KAFKA_PASSWORD", "hunter2")
    configuration = parse_configuration(KAFKA + WHOLE)
    made, log = backend_of(configuration).make_sink(), backend_of(configuration).open_log()
    assert isinstance(made, SuppressingSink)
    sink = made.sink
    assert isinstance(sink, KafkaSink)
    assert isinstance(log, KafkaLog)
    assert sink._topics == log._topics
    assert (sink._topics.messages, sink._topics.partitions) == ("tracking.messages", 24)
    assert log._cluster.client["sasl.password"] == "hunter2"
    assert "hunter2" not in repr(configuration) + repr(log._cluster)
    assert "env:" not in repr(configuration)


@pytest.mark.parametrize(
    ("text", "path", "detail"),
    [
        ('[log]\nkind = "kafak"', "log.kind", "did you mean 'kafka'?"),
        ("[log]\nkind = 1", "log.kind", "expected a string"),
        ('[log]\nkind = "kafka"', "log.bootstrap_servers", "is missing"),
        ('[log]\nbootstrap_servers = "a:1"', "log.bootstrap_servers", "unknown setting"),
        (KAFKA + 'path = "x"', "log.path", "unknown setting"),
        (KAFKA + "partition = 3", "log.partition", "did you mean 'partitions'?"),
        (KAFKA + "partitions = 0", "log.partitions", "must be >= 1"),
        (KAFKA + 'partitions = "3"', "log.partitions", "expected an integer"),
        (KAFKA + "min_insync_replicas = 4", "log.min_insync_replicas", "there are only 3 replicas"),
        (KAFKA + 'timeout = "0s"', "log.timeout", "at least 1 second"),
        (KAFKA + 'topic_prefix = "a b"', "log.topic_prefix", "expected at most 200 letters"),
        (KAFKA.replace("two:9092", "two"), "log.bootstrap_servers", "expected HOST:PORT"),
        (KAFKA + "client = 1", "log.client", "expected a table"),
        (KAFKA + "[log.client]\nsasl.username = []", "log.client.sasl.username", "expected a string"),
    ],
)
def test_mistakes_are_reported_with_their_path(text: str, path: str, detail: str) -> None:
    with pytest.raises(ConfigurationError, check=lambda error: error.path == path and detail in error.detail):
        parse_configuration(text)


@pytest.mark.parametrize(
    ("client", "path", "detail"),
    [
        ("acks = 1", "log.client.acks", "trackcore decides"),
        ('sasl.usrname = "me"', "log.client.sasl.usrname", "No such configuration property"),
        ('security.protocol = "x"', "log.client.security.protocol", "Invalid value"),
        ('sasl.password = "env:NOT_SET_ANYWHERE"', "log.client.sasl.password", "NOT_SET_ANYWHERE is not set"),
    ],
)
def test_mistakes_in_what_goes_to_librdkafka(client: str, path: str, detail: str) -> None:
    backend = backend_of(parse_configuration(f"{KAFKA}[log.client]\n{client}"))
    for use in (backend.make_sink, backend.open_log):
        with pytest.raises(ConfigurationError, check=lambda error: error.path == path and detail in error.detail):
            use()


class TestEmbedded:
    """Settings that librdkafka rejects, without a configuration that was checked before."""

    @pytest.mark.parametrize(
        ("client", "name", "detail"),
        [
            ({"security.protocol": SECRET}, "security.protocol", "Invalid value for librdkafka"),
            ({"linger.ms": "9999999"}, "", "Invalid value of queue.buffering.max.ms; librdkafka allows 0..900000"),
            ({"no.such": SECRET}, "no.such", "No such configuration property of librdkafka"),
            ({"plugin.library.paths": SECRET}, "", "librdkafka cannot use its settings"),
            ({"error_cb": SECRET}, "", "librdkafka cannot use its settings"),
            ({"client.id": f"{SECRET}\ud800"}, "", "librdkafka cannot use its settings"),
            (
                {"sasl.password": SECRET, "security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN"},
                "sasl.password",
                "librdkafka cannot use sasl.username and sasl.password",
            ),
            (
                {"security.protocol": "SSL", "ssl.ca.location": SECRET},
                "ssl.ca.location",
                "librdkafka cannot use ssl.ca.location",
            ),
        ],
    )
    def test_the_setting_is_named_and_not_its_value(self, client: dict[str, Any], name: str, detail: str) -> None:
        cluster = KafkaCluster(bootstrap_servers="127.0.0.1:1", client=client)
        for use in (cluster.check_settings, cluster.admin, lambda: list(KafkaLog(cluster, TOPICS).messages())):
            with pytest.raises(ClientSettingRefused) as raised:
                use()
            assert (raised.value.name, raised.value.detail) == (name, detail)
            assert SECRET not in "".join(traceback.format_exception(raised.value))
            assert raised.value.__context__ is None or SECRET not in repr(raised.value.__context__)
        with pytest.raises(SinkUnavailable) as unavailable:
            KafkaSink(cluster, TOPICS).store(
                [Envelope("website", "m", "track", "u", None, datetime.now(UTC), (), (), b"{}")]
            )
        with pytest.raises(NotAcknowledged) as lost:
            KafkaTopicWriter(cluster, "topic").send([(None, b"{}")])
        for error in (unavailable.value, lost.value):
            assert detail in str(error)
            assert SECRET not in "".join(traceback.format_exception(error))

    def test_what_the_client_logs_is_masked(self, caplog: pytest.LogCaptureFixture) -> None:
        client: dict[str, ClientSetting] = {"sasl.mechanism": SECRET, "client.id": f"me-{SECRET}"}
        cluster = KafkaCluster(bootstrap_servers="127.0.0.1:1", client={**client, "sasl.username": "u:1"})
        cluster.check_settings()
        assert "CONFWARN [***#producer-" in caplog.text
        assert "`sasl.mechanism` set to `***`" in caplog.text
        assert SECRET not in caplog.text

    def test_what_is_cut_or_trimmed_is_masked_too(self, caplog: pytest.LogCaptureFixture) -> None:
        """A client's name has 128 bytes at most, NUL ends a text, and surrounding white space is removed."""
        logger = MaskingLogger({"client.id": SECRET * 20, "sasl.mechanism": f" {SECRET}-a\0b"})
        logger.log(logging.ERROR, "FAIL [%s#producer-1] `%s`", (SECRET * 20)[:100], f"{SECRET}-a")
        assert caplog.messages == ["FAIL [***#producer-1] `***`"]

    def test_words_of_the_documentation_are_not(self, caplog: pytest.LogCaptureFixture) -> None:
        logger = MaskingLogger({"sasl.mechanism": "PLAIN", "sasl.username": "me", "sasl.password": SECRET, "n": 5})
        logger.log(logging.ERROR, "%s: %s", "SASL mechanism PLAIN refuses me, but not message, 5, not 50", SECRET)
        assert caplog.messages == ["SASL mechanism PLAIN refuses ***, but not message, ***, not 50: ***"]

    def test_only_brokers_are_quoted_and_only_on_topics(self) -> None:
        assert explain(KafkaError(KafkaError._SSL, SECRET)) == "Local: SSL error"
        assert explain(KafkaError(KafkaError._TRANSPORT, SECRET)) == "no broker answers"
        assert explain(KafkaError(KafkaError.POLICY_VIOLATION, "too few replicas")) == "too few replicas"


def test_an_address_has_no_password() -> None:
    with pytest.raises(ConfigurationError, match=r"log\.bootstrap_servers: a password in an address would appear"):
        parse_configuration(KAFKA.replace("one:9092", f"me:{SECRET}@one:9092"))


def test_what_needs_the_embedded_log_says_so() -> None:
    backend = backend_of(parse_configuration(KAFKA))
    for use in (backend.browser, backend.feed):
        with pytest.raises(Unsupported, match=r"log\.kind: this needs a log of the kind 'sqlite'"):
            use()


def test_the_state_of_delivery_lies_beside_the_configuration(tmp_path: Path) -> None:
    """A log in Kafka has no folder; files of destinations are relative to the folder of the state."""
    configuration = rebase(parse_configuration(KAFKA), tmp_path)
    assert configuration.delivery_path == tmp_path / "trackcore-delivery.db"
    assert configuration.folder == tmp_path
    elsewhere = rebase(parse_configuration(KAFKA + '[delivery]\npath = "state/own.db"'), tmp_path)
    assert elsewhere.delivery_path == tmp_path / "state" / "own.db"
    assert elsewhere.folder == tmp_path / "state"
