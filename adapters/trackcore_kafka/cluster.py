"""A Kafka cluster: its address, the settings that trackcore decides, and the meaning of its errors.

Settings of librdkafka pass through `client`, except for those that the guarantees of this package depend on: without
`acks=all`, a `200` would guarantee nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import attrs
from confluent_kafka import KafkaError, KafkaException

from trackcore import Cause, LogUnavailable, SinkUnavailable, TrackcoreError
from trackcore_kafka.forks import OwnAdmin, OwnConsumer, OwnProducer, T, is_of_a_parent, make
from trackcore_kafka.masking import ClientSetting, MaskingLogger, masked

RESERVED = frozenset(
    {"bootstrap.servers", "metadata.broker.list", "acks", "request.required.acks", "enable.idempotence"}
    | {"enable.gapless.guarantee", "transactional.id", "delivery.timeout.ms", "message.timeout.ms", "partitioner"}
    | {"message.max.bytes", "queue.buffering.max.messages", "queue.buffering.max.kbytes", "allow.auto.create.topics"}
    | {"group.id", "enable.auto.commit", "enable.auto.offset.store", "auto.offset.reset", "enable.partition.eof"}
    | {"partition.assignment.strategy", "logger", "test.mock.num.brokers"}
)
"""The settings that only trackcore decides."""

_BASIS: Mapping[str, ClientSetting] = {
    "client.id": "trackcore",
    "reconnect.backoff.max.ms": 1_000,  # 10 s by default, for which a recovered cluster would not be used
    "socket.keepalive.enable": True,
}
_RETRY = 5
_RETRY_LATE = 60


@attrs.define(kw_only=True, eq=False)
class ClientSettingRefused(TrackcoreError):
    """A setting in `client` is unknown to librdkafka, has a wrong value, or may not be changed."""

    name: str
    detail: str

    def __str__(self) -> str:
        return f"{self.name}: {self.detail}" if self.name else self.detail


@attrs.define(kw_only=True, eq=False)
class UnusableCluster(LogUnavailable):
    """The cluster, or a topic of it, cannot be used as it is."""

    servers: str
    detail: str

    def __str__(self) -> str:
        return f"Kafka at {self.servers}: {self.detail}"


def _check_names(_: object, __: object, client: Mapping[str, ClientSetting]) -> None:
    for name in client:
        if name in RESERVED:
            raise ClientSettingRefused(name=name, detail="trackcore decides this setting: its guarantees depend on it")


@attrs.frozen(kw_only=True)
class KafkaCluster:
    """The address of a cluster: `bootstrap_servers` as `host:port,host:port`, and further settings of librdkafka.

    Raises `ClientSettingRefused` if `client` has a setting that may not be changed.
    """

    bootstrap_servers: str
    client: Mapping[str, ClientSetting] = attrs.field(factory=dict, validator=_check_names, repr=False)

    def settings(self, **ours: ClientSetting) -> dict[str, Any]:
        """Return the settings of a client; a name in `ours` has underscores for the dots."""
        decided = {name.replace("_", "."): value for name, value in ours.items()}
        logger = MaskingLogger(self.client)
        return {**_BASIS, **self.client, "bootstrap.servers": self.bootstrap_servers, **decided, "logger": logger}

    def make(self, kind: Callable[[dict[str, Any]], T], **ours: ClientSetting) -> T:
        """Make a client with `ours` as further settings.  Raises `ClientSettingRefused`.

        librdkafka's message about a setting quotes its value, so it is not a cause of the raised error either.
        """
        settings = self.settings(**ours)
        try:
            return make(kind, settings)
        except KafkaException as error:
            refused = _refused(error.args[0].str(), self.client)
        except (TypeError, ValueError, SystemError):  # SystemError: text that is not Unicode
            refused = _refused("", self.client)
        raise refused

    def check_settings(self) -> None:
        """Check the settings with librdkafka, without contacting the cluster.  Raises `ClientSettingRefused`."""
        self.make(OwnProducer).close()

    def admin(self) -> OwnAdmin:
        """Make a client that can look at topics and create them.  Raises `ClientSettingRefused`."""
        return self.make(OwnAdmin)

    def check_is_own(self, consumer: OwnConsumer) -> None:
        """Raise `UnusableCluster` for a consumer that was made before a fork: its parent continues to use it."""
        if is_of_a_parent(consumer):
            raise self.unusable("this reader was opened before a fork; open another one in this process")

    def unusable(self, detail: str | KafkaException) -> UnusableCluster:
        """Build the error for a problem with this cluster."""
        text = explain(detail.args[0]) if isinstance(detail, KafkaException) else detail
        return UnusableCluster(servers=self.bootstrap_servers, detail=text)


_EXPLANATIONS: Mapping[int, str] = {
    KafkaError._TRANSPORT: "no broker answers",  # noqa: SLF001 - librdkafka's own codes begin with an underscore
    KafkaError._ALL_BROKERS_DOWN: "no broker answers",  # noqa: SLF001
    KafkaError._TIMED_OUT: "the brokers do not answer in time",  # noqa: SLF001
    KafkaError._MSG_TIMED_OUT: "the brokers did not acknowledge in time",  # noqa: SLF001
    KafkaError._QUEUE_FULL: "too much is waiting to be stored",  # noqa: SLF001
    KafkaError._PURGE_QUEUE: "the client has failed, and is replaced",  # noqa: SLF001
    KafkaError.NOT_ENOUGH_REPLICAS: "too few replicas are in sync (min.insync.replicas)",
    KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND: "too few replicas are in sync (min.insync.replicas)",
    KafkaError.MSG_SIZE_TOO_LARGE: "a record is larger than the topic takes (max.message.bytes)",
}

_CAUSES: Mapping[int, tuple[Cause, int]] = {
    KafkaError._QUEUE_FULL: (Cause.OVERLOADED, 1),  # noqa: SLF001
    KafkaError.THROTTLING_QUOTA_EXCEEDED: (Cause.OVERLOADED, _RETRY),
    KafkaError.MSG_SIZE_TOO_LARGE: (Cause.UNAVAILABLE, _RETRY_LATE),
    KafkaError.TOPIC_AUTHORIZATION_FAILED: (Cause.UNAVAILABLE, _RETRY_LATE),
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: (Cause.UNAVAILABLE, _RETRY_LATE),
}


_EXPLAINED_BY_BROKERS = frozenset(
    {KafkaError.POLICY_VIOLATION, KafkaError.INVALID_CONFIG, KafkaError.INVALID_REPLICATION_FACTOR}
    | {KafkaError.INVALID_PARTITIONS, KafkaError.TOPIC_EXCEPTION, KafkaError.INVALID_REQUEST}
)
"""Errors about topics that brokers explain: their text is more precise, and cannot quote a setting of the client."""


def explain(error: KafkaError) -> str:
    """Return the meaning of an error of Kafka, without librdkafka's text about the case, which may quote settings."""
    code = error.code()
    if code in _EXPLAINED_BY_BROKERS:
        return error.str()
    return _EXPLANATIONS.get(code) or KafkaError(code).str()


