"""The log, whichever it is: what commands need of one that they read, and how the configured one is opened.

The client of Kafka is imported where a configuration asks for it, so that nobody else has to install it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from trackcore_delivery import UnusableSecret
from trackcore_sqlite import SqliteLog, SqliteSink

from trackcore import Limits, Log, Sink
from trackcore_server.config.configuration import Configuration, ConfigurationError
from trackcore_server.config.kafka_log import ClientSetting, KafkaLogSettings, as_secret, is_named

if TYPE_CHECKING:
    from trackcore_kafka import KafkaCluster, KafkaGroupReader, KafkaTopics

_RECORD_BYTES = 1 << 20
_OVERHEAD_BYTES = 1 << 16
"""What a record may hold beside the text of a request: headers, key and Kafka's own."""


class ClosableSink(Sink, Protocol):
    """A sink that holds files or connections."""

    def close(self) -> None:
        """Let go of them.  A later call takes them up again."""


def open_log(configuration: Configuration) -> Log:
    """Open the configured log for reading.

    Raises:
        ConfigurationError: the settings of its client cannot be used.
    """
    log = configuration.log
    if not isinstance(log, KafkaLogSettings):
        return SqliteLog(log.path)
    with _kafka_at_hand():
        from trackcore_kafka import KafkaLog  # noqa: PLC0415 - see the module

        window = log.duplicate_window
        return KafkaLog(_cluster(log), _topics(log, configuration.limits), duplicate_window=window)


def make_sink(configuration: Configuration) -> ClosableSink:
    """Make the sink that writes the configured log.  Nothing is opened yet.

    Raises:
        ConfigurationError: the settings of its client cannot be used.
    """
    log = configuration.log
    if not isinstance(log, KafkaLogSettings):
        return SqliteSink(log.path, rejected_bytes=log.rejected_bytes, quarantine_bytes=log.quarantine_bytes)
    with _kafka_at_hand():
        from trackcore_kafka import KafkaSink  # noqa: PLC0415 - see the module

        timeout = log.timeout.total_seconds()
        return KafkaSink(_cluster(log), _topics(log, configuration.limits), timeout=timeout)


def place_of(configuration: Configuration, seq: int) -> int | str:
    """Return the number of a message as people read it: in Kafka its place, `partition-offset`."""
    if not isinstance(configuration.log, KafkaLogSettings):
        return seq
    from trackcore_kafka import place_of  # noqa: PLC0415 - see the module

    return place_of(seq)


def group_of(log: KafkaLogSettings, destination: str) -> str:
    """Give the name of the consumer group that delivers to a destination."""
    return f"{log.topic_prefix}.delivery.{destination}"


def join_group(
    log: KafkaLogSettings, limits: Limits, destination: str, *, begin_at_end: bool = False
) -> KafkaGroupReader:
    """Join the consumer group that delivers to a destination.  Raises `ConfigurationError`."""
    with _kafka_at_hand():
        from trackcore_kafka import KafkaGroupReader  # noqa: PLC0415 - see the module

        return KafkaGroupReader(
            _cluster(log),
            _topics(log, limits),
            group=group_of(log, destination),
            duplicate_window=log.duplicate_window,
            begin_at_end=begin_at_end,
        )


def _cluster(log: KafkaLogSettings) -> KafkaCluster:
    from trackcore_kafka import ClientSettingRefused, KafkaCluster  # noqa: PLC0415 - see the module

    client = {name: _revealed(name, value, os.environ) for name, value in log.client.items()}
    try:
        cluster = KafkaCluster(bootstrap_servers=log.bootstrap_servers, client=client)
        cluster.check_settings()
    except ClientSettingRefused as error:
        raise ConfigurationError(path=f"log.client.{error.name}".rstrip("."), detail=error.detail) from None
    return cluster


def _topics(log: KafkaLogSettings, limits: Limits) -> KafkaTopics:
    from trackcore_kafka import KafkaTopics  # noqa: PLC0415 - see the module

    return KafkaTopics(
        prefix=log.topic_prefix,
        partitions=log.partitions,
        replication=log.replication,
        min_insync_replicas=log.min_insync_replicas,
        rejected_bytes=log.rejected_bytes,
        quarantine_bytes=log.quarantine_bytes,
        retention=log.retention,
        record_bytes=max(_RECORD_BYTES, limits.request_bytes + _OVERHEAD_BYTES),
    )


def _revealed(name: str, value: ClientSetting, environ: Mapping[str, str]) -> ClientSetting:
    """Look up a value that only names an environment variable: `env:NAME`."""
    if not is_named(value):
        return value
    try:
        return as_secret(name, value).reveal(environ)
    except UnusableSecret as error:
        raise ConfigurationError(path=f"log.client.{name}", detail=str(error)) from None


@contextmanager
def _kafka_at_hand() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        detail = f"a log in Kafka needs {error.name}: pip install 'trackcore[kafka]'"
        raise ConfigurationError(path="log.kind", detail=detail) from error
