"""Bounded queries for people who inspect a log while it is written, however large it is.

Theory.  Every query here has a bound on the rows that it reads.  Messages have an index on `seq` and messageId alone,
rejected records one on their code as well.  So a query is applied to a *window* of sequence numbers, newest first; to
search further, ask for the next window.  And as `seq` rises by one with each message, in the order of reception, the
number of messages between two times is the difference of two sequence numbers, each found by bisection: rates over any
length of time cost a few hundred look-ups and no scan.  (Reprocessed messages keep their first time, so a few may be
out of order; bisection is then off by as many.)

A question takes one call into SQLite where possible, and its answer comes as one JSON text: each call, and each row,
releases the interpreter's lock, and takes it from the threads that store messages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

import attrs
import msgspec

from trackcore import EVERYTHING, PARTS, Part, Query, Search, StoredMessage
from trackcore_sqlite import deduplication
from trackcore_sqlite.pool import ReaderPool
from trackcore_sqlite.queries import IN_ARRAY, MESSAGES, READ, SELECT, WITH_SOURCE, json_array, read_message, where
from trackcore_sqlite.search import searched
from trackcore_sqlite.times import from_milliseconds, milliseconds


@attrs.frozen(kw_only=True)
class SeqRange:
    """The rows found in a window, newest first, and the lowest sequence number that was examined."""

    rows: Sequence[Any]
    reached: int


@attrs.frozen(kw_only=True)
class GroupCount:
    """How many messages of one call a source has sent, their bytes in all, and those of the largest.

    `retried` is how many of them came with a retry: their client had tried before, as it said.
    """

    source: str
    call: str
    count: int
    size: int
    largest: int
    retried: int


class Head(NamedTuple):
    """The last sequence number of each part, and the newest stretch of the log (see `trackcore.marks`)."""

    ends: Mapping[str, int]
    stretch: str


class Listed(NamedTuple):
    """A message, or a duplicate, in a list.  `warnings` is a JSON array; `payload` is JSON text."""

    seq: int
    source: str
    call: str
    received_at: datetime
    user: str | None
    warnings: str | None
    payload: str


class Sampled(NamedTuple):
    """The fields of a message for a chart; `sent_at` is its wire text, also None if not requested or imported."""

    seq: int
    source: str
    received_at: datetime
    sent_at: str | None


class SqliteBrowser:
    """Inspects the log at `path`.

    With `keep_open` it keeps connections between calls, until `close`; else every method opens the file itself, so no
    lock outlives a call.  Each method raises `UnusableLog` if there is not a log, or it is damaged, or from a newer
    trackcore.
    """

    def __init__(self, path: Path | str, *, keep_open: bool = False) -> None:
        self.path = Path(path)
        self._pool = ReaderPool(self.path, max_idle=_MAX_KEPT if keep_open else 0)

    def close(self) -> None:
        """Close the connections.  A later call opens them again."""
        self._pool.close()

    def version(self) -> tuple[int, int]:
        """Return a value that changes with every change of the log, and may change without one."""
        with self._pool.connection() as (connection, number):
            return number, connection.execute("PRAGMA data_version").fetchone()[0]

    def ends(self) -> dict[Part, int]:
        """Return the last sequence number of each part, even if its record was deleted; 0 for none yet."""
        return dict(zip(PARTS, self._row(_ENDS), strict=True))

    def head(self) -> Head:
        """Return the ends of the log, and the stretch that identifies it."""
        *ends, stretch = self._row(_HEAD)
        return Head({str(part): end for part, end in zip(PARTS, ends, strict=True)}, stretch)

    def has_grown_from(self, stretch: str, ends: Mapping[str, int]) -> bool:
        """Return whether this is the log that had these ends when this was its newest stretch, or a replaced one."""
        limits = self._row(_LIMITS, stretch)
        return limits is not None and all(ends[part] <= limit for part, limit in zip(PARTS, limits, strict=True))

    def listed(self, part: Part, query: Query | Search = EVERYTHING, *, after: int, to: int) -> SeqRange:
        """Do what `between` does; messages and duplicates are `Listed`, and a large payload of others is not read."""
        if part not in _LISTED:
            return self._between(SELECT[part].replace("payload", _SMALL_PAYLOAD), part, query, after, to)
        condition, values = _newest(part, query, after, to)
        (found,) = self._row(_LISTED[part].format(condition), *values)
        rows = [Listed._make((*row[:3], from_milliseconds(row[3]), *row[4:])) for row in msgspec.json.decode(found)]
        return _range(rows, query, after)

    def between(self, part: Part, query: Query = EVERYTHING, *, after: int, to: int) -> SeqRange:
        """Read the rows of a part that match with `after < seq <= to`, newest first, as many as the limit allows."""
        return self._between(SELECT[part], part, query, after, to)

    def _between(self, select: str, part: Part, query: Query | Search, after: int, to: int) -> SeqRange:
        condition, values = _newest(part, query, after, to)
        return _range([READ[part](row) for row in self._rows(f"{select} {condition}", *values)], query, after)

    def one(self, part: Part, seq: int) -> Any:
        """Return a row of a part by its sequence number, or None."""
        return next(iter(self.between(part, after=seq - 1, to=seq).rows), None)

    def payload(self, part: Literal["messages", "duplicates"], seq: int) -> bytes | None:
        """Return the text of a message as it is stored, or None."""
        row = self._row(f"SELECT payload FROM {part} WHERE seq = ?", seq)
        return None if row is None else bytes(row[0])

    def with_message_id(self, message_id: str) -> list[StoredMessage]:
        """Find the messages of this id, one for each source at most."""
        return [read_message(row) for row in self._rows(f"{MESSAGES} WHERE {_OF_ID} ORDER BY seq", message_id)]

    def seq_of(self, source: str, message_id: str) -> int | None:
        """Find the sequence number of a message by what makes it unique."""
        row = self._row(f"SELECT seq FROM messages {WITH_SOURCE} WHERE {_OF_ID} AND name = ?2", message_id, source)
        return None if row is None else int(row[0])

    def sources(self) -> list[str]:
        """Return the names of the sources that have sent something."""
        return [name for (name,) in self._rows("SELECT name FROM sources ORDER BY id")]

    def seqs_at(
        self, times: Sequence[datetime], *, low: int | None = None, high: int | None = None, part: Part = "messages"
    ) -> list[int]:
        """Return for each time the last sequence number received before it, by bisection between two that are known."""
        low = self._row(_FIRST[part])[0] - 1 if low is None else low
        high = self.ends()[part] if high is None else high
        if low >= high:
            return [low] * len(times)
        (found,) = self._row(_BISECT[part], json_array([milliseconds(time) for time in times]), low, high)
        return msgspec.json.decode(found, type=list[int])

    def first_seq(self) -> int:
        """Return the sequence number of the oldest message that is there, or else of the next one to come."""
        return int(self._row(_FIRST["messages"])[0])

    def sampled(self, seqs: Sequence[int], sent_of: Sequence[int]) -> list[Sampled]:
        """Return the fields for charts of the messages with these numbers, and `sent_at` of those in `sent_of`."""
        (found,) = self._row(_SAMPLED, json_array(sent_of), json_array(seqs))
        return [Sampled(seq, name, from_milliseconds(at), sent) for seq, name, at, sent in msgspec.json.decode(found)]

    def sample(self, seqs: Sequence[int]) -> list[StoredMessage]:
        """Return the messages with these sequence numbers."""
        return [read_message(row) for row in self._rows(f"{MESSAGES} WHERE {IN_ARRAY} ORDER BY seq", json_array(seqs))]

    def time_before(self, part: Part, seq: int) -> datetime | None:
        """Return the time of reception of the last record below a sequence number, or None."""
        return self._time(f"SELECT received_at FROM {part} WHERE seq < ? ORDER BY seq DESC LIMIT 1", seq)

    def time_after(self, part: Part, seq: int) -> datetime | None:
        """Return the time of reception of the first record above a sequence number, or None."""
        return self._time(f"SELECT received_at FROM {part} WHERE seq > ? ORDER BY seq LIMIT 1", seq)

    def _time(self, query: str, seq: int) -> datetime | None:
        row = self._row(query, seq)
        return None if row is None else from_milliseconds(row[0])

    def codes(self, after: int, to: int, most: int) -> list[tuple[int, datetime, str]]:
        """Return number, time and code of rejected records with `after < seq <= to`, newest first, at most so many."""
        (found,) = self._row(_REJECTED_CODES, after, to, most)
        return [(seq, from_milliseconds(at), code) for seq, at, code in msgspec.json.decode(found)]

    def names(self, after: int, to: int, most: int) -> list[tuple[int, str | None]]:
        """Return number and event, or name, of messages with `after < seq <= to`, newest first, at most so many."""
        (found,) = self._row(_NAMES, after, to, most)
        return [(seq, None if name is None else str(name)) for seq, name in msgspec.json.decode(found)]

    def counted(self, after: int, to: int) -> list[GroupCount]:
        """Count the messages with `after < seq <= to` by source and call.  Reads each, not its payload."""
        names = ("source", "call", "count", "size", "largest", "retried")
        return [GroupCount(**dict(zip(names, row, strict=True))) for row in self._rows(_GROUPS, after, to)]

    def sizes(self, seqs: Sequence[int]) -> list[int]:
        """Return the sizes in bytes of the messages with these sequence numbers, as they are stored."""
        rows = self._rows(f"SELECT length(payload) FROM messages WHERE {IN_ARRAY}", json_array(seqs))
        return [size for (size,) in rows]

    def refused(self, since: datetime) -> dict[str, int]:
        """Count rejections since a time by code, the quarantined as `unknown_source`.  Both parts are bounded."""
        found = dict(self._rows(_CODES, milliseconds(since)))
        (quarantined,) = self._row("SELECT count(*) FROM quarantine WHERE received_at >= ?", milliseconds(since))
        return found | ({"unknown_source": quarantined} if quarantined else {})

    def _row(self, query: str, *values: object) -> Any:
        with self._pool.connection() as (connection, _):
            return connection.execute(query, values).fetchone()

    def _rows(self, query: str, *values: object) -> list[Any]:
        with self._pool.connection() as (connection, _):
            return connection.execute(query, values).fetchall()


def _newest(part: Part, query: Query | Search, after: int, to: int) -> tuple[str, list[Any]]:
    condition, values = (
        searched(part, query, after=after, last=to)
        if isinstance(query, Search)
        else where(part, query, after=after, last=to)
    )
    return f"{condition} ORDER BY seq DESC LIMIT ?", [*values, -1 if query.limit is None else query.limit]


def _range(rows: Sequence[Any], query: Query | Search, after: int) -> SeqRange:
    return SeqRange(rows=rows, reached=rows[-1].seq if rows and len(rows) == query.limit else after + 1)


def spread(after: int, to: int, most: int) -> list[int]:
    """Return up to `most` sequence numbers with `after < seq <= to`, spread evenly."""
    count = to - after
    if count <= most:
        return list(range(after + 1, to + 1))
    return [after + 1 + place * count // most for place in range(most)]


_CODES = "SELECT code, count(*) FROM rejected WHERE received_at >= ? GROUP BY +code ORDER BY count(*) DESC"
"""The plus keeps SQLite from reading the part in the order of its index on the code."""

_GROUPS = """
    SELECT name, call, n, bytes, largest, retried FROM (
        SELECT source_id, call, count(*) AS n, sum(length(payload)) AS bytes, max(length(payload)) AS largest,
            count(retry_count) AS retried
        FROM messages WHERE seq > ? AND seq <= ? GROUP BY source_id, call
    ) JOIN sources ON sources.id = source_id
