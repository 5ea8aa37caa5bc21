"""Held users: a user whose messages a destination fails to accept does not block the others."""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import timedelta

import attrs
import pytest
from delivery_helpers import Bench, EndpointServer, Received, Recipient, Reply, envelopes, fed, store
from delivery_processes import Deployed, send_batch, track
from hypothesis import example, given, settings
from hypothesis import strategies as st
from patience import wait_for
from trackcore_delivery import MessageRefused, PermanentError, RetryLater, UnusableState
from trackcore_delivery import held_queue as held_module
from trackcore_delivery import isolation as isolation_module
from trackcore_delivery.destination_worker import DestinationWorker
from trackcore_delivery.state_rows import copy_size

USERS = 6
WINDOW = timedelta(hours=4)
SIZE = copy_size(fed(1)[0])


def number(message_id: str) -> int:
    return int(message_id[1:])


@attrs.define
class Poisoned:
    """Fails for each batch with a message of one of these users; with `first`, only from that number on."""

    users: set[int]
    count: int = USERS
    error: Callable[[], Exception] = lambda: RetryLater(detail="500")
    first: float = math.inf

    def __call__(self, ids: list[str]) -> Sequence[MessageRefused]:
        if any(each % self.count in self.users and each < self.first for each in map(number, ids)):
            raise self.error()
        return ()


def pass_time(bench: Bench, worker: DestinationWorker, *, minutes: float, step: float = 30.0) -> None:
    """Let time pass, in steps of so many seconds."""
    for _ in range(int(minutes * 60 / step)):
        bench.run(worker)
        bench.clock.turn(seconds=step)
    bench.run(worker)


def in_order(taken: Sequence[str], count: int = USERS) -> bool:
    """Return whether the messages of each user came first in the order of the log."""
    of_user: dict[int, list[int]] = defaultdict(list)
    for one in map(number, dict.fromkeys(taken)):
        of_user[one % count].append(one)
    return all(numbers == sorted(numbers) for numbers in of_user.values())


def held(bench: Bench) -> dict[str, int]:
    return {user.user: user.messages for user in bench.state.held_users("There")}


