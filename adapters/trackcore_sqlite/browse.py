"""Bounded queries for people who look into a log while it is written, however large it is.

Theory.  Nothing here reads more rows than it says.  Messages are found by `seq` and by messageId alone, what was
rejected by its code as well.  So a filter is applied to a *window* of sequence numbers, newest first; who wants to
search further asks for the next window.  And as `seq` rises by one with each message, in the order of reception, the
number of messages between two times is the difference of two sequence numbers, each found by bisection: rates over any
length of time cost a few hundred look-ups and no scan.  (Messages that were received again keep their first time, so a
few may lie out of order; bisection is then off by as many.)
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias

import attrs
import msgspec

from trackcore_sqlite import ids
from trackcore_sqlite.log import (
    MESSAGES,
    QUARANTINED,
    REJECTED,
    StoredMessage,
    read_message,
    read_quarantined,
    read_rejected,
)
from trackcore_sqlite.schema import UnusableLog, open_for_reading
from trackcore_sqlite.sink import from_milliseconds, milliseconds

Part: TypeAlias = Literal["messages", "rejected", "quarantine"]
PARTS: tuple[Part, ...] = ("messages", "rejected", "quarantine")


@attrs.frozen(kw_only=True)
class Filter:
    """What is looked for; None is everything.  `text` is looked for in the payload, to the letter."""

    source: str | None = None
    call: str | None = None
    user: str | None = None
    code: str | None = None
    text: str | None = None


@attrs.frozen(kw_only=True)
class Window:
    """What was found in a window: rows, newest first, and the lowest sequence number that was looked at."""

    rows: Sequence[Any]
    reached: int


@attrs.frozen(kw_only=True)
class Group:
    """How many messages of one call a source has sent, their bytes in all, and those of the largest."""

    source: str
    call: str
    count: int
    size: int
    largest: int


class SqliteBrowser:
    """Looks into the log at `path`.  Every method opens the file anew, so no lock outlives a call.

    Raises:
        UnusableLog: there is no log there, or it is damaged, or from a newer trackcore.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def ends(self) -> dict[Part, int]:
        """Give the last sequence number of each part, 0 for an empty one."""
        with self._open() as connection:
            return {part: _end(connection, part) for part in PARTS}

    def between(self, part: Part, *, after: int, to: int, wanted: Filter, limit: int) -> Window:
        """Look at the rows of a part with `after < seq <= to`, newest first, and give up to `limit` that are wanted."""
        conditions, values = _conditions(part, wanted)
        query = f"{_SELECT[part]} WHERE seq > ? AND seq <= ?{conditions} ORDER BY seq DESC LIMIT ?"
        with self._open() as connection:
            rows = list(map(_READ[part], connection.execute(query, (after, to, *values, limit))))
        return Window(rows=rows, reached=rows[-1].seq if len(rows) == limit else after + 1)

    def one(self, part: Part, seq: int) -> Any:
        """Give a row of a part by its sequence number, None where there is none."""
        return next(iter(self.between(part, after=seq - 1, to=seq, wanted=Filter(), limit=1).rows), None)

    def with_message_id(self, message_id: str) -> list[StoredMessage]:
        """Find the messages of this id, one for each source at most."""
        query = f"""
            {MESSAGES} WHERE messages.message_id = ?1 AND seq IN ({_SEQS_OF_ID}) ORDER BY seq
        """
        with self._open() as connection:
            return list(map(read_message, connection.execute(query, (message_id,))))

    def seq_of(self, source: str, message_id: str) -> int | None:
        """Find the sequence number of a message by what makes it unique."""
        query = f"""
            SELECT seq FROM messages {_WITH_SOURCE}
            WHERE name = ?2 AND messages.message_id = ?1 AND seq IN ({_SEQS_OF_ID})
        """
        with self._open() as connection:
            row = connection.execute(query, (message_id, source)).fetchone()
        return None if row is None else int(row[0])

    def sources(self) -> list[str]:
        """Name the sources that have sent something."""
        with self._open() as connection:
            return [name for (name,) in connection.execute("SELECT name FROM sources ORDER BY id")]

    def seqs_at(self, times: Sequence[datetime]) -> list[int]:
        """Give for each time, of rising order, the last sequence number received before it: by bisection."""
        found = []
        with self._open() as connection:
            first = connection.execute("SELECT seq FROM messages ORDER BY seq LIMIT 1").fetchone()
            low, end = (first[0] - 1 if first else 0), _end(connection, "messages")
            for time in times:
                low = _bisect(connection, milliseconds(time), low, end)
                found.append(low)
        return found

    def sample(self, seqs: Sequence[int]) -> list[StoredMessage]:
        """Give the messages of these sequence numbers."""
        query = f"{MESSAGES} WHERE seq IN (SELECT value FROM json_each(?)) ORDER BY seq"
        with self._open() as connection:
            return list(map(read_message, connection.execute(query, (_array(seqs),))))

    def sources_of(self, seqs: Sequence[int]) -> dict[int, str]:
        """Give the sources of the messages of these sequence numbers."""
        query = f"SELECT seq, name FROM messages {_WITH_SOURCE} WHERE seq IN (SELECT value FROM json_each(?))"
        with self._open() as connection:
            return dict(connection.execute(query, (_array(seqs),)))

    def time_before(self, part: Part, seq: int) -> datetime | None:
        """Give the time of reception of the last record below a sequence number, None where there is none."""
        return self._time(f"SELECT received_at FROM {part} WHERE seq < ? ORDER BY seq DESC LIMIT 1", seq)

    def time_after(self, part: Part, seq: int) -> datetime | None:
        """Give the time of reception of the first record above a sequence number, None where there is none."""
        return self._time(f"SELECT received_at FROM {part} WHERE seq > ? ORDER BY seq LIMIT 1", seq)

    def _time(self, query: str, seq: int) -> datetime | None:
        with self._open() as connection:
            row = connection.execute(query, (seq,)).fetchone()
        return None if row is None else from_milliseconds(row[0])

    def count_rejected(self, since: datetime, most: int) -> list[tuple[datetime, str]]:
        """Give time and code of what was rejected since a time, newest first, and at most so many."""
        query = "SELECT received_at, code FROM rejected ORDER BY seq DESC LIMIT ?"
        with self._open() as connection:
            rows = connection.execute(query, (most,)).fetchall()
        return [(from_milliseconds(at), code) for at, code in rows if at >= milliseconds(since)]

    def counted(self, after: int, to: int) -> list[Group]:
        """Count the messages with `after < seq <= to` by source and call.  Reads each, not its payload."""
        with self._open() as connection:
            rows = connection.execute(_GROUPS, (after, to)).fetchall()
        return [Group(source=row[0], call=row[1], count=row[2], size=row[3], largest=row[4]) for row in rows]

    def sizes(self, seqs: Sequence[int]) -> list[int]:
        """Give the sizes in bytes of the messages of these sequence numbers, as they are stored."""
        query = "SELECT length(payload) FROM messages WHERE seq IN (SELECT value FROM json_each(?))"
        with self._open() as connection:
            return [size for (size,) in connection.execute(query, (_array(seqs),))]

    def refused(self, since: datetime) -> dict[str, int]:
        """Count by code what was refused since a time, the quarantined as `unknown_source`.  Both parts are bounded."""
        with self._open() as connection:
            found = dict(connection.execute(_CODES, (milliseconds(since),)))
            (quarantined,) = connection.execute(_QUARANTINED_SINCE, (milliseconds(since),)).fetchone()
        return found | ({"unknown_source": quarantined} if quarantined else {})

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        connection = open_for_reading(self.path)
        connection.execute(f"PRAGMA mmap_size = {_MAPPED_BYTES}")
        try:
            yield connection
        except sqlite3.DatabaseError as error:
            raise UnusableLog(path=self.path, detail=f"it cannot be read ({error})") from error
        finally:
            connection.close()


