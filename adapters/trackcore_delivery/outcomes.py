"""The outcome of single messages: when each was delivered, or why it was not, as far as the state of delivery knows.

Messages are settled in batches, so the time and the attempts of a message are those of its batch, unless it was sent
by itself: after its user was held, or as a dead letter that was retried.  Replays change no outcome.
"""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any

import attrs

from trackcore_delivery import state_rows
from trackcore_delivery.results import INCOMING, REPLAY, DeadLetter, DeliveryResult

MOST_DELIVERIES = 50_000
"""How many batches and single messages of all destinations have a time."""

_ONE_DEAD = f"SELECT {state_rows.DEAD_COLUMNS} FROM dead_letters WHERE destination = ? AND position = ?"


@attrs.frozen(kw_only=True)
class Settlement:
    """When a message was settled, in which attempt, and how many of its batch became dead letters."""

    settled_at: datetime
    attempts: int
    refused: int


class StoredOutcomes(ABC):
    """The part of the state about the outcomes of single messages, each named by destination and position."""

    @abstractmethod
    def _read(self, query: str, *values: object) -> list[tuple[Any, ...]]: ...

    @abstractmethod
    def _transaction(self) -> AbstractContextManager[sqlite3.Connection]: ...

    def settlement(self, destination: str, position: int) -> Settlement | None:
        """Return when a message was settled; None for one that was not, or so long ago that nothing is known."""
        for is_single in (1, 0):
            rows = self._read(_DELIVERY, destination, is_single, position)
            if rows and rows[0][0] <= position:
                settled_at = datetime.fromtimestamp(rows[0][1], UTC)
                return Settlement(settled_at=settled_at, attempts=rows[0][2], refused=rows[0][3])
        return None

    def dead_letter(self, destination: str, position: int, message_id: str) -> DeadLetter | None:
        """Return the dead letter of a message, None if there is none."""
        rows = self._read(f"{_ONE_DEAD} AND message_id = ? ORDER BY id DESC LIMIT 1", destination, position, message_id)
        return state_rows.as_dead_letter(rows[0]) if rows else None

    def held_behind(self, destination: str, position: int) -> int | None:
        """Return behind how many messages of its user a message is held back; None if it is not held.

        Behind none is the message for which the destination fails.
        """
        rows = self._read(_HELD, position, destination)
        return rows[0][0] if rows else None

    def dead_positions(self, destination: str, most: int) -> Sequence[int]:
        """Return the positions of the newest dead letters of a destination, at most so many."""
        return [position for (position,) in self._read(_DEAD_POSITIONS, destination, most)]

    def retry_dead_letter(self, destination: str, position: int, message_id: str, now: datetime) -> bool:
        """Request that the dead letter of a message is sent again; return whether there is one."""
        with self._transaction() as connection:
            values = now.timestamp(), destination, position, message_id
            return connection.execute(_RETRY, values).rowcount > 0


def note_delivery(
    connection: sqlite3.Connection, destination: str, result: DeliveryResult, queue: str, *, after: int | None
) -> None:
    """Store when the messages of a result were settled.  Those of the feed follow the position `after`.

    To be called before the failed attempts of the queue are forgotten.
    """
    if queue == REPLAY or not result.messages:
        return
    (failed,) = connection.execute(_FAILED, (destination, queue)).fetchone()
    fact = result.now.timestamp(), failed + 1
    if queue == INCOMING:
        first = 0 if after is None else after + 1
        rows = [(destination, 0, first, result.messages[-1].position, *fact, len(result.refused))]
    else:
        settled = [(index, one.position) for index, one in enumerate(result.messages) if index not in result.held]
        rows = [(destination, 1, place, place, *fact, int(index in result.refused)) for index, place in settled]
    connection.executemany(_NOTE, rows)
    connection.execute(_DROP, (MOST_DELIVERIES,))


def forget_deliveries(connection: sqlite3.Connection, destination: str, after: int) -> None:
    """Delete what is known of the positions after one: they are those of another log."""
    connection.execute("DELETE FROM deliveries WHERE destination = ? AND last > ?", (destination, after))


_DELIVERY = """
    SELECT first, settled_at, attempts, refused FROM deliveries
    WHERE destination = ? AND is_single = ? AND last >= ? ORDER BY last, id DESC LIMIT 1
"""
_HELD = """
    SELECT (SELECT count(*) FROM held_messages AS other WHERE other.holder = held.holder AND other.number < held.number)
    FROM held_messages AS held JOIN held_users ON held_users.id = held.holder
    WHERE position = ? AND destination = ? LIMIT 1
"""
_DEAD_POSITIONS = "SELECT position FROM dead_letters WHERE destination = ? ORDER BY id DESC LIMIT ?"
_RETRY = "UPDATE dead_letters SET retried_at = ? WHERE destination = ? AND position = ? AND message_id = ?"
_FAILED = "SELECT coalesce(sum(failures), 0) FROM attempts WHERE destination = ? AND lane IN (?, '')"
_DROP = "DELETE FROM deliveries WHERE id <= (SELECT max(id) FROM deliveries) - ?"
_NOTE = """
    INSERT INTO deliveries (destination, is_single, first, last, settled_at, attempts, refused)
    VALUES (?, ?, ?, ?, ?, ?, ?)
"""
