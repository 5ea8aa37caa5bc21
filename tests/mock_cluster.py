"""librdkafka's own mock cluster: brokers that speak Kafka's protocol on loopback, with nothing to install.

The library inside confluent-kafka has it, but its Python interface does not, so it is called by ctypes
(https://github.com/confluentinc/librdkafka/blob/master/src/rdkafka_mock.h).  It keeps records in memory, has consumer
groups, and can be made to fail.  It supports neither creating topics, nor their settings, nor offsets by time: these
are tested on real brokers.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import confluent_kafka
from confluent_kafka import Consumer, Message, TopicPartition
from trackcore_kafka import KafkaCluster, KafkaTopics

PRODUCE, INIT_PRODUCER_ID = 0, 22  # Kafka's numbers of requests (https://kafka.apache.org/protocol#protocol_api_keys)
BROKERS = 3
_PRODUCER = 0
_ERROR_BYTES = 512


def _load() -> Any:
    """Load the library that is loaded already: the one in the wheel, else the one of the system."""
    bundled = Path(confluent_kafka.__file__).parents[1].glob("confluent_kafka.libs/librdkafka*")
    library = ctypes.CDLL(str(next(bundled, "librdkafka.so.1")))
    for name in ("rd_kafka_conf_new", "rd_kafka_new", "rd_kafka_mock_cluster_new"):
        getattr(library, name).restype = ctypes.c_void_p
    library.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
    return library


class MockCluster:
    """A mock cluster of three brokers."""

    def __init__(self) -> None:
        self._library = _load()
        error = ctypes.create_string_buffer(_ERROR_BYTES)
        settings = ctypes.c_void_p(self._library.rd_kafka_conf_new())
        self._handle = ctypes.c_void_p(self._library.rd_kafka_new(_PRODUCER, settings, error, _ERROR_BYTES))
        assert self._handle, error.value
        self._cluster = ctypes.c_void_p(self._library.rd_kafka_mock_cluster_new(self._handle, BROKERS))
        self._library.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, 0)
        self._call("rd_kafka_mock_set_controller_id", 1)
        self._numbers = count(1)
        self.servers: str = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()
        self.address = KafkaCluster(bootstrap_servers=self.servers)

    def topics(self, *, partitions: int = 3, prefix: str | None = None) -> KafkaTopics:
        """Create the topics of a new log."""
        prefix = prefix or f"log-{next(self._numbers)}"
        topics = KafkaTopics(prefix=prefix, partitions=partitions, replication=BROKERS, min_insync_replicas=1)
        self.create(topics.messages, partitions)
        self.create(topics.rejected, 1)
        self.create(topics.quarantine, 1)
        return topics

    def create(self, topic: str, partitions: int, replication: int = BROKERS) -> None:
        """Create a topic."""
        self._call("rd_kafka_mock_topic_create", topic.encode(), partitions, replication)

    def records(self, topic: str, partitions: int) -> list[Message]:
        """Read a topic as any other consumer does."""
        consumer = Consumer({"bootstrap.servers": self.servers, "group.id": "other", "enable.partition.eof": True})
        consumer.assign([TopicPartition(topic, number, 0) for number in range(partitions)])
        found: list[Message] = []
        ended = 0
        while ended < partitions:
            message = consumer.poll(10)
            assert message is not None
            if message.error() is None:
                found.append(message)
            else:
                ended += 1
        consumer.close()
        return found

    def lead(self, topic: str, partition: int, broker: int) -> None:
        """Make a broker the leader of a partition."""
        self._call("rd_kafka_mock_partition_set_leader", topic.encode(), partition, broker)

    def set_up(self, *brokers: int, up: bool) -> None:
        """Stop brokers, or start them again; all of them unless some are named by their numbers."""
        for broker in brokers or range(1, BROKERS + 1):
            self._call("rd_kafka_mock_broker_set_up" if up else "rd_kafka_mock_broker_set_down", broker)

    @contextmanager
    def down(self, *brokers: int) -> Iterator[None]:
        """Keep brokers down for a while."""
        self.set_up(*brokers, up=False)
        try:
            yield
        finally:
            self.set_up(*brokers, up=True)

    def fail(self, request: int, *errors: int) -> None:
        """Answer the next requests of a kind (Kafka's number of it) with these errors."""
        codes = (ctypes.c_int * len(errors))(*errors)
        self._call(
            "rd_kafka_mock_push_request_errors_array", ctypes.c_int16(request), ctypes.c_size_t(len(errors)), codes
        )

    def close(self) -> None:
        """Destroy it."""
        self._library.rd_kafka_mock_cluster_destroy(self._cluster)
        self._library.rd_kafka_destroy(self._handle)

    def _call(self, name: str, *arguments: object) -> None:
        failed = getattr(self._library, name)(self._cluster, *arguments)
        assert not failed, f"{name}: {failed}"