def spread(after: int, to: int, most: int) -> list[int]:
    """Give up to `most` sequence numbers with `after < seq <= to`, spread evenly."""
    count = to - after
    if count <= most:
        return list(range(after + 1, to + 1))
    return [after + 1 + place * count // most for place in range(most)]


def _array(seqs: Sequence[int]) -> str:
    return msgspec.json.encode(list(seqs)).decode()


_CODES = "SELECT code, count(*) FROM rejected WHERE received_at >= ? GROUP BY +code ORDER BY count(*) DESC"
"""The plus keeps SQLite from reading the part in the order of its index on the code."""

_QUARANTINED_SINCE = "SELECT count(*) FROM quarantine WHERE received_at >= ?"
_GROUPS = """
    SELECT name, call, n, bytes, largest FROM (
        SELECT source_id, call, count(*) AS n, sum(length(payload)) AS bytes, max(length(payload)) AS largest
        FROM messages WHERE seq > ? AND seq <= ? GROUP BY source_id, call
    ) JOIN sources ON sources.id = source_id
"""
_MAPPED_BYTES = 1 << 36
"""How much of the file is read without a system call for each page."""

_SEQS_OF_ID = ids.seqs_of("SELECT message_id_hash(id, ?1) FROM sources")
"""The messages whose id this may be, of whatever source."""

_WITH_SOURCE = "JOIN sources ON sources.id = source_id"
_SELECT: Mapping[Part, str] = {"messages": MESSAGES, "rejected": REJECTED, "quarantine": QUARANTINED}


def _conditions(part: Part, wanted: Filter) -> tuple[str, list[str]]:
    """Give the conditions of a filter.  One that a part has no column for is looked for in its payload."""
    in_payload = "instr(payload, CAST(? AS BLOB)) > 0"
    columns = _CONDITIONS[part]
    asked = {name: value for name, value in attrs.asdict(wanted).items() if value is not None}
    conditions = [f" AND {columns.get(name, in_payload)}" for name in asked]
    return "".join(conditions), list(asked.values())


_NOTHING = "? IS NULL"
_OF_SOURCE = "source_id = (SELECT id FROM sources WHERE name = ?)"
_CONDITIONS: Mapping[Part, Mapping[str, str]] = {
    "messages": {
        "source": _OF_SOURCE,
        "call": "call = ?",
        "user": "? IN (user_id, anonymous_id)",
        "code": "instr(cautions, '\"' || ? || '\"') > 0",
    },
    "rejected": {"source": _OF_SOURCE, "code": "code = ?"},
    "quarantine": {"source": _NOTHING, "code": "? = 'unknown_source'"},
}


def _end(connection: sqlite3.Connection, part: Part) -> int:
    (end,) = connection.execute(f"SELECT max(seq) FROM {part}").fetchone()
    return end or 0


def _bisect(connection: sqlite3.Connection, time: int, low: int, high: int) -> int:
    """Give the largest number, from `low` to `high`, up to which everything was received before a time."""
    while low < high:
        middle = (low + high + 1) // 2
        row = connection.execute("SELECT received_at FROM messages WHERE seq >= ? LIMIT 1", (middle,)).fetchone()
        if row is None or row[0] >= time:
            high = middle - 1
        else:
            low = middle
    return low


_READ: Mapping[Part, Callable[[tuple[Any, ...]], Any]] = {
    "messages": read_message,
    "rejected": read_rejected,
    "quarantine": read_quarantined,
}