"""
_MAX_KEPT = 4

_OF_ID = f"messages.message_id = ?1 AND seq IN ({deduplication.seqs_of('SELECT message_id_hash(id, ?1) FROM sources')})"

_LAST: Mapping[Part, str] = {
    part: f"coalesce((SELECT max(seq) FROM {part}), ({given_out}), 0)"
    for part, given_out in {
        "messages": "SELECT value FROM counters WHERE name = 'messages.seq'",
        **{part: f"SELECT seq FROM sqlite_sequence WHERE name = '{part}'" for part in PARTS[1:]},
    }.items()
}
"""How the last number of each part is found: its newest record may have been deleted, and no number is used again."""

_ENDS = f"SELECT {', '.join(_LAST[part] for part in PARTS)}"
_HEAD = f"{_ENDS}, (SELECT id FROM stretches ORDER BY number DESC LIMIT 1)"
_LIMITS = f"""
    SELECT {", ".join(f"coalesce(following.{part}, {_LAST[part]})" for part in PARTS)}
    FROM stretches AS mine LEFT JOIN stretches AS following
        ON following.number = (SELECT min(number) FROM stretches WHERE number > mine.number)
    WHERE mine.id = ?
"""
"""The ends of a log when a stretch ended, or its ends now if the stretch is the newest."""

_FIRST: Mapping[Part, str] = {
    part: f"SELECT coalesce((SELECT min(seq) FROM {part}), {_LAST[part]} + 1)" for part in PARTS
}
_SMALL_PAYLOAD = "iif(length(payload) <= 40000, payload, x'') AS payload"
"""The payload may be a whole request, which is too much to examine for a row of a list."""
_LISTED: Mapping[Part, str] = {
    part: f"""
        SELECT json_group_array(json(row)) FROM (
            SELECT json_array(seq, name, call, received_at, coalesce(user_id, anonymous_id), cautions,
                CAST(payload AS TEXT)) AS row
            FROM {part} {WITH_SOURCE} {{}}
        )
    """
    for part in ("messages", "duplicates")
}
_SAMPLED = f"""
    SELECT json_group_array(json_array(seq, name, received_at,
        iif(found_by IS NOT 'file' AND {IN_ARRAY},
            json_extract(CAST(payload AS TEXT), '$.sentAt'), NULL)))
    FROM messages {WITH_SOURCE} WHERE {IN_ARRAY}
