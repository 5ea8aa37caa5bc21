"""Wall clocks jump: a wait is bounded by its own maximum, and a window is counted by the monotonic clock."""

from collections.abc import Sequence
from datetime import timedelta

import pytest
from delivery_helpers import NOON, Bench, Recipient, envelopes, store
from hypothesis import given, settings
from hypothesis import strategies as st
from trackcore_delivery import DeliveryResult, MessageRefused, RetryLater, State
from trackcore_delivery.backoff import LONGEST_RETRY_AFTER_SECONDS
from trackcore_delivery.destination_worker import DestinationWorker
from trackcore_delivery.retry_window import Place, RetryWindow

WINDOW = timedelta(hours=4)
JUMPS = [-400 * 86_400, -86_400, -1, 1, 5 * 3_600, 400 * 86_400]


def failing(_: list[str]) -> Sequence[MessageRefused]:
    raise RetryLater(detail="down")


def pass_time(bench: Bench, worker: DestinationWorker, *, minutes: float) -> None:
    for _ in range(int(minutes)):
        bench.run(worker)
        bench.clock.turn(minutes=1)
    bench.run(worker)


class TestWaits:
    """A stored time in the future counts as now; within a process no wait depends on a wall clock."""

    @pytest.mark.parametrize("is_restarted", [False, True])
    def test_a_message_that_came_in_the_future_waits_for_its_batch_no_longer_than_others(
        self, bench: Bench, *, is_restarted: bool
    ) -> None:
        store(bench.log, envelopes(3, received_at=NOON + timedelta(days=1)))
        there = Recipient()
        worker = bench.worker(there, batch_wait=timedelta(seconds=5))
        bench.run(worker)
        bench.clock.turn(seconds=4)
        bench.run(worker)
        assert there.attempts == []
        if is_restarted:
            worker = bench.worker(there, batch_wait=timedelta(seconds=5))
            bench.run(worker)
            bench.clock.turn(seconds=4)
        bench.clock.turn(seconds=1)
        bench.run(worker)
        assert there.taken == ["m0", "m1", "m2"]

    @pytest.mark.parametrize("jump", JUMPS)
    @pytest.mark.parametrize("is_restarted", [False, True])
    def test_the_wait_after_a_failure_ends_in_time(self, bench: Bench, jump: float, *, is_restarted: bool) -> None:
        store(bench.log, envelopes(3))
        there = Recipient(failing)
        worker = bench.worker(there)
        pass_time(bench, worker, minutes=30)
        bench.clock.jump(seconds=jump)
        there.behaviour = lambda _: ()
        if is_restarted:
            worker = bench.worker(there)
        pass_time(bench, worker, minutes=2)
        assert there.taken == ["m0", "m1", "m2"]

    @pytest.mark.parametrize("jump", [-86_400, 1, 86_400])
    def test_a_wait_that_was_asked_for_is_not_shortened_by_a_jump(self, bench: Bench, jump: float) -> None:
        def behave(_: list[str]) -> Sequence[MessageRefused]:
            raise RetryLater(detail="busy", retry_after=3_000)

        store(bench.log, envelopes(1))
        there = Recipient(behave)
        worker = bench.worker(there)
        bench.run(worker)
        bench.clock.jump(seconds=jump)
        pass_time(bench, worker, minutes=49)
        assert len(there.attempts) == 1
        pass_time(bench, worker, minutes=2)
        assert len(there.attempts) == 2


