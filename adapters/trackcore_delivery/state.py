"""The state of delivery: how far each destination has come, what failed, and what is to be sent once more.

One process writes what becomes of messages (see `owner`); commands of other processes read it, and leave their wishes
in it: dead letters to retry, replays.  Each `settle_...` is one transaction, so that what is known of a batch is known
whole: where the destination stands, what it refused, and the counters.
"""

from __future__ import annotations

import math
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trackcore_delivery.feed import FedMessage, Selection
from trackcore_delivery.records import DeadLetter, Replay, Settled, Standing
from trackcore_delivery.state_file import UnusableState, open_state_file

MEBIBYTE = 1 << 20

_RATE_SECONDS = 60.0
"""Over how long the rate is averaged: what was sent counts for less and less as it lies further back."""

_RECORD_OVERHEAD_BYTES = 200
_REASON_CHARS = 500


class State:
    """The state file, opened.  Threads share it.

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
        self._lock = threading.Lock()
        self._connection = open_state_file(path, must_exist=must_exist)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    # How far a destination has come

    def position(self, destination: str) -> int | None:
        """Give the position up to which everything is settled; None for a destination never seen."""
        rows = self._read("SELECT position FROM destinations WHERE name = ?", destination)
        return rows[0][0] if rows else None

    def begin(self, destination: str, position: int) -> None:
        """Let a destination begin after a position, unless it has begun already."""
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO destinations (name, position) VALUES (?, ?) ON CONFLICT DO NOTHING",
                (destination, position),
            )

    def skip(self, destination: str, position: int) -> None:
        """Note that up to a position there is nothing for a destination."""
        with self._transaction() as connection:
            connection.execute("UPDATE destinations SET position = ? WHERE name = ?", (position, destination))

    # What became of messages

    def settle(self, destination: str, settled: Settled) -> None:
        """Settle messages of the feed: the destination stands behind the last of them."""
        with self._transaction() as connection:
            position = settled.messages[-1].position
            connection.execute("UPDATE destinations SET position = ? WHERE name = ?", (position, destination))
            self._count(connection, destination, settled)
            self._bury(connection, destination, settled)

    def settle_retried(self, destination: str, ids: Sequence[int], settled: Settled) -> None:
        """Settle dead letters that were sent once more: those that arrived are gone, the others stay dead."""
        with self._transaction() as connection:
            self._count(connection, destination, settled)
            self._delete_dead(connection, destination, ids)
            self._bury(connection, destination, settled)

    def settle_replay(self, replay: Replay, settled: Settled) -> None:
        """Settle messages that were sent again by a replay."""
        with self._transaction() as connection:
            connection.execute(
                "UPDATE replays SET position = ?, sent = sent + ?, refused = refused + ? WHERE id = ?",
                (settled.messages[-1].position, settled.delivered, len(settled.refused), replay.id),
            )
            self._count(connection, replay.destination, settled)
            self._bury(connection, replay.destination, settled)

    def fail(self, destination: str, detail: str, *, now: datetime, failures: int, next_try_at: datetime) -> None:
        """Note that an attempt failed, why, and when the next one is due."""
        with self._transaction() as connection:
            connection.execute(
                "UPDATE destinations SET failures = ?, failing_since = coalesce(failing_since, ?), next_try_at = ?,"
                " last_error = ?, last_error_at = ? WHERE name = ?",
                (
                    failures,
                    now.timestamp(),
                    next_try_at.timestamp(),
                    detail[:_REASON_CHARS],
                    now.timestamp(),
                    destination,
                ),
            )

    def standing(self, destination: str, now: datetime) -> Standing | None:
        """Tell how a destination is doing; None for one that never began."""
        rows = self._read(
            "SELECT name, position, delivered, delivered_at, rate, rated_at, failures, failing_since, next_try_at,"
            " last_error, last_error_at, (SELECT count(*) FROM dead_letters WHERE destination = name), dead_dropped"
            " FROM destinations WHERE name = ?",
            destination,
        )
        if not rows:
            return None
        name, position, delivered, delivered_at, rate, rated_at, failures, *times, dead, dropped = rows[0]
        failing_since, next_try_at, last_error, last_error_at = times
        return Standing(
            name=name,
            position=position,
            delivered=delivered,
            delivered_at=_time(delivered_at),
            rate=_faded(rate, now.timestamp() - rated_at),
            failures=failures,
            failing_since=_time(failing_since),
            next_try_at=_time(next_try_at),
            last_error=last_error,
            last_error_at=_time(last_error_at),
            dead_letters=dead,
            dead_dropped=dropped,
        )

    def names(self) -> list[str]:
        """Name the destinations that have begun."""
        return [name for (name,) in self._read("SELECT name FROM destinations ORDER BY name")]

    # Dead letters

    def dead_letters(
        self, destination: str | None = None, *, after: int = 0, limit: int = 1_000, to_retry: bool = False
    ) -> list[DeadLetter]:
        """Give dead letters, oldest first: of one destination or of all, or only those that wait to be retried."""
        condition = "retried_at IS NOT NULL" if to_retry else "TRUE"
        if destination is not None:
            rows = self._read(
                f"SELECT {_DEAD_COLUMNS} FROM dead_letters WHERE destination = ? AND id > ? AND {condition}"
                " ORDER BY id LIMIT ?",
                destination,
                after,
                limit,
            )
        else:
            rows = self._read(
                f"SELECT {_DEAD_COLUMNS} FROM dead_letters WHERE id > ? AND {condition} ORDER BY id LIMIT ?",
                after,
                limit,
            )
        return list(map(_dead_letter, rows))

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

    def ask_for_replay(self, destination: str, selection: Selection, *, last: int, now: datetime) -> int:
        """Ask for messages of the past to be sent again, and give the number of the replay."""
        since, until = (None if time is None else time.timestamp() for time in (selection.since, selection.until))
        with self._transaction() as connection:
            number = connection.execute(
                "INSERT INTO replays (destination, asked_at, since, until, call, user, last)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (destination, now.timestamp(), since, until, selection.call, selection.user, last),
            ).lastrowid
        assert number is not None
        return number

    def replay(self, number: int) -> Replay | None:
        """Give a replay by its number."""
        rows = self._read(f"SELECT {_REPLAY_COLUMNS} FROM replays WHERE id = ?", number)
        return _replay(rows[0]) if rows else None

    def next_replay(self, destination: str) -> Replay | None:
        """Give the first replay for a destination that is not finished."""
        rows = self._read(
            f"SELECT {_REPLAY_COLUMNS} FROM replays WHERE destination = ? AND finished_at IS NULL ORDER BY id LIMIT 1",
            destination,
        )
        return _replay(rows[0]) if rows else None

    def advance_replay(self, replay: Replay, position: int, now: datetime) -> None:
        """Note that up to a position there was nothing to replay; at its last position a replay is finished."""
        finished_at = now.timestamp() if position >= replay.last else None
        with self._transaction() as connection:
            connection.execute(
                "UPDATE replays SET position = ?, finished_at = ? WHERE id = ?", (position, finished_at, replay.id)
            )

    # Inside a transaction

    def _count(self, connection: sqlite3.Connection, destination: str, settled: Settled) -> None:
        if settled.answered:
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

    def _bury(self, connection: sqlite3.Connection, destination: str, settled: Settled) -> None:
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
            self._delete_dead(connection, destination, ids)
            connection.execute(
                "UPDATE destinations SET dead_dropped = dead_dropped + ? WHERE name = ?", (len(ids), destination)
            )

    def _delete_dead(self, connection: sqlite3.Connection, destination: str, ids: Sequence[int]) -> None:
        freed = 0
        for number in ids:
            row = connection.execute("DELETE FROM dead_letters WHERE id = ? RETURNING size", (number,)).fetchone()
            freed += row[0] if row else 0
        connection.execute("UPDATE destinations SET dead_bytes = dead_bytes - ? WHERE name = ?", (freed, destination))

    def _read(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with self._lock, self._told():
            return self._connection.execute(query, values).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._told():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise UnusableState(path=self.path, detail=f"it cannot be used ({error})") from error


_DEAD_COLUMNS = (
    "id, destination, died_at, reason, retried_at, position, source, user, call, message_id, received_at, payload"
)
_REPLAY_COLUMNS = "id, destination, asked_at, since, until, call, user, position, last, sent, refused, finished_at"


def _of_destination(destination: str | None) -> tuple[str, tuple[str, ...]]:
    return ("TRUE", ()) if destination is None else ("destination = ?", (destination,))


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _faded(rate: float, seconds: float) -> float:
    return rate * math.exp(-max(seconds, 0.0) / _RATE_SECONDS)


def _dead_letter(row: tuple[Any, ...]) -> DeadLetter:
    number, destination, died_at, reason, retried_at, *message, received_at, payload = row
    return DeadLetter(
        id=number,
        destination=destination,
        died_at=datetime.fromtimestamp(died_at, UTC),
        reason=reason,
        retried_at=_time(retried_at),
        message=FedMessage._make((*message, datetime.fromtimestamp(received_at, UTC), payload)),
    )


def _replay(row: tuple[Any, ...]) -> Replay:
    number, destination, asked_at, since, until, call, user, position, last, sent, refused, finished_at = row
    return Replay(
        id=number,
        destination=destination,
        asked_at=datetime.fromtimestamp(asked_at, UTC),
        selection=Selection(since=_time(since), until=_time(until), call=call, user=user),
        position=position,
        last=last,
        sent=sent,
        refused=refused,
        finished_at=_time(finished_at),
    )
