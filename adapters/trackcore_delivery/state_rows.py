"""Rows of the state file: how all are read, and how those of failed attempts and of held messages are written."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from trackcore.support import decode_mark
from trackcore_delivery.feed import FedMessage, Selection
from trackcore_delivery.results import Attempts, DeadLetter, DeliveryResult, HeldUser, Replay

_OVERHEAD_BYTES = 200

HELD_USERS = """
    SELECT id, source, user, count(position), coalesce(sum(size), 0)
    FROM held_users LEFT JOIN held_messages ON holder = id
    WHERE held_users.destination = ? GROUP BY id ORDER BY id
"""
HELD_MESSAGES = """
    SELECT number, position, source, held_users.user, call, message_id, received_at, payload
    FROM held_messages JOIN held_users ON id = holder WHERE holder = ? ORDER BY number LIMIT ?
"""
LAST_HELD = "SELECT coalesce(max(number), 0) FROM held_messages WHERE holder = ?"
ATTEMPTS = "SELECT lane, failures, seconds, marks, paused_at, pause FROM attempts WHERE destination = ?"

DEAD_COLUMNS = (
    "id, destination, died_at, reason, retried_at, position, source, user, call, message_id, received_at, payload"
)
REPLAY_COLUMNS = "id, destination, asked_at, since, until, call, user, position, last, sent, refused, finished_at, mark"


def copy_size(message: FedMessage) -> int:
    """Return how many bytes a held message or a dead letter counts for."""
    return len(message.payload) + _OVERHEAD_BYTES


def note_attempts(connection: sqlite3.Connection, destination: str, attempts: Iterable[Attempts]) -> None:
    """Store the failed attempts of queues."""
    connection.executemany(
        "INSERT OR REPLACE INTO attempts (destination, lane, failures, seconds, marks, paused_at, pause)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        [(destination, *one) for one in attempts],
    )


def forget_attempts(connection: sqlite3.Connection, destination: str, queue: str) -> None:
    """Delete the failed attempts of a queue, and those of the destination as a whole."""
    connection.execute("DELETE FROM attempts WHERE destination = ? AND lane IN (?, '')", (destination, queue))


def hold(connection: sqlite3.Connection, destination: str, result: DeliveryResult) -> None:
    """Copy messages that are held back, and store their users, unless they are held already."""
    for index in sorted(result.held):
        message = result.messages[index]
        values = destination, message.source, message.user
        connection.execute(
            "INSERT INTO held_users (destination, source, user, since) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (*values, result.now.timestamp()),
        )
        connection.execute(
            "INSERT INTO held_messages (holder, position, call, message_id, received_at, size, payload)"
            " SELECT id, ?, ?, ?, ?, ?, ? FROM held_users WHERE destination = ? AND source = ? AND user = ?",
            (
                message.position,
                message.call,
                message.message_id,
                message.received_at.timestamp(),
                copy_size(message),
                message.payload,
                *values,
            ),
        )


def release(connection: sqlite3.Connection, destination: str, user: HeldUser, numbers: Sequence[int]) -> None:
    """Delete settled held messages; the last of them releases their user."""
    connection.executemany("DELETE FROM held_messages WHERE number = ?", [(number,) for number in numbers])
    (last,) = connection.execute(LAST_HELD, (user.id,)).fetchone()
    if not last:
        connection.execute("DELETE FROM held_users WHERE id = ?", (user.id,))
        forget_attempts(connection, destination, user.queue_name)


def delete_dead(connection: sqlite3.Connection, destination: str, numbers: Sequence[int]) -> None:
    """Delete dead letters by their numbers, and subtract their size."""
    freed = 0
    for number in numbers:
        row = connection.execute("DELETE FROM dead_letters WHERE id = ? RETURNING size", (number,)).fetchone()
        freed += row[0] if row else 0
    connection.execute("UPDATE destinations SET dead_bytes = dead_bytes - ? WHERE name = ?", (freed, destination))


def as_held_message(row: tuple[Any, ...]) -> tuple[int, FedMessage]:
    """Build a row of `HELD_MESSAGES`: the number of a held message, and the message."""
    number, *message, received_at, payload = row
    return number, FedMessage._make((*message, datetime.fromtimestamp(received_at, UTC), payload))


def as_dead_letter(row: tuple[Any, ...]) -> DeadLetter:
    """Build a row of `DEAD_COLUMNS`."""
    number, destination, died_at, reason, retried_at, *message, received_at, payload = row
    return DeadLetter(
        id=number,
        destination=destination,
        died_at=datetime.fromtimestamp(died_at, UTC),
        reason=reason,
        retried_at=as_time(retried_at),
        message=FedMessage._make((*message, datetime.fromtimestamp(received_at, UTC), payload)),
    )


def as_replay(row: tuple[Any, ...]) -> Replay:
    """Build a row of `REPLAY_COLUMNS`."""
    number, destination, asked_at, since, until, call, user, position, last, sent, refused, finished_at, mark = row
    return Replay(
        id=number,
        destination=destination,
        asked_at=datetime.fromtimestamp(asked_at, UTC),
        selection=Selection(since=as_time(since), until=as_time(until), call=call, user=user),
        position=position,
        last=last,
        sent=sent,
        refused=refused,
        finished_at=as_time(finished_at),
        mark=decode_mark(last, mark),
    )


def as_time(seconds: float | None) -> datetime | None:
    """Return a stored time."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
