"""A Kafka cluster: how it is reached, which settings are ours to decide, and what its errors mean to a caller.

Settings of librdkafka pass through `client`, but for those that the promises of this package rest on: whoever could
turn off `acks=all` would turn `200` into a guess.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any, TypeAlias

import attrs
from confluent_kafka import KafkaError, KafkaException

from trackcore import Cause, SinkUnavailable, TrackcoreError
from trackcore_kafka.forks import OwnAdmin, OwnConsumer, OwnProducer, is_of_a_parent, make

ClientSetting: TypeAlias = str | int | float | bool
"""A value of a librdkafka setting (https://github.com/confluentinc/librdkafka/blob/master/CONFIGURATION.md)."""

log = logging.getLogger("trackcore.kafka")

OURS = frozenset(
    {"bootstrap.servers", "metadata.broker.list", "acks", "request.required.acks", "enable.idempotence"}
    | {"enable.gapless.guarantee", "transactional.id", "delivery.timeout.ms", "message.timeout.ms", "partitioner"}
    | {"message.max.bytes", "queue.buffering.max.messages", "queue.buffering.max.kbytes", "allow.auto.create.topics"}
    | {"group.id", "enable.auto.commit", "enable.auto.offset.store", "auto.offset.reset", "enable.partition.eof"}
    | {"partition.assignment.strategy", "logger", "test.mock.num.brokers"}
)
"""The settings that nobody else may decide."""

_BASIS: Mapping[str, ClientSetting] = {
    "client.id": "trackcore",
    "reconnect.backoff.max.ms": 1_000,  # 10 s by default, which a recovered cluster would not be used for
    "socket.keepalive.enable": True,
}
_SECRETS = frozenset({"sasl.password", "ssl.key.password", "ssl.keystore.password", "sasl.oauthbearer.client.secret"})
_PROPERTY = re.compile(r'property:? "([^"]+)"')

_RETRY_SOON = 1
_RETRY = 5
_RETRY_LATE = 60


@attrs.define(kw_only=True, eq=False)
class ClientSettingRefused(TrackcoreError):
    """A setting in `client` is unknown to librdkafka, has a wrong value, or is not to be changed."""

    name: str
    detail: str

    def __str__(self) -> str:
        return f"{self.name}: {self.detail}" if self.name else self.detail


@attrs.define(kw_only=True, eq=False)
class UnusableCluster(TrackcoreError):
    """The cluster, or a topic of it, cannot be used as it is."""

    servers: str
    detail: str

    def __str__(self) -> str:
        return f"Kafka at {self.servers}: {self.detail}"


def _check_names(_: object, __: object, client: Mapping[str, ClientSetting]) -> None:
    for name in client:
        if name in OURS:
            raise ClientSettingRefused(name=name, detail="trackcore decides this setting: its promises rest on it")


@attrs.frozen(kw_only=True)
class KafkaCluster:
    """How a cluster is reached: `bootstrap_servers` as `host:port,host:port`, and further settings of librdkafka.

    Raises:
        ClientSettingRefused: `client` has a setting that is not to be changed.
    """

    bootstrap_servers: str
    client: Mapping[str, ClientSetting] = attrs.field(factory=dict, validator=_check_names, repr=False)

    def settings(self, **ours: ClientSetting) -> dict[str, Any]:
        """Give the settings of a client; a name in `ours` has underscores for the dots."""
        decided = {name.replace("_", "."): value for name, value in ours.items()}
        return {**_BASIS, **self.client, "bootstrap.servers": self.bootstrap_servers, **decided, "logger": log}

    def check_settings(self) -> None:
        """Let librdkafka judge the settings, without a word to the cluster.  Raises `ClientSettingRefused`."""
        try:
            make(OwnProducer, self.settings()).close()
        except (KafkaException, TypeError, ValueError) as error:
            told = error.args[0].str() if isinstance(error, KafkaException) else str(error)
            match = _PROPERTY.search(told)
            raise ClientSettingRefused(name=match[1] if match else "", detail=told) from error

    def admin(self) -> OwnAdmin:
        """Make a client that can look at topics and create them."""
        return make(OwnAdmin, self.settings())

    def check_is_own(self, consumer: OwnConsumer) -> None:
        """Raise `UnusableCluster` for a consumer that was made before a fork: its parent goes on with it."""
        if is_of_a_parent(consumer):
            raise self.unusable("this reader was opened before a fork; open another one in this process")

    def unusable(self, detail: str | KafkaException) -> UnusableCluster:
        """Make the error that says what is wrong with this cluster."""
        told = explain(detail.args[0]) if isinstance(detail, KafkaException) else detail
        return UnusableCluster(servers=self.bootstrap_servers, detail=told)


_EXPLANATIONS: Mapping[int, str] = {
    KafkaError._TRANSPORT: "no broker answers",  # noqa: SLF001 - librdkafka's own codes begin with an underscore
    KafkaError._ALL_BROKERS_DOWN: "no broker answers",  # noqa: SLF001
    KafkaError._TIMED_OUT: "the brokers do not answer in time",  # noqa: SLF001
    KafkaError._MSG_TIMED_OUT: "the brokers did not acknowledge in time",  # noqa: SLF001
    KafkaError._QUEUE_FULL: "too much is waiting to be stored",  # noqa: SLF001
    KafkaError.NOT_ENOUGH_REPLICAS: "too few replicas are in sync (min.insync.replicas)",
    KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND: "too few replicas are in sync (min.insync.replicas)",
    KafkaError.MSG_SIZE_TOO_LARGE: "a record is larger than the topic takes (max.message.bytes)",
}

_CAUSES: Mapping[int, tuple[Cause, int]] = {
    KafkaError._QUEUE_FULL: (Cause.OVERLOADED, _RETRY_SOON),  # noqa: SLF001
    KafkaError.THROTTLING_QUOTA_EXCEEDED: (Cause.OVERLOADED, _RETRY),
    KafkaError.MSG_SIZE_TOO_LARGE: (Cause.UNAVAILABLE, _RETRY_LATE),
    KafkaError.TOPIC_AUTHORIZATION_FAILED: (Cause.UNAVAILABLE, _RETRY_LATE),
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: (Cause.UNAVAILABLE, _RETRY_LATE),
}


def explain(error: KafkaError) -> str:
    """Say what an error of Kafka means."""
    return _EXPLANATIONS.get(error.code(), error.str())


def unavailable(error: KafkaError) -> SinkUnavailable:
    """Give what a sink raises for an error of Kafka.  A full disk is not told to clients: its broker goes down."""
    cause, retry_after = _CAUSES.get(error.code(), (Cause.UNAVAILABLE, _RETRY))
    return SinkUnavailable(cause=cause, detail=explain(error), retry_after=retry_after)
