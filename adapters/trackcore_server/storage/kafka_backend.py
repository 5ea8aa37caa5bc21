"""A log in Kafka as a backend.  The group knows positions, the brokers delete, and the sink checks its topics."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import ClassVar

import attrs
from trackcore_delivery import (
    NEWEST,
    DeliveredDestination,
    DeliveryQueue,
    ErasureQueue,
    RetryQueue,
    State,
    UnusableSecret,
)
from trackcore_kafka import (
    ClientSettingRefused,
    KafkaCluster,
    KafkaGroupReader,
    KafkaLog,
    KafkaSink,
    KafkaTopics,
    place_of,
)

from trackcore import Mark
from trackcore.support import MEBIBYTE
from trackcore_server.config.configuration import Configuration, ConfigurationError
from trackcore_server.config.kafka_log import ClientSetting, KafkaLogSettings, named_secrets
from trackcore_server.storage.backend import Backend, Backlog, ClosableSink, OnProgress, no_progress, suppressing
from trackcore_server.storage.kafka_queue import ConsumerGroupQueue

_OVERHEAD_BYTES = 1 << 16
"""The room in a record for more than the text of a request: headers, key and the overhead of Kafka."""


@attrs.frozen
class KafkaBackend(Backend):
    """A log in a cluster."""

    idle: ClassVar[str] = "not here"  # other processes may deliver
    _configuration: Configuration
    _settings: KafkaLogSettings

    def make_sink(self, on_commit: Callable[[float, int], None] | None = None) -> ClosableSink:
        """See `Backend.make_sink`.  The cluster has no commits."""
        del on_commit
        sink = KafkaSink(self._cluster, self._topics(), timeout=self._settings.timeout.total_seconds())
        return suppressing(sink, self._configuration)

    def open_log(self, on_progress: OnProgress = no_progress) -> KafkaLog:
        """See `Backend.open_log`.  The progress is unknown."""
        del on_progress
        return KafkaLog(self._cluster, self._topics(), duplicate_window=self._settings.duplicate_window)

    def queues(self, destination: DeliveredDestination, state: State) -> Sequence[DeliveryQueue]:
        """See `Backend.queues`."""
        incoming = ConsumerGroupQueue(destination, state, partial(self._join_group, destination))
        return incoming, RetryQueue(destination, state), ErasureQueue(destination, state)

    def backlog(self, destination: str, mark: Mark, *, most: int | None = None) -> Backlog:
        """See `Backend.backlog`.  The group knows the position, and messages for all destinations count."""
        del mark, most
        return Backlog(waiting=self.open_log().behind(self._group_of(destination)))

    def place(self, seq: int) -> str:
        """See `Backend.place`.  It is `partition-offset`."""
        return place_of(seq)

    def _group_of(self, destination: str) -> str:
        return f"{self._settings.topic_prefix}.delivery.{destination}"

    def _join_group(self, destination: DeliveredDestination) -> KafkaGroupReader:
        return KafkaGroupReader(
            self._cluster,
            self._topics(),
            group=self._group_of(destination.name),
            duplicate_window=self._settings.duplicate_window,
            begin_at_end=destination.start == NEWEST,
        )

    @cached_property
    def _cluster(self) -> KafkaCluster:
        """The cluster, whose settings librdkafka has checked; that takes a client, so it is done once."""
        client: dict[str, ClientSetting] = {**self._settings.client}
        for name, secret in named_secrets(self._settings.client):
            try:
                client[name] = secret.reveal(os.environ)
            except UnusableSecret as error:
                raise ConfigurationError(path=f"log.client.{name}", detail=str(error)) from None
        try:
            cluster = KafkaCluster(bootstrap_servers=self._settings.bootstrap_servers, client=client)
            cluster.check_settings()
        except ClientSettingRefused as error:
            raise ConfigurationError(path=f"log.client.{error.name}".rstrip("."), detail=error.detail) from None
        return cluster

    def _topics(self) -> KafkaTopics:
        log = self._settings
        return KafkaTopics(
            prefix=log.topic_prefix,
            partitions=log.partitions,
            replication=log.replication,
            min_insync_replicas=log.min_insync_replicas,
            rejected_bytes=log.rejected_bytes,
            quarantine_bytes=log.quarantine_bytes,
            retention=log.retention,
            record_bytes=max(MEBIBYTE, self._configuration.limits.request_bytes + _OVERHEAD_BYTES),
        )
