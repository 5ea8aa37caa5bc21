"""Delivery from a log in Kafka: a consumer group for each destination, and the process that is its member."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest
from confluent_kafka import KafkaError
from delivery_helpers import Recipient, TurnedClock, envelopes
from kafka_helpers import configure, lines, run, send, start
from mock_cluster import MockCluster
from patience import wait_for
from served import COMMAND, Running, Served
from trackcore_delivery import DeliveredDestination, RetryLater, RetryQueue, State
from trackcore_delivery.destination_worker import DestinationWorker
from trackcore_delivery.sending import MessageRefused
from trackcore_kafka import KafkaGroupReader, KafkaLog, KafkaSink, KafkaTopics, place_of, seq_of
from trackcore_server.storage.kafka_queue import ConsumerGroupQueue

OFFSET_COMMIT = 8
QUICK = {"session.timeout.ms": 3_000, "heartbeat.interval.ms": 200}
FILES = 'retention = "1d"\n[[destinations]]\nname = "There"\nkind = "file"\nfolder = "there"\nbatch_wait = "0s"\n'


@attrs.define(eq=False)
class Bench:
    """Workers on one log, which the test advances step by step."""

    cluster: MockCluster
    topics: KafkaTopics
    folder: Path
    clock: TurnedClock = attrs.field(factory=TurnedClock)
    opened: list[Any] = attrs.field(init=False, factory=list)
    queues: list[ConsumerGroupQueue] = attrs.field(init=False, factory=list)

    def worker(self, sender: Recipient, **settings: Any) -> DestinationWorker:
        """Make the worker of one process, with its own state file."""
        destination = DeliveredDestination(**{"name": "There", "batch_wait": timedelta(), **settings})
        state = State(self.folder / f"state-{len(self.queues)}.db")
        address = attrs.evolve(self.cluster.address, client=QUICK)

        def join() -> KafkaGroupReader:
            is_new = destination.start == "newest"
            return KafkaGroupReader(address, self.topics, group=self.topics.prefix, begin_at_end=is_new)

        queue = ConsumerGroupQueue(destination, state, join, self.clock.monotonic)
        self.queues.append(queue)
        self.opened += [queue, state]
        return DestinationWorker(
            destination=destination,
            sender=sender,
            queues=(queue, RetryQueue(destination, state)),
            state=state,
            clock=self.clock,
            monotonic=self.clock.monotonic,
            jitter=lambda: 1.0,
        )

    def store(self, count: int, **settings: Any) -> None:
        """Store messages."""
        with closing(KafkaSink(self.cluster.address, self.topics)) as sink:
            sink.store(envelopes(count, **settings))

    @property
    def behind(self) -> int:
        """Return how many messages the group has not committed."""
        return KafkaLog(self.cluster.address, self.topics).behind(self.topics.prefix)


@pytest.fixture(name="bench")
def _bench(cluster: MockCluster, topics: KafkaTopics, tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(cluster, topics, tmp_path)
    yield bench
    for opened in bench.opened:
        opened.close()


def stepped(worker: DestinationWorker, is_done: Callable[[], object]) -> None:
    """Make steps until a condition holds."""

    def step() -> object:
        worker.step()
        return is_done()

    wait_for(step)


def in_order(taken: list[str]) -> bool:
    """Return whether the messages of each of three users came in order."""
    numbers = [int(message_id[1:]) for message_id in taken]
    return all(
        own == sorted(own) for own in ([number for number in numbers if number % 3 == user] for user in range(3))
    )


class TestLane:
    def test_everything_arrives_in_order_for_each_user_and_is_committed_behind_the_answer(self, bench: Bench) -> None:
        bench.store(30)
        there = Recipient()
        worker = bench.worker(there, batch_messages=7)
        stepped(worker, lambda: len(there.taken) == 30)
        assert sorted(there.taken) == sorted(f"m{number}" for number in range(30))
        assert in_order(there.taken)
        assert bench.behind == 0

    def test_what_has_waited_for_the_retry_window_becomes_a_dead_letter_and_what_came_later_does_not(
        self, bench: Bench
    ) -> None:
        """The waiting time of a message is kept by its partition and offset, not by a clock that may jump.

        All are from one user: partitions have no order among each other, and a failed message blocks those after it.
        """

        def behaviour(ids: list[str]) -> list[MessageRefused]:
            raise RetryLater(detail=f"down, with {len(ids)}")

        bench.store(5, users=1)
        there = Recipient(behaviour)
        worker = bench.worker(there, retry_window=timedelta(hours=4), batch_messages=1)
        stepped(worker, lambda: worker.state.attempts("There"))
        bench.clock.turn(hours=2)
        bench.store(5, users=1, first=5)
        bench.clock.jump(days=400)
        stepped(worker, lambda: worker.state.attempts("There")["incoming"].failures == 2)
        assert worker.state.dead_letters() == []

        bench.clock.turn(hours=2.1)
        for attempts in range(3, 10):
            stepped(worker, lambda attempts=attempts: len(there.attempts) == attempts)  # type: ignore[misc]
            bench.clock.turn(minutes=1)
        dead = {letter.message.message_id for letter in worker.state.dead_letters()}
        assert dead == {f"m{number}" for number in range(5)}

    def test_nothing_is_committed_before_the_answer(self, bench: Bench) -> None:
        """Offsets are committed after the destination's response: the next member sends uncommitted messages."""
        bench.store(5)
        uncommitted: list[int] = []

        def behaviour(_: list[str]) -> list[MessageRefused]:
            uncommitted.append(bench.behind)
            return []

        there = Recipient(behaviour)
        stepped(bench.worker(there), lambda: len(there.taken) == 5)
        assert uncommitted[0] == 5

    def test_what_fails_is_tried_again_with_the_same_messages(self, bench: Bench) -> None:
        bench.store(12)
        failing = [True]

        def behaviour(_: list[str]) -> list[MessageRefused]:
            if failing:
                raise RetryLater(detail="down")
            return []

        there = Recipient(behaviour)
        worker = bench.worker(there)
        stepped(worker, lambda: len(there.attempts) == 1)
        for _ in range(20):
            worker.step()  # rests meanwhile
        assert len(there.attempts) == 1
        assert bench.queues[0]._reader is not None
        assert bench.queues[0]._reader._is_resting
        failing.clear()
        bench.clock.turn(seconds=60)
        stepped(worker, lambda: len(there.taken) == 12)
        assert there.attempts[0][: len(there.attempts[1])] == there.attempts[1]
        assert in_order(there.taken)
        assert bench.behind == 0

    def test_what_is_for_others_is_passed_over_and_committed(self, bench: Bench) -> None:
        bench.store(6, destinations=("Other",))
        bench.store(2, first=6)
        bench.store(6, first=8, destinations=("Other",))
        there = Recipient()
        worker = bench.worker(there)
        stepped(worker, lambda: len(there.taken) == 2)
        bench.clock.turn(seconds=6)
        stepped(worker, lambda: not bench.behind)
        assert sorted(there.taken) == ["m6", "m7"]

    def test_a_batch_is_bounded_by_its_bytes(self, bench: Bench) -> None:
        bench.store(9, pad=1_000)
        there = Recipient()
        stepped(bench.worker(there, batch_bytes=2_500), lambda: len(there.taken) == 9)
        assert {len(attempt) for attempt in there.attempts} <= {1, 2}

    def test_a_batch_that_is_not_full_waits(self, bench: Bench) -> None:
        bench.store(3)
        there = Recipient()
        worker = bench.worker(there, batch_wait=timedelta(seconds=5))
        stepped(worker, lambda: len(bench.queues[0]._waiting) == 3)
        assert there.attempts == []
        bench.clock.turn(seconds=5)
        worker.step()
        assert len(there.taken) == 3

    def test_dead_letters_say_where_they_lie_and_can_be_retried(self, bench: Bench) -> None:
        bench.store(3)
        there = Recipient(lambda ids: [MessageRefused(index, "bad") for index, id_ in enumerate(ids) if id_ == "m1"])
        worker = bench.worker(there)
        stepped(worker, lambda: len(there.taken) == 2 and not bench.behind)
        (letter,) = worker.state.dead_letters()
        (stored,) = (
            stored
            for stored in KafkaLog(bench.cluster.address, bench.topics).messages()
            if stored.message["messageId"] == "m1"
        )
        assert (letter.message.message_id, place_of(letter.message.position)) == ("m1", place_of(stored.seq))
        there.behaviour = lambda _: []
        worker.state.retry_dead_letters("There", bench.clock())
        stepped(worker, lambda: "m1" in there.taken)
        assert worker.state.dead_letters() == []

    def test_who_begins_with_the_newest_keeps_to_that_when_it_comes_again(self, bench: Bench) -> None:
        """`start = "newest"`: the group has a position from its first moment on, not from its first message on."""
        bench.store(6)
        there = Recipient()
        worker = bench.worker(there, start="newest")
        stepped(worker, lambda: len(bench.queues[0]._turns) == 6)
        bench.queues[0].close()
        bench.opened.remove(bench.queues[0])
        bench.store(6, first=6)
        stepped(bench.worker(there, start="newest"), lambda: len(there.taken) == 6)
        assert sorted(there.taken, key=lambda id_: int(id_[1:])) == [f"m{number}" for number in range(6, 12)]

    def test_who_takes_over_is_given_what_was_not_settled(self, bench: Bench) -> None:
        bench.store(20)
        first, second = Recipient(), Recipient()
        worker = bench.worker(first, batch_messages=4)
        stepped(worker, lambda: len(first.taken) >= 8)
        bench.queues[0].close()
        bench.opened.remove(bench.queues[0])
        stepped(bench.worker(second), lambda: len(first.taken) + len(second.taken) == 20)
        assert sorted(first.taken + second.taken) == sorted(f"m{number}" for number in range(20))
        assert in_order(first.taken + second.taken)

    def test_offsets_that_cannot_be_committed_are_committed_later_and_nothing_goes_twice(
        self, own_cluster: MockCluster, tmp_path: Path
    ) -> None:
        bench = Bench(own_cluster, own_cluster.topics(partitions=1), tmp_path)
        bench.store(4)
        there = Recipient()
        worker = bench.worker(there)
        own_cluster.fail(OFFSET_COMMIT, *[KafkaError.GROUP_AUTHORIZATION_FAILED] * 3)
        stepped(worker, lambda: len(there.taken) == 4)
        assert bench.behind == 4
        for _ in range(4):
            bench.clock.turn(seconds=6)
            worker.step()
        assert bench.behind == 0
        assert there.taken == ["m0", "m1", "m2", "m3"]
        for opened in bench.opened:
            opened.close()

    def test_what_waited_of_a_partition_that_went_and_came_again_is_not_sent_twice(
        self, cluster: MockCluster, tmp_path: Path
    ) -> None:
        """It is read again from the committed position, so the messages that waited here are discarded."""
        bench = Bench(cluster, cluster.topics(partitions=1), tmp_path)
        bench.store(6)
        there = Recipient()
        worker = bench.worker(there, batch_bytes=500)  # two at a time, while the others wait
        stepped(worker, lambda: len(there.taken) == 2)
        queue = bench.queues[0]
        reader = queue._reader
        assert reader is not None
        assert (len(queue._waiting), bench.behind) == (4, 4)
        reader._is_to_join_again = True
        (turn,) = reader.turns.values()

        def has_come_again() -> bool:
            reader.rest()
            return list(reader.turns.values()) == [turn + 1]

        wait_for(has_come_again)
        stepped(worker, lambda: reader._shares[0].returned == 6 and not queue._waiting)
        assert there.taken == ["m0", "m1", "m2", "m3", "m4", "m5"]
        for opened in bench.opened:
            opened.close()

    def test_partitions_are_shared(self, bench: Bench) -> None:
        """Delivery scales by partitions: two members share them all, and each message arrives."""
        one, other = Recipient(), Recipient()
        workers = bench.worker(one), bench.worker(other)

        def are_shared() -> bool:
            for worker in workers:
                worker.step()
            sizes = [len(queue._turns) for queue in bench.queues]
            return all(sizes) and sum(sizes) == 6

        wait_for(are_shared, patience=60)
        bench.store(60, users=30)

        def is_done() -> bool:
            for worker in workers:
                worker.step()
            return len({*one.taken, *other.taken}) == 60

        wait_for(is_done)
        assert one.taken
        assert other.taken


