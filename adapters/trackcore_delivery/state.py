"""The state of delivery: how far each destination has come, what failed, and what is to be sent once more.

One process writes what becomes of messages (see `owner`); commands of other processes read it, and leave their wishes
in it: dead letters to retry, replays.  Each `settle_...` is one transaction, so that what is known of a batch is known
whole: where the destination stands, what it refused, and the counters.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trackcore_sqlitefile import SharedConnection

from trackcore.limits import MEBIBYTE
from trackcore.marks import Mark, encode_mark
from trackcore_delivery import state_rows
from trackcore_delivery.backoff import LONGEST_RETRY_AFTER_SECONDS
from trackcore_delivery.feed import FedMessage, Selection
from trackcore_delivery.results import (
    INCOMING,
    REPLAY,
    RETRY,
    Attempts,
    DeadLetter,
    DeliveryResult,
    DestinationStatus,
    HeldUser,
    Replay,
)
from trackcore_delivery.state_file import UnusableState, open_state_file
from trackcore_delivery.state_marks import StateOfMarks

_RATE_SECONDS = 60.0
"""Over how long the rate is averaged: what was sent counts for less and less as it lies further back."""

_RECORD_OVERHEAD_BYTES = 200
_REASON_CHARS = 500


class State(StateOfMarks):
    """The state file, opened.  Threads share it, and so do the processes of a fork, each by a connection of its own.

    Args:
        path: the file.
        dead_letter_bytes: how much is kept of the dead letters of each destination before the oldest are dropped.
        must_exist: do not make the file.

    Raises:
        UnusableState: from every method, when the file cannot be read or written.
    """

    def __init__(self, path: Path, *, dead_letter_bytes: int = 64 * MEBIBYTE, must_exist: bool = False) -> None:
        self.path = path
        self._dead_letter_bytes = dead_letter_bytes
        self._must_exist = must_exist
        self._is_closed = False
        self._file = SharedConnection(self._open)
        with self._told(), self._file.use():
            self._must_exist = True  # a fork closes the file; one that is gone by then is not made anew

    def close(self) -> None:
        """Close the file."""
        self._is_closed = True
        self._file.close()

    # How far a destination has come

    def position(self, destination: str) -> int | None:
        """Give the position up to which everything is settled; None for a destination never seen."""
        rows = self._read("SELECT position FROM destinations WHERE name = ?", destination)
        return rows[0][0] if rows else None

    def begin(self, destination: str, position: int, mark: Mark | None = None) -> None:
        """Let a destination begin after a position, unless it has begun already."""
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO destinations (name, position, mark) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                (destination, position, encode_mark(mark)),
            )

    # What became of messages

    def settle(self, destination: str, settled: DeliveryResult, mark: Mark | None = None) -> None:
        """Settle messages of the feed: the destination stands behind the last of them, of which this is the mark."""
        with self._transaction() as connection:
            position = settled.messages[-1].position
            connection.execute(
                "UPDATE destinations SET position = ?, mark = ? WHERE name = ?",
                (position, encode_mark(mark), destination),
            )
            self._count(connection, destination, settled, INCOMING)
            self._dead_letter(connection, destination, settled)
            state_rows.hold(connection, destination, settled)

    def settle_held(self, destination: str, user: HeldUser, numbers: Sequence[int], settled: DeliveryResult) -> None:
        """Settle messages of a held user, who is released with the last of them."""
        with self._transaction() as connection:
            self._count(connection, destination, settled, user.lane)
            self._dead_letter(connection, destination, settled)
            state_rows.release(connection, destination, user, numbers)

    def settle_retried(self, destination: str, ids: Sequence[int], settled: DeliveryResult) -> None:
        """Settle dead letters that were sent once more: those that arrived are gone, the others stay dead."""
        with self._transaction() as connection:
            self._count(connection, destination, settled, RETRY)
            state_rows.delete_dead(connection, destination, ids)
            self._dead_letter(connection, destination, settled)

    def settle_replay(self, replay: Replay, settled: DeliveryResult) -> None:
        """Settle messages that were sent again by a replay."""
        with self._transaction() as connection:
            connection.execute(
                "UPDATE replays SET position = ?, sent = sent + ?, refused = refused + ? WHERE id = ?",
                (settled.messages[-1].position, settled.delivered, len(settled.refused), replay.id),
            )
            self._count(connection, replay.destination, settled, REPLAY)
            self._dead_letter(connection, replay.destination, settled)

    def fail(
        self,
        destination: str,
        detail: str,
        *,
        now: datetime,
        attempts: Sequence[Attempts],
        failures: int | None = None,
        next_try_at: datetime | None = None,
    ) -> None:
        """Note that an attempt failed, why, and when the next one is due.

        Without `failures` the destination as such is not failing: the attempt was that of a held user.
        """
        time = now.timestamp()
        with self._transaction() as connection:
            connection.execute(
                "UPDATE destinations SET last_error = ?, last_error_at = ? WHERE name = ?",
                (detail[:_REASON_CHARS], time, destination),
            )
            if failures is not None and next_try_at is not None:
                connection.execute(
                    "UPDATE destinations SET failures = ?, failing_since = min(coalesce(failing_since, ?), ?),"
                    " next_try_at = ? WHERE name = ?",
                    (failures, time, time, next_try_at.timestamp(), destination),
                )
            state_rows.note_attempts(connection, destination, attempts)

    def attempts(self, destination: str) -> Mapping[str, Attempts]:
        """Return how the attempts of each lane have failed, of those that fail."""
        return {row[0]: state_rows.as_attempts(row) for row in self._read(state_rows.ATTEMPTS, destination)}

    # Held users

    def held_users(self, destination: str) -> list[HeldUser]:
        """Return the users whose messages are held back from a destination."""
        return list(map(state_rows.as_held_user, self._read(state_rows.HELD_USERS, destination)))

    def held_messages(self, user: HeldUser, *, limit: int) -> list[tuple[int, FedMessage]]:
        """Return the first messages of a held user, each with the number by which it is settled."""
        return list(map(state_rows.as_held_message, self._read(state_rows.HELD_MESSAGES, user.id, limit)))

    def last_held(self, user: HeldUser) -> int:
        """Return the number of the last message of a held user, 0 when none is held."""
        return int(self._read(state_rows.LAST_HELD, user.id)[0][0])

    def standing(self, destination: str, now: datetime) -> DestinationStatus | None:
        """Tell how a destination is doing; None for one that never began."""
        rows = self._read(
            "SELECT name, position, delivered, delivered_at, rate, rated_at, failures, failing_since, next_try_at,"
            " last_error, last_error_at, (SELECT count(*) FROM dead_letters WHERE destination = name), dead_dropped,"
            " (SELECT count(*) FROM held_users WHERE destination = name), (SELECT count(*) FROM held_messages"
            " JOIN held_users ON id = holder WHERE destination = name) FROM destinations WHERE name = ?",
            destination,
        )
        if not rows:
            return None
        name, position, delivered, delivered_at, rate, rated_at, failures, *times, dead, dropped, users, held = rows[0]
        failing_since, next_try_at, last_error, last_error_at = times
        return DestinationStatus(
            name=name,
            position=position,
            delivered=delivered,
            delivered_at=_past(delivered_at, now),
            rate=_faded(rate, now.timestamp() - rated_at),
            failures=failures,
            failing_since=_past(failing_since, now),
            next_try_at=_due(next_try_at, now),
            last_error=last_error,
            last_error_at=_past(last_error_at, now),
            dead_letters=dead,
            dead_dropped=dropped,
            held_users=users,
            held_messages=held,
        )

    def names(self) -> list[str]:
        """Name the destinations that have begun."""
        return [name for (name,) in self._read("SELECT name FROM destinations ORDER BY name")]

    # Dead letters

    def dead_letters(
        self, destination: str | None = None, *, after: int = 0, limit: int = 1_000, to_retry: bool = False
    ) -> list[DeadLetter]:
        """Give dead letters, oldest first: of one destination or of all, or only those that wait to be retried."""
        condition, values = _of_destination(destination)
        asked = " AND retried_at IS NOT NULL" if to_retry else ""
        query = f"SELECT {state_rows.DEAD_COLUMNS} FROM dead_letters WHERE {condition} AND id > ?{asked}"
        rows = self._read(f"{query} ORDER BY id LIMIT ?", *values, after, limit)
        return list(map(state_rows.as_dead_letter, rows))

    def retry_dead_letters(self, destination: str | None, now: datetime) -> int:
        """Ask for the dead letters to be sent once more, and give how many there are."""
        condition, values = _of_destination(destination)
        with self._transaction() as connection:
            return connection.execute(
                f"UPDATE dead_letters SET retried_at = ? WHERE {condition}", (now.timestamp(), *values)
            ).rowcount

    def drop_dead_letters(self, destination: str | None) -> int:
        """Delete the dead letters, and give how many there were."""
        condition, values = _of_destination(destination)
        with self._transaction() as connection:
            connection.execute(
                f"UPDATE destinations SET dead_bytes = 0 WHERE {condition.replace('destination', 'name')}", values
            )
            return connection.execute(f"DELETE FROM dead_letters WHERE {condition}", values).rowcount

    # Replays

    def ask_for_replay(
        self, destination: str, selection: Selection, *, last: int, now: datetime, mark: Mark | None = None
    ) -> int:
        """Ask for messages of the past to be sent again, and give the number of the replay; the mark is of the last."""
        since, until = (None if time is None else time.timestamp() for time in (selection.since, selection.until))
        asked_at = now.timestamp()
        with self._transaction() as connection:
            number = connection.execute(
                "INSERT INTO replays (destination, asked_at, since, until, call, user, last, mark)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (destination, asked_at, since, until, selection.call, selection.user, last, encode_mark(mark)),
            ).lastrowid
        assert number is not None
        return number

    def replay(self, number: int) -> Replay | None:
        """Give a replay by its number."""
        rows = self._read(f"SELECT {state_rows.REPLAY_COLUMNS} FROM replays WHERE id = ?", number)
        return state_rows.as_replay(rows[0]) if rows else None

    def next_replay(self, destination: str) -> Replay | None:
        """Give the first replay for a destination that is not finished."""
        rows = self._read(
            f"SELECT {state_rows.REPLAY_COLUMNS} FROM replays WHERE destination = ? AND finished_at IS NULL"
            " ORDER BY id LIMIT 1",
            destination,
        )
        return state_rows.as_replay(rows[0]) if rows else None

    def advance_replay(self, replay: Replay, position: int, now: datetime) -> None:
        """Note that up to a position there was nothing to replay; at its last position a replay is finished."""
        finished_at = now.timestamp() if position >= replay.last else None
        with self._transaction() as connection:
            connection.execute(
                "UPDATE replays SET position = ?, finished_at = ? WHERE id = ?", (position, finished_at, replay.id)
            )

    # Inside a transaction

    def _count(self, connection: sqlite3.Connection, destination: str, settled: DeliveryResult, lane: str) -> None:
        if settled.answered:
            state_rows.forget_attempts(connection, destination, lane)
            connection.execute(
                "UPDATE destinations SET failures = 0, failing_since = NULL, next_try_at = NULL WHERE name = ?",
                (destination,),
            )
        if settled.delivered:
            now = settled.now.timestamp()
            rate, rated_at = connection.execute(
                "SELECT rate, rated_at FROM destinations WHERE name = ?", (destination,)
            ).fetchone()
            rate = _faded(rate, now - rated_at) + settled.delivered / _RATE_SECONDS
            connection.execute(
                "UPDATE destinations SET delivered = delivered + ?, delivered_at = ?, rate = ?, rated_at = ?"
                " WHERE name = ?",
                (settled.delivered, now, rate, now, destination),
            )

    def _dead_letter(self, connection: sqlite3.Connection, destination: str, settled: DeliveryResult) -> None:
        if not settled.refused:
            return
        now = settled.now.timestamp()
        added = 0
        last_reason = ""
        for index, reason in sorted(settled.refused.items()):
            message = settled.messages[index]
            size = len(message.payload) + _RECORD_OVERHEAD_BYTES
            last_reason = reason[:_REASON_CHARS]
            connection.execute(
                "INSERT INTO dead_letters (destination, position, source, user, call, message_id, received_at, died_at,"
                " reason, size, payload) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    destination,
                    *message[:5],
                    message.received_at.timestamp(),
                    now,
                    last_reason,
                    size,
                    message.payload,
                ),
            )
            added += size
        connection.execute(
            "UPDATE destinations SET dead_bytes = dead_bytes + ?, last_error = ?, last_error_at = ? WHERE name = ?",
            (added, last_reason, now, destination),
        )
        self._keep_bounded(connection, destination)

    def _keep_bounded(self, connection: sqlite3.Connection, destination: str) -> None:
        (excess,) = connection.execute(
            "SELECT dead_bytes - ? FROM destinations WHERE name = ?", (self._dead_letter_bytes, destination)
        ).fetchone()
        ids = []
        if excess > 0:
            for number, size in connection.execute(
                "SELECT id, size FROM dead_letters WHERE destination = ? ORDER BY id", (destination,)
            ):
                ids.append(number)
                excess -= size
                if excess <= 0:
                    break
            state_rows.delete_dead(connection, destination, ids)
            connection.execute(
                "UPDATE destinations SET dead_dropped = dead_dropped + ? WHERE name = ?", (len(ids), destination)
            )

    def _read(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with self._told(), self._file.use() as connection:
            return connection.execute(query, values).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._told(), self._file.use() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def _open(self) -> sqlite3.Connection:
        if self._is_closed:
            raise UnusableState(path=self.path, detail="it was closed")
        return open_state_file(self.path, must_exist=self._must_exist)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise UnusableState(path=self.path, detail=f"it cannot be used ({error})") from error


def _of_destination(destination: str | None) -> tuple[str, tuple[str, ...]]:
    return ("TRUE", ()) if destination is None else ("destination = ?", (destination,))


def _past(seconds: float | None, now: datetime) -> datetime | None:
    """Return a stored time; one that lies in the future, since a clock was put back, counts as now."""
    return None if seconds is None else min(datetime.fromtimestamp(seconds, UTC), now)


def _due(seconds: float | None, now: datetime) -> datetime | None:
    """Return when something is due; what lies further ahead than any wait is due now."""
    time = state_rows.as_time(seconds)
    if time is None or (time - now).total_seconds() <= LONGEST_RETRY_AFTER_SECONDS:
        return time
    return now


def _faded(rate: float, seconds: float) -> float:
    """Return what is left of a rate after a time, or before it, where the clock was put back."""
    return rate * math.exp(-abs(seconds) / _RATE_SECONDS)