class TestIsolation:
    """Order is promised per user: after a few failures the user is isolated, and the others pass."""

    def test_the_messages_of_the_others_arrive_and_only_the_users_are_held(self, bench: Bench) -> None:
        store(bench.log, envelopes(30, users=USERS))
        there = Recipient(Poisoned({3}))
        pass_time(bench, bench.worker(there), minutes=1)
        assert sorted(map(number, there.taken)) == [each for each in range(30) if each % USERS != 3]
        assert in_order(there.taken)
        assert held(bench) == {"user-3": 5}
        assert bench.dead == {}

    @pytest.mark.parametrize("size", [1, 2, 500])
    @pytest.mark.parametrize("poisoned", [{0}, {5}, {0, 1}, {0, 1, 2, 3, 4}, {1, 3, 5}], ids=str)
    def test_any_number_of_users_wherever_they_stand(self, bench: Bench, poisoned: set[int], size: int) -> None:
        store(bench.log, envelopes(30, users=USERS))
        there = Recipient(Poisoned(poisoned))
        pass_time(bench, bench.worker(there, batch_messages=size), minutes=15)
        assert sorted(map(number, there.taken)) == [each for each in range(30) if each % USERS not in poisoned]
        assert held(bench) == {f"user-{user}": 5 for user in poisoned}

    def test_messages_that_come_later_are_held_or_pass(self, bench: Bench) -> None:
        store(bench.log, envelopes(12, users=USERS))
        there = Recipient(Poisoned({3}))
        worker = bench.worker(there)
        pass_time(bench, worker, minutes=1)
        attempts = len(there.attempts)
        store(bench.log, envelopes(12, first=12, users=USERS))
        bench.run(worker)
        assert there.attempts[attempts:] == [[f"m{each}" for each in range(12, 24) if each % USERS != 3]]
        assert held(bench) == {"user-3": 4}

    def test_a_user_is_released_when_the_messages_are_taken_and_the_order_holds(self, bench: Bench) -> None:
        store(bench.log, envelopes(30, users=USERS))
        there = Recipient(Poisoned({3}))
        worker = bench.worker(there)
        pass_time(bench, worker, minutes=1)
        there.behaviour = lambda _: ()
        pass_time(bench, worker, minutes=2)
        assert held(bench) == {}
        store(bench.log, envelopes(6, first=30, users=USERS))
        bench.run(worker)
        assert sorted(map(number, there.taken)) == list(range(36))
        assert in_order(there.taken)

    def test_one_user_with_more_messages_than_a_batch(self, bench: Bench) -> None:
        """The probe is chosen from beyond the batch."""
        store(bench.log, envelopes(12, users=1))
        store(bench.log, envelopes(2, first=13, users=7))
        there = Recipient(Poisoned(set(range(13)), 99))
        pass_time(bench, bench.worker(there, batch_messages=4), minutes=3)
        assert there.taken[:1] == ["m13"]
        assert held(bench) == {"user-0": 13}

    def test_a_message_that_fails_kills_only_itself(self, bench: Bench) -> None:
        """Later messages of its user are accepted once it is a dead letter."""

        def behave(ids: list[str]) -> Sequence[MessageRefused]:
            if "m3" in ids:
                raise RetryLater(detail="500")
            return ()

        store(bench.log, envelopes(30, users=USERS))
        there = Recipient(behave)
        worker = bench.worker(there, retry_window=WINDOW)
        pass_time(bench, worker, minutes=3.9 * 60)
        assert bench.dead == {}
        pass_time(bench, worker, minutes=30)
        assert list(bench.dead) == ["m3"]
        assert sorted(map(number, there.taken)) == [each for each in range(30) if each != 3]
        assert in_order(there.taken)

    def test_messages_that_all_fail_die_together_after_one_window(self, bench: Bench) -> None:
        """They do not wait four hours one after the other, and each has its own last attempt."""
        store(bench.log, envelopes(30, users=USERS))
        there = Recipient(Poisoned({3}))
        pass_time(bench, bench.worker(there, retry_window=WINDOW), minutes=5 * 60)
        assert list(bench.dead) == ["m3", "m9", "m15", "m21", "m27"]
        assert {attempt[0] for attempt in there.attempts} >= set(bench.dead)
        assert held(bench) == {}

    def test_a_sender_that_raises_is_searched_as_well(self, bench: Bench) -> None:
        store(bench.log, envelopes(30, users=USERS))
        there = Recipient(Poisoned({3}, error=ZeroDivisionError))
        pass_time(bench, bench.worker(there), minutes=1)
        assert held(bench) == {"user-3": 5}

    def test_what_is_refused_is_no_reason_to_hold(self, bench: Bench) -> None:
        """A rejection is permanent: it makes a dead letter, for another user too while one is searched for."""

        def behave(ids: list[str]) -> Sequence[MessageRefused]:
            if any(number(message_id) % USERS == 1 for message_id in ids):
                raise PermanentError(detail="no good")
            return Poisoned({0})(ids)

        store(bench.log, envelopes(12, users=USERS))
        pass_time(bench, bench.worker(Recipient(behave)), minutes=2)
        assert bench.dead == {"m1": "no good", "m7": "no good"}
        assert held(bench) == {"user-0": 2}

    def test_nothing_is_sent_twice_while_the_process_lives(self, bench: Bench) -> None:
        store(bench.log, envelopes(60, users=USERS))
        there = Recipient(Poisoned({0, 1, 4}))
        pass_time(bench, bench.worker(there), minutes=10)
        assert len(there.taken) == len(set(there.taken)) == 30

    def test_what_has_arrived_in_a_search_is_not_sent_again_once_its_user_is_held(self, bench: Bench) -> None:
        """m1 is accepted as a probe, and m7 of the same user fails later."""
        for one in (0, 1, 7, 2, 13):
            store(bench.log, envelopes(1, first=one, users=USERS))

        def behave(ids: list[str]) -> Sequence[MessageRefused]:
            if {"m0", "m7"} & {*ids}:
                raise RetryLater(detail="500")
            return ()

        there = Recipient(behave)
        pass_time(bench, bench.worker(there, retry_window=timedelta(minutes=10)), minutes=60)
        assert sorted(there.taken) == ["m1", "m13", "m2"]
        assert in_order(there.taken)
        assert list(bench.dead) == ["m0", "m7"]


