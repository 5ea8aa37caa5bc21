"""A log on the mock cluster, and a real `trackcore serve` on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from mock_cluster import MockCluster
from served import Served
from trackcore_kafka import KafkaLog, KafkaSink, KafkaTopics


@pytest.fixture(name="cluster", scope="session")
def _cluster() -> Iterator[MockCluster]:
    """A cluster of mock brokers that always answers, shared by all tests."""
    cluster = MockCluster()
    yield cluster
    cluster.close()


@pytest.fixture(name="own_cluster")
def _own_cluster() -> Iterator[MockCluster]:
    """A cluster of mock brokers for one test, which may take it down."""
    cluster = MockCluster()
    yield cluster
    cluster.close()


@pytest.fixture(name="topics")
def _topics(cluster: MockCluster) -> KafkaTopics:
    """The topics of an empty log of six partitions."""
    return cluster.topics(partitions=6)


@pytest.fixture(name="sink")
def _sink(cluster: MockCluster, topics: KafkaTopics) -> Iterator[KafkaSink]:
    """A sink on that log."""
    sink = KafkaSink(cluster.address, topics)
    yield sink
    sink.close()


@pytest.fixture(name="log")
def _log(cluster: MockCluster, topics: KafkaTopics) -> KafkaLog:
    """A reader of that log."""
    return KafkaLog(cluster.address, topics)


@pytest.fixture(name="servers")
def _servers() -> Iterator[list[Served]]:
    """The servers that a test has started; those that still run at the end are killed."""
    servers: list[Served] = []
    yield servers
    for served in servers:
        served.kill()
