"""The topics of a log: their names, and creating or checking them.

Messages have many partitions, and the key of a message chooses one: all messages of one user of a source are in one
partition, in order.  Rejected messages and quarantined requests have one partition each: they are few, they are read in
order, and their size is bounded per partition, so `retention.bytes` is exactly the bound of the configuration.

An existing topic is never changed.  Partitions cannot be removed, and adding some moves users to others, which the
operator must decide; a topic that makes the log less safe than configured is rejected.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import attrs
from attrs import validators
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType, TopicMetadata

from trackcore.support import MEBIBYTE
from trackcore_kafka.cluster import KafkaCluster, explain
from trackcore_kafka.masking import log

_SECONDS = 5.0
"""How long the cluster may take to answer one request about topics, or to create them."""

_PAUSE_SECONDS = 0.1

_SEGMENTS = 8
"""Retention drops whole segments, so a bounded part is made of several."""

_UNANSWERED = {
    KafkaError._UNSUPPORTED_FEATURE,  # noqa: SLF001
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
}

_TRANSIENT = {
    KafkaError.UNKNOWN_TOPIC_OR_PART,  # not every broker knows a new topic at once
    KafkaError._DESTROY_BROKER,  # noqa: SLF001 - the bootstrap address was replaced by the broker's own
}

T = TypeVar("T")


@attrs.frozen(kw_only=True)
class KafkaTopics:
    """The topics of one log.

    Args:
        prefix: the prefix of their names: `<prefix>.messages`, `.rejected`, `.quarantine`.
        partitions: the number for messages.  More partitions let more readers work in parallel.
        replication: the number of brokers that keep each message.
        min_insync_replicas: the number of these that must have a message before it counts as stored.
        rejected_bytes: the size of rejected messages above which the oldest are dropped.
        quarantine_bytes: the same for requests with an unknown write key.
        retention: how long messages are kept; None leaves it to the brokers (7 days by default).
        record_bytes: the largest record that must fit.
    """

    prefix: str = "trackcore"
    partitions: int = attrs.field(default=12, validator=validators.ge(1))
    replication: int = attrs.field(default=3, validator=validators.ge(1))
    min_insync_replicas: int = attrs.field(default=2, validator=validators.ge(1))
    rejected_bytes: int = 256 * MEBIBYTE
    quarantine_bytes: int = 64 * MEBIBYTE
    retention: timedelta | None = None
    record_bytes: int = MEBIBYTE

    @property
    def messages(self) -> str:
        """The name of the topic of messages."""
        return f"{self.prefix}.messages"

    @property
    def rejected(self) -> str:
        """The name of the topic of rejected messages."""
        return f"{self.prefix}.rejected"

    @property
    def quarantine(self) -> str:
        """The name of the topic of quarantined requests."""
        return f"{self.prefix}.quarantine"

    def prepare(self, cluster: KafkaCluster) -> None:
        """Create missing topics and check existing ones.

        Raises `UnusableCluster` if a topic cannot be created, or differs from the configuration, and `KafkaException`
        if the cluster does not answer now.
        """
        try:
            self._prepare(cluster, cluster.admin())
        finally:
            # The client is part of a reference cycle, and would keep its threads and connections until later.
            gc.collect()

    def _prepare(self, cluster: KafkaCluster, admin: AdminClient) -> None:
        names = (self.messages, self.rejected, self.quarantine)
        found = admin.list_topics(timeout=_SECONDS).topics
        for name in names:
            if name not in found:
                new = NewTopic(name, self._partitions(name), self.replication, config=self._config(name))
                _create(cluster, admin, new)
        found = _retry(lambda: _found(admin, names))
        configs = _configs(admin, names)
        for name in names:
            for detail in self._problems(name, found[name], configs.get(name, {})):
                raise cluster.unusable(f"topic {name} {detail}")

    def _partitions(self, name: str) -> int:
        return self.partitions if name == self.messages else 1

    def _config(self, name: str) -> dict[str, str]:
        config = {
            "cleanup.policy": "delete",
            "min.insync.replicas": str(self.min_insync_replicas),
            "max.message.bytes": str(self.record_bytes),
            "message.timestamp.type": "CreateTime",
        }
        if name == self.messages:
            if self.retention is not None:
                config["retention.ms"] = str(self.retention // timedelta(milliseconds=1))
            return config
        bound = self.rejected_bytes if name == self.rejected else self.quarantine_bytes
        config["retention.bytes"] = str(bound)
        config["retention.ms"] = "-1"
        config["segment.bytes"] = str(max(bound // _SEGMENTS, MEBIBYTE))
        return config

    def _problems(self, name: str, found: TopicMetadata, config: Mapping[str, str]) -> Iterator[str]:
        """Yield the problems of a topic.  A setting that is not known counts as correct."""
        wanted = self._config(name)
        partitions = len(found.partitions)
        if partitions != self._partitions(name):
            yield f"has {partitions} partitions where {self._partitions(name)} are configured"
        replication = min((len(partition.replicas) for partition in found.partitions.values()), default=0)
        if replication < self.replication:
            yield f"has a replication factor of {replication} where {self.replication} is configured"
        for setting in ("min.insync.replicas", "max.message.bytes"):
            if int(config.get(setting, wanted[setting])) < int(wanted[setting]):
                yield f"has {setting}={config[setting]} where at least {wanted[setting]} is configured"
        if config.get("cleanup.policy", "delete") != "delete":
            yield f"has cleanup.policy={config['cleanup.policy']}: a log must not be compacted"
        for setting in ("retention.ms", "retention.bytes"):
            if setting in wanted and config.get(setting, wanted[setting]) != wanted[setting]:
                yield f"has {setting}={config[setting]} where {wanted[setting]} is configured"


def _create(cluster: KafkaCluster, admin: AdminClient, new: NewTopic) -> None:
    try:
        _retry(lambda: _result(admin.create_topics([new], operation_timeout=_SECONDS, request_timeout=2 * _SECONDS)))
    except KafkaException as error:
        reason = error.args[0]
        if reason.code() == KafkaError.TOPIC_ALREADY_EXISTS:  # another server created it first
            return
        if reason.retriable():
            raise
        raise cluster.unusable(f"topic {new.topic} cannot be created: {explain(reason)}") from None
    log.info("created the topic %s", new.topic)


def _found(admin: AdminClient, names: Sequence[str]) -> dict[str, TopicMetadata]:
    """Return existing topics, or raise while the broker that answers does not know them yet."""
    found = admin.list_topics(timeout=_SECONDS).topics
    if not all(name in found for name in names):
        raise KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART))
    return found


def _configs(admin: AdminClient, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return the settings of topics; empty if the cluster may not or cannot report them."""

    def ask(name: str) -> dict[str, str]:
        asked = [ConfigResource(ResourceType.TOPIC, name)]
        entries = _result(admin.describe_configs(asked, request_timeout=_SECONDS))
        return {name: entry.value for name, entry in entries.items() if entry.value is not None}

    try:
        return {name: _retry(partial(ask, name)) for name in names}
    except KafkaException as error:
        if error.args[0].code() not in _UNANSWERED:
            raise
        log.warning("the settings of the topics cannot be checked: %s", explain(error.args[0]))
        return {}


def _result(asked: dict[Any, Future[T]]) -> T:
    (answer,) = asked.values()
    return answer.result(3 * _SECONDS)


def _retry(ask: Callable[[], T]) -> T:
    """Repeat a request while its error is a transient one."""
    deadline = time.monotonic() + _SECONDS
    while True:
        try:
            return ask()
        except KafkaException as error:
            if error.args[0].code() not in _TRANSIENT or time.monotonic() > deadline:
                raise
        time.sleep(_PAUSE_SECONDS)
