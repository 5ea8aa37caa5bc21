"""Writing to Kafka from event loops: one, several at once, and beside threads.

`test_sink_contract` has the contract that a sink keeps for threads and loops alike.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from contextvars import Context
from functools import partial
from typing import Any, TypeVarTuple, Unpack

import pytest
from adapter_helpers import Workers, at_once, envelope, quarantined_request, rejected_record, run_python
from confluent_kafka import KafkaError
from kafka_helpers import FATAL, connect
from loops import run_quietly, wait_in_loop
from mock_cluster import PRODUCE, MockCluster
from patience import wait_for
from trackcore_kafka import KafkaCluster, KafkaLog, KafkaSink, KafkaTopics
from trackcore_kafka.flights import Flight, settle
from trackcore_kafka.records import Record

from trackcore import Cause, Outcome, SinkUnavailable

STORED, DUPLICATE = Outcome.STORED, Outcome.DUPLICATE


def ids(log: KafkaLog) -> list[str]:
    return [stored.message["messageId"] for stored in log.messages()]


def outcomes(tasks: Iterable[asyncio.Task[Sequence[Outcome]]]) -> list[Any]:
    """Return the outcomes of ended tasks, and for those that failed the cause or the kind of the error."""
    errors = [asyncio.CancelledError() if task.cancelled() else task.exception() for task in tasks]
    return [
        task.result() if error is None else error.cause if isinstance(error, SinkUnavailable) else type(error)
        for task, error in zip(tasks, errors, strict=True)
    ]


def sent(sink: KafkaSink) -> int:
    """Return how many calls are on their way to the brokers; others wait for the next group."""
    sender = sink._producer._sender
    return len(sender._in_flight) if sender else 0


def is_at_rest(sink: KafkaSink) -> bool:
    """Return whether nothing is left of any call."""
    return not (sink._in_flight or sink._producer._waiting or sink._probe)


def connected(cluster: MockCluster, timeout: float) -> Iterator[KafkaSink]:
    """Make a sink on the cluster of one test alone, which has the message `before`."""
    sink = KafkaSink(cluster.address, cluster.topics(), timeout=timeout)
    connect(sink)
    yield sink
    sink.close()


@pytest.fixture(name="own_sink")
def _own_sink(own_cluster: MockCluster) -> Iterator[KafkaSink]:
    """A sink that waits long enough for brokers that are started again."""
    yield from connected(own_cluster, 30)


@pytest.fixture(name="hasty_sink")
def _hasty_sink(own_cluster: MockCluster) -> Iterator[KafkaSink]:
    """A sink that soon gives up while they are down."""
    yield from connected(own_cluster, 2)


class TestLoop:
    """Stores messages for event loops, without blocking them."""

    def test_everything_of_a_call(self, sink: KafkaSink, log: KafkaLog) -> None:
        async def store() -> Sequence[Outcome]:
            return await sink.store_async(
                [envelope("a"), envelope("b"), envelope("a")],
                rejected=[rejected_record()],
                quarantined=[quarantined_request(), quarantined_request()],
            )

        assert run_quietly(store()) == [STORED, STORED, DUPLICATE]
        assert sorted(ids(log)) == ["a", "b"]
        totals = log.totals()
        assert (totals.rejected, totals.quarantined) == (1, 2)

    def test_the_loop_goes_on_during_the_first_call(self, own_cluster: MockCluster) -> None:
        """It connects and looks at the topics, which takes its time: here until the loop itself starts the brokers."""
        sink = KafkaSink(own_cluster.address, own_cluster.topics())
        own_cluster.set_up(up=False)

        async def store() -> Sequence[Outcome]:
            stored = asyncio.create_task(sink.store_async([envelope("a")]))
            await asyncio.sleep(0)
            assert sink._in_flight
            own_cluster.set_up(up=True)
            return await stored

        assert run_quietly(store()) == [STORED]
        sink.close()

    def test_the_loop_goes_on_while_the_cluster_is_asked(self, own_cluster: MockCluster) -> None:
        sink = KafkaSink(own_cluster.address, own_cluster.topics())
        own_cluster.set_up(up=False)

        async def check() -> None:
            checked = asyncio.create_task(sink.check_ready_async())
            await asyncio.sleep(0)
            own_cluster.set_up(up=True)
            await checked

        run_quietly(check())
        sink.close()

    def test_not_ready_while_no_broker_answers(self, own_cluster: MockCluster) -> None:
        sink = KafkaSink(own_cluster.address, own_cluster.topics())
        with own_cluster.down(), pytest.raises(SinkUnavailable) as raised:
            run_quietly(sink.check_ready_async())
        assert raised.value.cause is Cause.UNAVAILABLE
        sink.close()

    def test_one_loop_after_another(self, sink: KafkaSink) -> None:
        for number in range(3):
            assert run_quietly(sink.store_async([envelope(f"{number}"), envelope("same")]))[0] == STORED
        assert sink.store([envelope("same")]) == [DUPLICATE]

    def test_a_large_batch(self, sink: KafkaSink, log: KafkaLog) -> None:
        sent = [envelope(f"{n}", user_id=f"u{n % 7}") for n in range(2_500)]
        assert run_quietly(sink.store_async(sent)) == [STORED] * 2_500
        assert sorted(ids(log), key=int) == [str(n) for n in range(2_500)]


class TestFailure:
    """Raises SinkUnavailable unless every message of the call was acknowledged, with the right cause."""

    def test_no_broker_answers_and_then_they_do_again(self, own_cluster: MockCluster, hasty_sink: KafkaSink) -> None:
        async def store() -> Sequence[Outcome]:
            with own_cluster.down(), pytest.raises(SinkUnavailable) as raised:
                await hasty_sink.store_async([envelope("during"), envelope("too", user_id="u2")])
            assert (raised.value.cause, raised.value.retry_after) == (Cause.UNAVAILABLE, 5)
            while True:
                with suppress(SinkUnavailable):
                    return await hasty_sink.store_async([envelope("during"), envelope("too", user_id="u2")])
                await asyncio.sleep(0)

        assert run_quietly(store()) == [STORED, STORED]
        log = KafkaLog(own_cluster.address, hasty_sink._topics)
        assert sorted(ids(log)) == ["before", "during", "too"]
        assert is_at_rest(hasty_sink)

    @pytest.mark.parametrize("probing", ["a thread", "a loop"])
    def test_while_one_call_tries_others_are_turned_away_at_once(
        self, own_cluster: MockCluster, hasty_sink: KafkaSink, probing: str
    ) -> None:
        async def store() -> None:
            with pytest.raises(SinkUnavailable):
                await hasty_sink.store_async([envelope("first")])
            if probing == "a thread":
                trying = asyncio.create_task(asyncio.to_thread(hasty_sink.store, [envelope("trying")]))
            else:
                trying = asyncio.create_task(hasty_sink.store_async([envelope("trying")]))
            await wait_in_loop(lambda: hasty_sink._probe)
            with pytest.raises(SinkUnavailable, match="another request probes it"):
                await hasty_sink.store_async([envelope("turned away")])
            with pytest.raises(SinkUnavailable, match="another request probes it"):
                hasty_sink.store([envelope("turned away")])
            assert hasty_sink._probe, "it did not wait for the one that tries"
            with pytest.raises(SinkUnavailable, match=r"not acknowledge|no broker"):
                await trying

        with own_cluster.down():
            run_quietly(store())
        assert is_at_rest(hasty_sink)

    def test_a_probe_that_is_cancelled_goes_on(self, own_cluster: MockCluster, hasty_sink: KafkaSink) -> None:
        async def store() -> None:
            with pytest.raises(SinkUnavailable):
                await hasty_sink.store_async([envelope("first")])
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(hasty_sink.store_async([envelope("trying")]), 0.01)
            with pytest.raises(SinkUnavailable, match="another request probes it"):
                await hasty_sink.store_async([envelope("turned away")])
            await wait_in_loop(lambda: hasty_sink._probe is None)

        with own_cluster.down():
            run_quietly(store())

    def test_too_much_is_waiting(self, own_cluster: MockCluster) -> None:
        sink = KafkaSink(own_cluster.address, own_cluster.topics(), timeout=2, waiting_bytes=1_000)
        connect(sink)

        async def store() -> None:
            waiting = asyncio.create_task(sink.store_async([envelope("waits")]))
            await wait_in_loop(lambda: sink._producer._waiting)
            with pytest.raises(SinkUnavailable) as raised:
                await sink.store_async([envelope("a"), envelope("b")])
            assert (raised.value.cause, raised.value.retry_after) == (Cause.OVERLOADED, 1)
            with pytest.raises(SinkUnavailable):
                await waiting

        with own_cluster.down():
            run_quietly(store())
        assert is_at_rest(sink)
        sink.close()

    def test_a_broker_refuses(self, own_cluster: MockCluster, own_sink: KafkaSink) -> None:
        own_cluster.fail(PRODUCE, KafkaError.MSG_SIZE_TOO_LARGE)
        with pytest.raises(SinkUnavailable, match=r"max\.message\.bytes"):
            run_quietly(own_sink.store_async([envelope("a")]))
        assert run_quietly(own_sink.store_async([envelope("a")])) == [STORED]

    def test_topics_are_not_as_configured(self, own_cluster: MockCluster) -> None:
        """All calls that wait for the first connection get its error."""
        own_cluster.topics(prefix="less", partitions=2)
        sink = KafkaSink(own_cluster.address, KafkaTopics(prefix="less", partitions=3))

        async def store() -> list[asyncio.Task[Sequence[Outcome]]]:
            tasks = [asyncio.create_task(sink.store_async([envelope(f"{n}")])) for n in range(3)]
            await asyncio.wait(tasks)
            return tasks

        for task in run_quietly(store()):
            assert "has 2 partitions where 3 are configured" in str(task.exception())
        assert is_at_rest(sink)
        sink.close()

    @pytest.mark.parametrize(("request_", "error"), FATAL)
    def test_a_producer_that_failed_for_good_is_replaced(
        self, own_cluster: MockCluster, own_sink: KafkaSink, request_: int, error: int
    ) -> None:
        async def store() -> tuple[list[Any], Sequence[Outcome]]:
            if request_ != PRODUCE:
                own_sink.close()
            own_cluster.fail(request_, error)
            calls = [asyncio.create_task(own_sink.store_async([envelope(f"{n}")])) for n in range(3)]
            await asyncio.wait(calls)
            while True:
                with suppress(SinkUnavailable):
                    return outcomes(calls), await own_sink.store_async([envelope("a")])
                await asyncio.sleep(0)

        failed, stored = run_quietly(store())
        assert (failed, stored) == ([Cause.UNAVAILABLE] * 3, [STORED])
        assert ids(KafkaLog(own_cluster.address, own_sink._topics)) == ["before", "a"]
        assert is_at_rest(own_sink)

    def test_what_has_no_utf8_is_sent_no_part_of(self, sink: KafkaSink, log: KafkaLog) -> None:
        with pytest.raises(UnicodeEncodeError):
            run_quietly(sink.store_async([envelope("a"), envelope("\ud800")]))
        assert run_quietly(sink.store_async([envelope("a")])) == [STORED]
        assert ids(log) == ["a"]


class TestCancelled:
    """A call that is cancelled may be stored nevertheless, as one whose answer is lost."""

    def test_it_is_stored_and_then_known(self, own_cluster: MockCluster, own_sink: KafkaSink) -> None:
        async def store() -> Sequence[Outcome]:
            with own_cluster.down():
                call = asyncio.create_task(own_sink.store_async([envelope("a")]))
                await wait_in_loop(lambda: own_sink._in_flight)
                call.cancel()
                await asyncio.wait([call])
                assert call.cancelled()
            return await own_sink.store_async([envelope("a"), envelope("b")])

        assert run_quietly(store()) == [DUPLICATE, STORED]
        assert is_at_rest(own_sink)
        assert ids(KafkaLog(own_cluster.address, own_sink._topics)) == ["before", "a", "b"]

    def test_one_that_waits_for_another_call(self, own_cluster: MockCluster, own_sink: KafkaSink) -> None:
        async def store() -> list[Any]:
            with own_cluster.down():
                calls = [asyncio.create_task(own_sink.store_async([envelope("a")])) for _ in range(3)]
                await wait_in_loop(lambda: own_sink._in_flight)
                calls[1].cancel()
                await asyncio.wait([calls[1]])
            await asyncio.wait(calls)
            return outcomes(calls)

        assert run_quietly(store()) == [[STORED], asyncio.CancelledError, [DUPLICATE]]

    def test_a_loop_that_is_closed_before_the_report(self, own_cluster: MockCluster, own_sink: KafkaSink) -> None:
        async def begin() -> None:
            calls = [asyncio.create_task(own_sink.store_async([envelope(f"{n}")])) for n in range(10)]
            await wait_in_loop(lambda: len(own_sink._in_flight) == len(calls))

        with own_cluster.down():
            run_quietly(begin())  # which cancels the calls, and closes the loop
            waiting = Workers([partial(own_sink.store, [envelope("0"), envelope("a")])])
        assert waiting.finish() == [[DUPLICATE, STORED]]
        wait_for(lambda: is_at_rest(own_sink))
        assert len(ids(KafkaLog(own_cluster.address, own_sink._topics))) == 12


async def _both(sink: KafkaSink, first: str) -> list[asyncio.Task[Sequence[Outcome]]]:
    """Store a message by a thread and by the loop, and return when both wait for the same flight."""
    kinds = [partial(asyncio.to_thread, sink.store, [envelope("a")]), partial(sink.store_async, [envelope("a")])]
    calls = []
    for kind in kinds if first == "a thread" else reversed(kinds):
        calls.append(asyncio.create_task(kind()))
        await wait_in_loop(lambda: [len(flight._waiters) for flight in sink._in_flight.values()] == [len(calls)])
    return calls


class TestMixed:
    """Threads and event loops may share a sink."""

    @pytest.mark.parametrize("first", ["a thread", "a loop"])
    def test_a_call_waits_for_the_other_that_sends_the_same(
        self, own_cluster: MockCluster, own_sink: KafkaSink, first: str
    ) -> None:
        async def store() -> list[Any]:
            with own_cluster.down():
                calls = await _both(own_sink, first)
            await asyncio.wait(calls)
            return outcomes(calls)

        assert run_quietly(store()) == [[STORED], [DUPLICATE]]

    @pytest.mark.parametrize("first", ["a thread", "a loop"])
    def test_and_fails_if_that_fails(self, own_cluster: MockCluster, hasty_sink: KafkaSink, first: str) -> None:
        """It must not report a message as a duplicate that may never be acknowledged."""

        async def store() -> list[Any]:
            calls = await _both(hasty_sink, first)
            await asyncio.wait(calls)
            return outcomes(calls)

        with own_cluster.down():
            assert run_quietly(store()) == [Cause.UNAVAILABLE] * 2
        assert is_at_rest(hasty_sink)

    def test_each_message_is_stored_once(self, sink: KafkaSink, log: KafkaLog) -> None:
        """Loops and threads at once, which all send the same messages, and each some of its own."""

        def store(number: int) -> list[Outcome]:
            return [outcome for n in range(30) for outcome in sink.store([envelope(f"{n}"), envelope(f"{number}-{n}")])]

        def store_in_loop(number: int) -> list[Outcome]:
            async def call() -> list[Sequence[Outcome]]:
                calls = [sink.store_async([envelope(f"{n}"), envelope(f"{number}-{n}")]) for n in range(30)]
                return await asyncio.gather(*calls)

            return [outcome for found in run_quietly(call()) for outcome in found]

        results = at_once(*(partial(kind, number) for number, kind in enumerate([store, store_in_loop] * 3)))
        for nth in zip(*(result[::2] for result in results), strict=True):
            assert Counter(nth) == {STORED: 1, DUPLICATE: 5}
        assert {outcome for result in results for outcome in result[1::2]} == {STORED}
        own = {f"{number}-{n}" for number in range(6) for n in range(30)}
        assert sorted(ids(log)) == sorted({str(n) for n in range(30)} | own)
        assert log.totals().messages == 7 * 30
        assert is_at_rest(sink)

    def test_close_waits_for_what_is_on_its_way(self, own_cluster: MockCluster, own_sink: KafkaSink) -> None:
        async def store() -> list[Any]:
            with own_cluster.down():
                calls = [asyncio.create_task(own_sink.store_async([envelope("0")]))]
                await wait_in_loop(lambda: sent(own_sink))
                calls += [asyncio.create_task(own_sink.store_async([envelope(f"{n}")])) for n in range(1, 5)]
                await asyncio.sleep(0)
                closed = asyncio.create_task(asyncio.to_thread(own_sink.close))
                await wait_in_loop(lambda: own_sink._producer._sender is None)
            await closed
            assert is_at_rest(own_sink)
            await asyncio.wait(calls)
            return [*outcomes(calls), await own_sink.store_async([envelope("0"), envelope("after")])]

        assert run_quietly(store()) == [*[[STORED]] * 5, [DUPLICATE, STORED]]


_Ts = TypeVarTuple("_Ts")


class CountingLoop(asyncio.SelectorEventLoop):
    """An event loop that counts how often other threads wake it."""

    wakeups = 0

    def call_soon_threadsafe(
        self, callback: Callable[[Unpack[_Ts]], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.Handle:
        self.wakeups += 1
        return super().call_soon_threadsafe(callback, *args, context=context)


class TestFlights:
    """A thread is woken by a lock of its own, the tasks of a loop by one call for all flights settled together."""

    RECORD = Record("topic", None, b"", [], 0)

    def test_a_loop_is_woken_once(self) -> None:
        flights = [Flight([self.RECORD]) for _ in range(20)]
        with asyncio.Runner(loop_factory=CountingLoop) as runner:
            loop = runner.get_loop()
            assert isinstance(loop, CountingLoop)

            async def wait() -> None:
                waiting = asyncio.gather(*(flight.wait_async() for flight in flights for _ in range(2)))
                await wait_in_loop(lambda: all(len(flight._waiters) == 2 for flight in flights))
                settle(flights)
                await waiting

            runner.run(wait())
            assert loop.wakeups == 1

    def test_whoever_comes_later_does_not_wait(self) -> None:
        flight = Flight([self.RECORD])
        settle([flight])
        flight.wait(60)
        run_quietly(flight.wait_async())

    def test_a_thread_that_waits_too_long(self) -> None:
        flight = Flight([self.RECORD])
        flight.wait(0.001)
        settle([flight])

    def test_a_closed_loop_does_not_keep_others_from_being_woken(self) -> None:
        flight = Flight([self.RECORD])
        with suppress(TimeoutError):
            run_quietly(asyncio.wait_for(flight.wait_async(), 0.001))
        waiting = threading.Thread(target=flight.wait, args=(60,))
        waiting.start()
        wait_for(lambda: len(flight._waiters) == 2)
        settle([flight])
        waiting.join(60)
        assert not waiting.is_alive()


class TestGroups:
    """Records that arrive while others are on their way wait until these are settled, and not for long."""

    def test_a_broker_that_is_down_does_not_hold_up_the_others(self, own_cluster: MockCluster) -> None:
        topics = own_cluster.topics()
        for partition in range(topics.partitions):
            own_cluster.lead(topics.messages, partition, partition + 1)
        sink = KafkaSink(own_cluster.address, topics, timeout=30)
        sink.store([envelope(f"of-{n}", user_id=f"{n}") for n in range(20)])
        found = own_cluster.records(topics.messages, topics.partitions)
        users = {message.partition(): json.loads(message.key() or b"")[1] for message in found}
        with own_cluster.down(1):
            waiting = Workers([partial(sink.store, [envelope("waits", user_id=users[0])])])
            wait_for(lambda: sent(sink))
            assert sink.store([envelope("other", user_id=users[1])]) == [STORED]
            assert sink._in_flight, "it waited for the broker that is down"
        assert waiting.finish() == [[STORED]]
        sink.close()


FORKING = """
import asyncio, os, sys, threading
from adapter_helpers import envelope
from trackcore_kafka import KafkaCluster, KafkaSink, KafkaTopics

