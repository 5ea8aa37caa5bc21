"""The outcome of single messages, in the state of delivery."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import attrs
import pytest
from delivery_helpers import NOON, fed
from trackcore_delivery import DeliveryResult, Settlement, State, outcomes
from trackcore_delivery.results import INCOMING, Attempts

from trackcore import LogChanged, Mark


@pytest.fixture(name="state")
def _state(tmp_path: Path) -> Iterator[State]:
    with closing(State(tmp_path / "state.db")) as state:
        state.begin("There", 0)
        yield state


def result(count: int, *, first: int = 0, refused: int = 0, held: tuple[int, ...] = ()) -> DeliveryResult:
    dead = dict.fromkeys(range(refused), "no")
    return DeliveryResult(messages=fed(count, first=first), refused=dead, held=frozenset(held), now=NOON)


def settled(*, attempts: int = 1, refused: int = 0) -> Settlement:
    return Settlement(settled_at=NOON, attempts=attempts, refused=refused)


class TestDelivered:
    def test_a_message_has_the_time_and_the_attempts_of_its_batch(self, state: State) -> None:
        state.settle("There", result(3))
        failed = Attempts(queue=INCOMING, failures=2, seconds=1.0, marks="[]", paused_at=0.0, pause=1.0)
        state.fail("There", "down", now=NOON, attempts=[failed], failures=2, next_try_at=NOON)
        state.settle("There", result(3, first=3))
        found = [state.settlement("There", position) for position in (1, 3, 4, 6, 7)]
        assert found == [settled(), settled(), settled(attempts=3), settled(attempts=3), None]
        assert state.settlement("Elsewhere", 1) is None

    def test_messages_that_were_skipped_belong_to_the_batch_after_them(self, state: State) -> None:
        state.settle("There", result(1, first=9))
        assert state.settlement("There", 3) == settled()

    def test_the_newest_have_a_time(self, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(outcomes, "MOST_DELIVERIES", 2)
        for number in range(4):
            state.settle("There", result(1, first=number))
        assert [state.settlement("There", position) for position in (1, 2, 3, 4)] == [None, None, settled(), settled()]

    def test_what_was_settled_in_another_log_is_forgotten(self, state: State) -> None:
        state.settle("There", result(3))
        state.settle("There", result(3, first=3))
        state.change_log("There", LogChanged(mark=Mark(position=6), found=Mark(position=3), end=3), NOON)
        assert state.settlement("There", 3) == settled()
        assert state.settlement("There", 4) is None


class TestDeadLetters:
    def test_one_has_its_reason_until_its_retry_arrives(self, state: State) -> None:
        state.settle("There", result(3, refused=1))
        (message, *_) = fed(3)
        dead = state.dead_letter("There", message.position, message.message_id)
        assert dead is not None
        assert (dead.reason, dead.retried_at) == ("no", None)
        assert state.dead_letter("There", message.position, "of another log") is None
        assert state.dead_positions("There", 10) == [message.position]

        later = NOON + timedelta(hours=1)
        assert state.retry_dead_letter("There", message.position, message.message_id, later)
        assert not state.retry_dead_letter("There", message.position, "of another log", later)
        asked = state.dead_letter("There", message.position, message.message_id)
        assert asked == attrs.evolve(dead, retried_at=later)
        state.settle_retried("There", [dead.id], result(1))
        assert state.dead_letter("There", message.position, message.message_id) is None
        assert state.settlement("There", message.position) == settled()

    def test_one_that_was_deleted_leaves_a_doubt(self, state: State) -> None:
        """Nothing tells which of a batch it was, so the whole batch says that one was refused."""
        state.settle("There", result(3, refused=1))
        state.drop_dead_letters("There")
        assert state.settlement("There", 3) == settled(refused=1)


class TestHeld:
    def test_a_held_message_knows_how_many_are_before_it(self, state: State) -> None:
        same = [one._replace(user="u") for one in fed(4)]
        held = DeliveryResult(messages=same, refused={}, held=frozenset({1, 2, 3}), now=NOON)
        state.settle("There", held)
        assert [state.held_behind("There", position) for position in (1, 2, 3, 4)] == [None, 0, 1, 2]

    def test_a_held_message_is_delivered_by_itself(self, state: State) -> None:
        state.settle("There", result(2, held=(1,)))
        assert [state.held_behind("There", position) for position in (1, 2)] == [None, 0]
        (user,) = state.held_users("There")
        numbers = [number for number, _ in state.held_messages(user, limit=9)]
        one = attrs.evolve(result(2), messages=fed(2)[1:], now=NOON + timedelta(minutes=5))
        state.settle_held("There", user, numbers, one)
        assert state.held_behind("There", 2) is None
        found = state.settlement("There", 2)
        assert found == Settlement(settled_at=NOON + timedelta(minutes=5), attempts=1, refused=0)
