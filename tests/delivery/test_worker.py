"""The worker: when it tries which messages, and what happens to a rejected one."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import timedelta

import msgspec
import pytest
from delivery_helpers import NOON, SOURCES, Bench, Recipient, envelopes, store
from hypothesis import given
from hypothesis import strategies as st
from trackcore_delivery import MessageRefused, PermanentError, RetryLater, Selection, UnusableState, make_feed
from trackcore_delivery.backoff import FIRST_SECONDS, LONGEST_SECONDS, backoff_seconds, capped_retry_after
from trackcore_delivery.destination_worker import DestinationWorker
from trackcore_sqlite import SqliteLog

from trackcore import ConsentRule, Destination

Behaviour = Callable[[list[str]], Sequence[MessageRefused]]


def refusing(*bad: str) -> Behaviour:
    """Reject every batch that has one of these messages in it."""

    def behave(ids: list[str]) -> Sequence[MessageRefused]:
        if set(ids) & set(bad):
            raise PermanentError(detail="no good")
        return ()

    return behave


def failing(ids: list[str]) -> Sequence[MessageRefused]:
    raise RetryLater(detail=f"down, with {len(ids)}")


class TestWhatIsSent:
    def test_everything_selected_goes_in_order_and_nothing_else(self, bench: Bench) -> None:
        store(bench.log, envelopes(10))
        store(bench.log, envelopes(5, first=10, destinations=("Elsewhere", 'a "There" b')))
        store(bench.log, envelopes(5, first=15, destinations=("Elsewhere", "There")))
        there = Recipient()
        bench.run(bench.worker(there))
        assert there.taken == [f"m{number}" for number in (*range(10), *range(15, 20))]

    def test_a_batch_is_bounded_in_messages(self, bench: Bench) -> None:
        store(bench.log, envelopes(10))
        there = Recipient()
        bench.run(bench.worker(there, batch_messages=4))
        assert [len(ids) for ids in there.attempts] == [4, 4, 2]

    def test_a_batch_is_bounded_in_bytes_but_one_message_always_goes(self, bench: Bench) -> None:
        store(bench.log, envelopes(6, pad=1_000))
        store(bench.log, envelopes(1, first=6, pad=9_000))
        there = Recipient()
        bench.run(bench.worker(there, batch_bytes=2_600))
        assert [len(ids) for ids in there.attempts] == [2, 2, 2, 1]

    def test_a_batch_waits_to_be_filled_but_not_for_long(self, bench: Bench) -> None:
        store(bench.log, envelopes(3))
        there = Recipient()
        worker = bench.worker(there, batch_messages=10, batch_wait=timedelta(seconds=5))
        bench.clock.turn(seconds=4)
        bench.run(worker)
        assert there.attempts == []
        bench.clock.turn(seconds=1)
        bench.run(worker)
        assert there.attempts == [["m0", "m1", "m2"]]

    def test_a_full_batch_does_not_wait(self, bench: Bench) -> None:
        store(bench.log, envelopes(3))
        there = Recipient()
        bench.run(bench.worker(there, batch_messages=2, batch_wait=timedelta(seconds=5)))
        assert there.attempts == [["m0", "m1"]]

    def test_another_worker_goes_on_behind_what_is_settled(self, bench: Bench) -> None:
        store(bench.log, envelopes(3))
        bench.run(bench.worker(Recipient()))
        store(bench.log, envelopes(2, first=3))
        second = Recipient()
        bench.run(bench.worker(second))
        assert second.taken == ["m3", "m4"]

    def test_a_destination_may_begin_with_what_comes_next(self, bench: Bench) -> None:
        store(bench.log, envelopes(3))
        there = Recipient()
        worker = bench.worker(there, start="newest")
        bench.run(worker)
        store(bench.log, envelopes(2, first=3))
        bench.run(worker)
        assert there.taken == ["m3", "m4"]

    def test_a_log_that_was_begun_anew_is_delivered_from_its_start(self, bench: Bench) -> None:
        store(bench.log, envelopes(3))
        bench.run(bench.worker(Recipient()))
        for file in bench.folder.glob("log.db*"):
            file.unlink()
        store(bench.log, envelopes(2, first=7))
        there = Recipient()
        bench.run(bench.worker(there))
        assert there.taken == ["m7", "m8"]


class TestRefusals:
    @given(bad=st.sets(st.integers(0, 19)), size=st.integers(1, 20))
    def test_the_refused_messages_die_and_the_others_arrive_in_order(
        self, tmp_path_factory: pytest.TempPathFactory, bad: set[int], size: int
    ) -> None:
        bench = Bench(tmp_path_factory.mktemp("refusals"))
        store(bench.log, envelopes(20))
        there = Recipient(refusing(*(f"m{number}" for number in bad)))
        bench.run(bench.worker(there, batch_messages=size))
        assert there.taken == [f"m{number}" for number in range(20) if number not in bad]
        assert bench.dead == {f"m{number}": "no good" for number in bad}
        bench.state.close()

    def test_one_bad_message_costs_few_requests(self, bench: Bench) -> None:
        store(bench.log, envelopes(128))
        there = Recipient(refusing("m77"))
        bench.run(bench.worker(there))
        assert len(there.attempts) == 1 + 2 * 7

    def test_a_wrong_address_is_not_searched_for_in_the_messages(self, bench: Bench) -> None:
        def refuse(_: list[str]) -> Sequence[MessageRefused]:
            raise PermanentError(detail="not found", divisible=False)

        store(bench.log, envelopes(8))
        there = Recipient(refuse)
        bench.run(bench.worker(there))
        assert len(there.attempts) == 1
        assert len(bench.dead) == 8

    def test_a_destination_may_answer_for_each_message(self, bench: Bench) -> None:
        store(bench.log, envelopes(3))
        there = Recipient(lambda _: [MessageRefused(1, "too long")])
        bench.run(bench.worker(there))
        assert (there.taken, bench.dead) == (["m0", "m2"], {"m1": "too long"})

    def test_dead_letters_are_bounded_and_what_is_dropped_is_counted(self, bench: Bench) -> None:
        def refuse(_: list[str]) -> Sequence[MessageRefused]:
            raise PermanentError(detail="no", divisible=False)

        store(bench.log, envelopes(40, pad=9_000))
        bench.run(bench.worker(Recipient(refuse), batch_messages=7))
        status = bench.state.status("There", NOON)
        assert status is not None
        assert (status.dead_letters, status.dead_dropped) == (10, 30)
        assert list(bench.dead) == [f"m{number}" for number in range(30, 40)]


class TestFailures:
    def test_a_batch_that_failed_goes_again_and_later_ones_wait(self, bench: Bench) -> None:
        store(bench.log, envelopes(6))
        there = Recipient(failing)
        worker = bench.worker(there, batch_messages=2)
        bench.run(worker)
        assert there.attempts == [["m0", "m1"]]
        there.behaviour = lambda _: ()
        bench.run(worker)
        assert there.taken == [], "it is not time yet"
        bench.clock.turn(seconds=FIRST_SECONDS)
        bench.run(worker)
        assert there.taken == [f"m{number}" for number in range(6)]
        status = bench.state.status("There", bench.clock())
        assert status is not None
        assert (status.failing_since, status.last_error) == (None, "down, with 2")

    def test_a_batch_gets_smaller_until_what_makes_it_fail_is_alone(self, bench: Bench) -> None:
        """If no message of another user shows that the destination works; so the messages before it arrive."""

        def behave(ids: list[str]) -> Sequence[MessageRefused]:
            return failing(ids) if "m5" in ids else ()

        store(bench.log, envelopes(8, users=1))
        there = Recipient(behave)
        worker = bench.worker(there, batch_messages=8)
        for _ in range(8):
            bench.run(worker)
            bench.clock.turn(minutes=1)
        assert there.taken == ["m0", "m1", "m2", "m3", "m4"]
        assert there.attempts[-1] == ["m5"]

    @pytest.mark.parametrize(("asked", "waited"), [(7.0, 7.0), (1e6, 3_600.0), (-5.0, 0.0)])
    def test_retry_after_is_obeyed_within_reason(self, bench: Bench, asked: float, waited: float) -> None:
        def behave(_: list[str]) -> Sequence[MessageRefused]:
            raise RetryLater(detail="busy", retry_after=asked)

        store(bench.log, envelopes(1))
        there = Recipient(behave)
        worker = bench.worker(there)
        worker.step()
        status = bench.state.status("There", bench.clock())
        assert status is not None
        assert status.next_try_at == NOON + timedelta(seconds=waited)

    def test_the_wait_survives_a_restart(self, bench: Bench) -> None:
        def behave(_: list[str]) -> Sequence[MessageRefused]:
            raise RetryLater(detail="busy", retry_after=60)

        store(bench.log, envelopes(1))
        bench.run(bench.worker(Recipient(behave)))
        second = Recipient()
        worker = bench.worker(second)
        bench.clock.turn(seconds=59)
        bench.run(worker)
        assert second.attempts == []
        bench.clock.turn(seconds=1)
        bench.run(worker)
        assert second.taken == ["m0"]

    def test_a_sender_with_a_fault_loses_nothing(self, bench: Bench) -> None:
        def behave(_: list[str]) -> Sequence[MessageRefused]:
            raise ZeroDivisionError

        store(bench.log, envelopes(2))
        there = Recipient(behave)
        worker = bench.worker(there)
        bench.run(worker)
        there.behaviour = lambda _: ()
        bench.clock.turn(minutes=1)
        bench.run(worker)
        assert there.taken == ["m0", "m1"]

    def test_what_arrived_does_not_go_again_because_the_state_could_not_be_written(self, bench: Bench) -> None:
        store(bench.log, envelopes(2))
        there = Recipient()
        worker = bench.worker(there)
        connection = bench.state._file._connection
        assert connection is not None
        connection.execute(
            "CREATE TEMP TRIGGER full BEFORE UPDATE OF delivered ON destinations BEGIN SELECT RAISE(ABORT, 'full'); END"
        )
        with pytest.raises(UnusableState, match="full"):
            worker.step()
        with pytest.raises(UnusableState, match="full"):
            worker.step()
        connection.execute("DROP TRIGGER temp.full")
        bench.run(worker)
        assert there.attempts == [["m0", "m1"]]
        assert bench.state.position("There") == 2


class TestRetryWindow:
    def fail_for(self, bench: Bench, there: Recipient, *, hours: float, **settings: object) -> None:
        self.run_for(bench, bench.worker(there, retry_window=timedelta(hours=4), **settings), hours)

    def run_for(self, bench: Bench, worker: DestinationWorker, hours: float) -> None:
        for _ in range(int(hours * 60)):
            bench.run(worker)
            bench.clock.turn(minutes=1)

    def test_within_it_nothing_is_given_up(self, bench: Bench) -> None:
        store(bench.log, envelopes(3))
        self.fail_for(bench, Recipient(failing), hours=3.9)
        assert bench.dead == {}

    def test_what_is_older_dies_with_the_reason_and_what_is_younger_waits(self, bench: Bench) -> None:
        store(bench.log, envelopes(30))
        worker = bench.worker(Recipient(failing), batch_messages=4, retry_window=timedelta(hours=4))
        self.run_for(bench, worker, hours=2)
        store(bench.log, envelopes(30, first=30))
        self.run_for(bench, worker, hours=3)
        assert list(bench.dead) == [f"m{number}" for number in range(30)]
        assert bench.dead["m0"] == "not delivered within 4:00:00; last: down, with 1"

    def test_one_message_that_cannot_be_taken_dies_alone(self, bench: Bench) -> None:
        def behave(ids: list[str]) -> Sequence[MessageRefused]:
            return failing(ids) if "m5" in ids else ()

        store(bench.log, envelopes(8))
        there = Recipient(behave)
        self.fail_for(bench, there, hours=5)
        assert list(bench.dead) == ["m5"]
        assert there.taken == [f"m{number}" for number in (0, 1, 2, 3, 4, 6, 7)]

    def test_old_messages_are_given_the_window_too(self, bench: Bench) -> None:
        """A short failure of a destination must not cost messages that waited for another reason, such as an import."""
        store(bench.log, envelopes(3, received_at=NOON - timedelta(days=9)))
        self.fail_for(bench, Recipient(failing), hours=3.9)
        assert bench.dead == {}

    def test_it_counts_from_the_last_time_that_the_destination_worked(self, bench: Bench) -> None:
        there = Recipient()
        worker = bench.worker(there, retry_window=timedelta(hours=4))
        for first in (0, 1):
            store(bench.log, envelopes(1, first=first, received_at=NOON - timedelta(days=1)))
            there.behaviour = failing
            self.run_for(bench, worker, hours=3)
            there.behaviour = lambda _: ()
            self.run_for(bench, worker, hours=0.1)
        assert (there.taken, bench.dead) == (["m0", "m1"], {})

    def test_what_arrived_of_a_divided_batch_does_not_die_with_the_rest(self, bench: Bench) -> None:
        def behave(ids: list[str]) -> Sequence[MessageRefused]:
            if len(ids) > 2:
                raise PermanentError(detail="too many")
            return failing(ids) if "m2" in ids else ()

        store(bench.log, envelopes(4, received_at=NOON - timedelta(days=1)))
        there = Recipient(behave)
        bench.run(bench.worker(there, retry_window=timedelta()))
        assert there.taken[:2] == ["m0", "m1"]
        assert "m2" in bench.dead
        assert set(there.taken).isdisjoint(bench.dead)

    def test_a_replay_is_given_the_window_from_when_it_was_asked_for(self, bench: Bench) -> None:
        store(bench.log, envelopes(2))
        there = Recipient(failing)
        self.fail_for(bench, there, hours=5, start="newest")
        store(bench.log, envelopes(1, first=2))
        self.fail_for(bench, there, hours=5)
        assert "m2" in bench.dead
        bench.state.ask_for_replay("There", Selection(), last=2, now=bench.clock())
        self.fail_for(bench, there, hours=3.9)
        assert list(bench.dead) == ["m2"]


class TestSecondChances:
    def test_dead_letters_can_be_sent_once_more(self, bench: Bench) -> None:
        store(bench.log, envelopes(4))
        there = Recipient(refusing("m1", "m2"))
        worker = bench.worker(there)
        bench.run(worker)
        assert bench.state.retry_dead_letters("There", NOON) == 2
        there.behaviour = refusing("m2")
        bench.run(worker)
        assert there.taken == ["m0", "m3", "m1"]
        assert list(bench.dead) == ["m2"]
        attempts = len(there.attempts)
        bench.run(worker)
        assert len(there.attempts) == attempts, "the one that died again is left alone"

    def test_dead_letters_can_be_dropped(self, bench: Bench) -> None:
        store(bench.log, envelopes(4))
        bench.run(bench.worker(Recipient(refusing("m1", "m2"))))
        assert bench.state.drop_dead_letters("Elsewhere") == 0
        assert bench.state.drop_dead_letters("There") == 2
        assert bench.dead == {}

    def test_a_replay_sends_what_is_selected_up_to_when_it_was_asked_for(self, bench: Bench) -> None:
        store(bench.log, envelopes(4))
        store(bench.log, envelopes(4, first=4, received_at=NOON + timedelta(hours=1)))
        there = Recipient()
        worker = bench.worker(there)
        bench.run(worker)
        there.taken.clear()
        number = bench.state.ask_for_replay("There", Selection(since=NOON + timedelta(minutes=1)), last=7, now=NOON)
        bench.run(worker)
        assert there.taken == ["m4", "m5", "m6"]
        replay = bench.state.replay(number)
        assert replay is not None
        assert (replay.position, replay.sent, replay.refused, replay.finished_at) == (7, 3, 0, bench.clock())

    def test_a_replay_can_be_narrowed_to_a_user_a_call_and_a_time(self, bench: Bench) -> None:
        store(bench.log, envelopes(6))
        store(bench.log, envelopes(6, first=6, call="page"))
        store(bench.log, envelopes(6, first=12, received_at=NOON + timedelta(hours=1), call="page"))
        there = Recipient()
        worker = bench.worker(there, start="newest")
        selection = Selection(until=NOON + timedelta(minutes=1), call="page", user="user-1")
        bench.state.ask_for_replay("There", selection, last=18, now=NOON)
        bench.run(worker)
        assert there.taken == ["m7", "m10"]

    def test_a_replay_gives_a_destination_what_it_would_get_today(self, bench: Bench) -> None:
        """By `integrations`, by the source's choice and by `max_age`; the selection on receipt does not matter."""
        store(bench.log, envelopes(2, destinations=()))
        store(bench.log, envelopes(1, first=2, source="elsewhere"))
        (excluded,) = envelopes(1, first=3)
        payload = excluded.payload[:-1] + b',"integrations":{"There":false}}'
        excluded = msgspec.structs.replace(excluded, payload=payload)
        (old,) = envelopes(1, first=4)
        payload = old.payload.replace(b'"timestamp": "2026-01-31', b'"timestamp": "2026-01-29')
        old = msgspec.structs.replace(old, payload=payload)
        store(bench.log, [excluded, old])
        there = Recipient()
        worker = bench.worker(there, start="newest")
        bench.state.ask_for_replay("There", Selection(), last=5, now=NOON)
        bench.run(worker)
        assert there.taken == ["m0", "m1"]

    def test_a_replay_obeys_consent(self, bench: Bench) -> None:
        """A message that came before the destination needed consent is sent again only if it states consent."""
        some = envelopes(4)
        for number, granted in enumerate([b"true", b"false"]):
            context = b',"context":{"consent":{"categoryPreferences":{"Ads":%b}}}}' % granted
            some[number] = msgspec.structs.replace(some[number], payload=some[number].payload[:-1] + context)
        management = b',"context":{"locale":"de","consentManagement":{"deniedConsentIds":["Ads"]}}}'
        some[2] = msgspec.structs.replace(some[2], payload=some[2].payload[:-1] + management)
        store(bench.log, some)
        there = Recipient()
        needing = Destination(name="There", consent=ConsentRule(categories=["Ads"]))
        bench.feed = make_feed(SqliteLog(bench.log), SOURCES, [needing, Destination(name="Other")])
        worker = bench.worker(there, start="newest")
        bench.state.ask_for_replay("There", Selection(), last=4, now=NOON)
        bench.run(worker)
        assert there.taken == ["m0", "m3"]

    def test_a_replay_goes_on_where_it_was(self, bench: Bench) -> None:
        store(bench.log, envelopes(6))
        first = bench.worker(Recipient(), start="newest", batch_messages=2)
        bench.state.ask_for_replay("There", Selection(), last=6, now=NOON)
        first.step()
        second = Recipient()
        bench.run(bench.worker(second))
        assert second.taken == ["m2", "m3", "m4", "m5"]

    def test_a_second_chance_that_fails_holds_up_nothing_else_and_ends(self, bench: Bench) -> None:
        """It has its own count of failures: incoming messages go on, and do not make it retry forever."""

        def behave(ids: list[str]) -> Sequence[MessageRefused]:
            return failing(ids) if "m0" in ids else ()

        store(bench.log, envelopes(1))
        there = Recipient(refusing("m0"))
        worker = bench.worker(there, retry_window=timedelta(hours=4))
        bench.run(worker)
        bench.state.retry_dead_letters("There", bench.clock())
        there.behaviour = behave
        for number in range(1, 5 * 60):
            store(bench.log, envelopes(1, first=number, received_at=bench.clock()))
            bench.run(worker)
            bench.clock.turn(minutes=1)
        assert there.taken == [f"m{number}" for number in range(1, 5 * 60)]
        (letter,) = bench.state.dead_letters()
        assert (letter.retried_at, letter.reason) == (None, "not delivered within 4:00:00; last: down, with 1")

    def test_what_comes_in_does_not_wait_for_a_replay(self, bench: Bench) -> None:
        store(bench.log, envelopes(6))
        there = Recipient()
        worker = bench.worker(there, batch_messages=1)
        bench.run(worker)
        there.taken.clear()
        bench.state.ask_for_replay("There", Selection(), last=6, now=NOON)
        worker.step()
        store(bench.log, envelopes(1, first=6))
        bench.run(worker)
        assert there.taken.index("m6") <= 2


