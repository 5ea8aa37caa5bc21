"""The progress of each destination in the state file: its position, and the mark that proves it is one in this log."""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any

from trackcore import LogChanged, Mark
from trackcore.support import decode_mark, encode_mark
from trackcore_delivery.outcomes import forget_deliveries
from trackcore_delivery.results import Replay


class StoredProgress(ABC):
    """The part of the state about positions, their marks, and logs in which they do not hold."""

    @abstractmethod
    def _read(self, query: str, *values: object) -> list[tuple[Any, ...]]: ...

    @abstractmethod
    def _transaction(self) -> AbstractContextManager[sqlite3.Connection]: ...

    def position(self, destination: str) -> int | None:
        """Return the position up to which everything is settled; None for a destination never seen."""
        rows = self._read("SELECT position FROM destinations WHERE name = ?", destination)
        return rows[0][0] if rows else None

    def begin(self, destination: str, position: int, mark: Mark | None = None) -> None:
        """Let a destination begin after a position, unless it has begun already."""
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO destinations (name, position, mark) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                (destination, position, encode_mark(mark)),
            )

    def mark(self, destination: str) -> Mark | None:
        """Return the position up to which everything is settled, with its proof; None for a destination never seen."""
        rows = self._read("SELECT position, mark FROM destinations WHERE name = ?", destination)
        return decode_mark(*rows[0]) if rows else None

    def skip(self, destination: str, mark: Mark) -> None:
        """Move a destination to a position that has nothing for it before it, or store the proof of its position."""
        with self._transaction() as connection:
            connection.execute(
                "UPDATE destinations SET position = ?, mark = ? WHERE name = ?",
                (mark.position, encode_mark(mark), destination),
            )

    def change_log(self, destination: str, change: LogChanged, now: datetime) -> None:
        """Record that the log was replaced, and let the destination go on from where both logs agree."""
        with self._transaction() as connection:
            connection.execute(
                "UPDATE destinations SET position = ?, mark = ?, log_change = ?, log_changed_at = ? WHERE name = ?",
                (change.found.position, encode_mark(change.found), str(change), now.timestamp(), destination),
            )
            forget_deliveries(connection, destination, change.found.position)

    def log_change(self, destination: str) -> tuple[str, datetime] | None:
        """Return a description of the last replacement of the log, and when it was found; None if there was none."""
        rows = self._read("SELECT log_change, log_changed_at FROM destinations WHERE name = ?", destination)
        if not rows or rows[0][0] is None:
            return None
        return rows[0][0], datetime.fromtimestamp(rows[0][1], UTC)

    def change_log_of_replay(self, replay: Replay, change: LogChanged, end: Mark) -> None:
        """Let a replay go on from where both logs agree, up to the current last message."""
        position = min(replay.position, change.found.position)
        with self._transaction() as connection:
            connection.execute(
                "UPDATE replays SET position = ?, last = ?, mark = ? WHERE id = ?",
                (position, end.position, encode_mark(end), replay.id),
            )
