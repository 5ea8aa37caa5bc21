"""Warehouses behind a log in Kafka, on the mock cluster: each row once, and a cursor for each partition."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest
from delivery_helpers import TurnedClock
from mock_cluster import MockCluster
from patience import wait_for
from postgres_cluster import Database
from trackcore_delivery import DeliveredDestination, RetryQueue, Sender, State
from trackcore_delivery.destination_worker import DestinationWorker
from trackcore_kafka import KafkaGroupReader, KafkaLog, KafkaSink, KafkaTopics, offset_of, partition_of
from trackcore_server.storage.kafka_queue import ConsumerGroupQueue
from warehouse_helpers import as_envelopes, message
from warehouse_kinds import KINDS, Place
from warehouse_oracle import Stored

PARTITIONS, MESSAGES = 3, 120
QUICK = {"session.timeout.ms": 1_000, "heartbeat.interval.ms": 100}


@pytest.fixture(name="brokers", scope="module")
def _brokers() -> Iterator[MockCluster]:
    brokers = MockCluster()
    yield brokers
    brokers.close()


@attrs.define
class Process:
    """The worker of one process, with its own state file."""

    brokers: MockCluster
    topics: KafkaTopics
    sender: Sender
    state: State
    queue: ConsumerGroupQueue = attrs.field(init=False)
    worker: DestinationWorker = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        destination = DeliveredDestination(name="There", batch_wait=timedelta(), batch_messages=25)
        clock = TurnedClock()
        self.queue = ConsumerGroupQueue(destination, self.state, self._join, clock.monotonic)
        self.worker = DestinationWorker(
            destination=destination,
            sender=self.sender,
            queues=(self.queue, RetryQueue(destination, self.state)),
            state=self.state,
            clock=clock,
            monotonic=clock.monotonic,
            jitter=lambda: 1.0,
        )

    def run_until(self, delivered: int) -> None:
        """Make steps until so many messages have been sent."""

        def is_done() -> bool:
            self.worker.step()
            status = self.state.status("There", TurnedClock().now)
            return status is not None and status.delivered >= delivered

        wait_for(is_done)

    def end(self) -> None:
        """End; what was not committed comes again."""
        self.queue.close()
        self.sender.close()
        self.state.close()

    def _join(self) -> KafkaGroupReader:
        address = attrs.evolve(self.brokers.address, client=QUICK)
        return KafkaGroupReader(address, self.topics, group=self.topics.prefix)


def usual(count: int) -> Iterator[Any]:
    """Yield messages whose columns have the same types in whatever order partitions are read."""
    for number in range(count):
        call = ("track", "identify", "track", "group")[number % 4]
        fields = {"properties": {"number": number}} if call == "track" else {"traits": {"number": number, "x": "y"}}
        yield message(number, call, **fields, **({"groupId": f"g{number % 3}"} if call == "group" else {}))


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_there_once_whatever_comes_again(
    kind: str, brokers: MockCluster, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that dies between its transaction and the commit of its offsets leaves them to the next one."""
    topics = brokers.topics(partitions=PARTITIONS)
    with closing(KafkaSink(brokers.address, topics)) as sink:
        sink.store(as_envelopes(usual(MESSAGES)))
    place = Place(kind, tmp_path, database)

    with monkeypatch.context() as patched:
        patched.setattr(KafkaGroupReader, "commit", lambda *_: None)
        first = Process(brokers, topics, place.sender(), State(tmp_path / "first.db"))
        first.run_until(MESSAGES // 2)
        first.end()
    log = KafkaLog(brokers.address, topics)
    assert log.behind(topics.prefix) == MESSAGES
    second = Process(brokers, topics, place.sender(), State(tmp_path / "second.db"))
    second.run_until(MESSAGES)
    second.end()

    assert log.behind(topics.prefix) == 0
    stored = [Stored(one.seq, one.source, one.payload) for one in log.payloads()]
    place.check(stored)
    if kind == "postgres":
        lanes = {str(partition_of(one.seq)): str(offset_of(one.seq)) for one in sorted(stored)}
        assert len(lanes) == PARTITIONS
        assert dict(database.rows("SELECT lane, cursor FROM _trackcore.cursors")) == lanes