@given(failures=st.integers(1, 10**6), failing_for=st.floats(0, 1e9), jitter=st.floats(0, 1))
def test_a_wait_is_bounded_by_what_has_passed_and_by_a_minute(failures: int, failing_for: float, jitter: float) -> None:
    wait = backoff_seconds(failures, failing_seconds=failing_for, jitter=jitter)
    assert 0 <= wait <= min(LONGEST_SECONDS, max(FIRST_SECONDS, failing_for))


def test_the_ceiling_of_a_wait_doubles() -> None:
    waits = [backoff_seconds(failures, failing_seconds=1e6, jitter=1.0) for failures in range(1, 9)]
    assert waits == [0.5, 1, 2, 4, 8, 16, 32, 60]


@given(st.floats(allow_nan=False))
def test_a_wait_that_is_asked_for_is_bounded(asked: float) -> None:
    assert 0 <= capped_retry_after(asked) <= 3_600


def test_order_holds_for_each_user_whatever_fails(bench: Bench) -> None:
    """Everything arrives at least once, and the first deliveries of each user are in the order of the log."""
    store(bench.log, envelopes(60, users=5))
    turn = 0

    def behave(ids: list[str]) -> Sequence[MessageRefused]:
        nonlocal turn
        turn += 1
        if turn % 3 == 1:
            raise RetryLater(detail="down")
        if turn % 3 == 2 and len(ids) > 3:
            raise PermanentError(detail="too many")
        return ()

    there = Recipient(behave)
    worker = bench.worker(there, batch_messages=8)
    while len(there.taken) < 60:
        bench.run(worker)
        bench.clock.turn(minutes=1)
    seen: dict[int, list[int]] = defaultdict(list)
    for number in (int(message_id[1:]) for message_id in dict.fromkeys(there.taken)):
        seen[number % 5].append(number)
    assert {user: sorted(numbers) for user, numbers in seen.items()} == seen
    assert len(set(there.taken)) == 60