class TestOutage:
    """When everything fails, the search for a user must not multiply the traffic, and nobody is held."""

    @pytest.mark.parametrize(
        "error", [RetryLater(detail="refused", of_destination=True), RetryLater(detail="busy", retry_after=1)]
    )
    def test_a_destination_that_cannot_be_reached_is_not_searched(self, bench: Bench, error: RetryLater) -> None:
        def behave(_: list[str]) -> Sequence[MessageRefused]:
            raise error

        store(bench.log, envelopes(30, users=USERS))
        there = Recipient(behave)
        pass_time(bench, bench.worker(there), minutes=60)
        assert {len(ids) for ids in there.attempts} == {30}
        assert held(bench) == {}

    def test_a_destination_that_fails_for_everyone_gets_two_requests_an_attempt(self, bench: Bench) -> None:
        store(bench.log, envelopes(300, users=USERS))
        there = Recipient(Poisoned(set(range(USERS))))
        worker = bench.worker(there)
        for _ in range(60):
            before = len(there.attempts)
            bench.run(worker)
            assert len(there.attempts) - before <= 2
            bench.clock.turn(seconds=60)
        assert held(bench) == {}

    def test_a_wait_that_is_asked_for_is_for_held_users_too(self, bench: Bench) -> None:
        store(bench.log, envelopes(12, users=USERS))
        there = Recipient(Poisoned({3}))
        worker = bench.worker(there)
        pass_time(bench, worker, minutes=1)
        there.behaviour = Poisoned(set(range(USERS)), error=lambda: RetryLater(detail="busy", retry_after=3_000))
        store(bench.log, envelopes(1, first=12, users=USERS))
        pass_time(bench, worker, minutes=2)
        attempts = len(there.attempts)
        pass_time(bench, worker, minutes=45)
        assert len(there.attempts) == attempts

    def test_held_users_do_not_add_up_to_a_storm(self, bench: Bench) -> None:
        """However many are held, their attempts are five seconds apart once they have failed for a while."""
        store(bench.log, envelopes(90, users=45))
        there = Recipient(Poisoned(set(range(40)), 45))
        worker = bench.worker(there)
        pass_time(bench, worker, minutes=30, step=1)
        assert len(held(bench)) == 40
        attempts = len(there.attempts)
        pass_time(bench, worker, minutes=10, step=1)
        assert len(there.attempts) - attempts <= 10 * 60 / 5 + 1


class TestState:
    """Held messages are in the state file: neither a restart nor a kill loses one or breaks the order."""

    def test_another_process_goes_on_with_what_is_held(self, bench: Bench) -> None:
        store(bench.log, envelopes(30, users=USERS))
        pass_time(bench, bench.worker(Recipient(Poisoned({3}))), minutes=1)
        store(bench.log, envelopes(6, first=30, users=USERS))
        second = Recipient(Poisoned({3}))
        worker = bench.worker(second)
        bench.run(worker)
        assert [message for message in second.taken if number(message) % USERS == 3] == []
        second.behaviour = lambda _: ()
        pass_time(bench, worker, minutes=2)
        assert [number(message) for message in second.taken if number(message) % USERS == 3] == [3, 9, 15, 21, 27, 33]

    def test_the_window_of_a_held_user_outlives_processes(self, bench: Bench) -> None:
        store(bench.log, envelopes(30, users=USERS))
        there = Recipient(Poisoned({3}))
        for _ in range(5 * 6):
            pass_time(bench, bench.worker(there, retry_window=WINDOW), minutes=10)
        assert list(bench.dead) == ["m3", "m9", "m15", "m21", "m27"]

    def test_nothing_is_lost_where_the_state_cannot_be_written(self, bench: Bench) -> None:
        store(bench.log, envelopes(30, users=USERS))
        there = Recipient(Poisoned({3}))
        worker = bench.worker(there)
        with bench.state._transaction() as connection:
            connection.execute(
                "CREATE TEMP TRIGGER full BEFORE INSERT ON held_messages BEGIN SELECT RAISE(ABORT, 'full'); END"
            )
        with pytest.raises(UnusableState, match="full"):
            pass_time(bench, worker, minutes=1)
        assert (held(bench), bench.state.position("There")) == ({}, 3)
        with bench.state._transaction() as connection:
            connection.execute("DROP TRIGGER temp.full")
        pass_time(bench, worker, minutes=1)
        assert held(bench) == {"user-3": 5}
        assert len(there.taken) == len(set(there.taken)) == 25

    def test_the_same_user_of_another_source_is_another_user(self, bench: Bench) -> None:
        store(bench.log, envelopes(6, users=1))
        store(bench.log, envelopes(6, first=6, users=1, source="elsewhere"))

        def behave(ids: list[str]) -> Sequence[MessageRefused]:
            if any(number(message_id) < 6 for message_id in ids):
                raise RetryLater(detail="500")
            return ()

        there = Recipient(behave)
        pass_time(bench, bench.worker(there), minutes=1)
        assert there.taken == [f"m{each}" for each in range(6, 12)]

    def test_it_is_counted_for_who_looks(self, bench: Bench) -> None:
        store(bench.log, envelopes(30, users=USERS))
        pass_time(bench, bench.worker(Recipient(Poisoned({3, 4}))), minutes=2)
        status = bench.state.status("There", bench.clock())
        assert status is not None
        assert (status.held_users, status.held_messages, status.delivered) == (2, 10, 20)
        assert (status.failing_since, status.last_error) == (None, "500")


