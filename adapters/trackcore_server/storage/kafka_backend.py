"""A log in Kafka as a backend.

The client of Kafka is imported where a configuration asks for it, so that nobody else has to install it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, ClassVar, NoReturn

import attrs
from trackcore_delivery import NEWEST, DeliveredDestination, DeliveryQueue, RetryQueue, State, UnusableSecret

from trackcore import Mark
from trackcore_server.config.configuration import Configuration, ConfigurationError
from trackcore_server.config.kafka_log import ClientSetting, KafkaLogSettings, as_secret, is_named
from trackcore_server.storage.backend import Backlog, Unsupported

if TYPE_CHECKING:
    from trackcore_kafka import KafkaCluster, KafkaGroupReader, KafkaLog, KafkaSink, KafkaTopics

_RECORD_BYTES = 1 << 20
_OVERHEAD_BYTES = 1 << 16
"""The room in a record for more than the text of a request: headers, key and the overhead of Kafka."""


@attrs.frozen
class KafkaBackend:
    """The `Backend` of a log in a cluster."""

    idle: ClassVar[str] = "not here"  # other processes may deliver
    _configuration: Configuration
    _settings: KafkaLogSettings

    def make_sink(self) -> KafkaSink:
        """See `Backend.make_sink`."""
        with _client_installed():
            from trackcore_kafka import KafkaSink  # noqa: PLC0415 - see the module

            return KafkaSink(self._cluster(), self._topics(), timeout=self._settings.timeout.total_seconds())

    def open_log(self) -> KafkaLog:
        """See `Backend.open_log`."""
        with _client_installed():
            from trackcore_kafka import KafkaLog  # noqa: PLC0415 - see the module

            return KafkaLog(self._cluster(), self._topics(), duplicate_window=self._settings.duplicate_window)

    def browser(self, *, keep_open: bool = False) -> NoReturn:
        """See `Backend.browser`."""
        del keep_open
        raise Unsupported

    def feed(self) -> NoReturn:
        """See `Backend.feed`."""
        raise Unsupported

    def queues(self, destination: DeliveredDestination, state: State) -> Sequence[DeliveryQueue]:
        """See `Backend.queues`."""
        with _client_installed():
            from trackcore_server.storage.kafka_queue import ConsumerGroupQueue  # noqa: PLC0415 - see the module

            incoming = ConsumerGroupQueue(destination, state, partial(self._join_group, destination))
            return incoming, RetryQueue(destination, state)

    def backlog(self, destination: str, mark: Mark) -> Backlog:
        """See `Backend.backlog`.  The group knows the position, and messages for all destinations count."""
        del mark
        return Backlog(waiting=self.open_log().behind(self._group_of(destination)))

    def place(self, seq: int) -> str:
        """See `Backend.place`.  It is `partition-offset`."""
        with _client_installed():
            from trackcore_kafka import place_of  # noqa: PLC0415 - see the module

            return place_of(seq)

    def require_log(self) -> None:
        """See `Backend.require_log`.  The cluster is not asked."""

    def require_reprocessing(self) -> NoReturn:
        """See `Backend.require_reprocessing`."""
        raise Unsupported

    def prepare(self) -> None:
        """See `Backend.prepare`.  The sink checks its topics itself."""

    def examine_positions(self) -> None:
        """See `Backend.examine_positions`.  The members of a group do that when they get a partition."""

    def start_retention(self) -> Callable[[], None]:
        """See `Backend.start_retention`.  The brokers delete."""
        return lambda: None

    def _group_of(self, destination: str) -> str:
        return f"{self._settings.topic_prefix}.delivery.{destination}"

    def _join_group(self, destination: DeliveredDestination) -> KafkaGroupReader:
        from trackcore_kafka import KafkaGroupReader  # noqa: PLC0415 - see the module

        return KafkaGroupReader(
            self._cluster(),
            self._topics(),
            group=self._group_of(destination.name),
            duplicate_window=self._settings.duplicate_window,
            begin_at_end=destination.start == NEWEST,
        )

    def _cluster(self) -> KafkaCluster:
        from trackcore_kafka import ClientSettingRefused, KafkaCluster  # noqa: PLC0415 - see the module

        client = {name: _revealed(name, value, os.environ) for name, value in self._settings.client.items()}
        try:
            cluster = KafkaCluster(bootstrap_servers=self._settings.bootstrap_servers, client=client)
            cluster.check_settings()
        except ClientSettingRefused as error:
            raise ConfigurationError(path=f"log.client.{error.name}".rstrip("."), detail=error.detail) from None
        return cluster

    def _topics(self) -> KafkaTopics:
        from trackcore_kafka import KafkaTopics  # noqa: PLC0415 - see the module

        log = self._settings
        return KafkaTopics(
            prefix=log.topic_prefix,
            partitions=log.partitions,
            replication=log.replication,
            min_insync_replicas=log.min_insync_replicas,
            rejected_bytes=log.rejected_bytes,
            quarantine_bytes=log.quarantine_bytes,
            retention=log.retention,
            record_bytes=max(_RECORD_BYTES, self._configuration.limits.request_bytes + _OVERHEAD_BYTES),
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
def _client_installed() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        detail = f"a log in Kafka needs {error.name}: pip install 'trackcore[kafka]'"
        raise ConfigurationError(path="log.kind", detail=detail) from error