def _refused(message: str, client: Mapping[str, ClientSetting]) -> ClientSettingRefused:
    """Build the error for a setting that librdkafka rejects with this message, which may quote any setting."""
    if (match := _UNKNOWN.match(message)) and match[1] in client:
        return ClientSettingRefused(name=match[1], detail="No such configuration property of librdkafka")
    found = _NAMES.findall(masked(message, client, is_public=()))
    names = [*dict.fromkeys(name for name in found if name in client or name in _NAMED)]
    name = next((name for name in names if name in client), "")
    if message.startswith("Failed to create") or not names:
        return ClientSettingRefused(name=name, detail=f"librdkafka cannot use {' and '.join(names) or 'its settings'}")
    allowed = f"; librdkafka allows {range_[1]}" if (range_ := _ALLOWED.search(message)) else " for librdkafka"
    return ClientSettingRefused(name=name, detail=f"Invalid value{'' if name else f' of {names[0]}'}{allowed}")


_UNKNOWN = re.compile(r'No such configuration property: "([^"]+)"')
_ALLOWED = re.compile(r"is outside allowed range (-?\d+\.\.-?\d+)\s*\Z")
_NAMES = re.compile(r"[a-z]+(?:\.[a-z0-9_]+)+")
_NAMED = frozenset(
    {"security.protocol", "sasl.mechanisms", "sasl.username", "sasl.password", "sasl.oauthbearer.client.secret"}
    | {"ssl.ca.location", "ssl.certificate.location", "ssl.key.location", "ssl.key.password", "ssl.keystore.password"}
    | {"queue.buffering.max.ms", "session.timeout.ms", "max.poll.interval.ms", "socket.timeout.ms"}
)
"""Settings that librdkafka may name although they were not set, or were set under another of their names."""


def unavailable(error: KafkaError) -> SinkUnavailable:
    """Return the error that a sink raises for an error of Kafka.  Brokers do not report a full disk: they go down."""
    cause, retry_after = _CAUSES.get(error.code(), (Cause.UNAVAILABLE, _RETRY))
    return SinkUnavailable(cause=cause, detail=explain(error), retry_after=retry_after)
