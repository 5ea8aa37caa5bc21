"""Reading the log as it is at one moment.

A log may be replaced between two reads.  So the messages behind a position are read in the same transaction in which
the mark of that position is checked (see `trackcore.marks`): a `Snapshot`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence

import attrs

from trackcore import EVERYTHING, LogChanged, Mark, Query, StoredPayload, Stretch
from trackcore.support import mark_at, message_identity, thinned
from trackcore_sqlite.queries import PAYLOADS, WITH_SOURCE, json_array, read_payload, where
from trackcore_sqlite.times import from_milliseconds


@attrs.frozen
class Snapshot:
    """A log as it is at one moment: a `trackcore.LogSnapshot`."""

    _connection: sqlite3.Connection

    @property
    def end(self) -> int:
        """See `trackcore.LogSnapshot.end`."""
        (seq,) = self._connection.execute("SELECT value FROM counters WHERE name = 'messages.seq'").fetchone()
        return int(seq)

    @property
    def beginning(self) -> int:
        """See `trackcore.LogSnapshot.beginning`."""
        (after,) = self._connection.execute(_BEGINNING).fetchone()
        return int(after)

    def mark(self, position: int) -> Mark:
        """See `trackcore.LogSnapshot.mark`.  If the log has nothing before the position, 0 serves as well."""
        if position <= self.beginning:
            return Mark()
        return mark_at(position, self.stretches(position), self.message_at(position))

    def stretches(self, position: int, last: int | None = None) -> Sequence[Stretch]:
        """See `trackcore.LogSnapshot.stretches`."""
        oldest = self._all(_OLDEST)
        before = thinned(position, oldest[0], self._newest) if oldest and oldest[0].after < position else ()
        return [*before, *(() if last is None else self._all(_WITHIN, position, last))]

    def check(self, mark: Mark) -> None:
        """See `trackcore.LogSnapshot.check`."""
        end, position = self.end, mark.position
        stretch = "".join(stretch.id for stretch in self._newest(position, 1))
        message = self.message_at(position)
        if not mark.holds(end=end, stretch=stretch, message=message, beginning=self.beginning):
            common = mark.agrees_up_to(self._all(_OF_IDS, json_array([stretch.id for stretch in mark.stretches])))
            raise LogChanged(mark=mark, found=self.mark(common), end=end)

    def message_at(self, position: int) -> str:
        """See `trackcore.LogSnapshot.message_at`."""
        row = self._connection.execute(_IDENTITY, (position,)).fetchone()
        return "" if row is None else message_identity(row[0], row[1], from_milliseconds(row[2]))

    def payloads(self, query: Query = EVERYTHING, *, after: int, last: int) -> Iterator[StoredPayload]:
        """See `trackcore.LogSnapshot.payloads`."""
        condition, values = where("messages", query, after=after, last=last)
        for row in self._connection.execute(f"{PAYLOADS} {condition} ORDER BY seq", values):
            yield read_payload(row)

    def _newest(self, limit: int, count: int) -> Sequence[Stretch]:
        """Return the newest `count` of the stretches that begin before a position, in order."""
        return self._all(_NEWEST, limit, count)[::-1]

    def _all(self, query: str, *values: object) -> Sequence[Stretch]:
        return [Stretch._make(row) for row in self._connection.execute(query, values)]


_BEGINNING = "SELECT messages FROM stretches ORDER BY messages LIMIT 1"
_END = """
    coalesce(
        (SELECT messages FROM stretches AS following WHERE following.number > mine.number ORDER BY number LIMIT 1),
        (SELECT value FROM counters WHERE name = 'messages.seq')
    )
"""
_STRETCHES = f"SELECT id, messages, {_END} FROM stretches AS mine"
_WITH_MESSAGES = f"{_END} > messages"
_NEWEST = f"{_STRETCHES} WHERE messages < ? AND {_WITH_MESSAGES} ORDER BY messages DESC, number DESC LIMIT ?"
_OLDEST = f"{_STRETCHES} WHERE {_WITH_MESSAGES} ORDER BY messages, number LIMIT 1"
_WITHIN = f"{_STRETCHES} WHERE messages >= ? AND messages < ? AND {_WITH_MESSAGES} ORDER BY messages, number"
_OF_IDS = f"{_STRETCHES} WHERE id IN (SELECT value FROM json_each(?))"
_IDENTITY = f"SELECT name, message_id, received_at FROM messages {WITH_SOURCE} WHERE seq = ?"