"""
_NAMES = """
    SELECT json_group_array(json_array(seq, coalesce(json_extract(text, '$.event'), json_extract(text, '$.name')))) FROM
        (SELECT seq, CAST(payload AS TEXT) AS text FROM messages WHERE seq > ? AND seq <= ? ORDER BY seq DESC LIMIT ?)
"""
_REJECTED_CODES = """
    SELECT json_group_array(json_array(seq, received_at, code)) FROM (
        SELECT seq, received_at, code FROM rejected WHERE seq > ? AND seq <= ? ORDER BY seq DESC LIMIT ?
    )
"""


def _bisecting(part: Part) -> str:
    time_at = f"(SELECT received_at FROM {part} WHERE seq >= {{}} ORDER BY seq LIMIT 1)"
    further = "iif(at < time.value, (middle + high + 1) / 2, (low + middle) / 2)"
    return f"""
        SELECT json_group_array((
            WITH RECURSIVE bisected (low, middle, high, at) AS (
                SELECT ?2, (?2 + ?3 + 1) / 2, ?3, {time_at.format("(?2 + ?3 + 1) / 2")}
                UNION ALL
                SELECT iif(at < time.value, middle, low), {further}, iif(at < time.value, high, middle - 1),
                    {time_at.format(further)}
                FROM bisected WHERE low < high
            )
            SELECT low FROM bisected WHERE low >= high
        )) FROM json_each(?1) AS time
    """


_BISECT: Mapping[Part, str] = {part: _bisecting(part) for part in PARTS}