class TestRetryWindow:
    """Nothing becomes a dead letter before its retry window has really passed, and not much later either."""

    @pytest.mark.parametrize("is_restarted", [False, True])
    def test_a_jump_of_the_clock_is_no_time_that_has_passed(self, bench: Bench, *, is_restarted: bool) -> None:
        store(bench.log, envelopes(5))
        there = Recipient(failing)
        worker = bench.worker(there, retry_window=WINDOW)
        pass_time(bench, worker, minutes=10)
        bench.clock.jump(hours=5)
        if is_restarted:
            worker = bench.worker(there, retry_window=WINDOW)
        pass_time(bench, worker, minutes=3.5 * 60)
        assert bench.dead == {}

    def test_what_came_late_has_its_window_though_the_clock_jumps(self, bench: Bench) -> None:
        """A message's own time is not trusted either: its place shows for how long it has waited."""
        store(bench.log, envelopes(5))
        there = Recipient(failing)
        worker = bench.worker(there, retry_window=WINDOW, batch_messages=1)
        pass_time(bench, worker, minutes=3.8 * 60)
        store(bench.log, envelopes(5, first=5, received_at=bench.clock()))
        bench.clock.jump(days=1)
        pass_time(bench, worker, minutes=3.9 * 60)
        assert list(bench.dead) == [f"m{number}" for number in range(5)]

    def test_a_clock_that_is_put_back_does_not_make_it_longer(self, bench: Bench) -> None:
        store(bench.log, envelopes(5))
        there = Recipient(failing)
        worker = bench.worker(there, retry_window=WINDOW)
        pass_time(bench, worker, minutes=10)
        bench.clock.jump(days=-400)
        pass_time(bench, worker, minutes=5 * 60)
        assert len(bench.dead) == 5

    def test_restarts_do_not_begin_it_again(self, bench: Bench) -> None:
        """Even if a process lives for less than a wait, the planned waits are counted."""
        store(bench.log, envelopes(5))
        there = Recipient(failing)
        for _ in range(int(4.5 * 60)):
            bench.run(bench.worker(there, retry_window=WINDOW))
            bench.clock.turn(minutes=1)
        assert len(bench.dead) == 5

    def test_time_in_which_nobody_tried_is_not_counted(self, bench: Bench) -> None:
        store(bench.log, envelopes(5))
        there = Recipient(failing)
        pass_time(bench, bench.worker(there, retry_window=WINDOW), minutes=60)
        bench.clock.turn(days=3)
        pass_time(bench, bench.worker(there, retry_window=WINDOW), minutes=2.5 * 60)
        assert bench.dead == {}

    @given(st.lists(st.tuples(st.floats(0, 3_600), st.integers(0, 50)), min_size=1, max_size=60))
    def test_a_message_expires_once_it_has_waited_for_the_window_and_a_sixteenth(
        self, steps: list[tuple[float, int]]
    ) -> None:
        window, ticks, end = RetryWindow(), 0.0, 0
        since = {}
        for seconds, count in steps:
            ticks += seconds
            for number in range(end, end + count):
                since[number + 1] = ticks
            end += count
            window.count(ticks, WINDOW, lambda end=end: {"": end} if end else {})  # type: ignore[misc]
            restored = RetryWindow.from_text(window.seconds, window.text(), counted_at=ticks)
            for number, begun in since.items():
                assert restored.is_over(Place("", number), WINDOW) == window.is_over(Place("", number), WINDOW)
                if window.is_over(Place("", number), WINDOW):
                    assert ticks - begun >= WINDOW.total_seconds() - 1e-6


@settings(max_examples=40)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(JUMPS + [0] * 6),
            st.sampled_from(["ok", "500", "down", "asks"]),
            st.booleans(),
            st.integers(1, 20),
        ),
        max_size=14,
    )
)
def test_whatever_the_clock_does_all_arrives_and_nothing_dies_before_its_window(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, str, bool, int]]
) -> None:
    """For any jumps, failures and restarts within less than the window.

    Once the destination is healthy everything arrives within the longest possible wait, and nothing has become a dead
    letter.
    """
    bench = Bench(tmp_path_factory.mktemp("clock"))
    state = "ok"

    def behave(_: list[str]) -> Sequence[MessageRefused]:
        if state == "asks":
            raise RetryLater(detail="busy", retry_after=1_800)
        if state != "ok":
            raise RetryLater(detail=state, of_destination=state == "down")
        return ()

    there = Recipient(behave)
    worker = bench.worker(there, retry_window=WINDOW, batch_wait=timedelta(seconds=30), batch_messages=4)
    for turn, (jump, state, is_restarted, minutes) in enumerate(steps):  # noqa: B007
        store(bench.log, envelopes(3, first=3 * turn, received_at=bench.clock()))
        bench.clock.jump(seconds=jump)
        if is_restarted:
            worker = bench.worker(there, retry_window=WINDOW, batch_wait=timedelta(seconds=30), batch_messages=4)
        pass_time(bench, worker, minutes=minutes)
    state = "ok"
    store(bench.log, envelopes(3, first=3 * len(steps), received_at=bench.clock()))
    pass_time(bench, worker, minutes=32)
    assert bench.dead == {}
    assert list(dict.fromkeys(there.taken)) == [f"m{number}" for number in range(3 * len(steps) + 3)]
    bench.state.close()


class TestShown:
    """The stored times that are shown are bounded too."""

    def test_times_of_a_clock_that_was_ahead_are_shown_as_now(self, bench: Bench) -> None:
        bench.clock.jump(days=1)
        store(bench.log, envelopes(1))
        worker = bench.worker(Recipient(failing))
        pass_time(bench, worker, minutes=10)
        bench.clock.jump(days=-1)
        status = bench.state.status("There", bench.clock())
        assert status is not None
        assert status.failing_since == status.last_error_at == bench.clock()
        assert status.next_try_at is not None
        assert status.next_try_at <= bench.clock() + timedelta(seconds=LONGEST_RETRY_AFTER_SECONDS)

    @pytest.mark.parametrize("days", [-1, 1])
    def test_a_rate_of_another_day_is_none(self, bench: Bench, days: int) -> None:
        state: State = bench.state
        state.begin("There", 0)
        store(bench.log, envelopes(600))
        page = bench.feed.read("There", after=0, count=600, size=10**6)
        state.settle("There", DeliveryResult(messages=page.messages, refused={}, now=NOON))
        before = state.status("There", NOON)
        after = state.status("There", NOON + timedelta(days=days))
        assert before is not None
        assert after is not None
        assert (before.rate, after.rate) == (10.0, 0.0)
