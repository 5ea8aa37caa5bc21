"""Reading the log as it is at one moment.

A log may be replaced between two looks at it.  So what is read behind a position is read in the same transaction in
which the mark of that position is checked (see `trackcore.marks`): a `Snapshot`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import attrs
import msgspec

from trackcore import Call, LogChanged, Mark, Stretch
from trackcore.marks import mark_at, message_identity, thinned
from trackcore_sqlite.times import from_milliseconds, milliseconds


class StoredPayload(NamedTuple):
    """A message as it lies in the log, its text not decoded: for those who pass it on."""

    seq: int
    source: str
    message_id: str
    call: Call
    user_id: str | None
    anonymous_id: str | None
    received_at: datetime
    payload: bytes


@attrs.frozen
class Snapshot:
    """A log as it is at one moment."""

    _connection: sqlite3.Connection

    @property
    def end(self) -> int:
        """The position of the last message that there ever was, 0 for none yet."""
        (seq,) = self._connection.execute("SELECT value FROM counters WHERE name = 'messages.seq'").fetchone()
        return int(seq)

    @property
    def beginning(self) -> int:
        """The position behind which the oldest stretch begins; nothing of the log lies before it."""
        (after,) = self._connection.execute(_BEGINNING).fetchone()
        return int(after)

    def mark(self, position: int) -> Mark:
        """Make the mark of a position; where nothing of the log lies before that, the position 0 is as good."""
        if position <= self.beginning:
            return Mark()
        return mark_at(position, self.stretches(position), self.message_at(position))

    def stretches(self, position: int, last: int | None = None) -> Sequence[Stretch]:
        """Return the stretches from which the marks of positions are made, in order.

        Args:
            position: the first of these positions.
            last: the last one, if there are more.
        """
        oldest = self._all(_OLDEST)
        before = thinned(position, oldest[0], self._newest) if oldest and oldest[0].after < position else ()
        return [*before, *(() if last is None else self._all(_WITHIN, position, last))]

    def check(self, mark: Mark) -> None:
        """Raise `LogChanged` where a mark does not hold: it says from where to go on."""
        end, position = self.end, mark.position
        stretch = "".join(stretch.id for stretch in self._newest(position, 1))
        message = self.message_at(position)
        if not mark.holds(end=end, stretch=stretch, message=message, beginning=self.beginning):
            ids = msgspec.json.encode([stretch.id for stretch in mark.stretches]).decode()
            common = mark.agrees_up_to(self._all(_OF_IDS, ids))
            raise LogChanged(mark=mark, found=self.mark(common), end=end)

    def message_at(self, position: int) -> str:
        """Return the identity of the message at a position, empty where there is none."""
        row = self._connection.execute(_IDENTITY, (position,)).fetchone()
        return "" if row is None else message_identity(row[0], row[1], from_milliseconds(row[2]))

    def payloads(
        self,
        *,
        after: int,
        last: int,
        destination: str | None = None,
        call: str | None = None,
        user: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Generator[StoredPayload, None, None]:
        """Return what `SqliteLog.payloads` does, of this moment."""
        query, values = payload_query(
            after=after, last=last, destination=destination, call=call, user=user, since=since, until=until
        )
        for row in self._connection.execute(query, values):
            yield read_payload(row)

    def _newest(self, limit: int, count: int) -> Sequence[Stretch]:
        """Return, of the stretches that begin before a position, the newest so many, in order."""
        return self._all(_NEWEST, limit, count)[::-1]

    def _all(self, query: str, *values: object) -> Sequence[Stretch]:
        return [Stretch._make(row) for row in self._connection.execute(query, values)]


def payload_query(
    *,
    after: int,
    last: int,
    destination: str | None,
    call: str | None,
    user: str | None,
    since: datetime | None,
    until: datetime | None,
) -> tuple[str, list[object]]:
    """Build the query for `SqliteLog.payloads`, and its values; `read_payload` reads its rows."""
    name = None if destination is None else msgspec.json.encode(destination).decode()
    wanted = {
        "seq > ?": after,
        "seq <= ?": last,
        "instr(destinations, ?)": name,  # a JSON array of strings: a quoted name is found nowhere else in it
        "call = ?": call,
        "? IN (user_id, anonymous_id)": user,
        "received_at >= ?": None if since is None else milliseconds(since),
        "received_at < ?": None if until is None else milliseconds(until),
    }
    wanted = {sql: value for sql, value in wanted.items() if value is not None}
    return _PAYLOADS.format(" AND ".join(wanted)), list(wanted.values())


def read_payload(row: tuple[Any, ...]) -> StoredPayload:
    """Read a row of `payload_query`."""
    return StoredPayload._make((*row[:6], from_milliseconds(row[6]), row[7]))


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
_WITH_SOURCE = "JOIN sources ON sources.id = source_id"
_IDENTITY = f"SELECT name, message_id, received_at FROM messages {_WITH_SOURCE} WHERE seq = ?"
_PAYLOADS = f"""
    SELECT seq, name, message_id, call, user_id, anonymous_id, received_at, payload
    FROM messages {_WITH_SOURCE} WHERE {{}} ORDER BY seq
"""