def test_places_and_positions() -> None:
    assert place_of(seq_of(0, 0)) == "0-0"
    assert place_of(seq_of(4_095, 2**43)) == f"4095-{2**43}"
    assert seq_of(4_095, 2**43) < 2**63


class TestCommands:
    """Real processes on the mock cluster."""

    def test_served_and_delivered(self, cluster: MockCluster, tmp_path: Path, servers: list[Served]) -> None:
        topics = cluster.topics(partitions=3)
        config = configure(tmp_path, cluster.servers, prefix=topics.prefix, more=FILES)
        servers.append(start(config))
        assert "Delivering to: There (file)" in servers[0].stderr()
        batch = [{"type": "track", "userId": f"u{n}", "event": "E", "messageId": f"m{n}"} for n in range(9)]
        assert send(servers[0], {"batch": batch}).status == 200
        wait_for(lambda: len(arrived(tmp_path / "there")) == 9, patience=60)
        assert {message["messageId"] for message in arrived(tmp_path / "there")} == {f"m{n}" for n in range(9)}
        assert (tmp_path / "trackcore-delivery.db").exists()

        def status() -> Any:
            return lines(run("destinations", "--config", config))[1]

        wait_for(lambda: status()["lagMessages"] == 0)
        there = status()
        assert (there["state"], there["delivered"], there["deadLetters"]) == ("delivering", 9, 0)
        assert servers[0].terminate() == 0
        assert status()["state"] == "not here"
        assert run("dead-letters", "--config", config).returncode == 0
        assert "Traceback" not in servers[0].stderr()

    def test_delivered_alone(self, cluster: MockCluster, tmp_path: Path) -> None:
        topics = cluster.topics(partitions=3)
        config = configure(tmp_path, cluster.servers, prefix=topics.prefix, more=FILES)
        with closing(KafkaSink(cluster.address, topics)) as sink:
            sink.store(envelopes(9))
        (waiting,) = lines(run("destinations", "--config", config))[1:]
        assert (waiting["lagMessages"], waiting["lagSeconds"], waiting["state"]) == (9, None, "not here")
        stderr_file = tmp_path / "stderr"
        with stderr_file.open("wb") as stderr:
            command = [*COMMAND, "deliver", "--config", str(config)]
            running = Running(subprocess.Popen(command, stderr=stderr, start_new_session=True), stderr_file)
        try:
            wait_for(lambda: len(arrived(tmp_path / "there")) == 9, patience=60)
            assert running.terminate() == 0
        finally:
            running.kill()
        assert f"Log: Kafka at {cluster.servers}" in running.stderr()
        assert "Traceback" not in running.stderr()
        assert KafkaLog(cluster.address, topics).behind(f"{topics.prefix}.delivery.There") == 0

    def test_wrong_settings_of_the_client_are_reported_at_the_start(self, tmp_path: Path) -> None:
        more = f'client.sasl.password = "env:NOT_SET_ANYWHERE"\n{FILES}'
        done = run("deliver", "--config", configure(tmp_path, "127.0.0.1:9", prefix="p", more=more))
        assert done.returncode == 2
        assert "log.client.sasl.password: the environment variable NOT_SET_ANYWHERE is not set" in done.stderr

    def test_a_replay_says_that_it_needs_the_embedded_log(self, cluster: MockCluster, tmp_path: Path) -> None:
        config = configure(tmp_path, cluster.servers, prefix="replayed", more=FILES)
        done = run("replay", "--destination", "There", "--since", "1d", "--config", config)
        assert done.returncode == 2
        assert "log.kind: this needs a log of the kind 'sqlite'" in done.stderr


def arrived(folder: Path) -> list[Any]:
    """Read the messages of a destination of files."""
    return [json.loads(line) for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines()]