servers, prefix = sys.argv[1:]
sink = KafkaSink(KafkaCluster(bootstrap_servers=servers), KafkaTopics(prefix=prefix, partitions=6))

def store(name):
    return asyncio.run(sink.store_async([envelope(name)]))

def fork(number):
    child = os.fork()
    if not child:
        store(f"child-{number}")
        sink.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0

async def main():
    over = False

    async def store_many(task):
        number = 0
        while not over:
            await sink.store_async([envelope(f"parent-{task}-{number}", user_id=f"{task}")])
            await asyncio.sleep(0.001)  # the mock brokers keep only so much
            number += 1
        return number

    tasks = [asyncio.create_task(store_many(task)) for task in range(8)]
    for number in range(5):
        await asyncio.to_thread(fork, number)
    over = True
    counts = await asyncio.gather(*tasks)
    print(*(f"parent-{task}-{number}" for task, count in enumerate(counts) for number in range(count)))
    print(*(f"child-{number}" for number in range(5)))

asyncio.run(main())
sink.close()
"""


def test_forks_beside_calls_that_are_on_their_way(cluster: MockCluster, topics: KafkaTopics, log: KafkaLog) -> None:
    """A fork at any moment loses nothing and hangs nobody."""
    acknowledged = run_python(FORKING, cluster.servers, topics.prefix).split()
    assert acknowledged
    assert set(acknowledged) <= set(ids(log))


def test_a_cluster_that_is_not_there() -> None:
    sink = KafkaSink(KafkaCluster(bootstrap_servers="127.0.0.1:9"))
    with pytest.raises(SinkUnavailable, match="no broker answers"):
        run_quietly(sink.store_async([envelope("a")]))
    sink.close()
