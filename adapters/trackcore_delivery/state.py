"""The state of delivery: how far each destination has come, what failed, and what must be sent again.

One process stores the results of deliveries (see `lock`).  Commands of other processes read the state, and store
requests in it: dead letters to retry, replays.  Each `settle_...` is one transaction, so that the facts about a batch
are stored together: the position of the destination, the rejected messages, and the counters.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trackcore_sqlitefile import SharedConnection, clean_file

from trackcore import Mark
from trackcore.support import MEBIBYTE, encode_mark
from trackcore_delivery import state_rows
from trackcore_delivery.backoff import LONGEST_RETRY_AFTER_SECONDS
from trackcore_delivery.erasures import StoredErasures
from trackcore_delivery.feed import FedMessage, Selection
from trackcore_delivery.outcomes import StoredOutcomes, note_delivery
from trackcore_delivery.progress import StoredProgress
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

_RATE_SECONDS = 60.0
"""The time over which the rate is averaged: older deliveries weigh exponentially less."""

_REASON_CHARS = 500


class State(StoredProgress, StoredErasures, StoredOutcomes):
    """The opened state file.  Threads share it, and so do forked processes, each with its own connection.

    At most `dead_letter_bytes` of dead letters are kept for each destination: beyond that the oldest are dropped.
    Every method raises `UnusableState` when the file cannot be read or written.
    """

    def __init__(self, path: Path, *, dead_letter_bytes: int = 64 * MEBIBYTE, must_exist: bool = False) -> None:
        self.path = path
        self._dead_letter_bytes = dead_letter_bytes
        self._must_exist = must_exist
        self._is_closed = False
        self._file = SharedConnection(self._open)
        with self._unusable_on_error(), self._file.use():
            self._must_exist = True  # forks close and open the file again; a deleted one is not created again

    def close(self) -> None:
        """Close the file."""
        self._is_closed = True
        self._file.close()

    # Results

    def settle(self, destination: str, result: DeliveryResult, mark: Mark | None = None) -> None:
        """Settle messages of the feed: the destination's position moves to the last of them, which has this mark."""
        with self._transaction() as connection:
            before = connection.execute("SELECT position FROM destinations WHERE name = ?", (destination,)).fetchone()
            note_delivery(connection, destination, result, INCOMING, after=before[0] if before else None)
            position = result.messages[-1].position
            connection.execute(
                "UPDATE destinations SET position = ?, mark = ? WHERE name = ?",
                (position, encode_mark(mark), destination),
            )
            self._record(connection, destination, result, INCOMING)
            state_rows.hold(connection, destination, result)

    def settle_held(self, destination: str, user: HeldUser, numbers: Sequence[int], result: DeliveryResult) -> None:
        """Settle messages of a held user; the last of them releases the user."""
        with self._transaction() as connection:
            note_delivery(connection, destination, result, user.queue_name, after=None)
            self._record(connection, destination, result, user.queue_name)
            state_rows.release(connection, destination, user, numbers)

    def settle_retried(self, destination: str, ids: Sequence[int], result: DeliveryResult) -> None:
        """Settle dead letters that were sent again: those that arrived are deleted, the others stay."""
        with self._transaction() as connection:
            note_delivery(connection, destination, result, RETRY, after=None)
            state_rows.delete_dead(connection, destination, ids)
            self._record(connection, destination, result, RETRY)

    def settle_replay(self, replay: Replay, result: DeliveryResult) -> None:
        """Settle messages that a replay sent again."""
        with self._transaction() as connection:
            connection.execute(
                "UPDATE replays SET position = ?, sent = sent + ?, refused = refused + ? WHERE id = ?",
                (result.messages[-1].position, result.delivered, len(result.refused), replay.id),
            )
            self._record(connection, replay.destination, result, REPLAY)

    def fail(
        self,
        destination: str,
        detail: str,
        *,
        now: datetime,
        attempts: Sequence[Attempts],
        failures: int | None,
        next_try_at: datetime,
    ) -> None:
        """Record a failed attempt, its reason, and when the next one is due.

        If `failures` is None the destination as such is not failing: the attempt was that of a held user.
        """
        time = now.timestamp()
        with self._transaction() as connection:
            connection.execute(
                "UPDATE destinations SET last_error = ?, last_error_at = ? WHERE name = ?",
                (detail[:_REASON_CHARS], time, destination),
            )
            if failures is not None:
                connection.execute(
                    "UPDATE destinations SET failures = ?, failing_since = min(coalesce(failing_since, ?), ?),"
                    " next_try_at = ? WHERE name = ?",
                    (failures, time, time, next_try_at.timestamp(), destination),
                )
            state_rows.note_attempts(connection, destination, attempts)

    def attempts(self, destination: str) -> Mapping[str, Attempts]:
        """Return the failed attempts of each queue that fails."""
        return {row[0]: Attempts._make(row) for row in self._read(state_rows.ATTEMPTS, destination)}

    # Held users

    def held_users(self, destination: str) -> list[HeldUser]:
        """Return the users whose messages are held back from a destination."""
        return list(map(HeldUser._make, self._read(state_rows.HELD_USERS, destination)))

    def held_messages(self, user: HeldUser, *, limit: int) -> list[tuple[int, FedMessage]]:
        """Return the first messages of a held user, each with the number that settles it."""
        return list(map(state_rows.as_held_message, self._read(state_rows.HELD_MESSAGES, user.id, limit)))

    def last_held(self, user: HeldUser) -> int:
        """Return the number of the last message of a held user, or 0."""
        return int(self._read(state_rows.LAST_HELD, user.id)[0][0])

    def status(self, destination: str, now: datetime) -> DestinationStatus | None:
        """Return how delivery to a destination is going; None for one that never began."""
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
            rate=_decayed(rate, now.timestamp() - rated_at),
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
        """Return the names of the destinations that have begun."""
        return [name for (name,) in self._read("SELECT name FROM destinations ORDER BY name")]

    # Dead letters

    def dead_letters(
        self, destination: str | None = None, *, after: int = 0, limit: int = 1_000, to_retry: bool = False
    ) -> list[DeadLetter]:
        """Return dead letters, oldest first: of one destination or of all, or only those that wait to be retried."""
        condition, values = _of_destination(destination)
        asked = " AND retried_at IS NOT NULL" if to_retry else ""
        query = f"SELECT {state_rows.DEAD_COLUMNS} FROM dead_letters WHERE {condition} AND id > ?{asked}"
        rows = self._read(f"{query} ORDER BY id LIMIT ?", *values, after, limit)
        return list(map(state_rows.as_dead_letter, rows))

    def retry_dead_letters(self, destination: str | None, now: datetime) -> int:
        """Request that the dead letters are sent again, and return how many there are."""
        condition, values = _of_destination(destination)
        with self._transaction() as connection:
            return connection.execute(
                f"UPDATE dead_letters SET retried_at = ? WHERE {condition}", (now.timestamp(), *values)
            ).rowcount

    def drop_dead_letters(self, destination: str | None) -> int:
        """Delete the dead letters, and return how many there were."""
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
        """Request that messages up to `last`, which has this mark, are sent again; return the number of the replay."""
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
        """Return a replay by its number."""
        return self._first_replay("id = ?", number)

    def next_replay(self, destination: str) -> Replay | None:
        """Return the first unfinished replay for a destination."""
        return self._first_replay("destination = ? AND finished_at IS NULL", destination)

    def _first_replay(self, condition: str, value: object) -> Replay | None:
        query = f"SELECT {state_rows.REPLAY_COLUMNS} FROM replays WHERE {condition} ORDER BY id LIMIT 1"
        return next(map(state_rows.as_replay, self._read(query, value)), None)

    def advance_replay(self, replay: Replay, position: int, now: datetime) -> None:
        """Record that a replay has nothing to send up to a position; at its last position it is finished."""
        finished_at = now.timestamp() if position >= replay.last else None
        with self._transaction() as connection:
            connection.execute(
                "UPDATE replays SET position = ?, finished_at = ? WHERE id = ?", (position, finished_at, replay.id)
            )

    def clean(self, texts: Iterable[bytes]) -> str:
        """Remove texts from the bytes of the file; see `trackcore_sqlitefile.clean_file`."""
        with self._unusable_on_error(), self._file.use() as connection:
            return clean_file(connection, self.path, texts, lambda text: _is_in_records(connection, text))

    # Inside a transaction

    def _record(self, connection: sqlite3.Connection, destination: str, result: DeliveryResult, queue: str) -> None:
        """Update the counters of a destination, and store the rejected messages."""
        if result.answered:
            state_rows.forget_attempts(connection, destination, queue)
            connection.execute(
                "UPDATE destinations SET failures = 0, failing_since = NULL, next_try_at = NULL WHERE name = ?",
                (destination,),
            )
        if result.delivered:
            now = result.now.timestamp()
            rate, rated_at = connection.execute(
                "SELECT rate, rated_at FROM destinations WHERE name = ?", (destination,)
            ).fetchone()
            rate = _decayed(rate, now - rated_at) + result.delivered / _RATE_SECONDS
            connection.execute(
                "UPDATE destinations SET delivered = delivered + ?, delivered_at = ?, rate = ?, rated_at = ?"
                " WHERE name = ?",
                (result.delivered, now, rate, now, destination),
            )
        if result.refused:
            self._dead_letter(connection, destination, result)

    def _dead_letter(self, connection: sqlite3.Connection, destination: str, result: DeliveryResult) -> None:
        now = result.now.timestamp()
        added = 0
        last_reason = ""
        for index, reason in sorted(result.refused.items()):
            message = result.messages[index]
            size = state_rows.copy_size(message)
            last_reason = reason[:_REASON_CHARS]
            connection.execute(
                "INSERT INTO dead_letters (destination, position, source, user, call, message_id, received_at, died_at,"
                " reason, size, payload) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (destination, *message[:5], message.received_at.timestamp(), now, last_reason, size, message.payload),
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
        with self._unusable_on_error(), self._file.use() as connection:
            return connection.execute(query, values).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._unusable_on_error(), self._file.use() as connection:
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
    def _unusable_on_error(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise UnusableState(path=self.path, detail=f"it cannot be used ({error})") from error


def _is_in_records(connection: sqlite3.Connection, text: bytes) -> bool:
    parts = ("dead_letters", "held_messages")
    queries = (f"SELECT EXISTS (SELECT 1 FROM {part} WHERE instr(payload, ?) > 0)" for part in parts)
    return any(connection.execute(query, (text,)).fetchone()[0] for query in queries)


def _of_destination(destination: str | None) -> tuple[str, tuple[str, ...]]:
    return ("TRUE", ()) if destination is None else ("destination = ?", (destination,))


def _past(seconds: float | None, now: datetime) -> datetime | None:
    """Return a stored time; one in the future, since a clock was set back, counts as now."""
    return None if seconds is None else min(datetime.fromtimestamp(seconds, UTC), now)


def _due(seconds: float | None, now: datetime) -> datetime | None:
    """Return when something is due; a time further ahead than any wait is due now."""
    time = state_rows.as_time(seconds)
    if time is None or (time - now).total_seconds() <= LONGEST_RETRY_AFTER_SECONDS:
        return time
    return now


def _decayed(rate: float, seconds: float) -> float:
    """Return the rest of a rate after a time, or before it, if the clock was set back."""
    return rate * math.exp(-abs(seconds) / _RATE_SECONDS)