class TestBounds:
    """The amount held is bounded; beyond that a user is evicted, so that nobody else has to wait."""

    @pytest.mark.parametrize("bound", ["HELD_MESSAGES", "HELD_BYTES"])
    def test_who_goes_beyond_a_fourth_part_is_given_up(
        self, bench: Bench, bound: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """In order, with the documented reason, and treated as any other user from then on."""
        monkeypatch.setattr(held_module, bound, 12 if bound == "HELD_MESSAGES" else 4 * 1_500)
        store(bench.log, envelopes(60, users=USERS))
        there = Recipient(Poisoned({3}, first=6))
        worker = bench.worker(there)
        pass_time(bench, worker, minutes=5)
        assert list(bench.dead) == ["m3", "m9", "m15"]
        assert all(reason.endswith("too much is held back") for reason in bench.dead.values())
        assert sorted(map(number, there.taken)) == [each for each in range(60) if f"m{each}" not in bench.dead]
        assert in_order(there.taken)
        assert held(bench) == {}

    def test_the_user_who_is_held_for_the_longest_makes_room_for_another(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(held_module, "HELD_USERS", 2)
        store(bench.log, envelopes(30, users=USERS))
        there = Recipient(Poisoned({1, 3, 5}, first=6))
        worker = bench.worker(there, retry_window=WINDOW)
        pass_time(bench, worker, minutes=10)
        assert (list(held(bench)), bench.state.position("There")) == (["user-3", "user-5"], 30)
        assert list(bench.dead)[:1] == ["m1"]
        assert {number(message) % USERS for message in bench.dead} == {1}
        assert in_order(there.taken)
        there.behaviour = lambda _: ()
        pass_time(bench, worker, minutes=5)
        assert sorted(map(number, [*there.taken, *bench.dead])) == list(range(30))
        assert in_order(there.taken)

    @pytest.mark.parametrize("bound", ["HELD_MESSAGES", "HELD_BYTES"])
    def test_the_user_with_the_most_makes_room_for_others(
        self, bench: Bench, bound: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(held_module, bound, 5 if bound == "HELD_MESSAGES" else 5 * SIZE)
        monkeypatch.setattr(held_module, "_SHARE", 1)
        users = [0, 1, 2, 2, 2, 3, 3, 4, 5]
        for place, user in enumerate(users):
            store(bench.log, envelopes(1, first=USERS * place + user, users=USERS))
        there = Recipient(Poisoned({1, 2, 3}))
        pass_time(bench, bench.worker(there), minutes=5)
        assert {number(message) % USERS for message in bench.dead} == {2}
        assert {number(message) % USERS for message in there.taken} == {0, 4, 5}
        assert {"user-1", "user-3"} <= set(held(bench))

    def test_a_message_beyond_every_bound_is_held_alone(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(held_module, "HELD_BYTES", 10)
        store(bench.log, envelopes(12, users=USERS))
        there = Recipient(Poisoned({3}))
        pass_time(bench, bench.worker(there), minutes=5)
        assert sorted(map(number, there.taken)) == [each for each in range(12) if each % USERS != 3]
        assert (held(bench), list(bench.dead)) == ({"user-3": 1}, ["m3"])

    def test_a_crowd_of_users_that_fill_many_batches_is_not_taken_for_an_outage(self, bench: Bench) -> None:
        """The longer everything fails, the further ahead the probe is chosen."""
        store(bench.log, envelopes(600, users=600))
        there = Recipient(Poisoned(set(range(200)), 600))
        pass_time(bench, bench.worker(there, batch_messages=10, retry_window=WINDOW), minutes=60, step=5)
        assert set(map(number, there.taken)) == set(range(200, 600))
        assert bench.state.position("There") == 600

    def test_many_users_with_a_message_that_fails_do_not_have_the_others_wait(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(held_module, "HELD_USERS", 3)
        store(bench.log, envelopes(200, users=50))
        there = Recipient(Poisoned(set(range(0, 50, 5)), 50))
        worker = bench.worker(there, retry_window=WINDOW)
        pass_time(bench, worker, minutes=10, step=2)
        assert sorted(map(number, there.taken)) == [each for each in range(200) if each % 5]
        assert len(held(bench)) == 3
        assert len(bench.dead) + sum(held(bench).values()) == 40

    def test_what_a_crash_would_send_again_is_bounded(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        """Only the memory of the process knows that a probe has arrived before its turn."""
        monkeypatch.setattr(isolation_module, "_TRUST", 1)
        monkeypatch.setattr(isolation_module, "_MAX_ARRIVED", 3)
        store(bench.log, envelopes(40, users=100))
        store(bench.log, envelopes(20, first=40, users=100))
        ahead = []

        def behave(ids: list[str]) -> Sequence[MessageRefused]:
            position = bench.state.position("There") or 0
            ahead.append(sum(number(message) >= position for message in set(there.taken)))
            return Poisoned(set(range(40)), 100)(ids)

        there = Recipient(behave)
        pass_time(bench, bench.worker(there), minutes=30)
        assert set(map(number, there.taken)) == set(range(40, 60))
        assert len(held(bench)) == 40
        assert max(ahead) == 3


@settings(max_examples=40)
@given(
    poisoned=st.sets(st.integers(0, USERS - 1)),
    sick=st.lists(st.sampled_from(["ok", "500", "down", "flaky", "restart"]), min_size=1, max_size=12),
    heals=st.booleans(),
    size=st.integers(1, 40),
)
def test_everything_arrives_or_dies_and_the_order_of_each_user_holds(
    tmp_path_factory: pytest.TempPathFactory, poisoned: set[int], sick: list[str], size: int, *, heals: bool
) -> None:
    """For any poisoned users and any schedule of failures that ends.

    Each message is delivered at least once or is a dead letter, none before its window, and the first deliveries of a
    user are in the order of the log.
    """
    bench = Bench(tmp_path_factory.mktemp("held"))
    calls = 0

    def behave(ids: list[str]) -> Sequence[MessageRefused]:
        nonlocal calls
        calls += 1
        if state == "down":
            raise RetryLater(detail="down", of_destination=True)
        if state == "500" or (state == "flaky" and calls % 2):
            raise RetryLater(detail="500")
        return Poisoned(poisoned)(ids)

    there = Recipient(behave)
    worker = bench.worker(there, batch_messages=size, retry_window=WINDOW)
    for turn, state in enumerate(sick):
        store(bench.log, envelopes(6, first=6 * turn, users=USERS, received_at=bench.clock()))
        if state == "restart":
            worker = bench.worker(there, batch_messages=size, retry_window=WINDOW)
        pass_time(bench, worker, minutes=10, step=60)
    assert bench.dead == {}, "the window has not passed"
    state = "ok"
    poisoned = set() if heals else poisoned
    pass_time(bench, worker, minutes=60 if heals else 60 * 24 * 2, step=60 if heals else 600)
    assert sorted({*map(number, there.taken), *map(number, bench.dead)}) == list(range(6 * len(sick)))
    assert in_order(there.taken)
    assert all(number(message_id) % USERS in poisoned for message_id in bench.dead), (poisoned, sick, heals, size)
    bench.state.close()


@settings(max_examples=60)
@given(
    messages=st.lists(st.integers(0, 3), min_size=4, max_size=30),
    poisoned=st.sets(st.integers(0, 29), max_size=8),
    refused=st.sets(st.integers(0, 29), max_size=3),
    weather=st.lists(st.sampled_from(["ok", "ok", "ok", "500", "down"]), min_size=1, max_size=30),
    size=st.sampled_from([1, 3, 8, 50]),
    users=st.sampled_from([1, 2, 100]),
    bound=st.sampled_from([2, 8, 10_000]),
)
@example(messages=[0, 1, 1, 2, 1], poisoned={0, 2}, refused=set(), weather=["ok"], size=50, users=100, bound=10_000)
@example(
    messages=[0, 0, 0, 0, 0, 0, 3, 0, 1],
    poisoned={2},
    refused={5, 6, 17},
    weather=["500", "ok", "ok", "down", "ok", "ok", "ok", "ok", "ok", "500"],
    size=50,
    users=2,
    bound=8,
)
def test_without_a_crash_nothing_is_lost_or_sent_twice_and_the_order_of_each_user_holds(
    tmp_path_factory: pytest.TempPathFactory,
    *,
    messages: list[int],
    poisoned: set[int],
    refused: set[int],
    weather: list[str],
    size: int,
    users: int,
    bound: int,
) -> None:
    """Whichever messages fail, whatever else fails for a while, and however little may be held."""
    bench = Bench(tmp_path_factory.mktemp("held"))
    numbers = [USERS * place + user for place, user in enumerate(messages)]
    for one in numbers:
        store(bench.log, envelopes(1, first=one, users=USERS))
    left = iter(weather)

    def behave(ids: list[str]) -> Sequence[MessageRefused]:
        places = {number(message_id) // USERS for message_id in ids}
        now = next(left, "ok")
        if now != "ok":
            raise RetryLater(detail=now, of_destination=now == "down")
        if places & poisoned:
            raise RetryLater(detail="500")
        if places & refused:
            raise PermanentError(detail="400")
        return ()

    there = Recipient(behave)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(held_module, "HELD_USERS", users)
        patch.setattr(held_module, "HELD_MESSAGES", bound)
        worker = bench.worker(there, batch_messages=size, retry_window=timedelta(minutes=10))
        pass_time(bench, worker, minutes=60 * 6, step=300)
    assert sorted(map(number, [*there.taken, *bench.dead])) == numbers
    assert in_order(there.taken)
    assert held(bench) == {}
    bench.state.close()


def test_a_killed_process_loses_nothing_that_it_held(
    endpoint: Callable[..., EndpointServer], deploy: Callable[..., Deployed]
) -> None:
    """A real server whose webhook answers 500 to one user: killed, started again, and healed."""
    is_healed = False

    def answer(received: Received) -> Reply:
        bad = any(message["userId"] == "user-3" for message in received.messages)
        return Reply(status=500 if bad and not is_healed else 200)

    hook = endpoint(answer)
    deployed = deploy(f'[[destinations]]\nname = "CRM"\nkind = "webhook"\nurl = "{hook.url}"\nbatch_wait = "0s"\n')
    running, port = deployed.serve()
    send_batch(port, *(track(each, each % USERS) for each in range(30)))
    wait_for(lambda: len(hook.taken) == 25)
    wait_for(lambda: deployed.status("CRM").held_messages == 5)
    (line,), _ = deployed.ask("destinations", "--format", "jsonl")
    assert (line["heldUsers"], line["heldMessages"], line["lagMessages"]) == (1, 5, 0)
    running.kill()
    running, port = deployed.serve()
    send_batch(port, *(track(each, each % USERS) for each in range(30, 36)))
    wait_for(lambda: deployed.status("CRM").held_messages == 6)
    running.kill()
    is_healed = True
    deployed.serve()
    wait_for(lambda: len(set(hook.ids)) == 36)
    assert in_order(hook.ids)
    wait_for(lambda: deployed.status("CRM").held_users == 0)
