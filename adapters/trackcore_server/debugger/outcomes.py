"""The delivery of a single message: whether each of its destinations has it, and the retry of its dead letter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime

import attrs
from trackcore_delivery import State

from trackcore import JSONObject, Mark, StoredMessage, format_timestamp
from trackcore_server.config.configuration import Configuration
from trackcore_server.storage.backends import backend_of
from trackcore_server.storage.delivery_state import open_state
from trackcore_server.storage.log_changes import confirmed

MOST_DEAD = 1_000
"""How many dead letters of a destination are listed, the newest."""


@attrs.frozen
class DeliveryOutcomes:
    """Reads what the state of delivery knows of single messages."""

    _configuration: Configuration

    def of(self, stored: StoredMessage, now: datetime) -> list[JSONObject]:
        """Return `{destination, outcome, ...}` for each destination that was selected when the message came.

        The outcome is `waiting` (with `failingSince`, `error` and `nextTryAt` if the destination fails), `held`
        (`behind` how many messages of its user, with `lastError`), `delivered` (with `at` and `attempts`,
        if known), `dead_letter` (with `reason`, `at` and `retriedAt`),
        `settled` (delivered, or a dead letter that was deleted), or `not_delivered` if this server only stores what is
        for the destination.
        """
        kinds = {destination.name for destination in self._configuration.delivered}
        chosen = [name for name in stored.destinations if name in kinds]
        others: list[JSONObject] = [
            {"destination": name, "outcome": "not_delivered"} for name in stored.destinations if name not in kinds
        ]
        if not chosen:
            return others
        with self._state() as state:
            return [{"destination": name, **self._outcome(state, name, stored, now)} for name in chosen] + others

    def retry(self, destination: str, stored: StoredMessage, now: datetime) -> bool:
        """Request that the dead letter of a message is sent again; return whether there is one."""
        with self._state() as state:
            return state.retry_dead_letter(destination, stored.seq, stored.message["messageId"], now)

    def dead_letters(self, destination: str) -> Sequence[int]:
        """Return the numbers of the messages that are dead letters of a destination, at most `MOST_DEAD`."""
        if destination not in (one.name for one in self._configuration.delivered):
            return ()
        with self._state() as state:
            return state.dead_positions(destination, MOST_DEAD)

    def settled_up_to(self, destination: str) -> int:
        """Return the number of the message up to which nothing waits for a destination."""
        if destination not in (one.name for one in self._configuration.delivered):
            return 0
        with self._state() as state:
            return self._position(state, destination)

    @contextmanager
    def _state(self) -> Iterator[State]:
        with closing(open_state(self._configuration, backend_of(self._configuration))) as state:
            yield state

    def _position(self, state: State, destination: str) -> int:
        return confirmed(backend_of(self._configuration).feed(), state.mark(destination) or Mark())[0]

    def _outcome(self, state: State, name: str, stored: StoredMessage, now: datetime) -> JSONObject:
        dead = state.dead_letter(name, stored.seq, stored.message["messageId"])
        if dead is not None:
            retried_at = None if dead.retried_at is None else _text(dead.retried_at)
            return {"outcome": "dead_letter", "reason": dead.reason, "at": _text(dead.died_at), "retriedAt": retried_at}
        behind = state.held_behind(name, stored.seq)
        if behind is not None:
            return {"outcome": "held", "behind": behind} | self._failure(state, name, now)
        if self._position(state, name) < stored.seq:
            return {"outcome": "waiting"} | self._failure(state, name, now)
        settled = state.settlement(name, stored.seq)
        if settled is None:
            return {"outcome": "delivered"}
        outcome = "settled" if settled.refused else "delivered"
        return {"outcome": outcome, "at": _text(settled.settled_at), "attempts": settled.attempts}

    @staticmethod
    def _failure(state: State, name: str, now: datetime) -> JSONObject:
        status = state.status(name, now)
        if status is None or (status.failing_since is None and status.last_error is None):
            return {}
        times = {"failingSince": status.failing_since, "nextTryAt": status.next_try_at}
        known: JSONObject = {"lastError": status.last_error}
        known |= {field: _text(time) for field, time in times.items() if time is not None}
        return known if status.failing_since is None else known | {"error": status.last_error}


def _text(time: datetime) -> str:
    return format_timestamp(time.astimezone(UTC))
