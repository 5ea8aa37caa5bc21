"""The id index and the counters: compared with the messages, and rebuilt from them.

Both are derived from the messages, and no constraint of SQLite guards them: deleting messages with another tool leaves
stale entries.  A message without its entry could be stored twice; other inconsistencies do no harm.

Entries and messages are compared by their number and by checksums, so a consistent log is read once; only if these
differ, each entry is looked up.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import attrs
from trackcore_sqlitefile import used_once

from trackcore_sqlite import deduplication
from trackcore_sqlite.failures import unavailable
from trackcore_sqlite.queries import json_array
from trackcore_sqlite.tables import open_to_tidy


@attrs.frozen(kw_only=True)
class Inconsistency:
    """Inconsistencies between the id index, the counters and the messages.

    `lacking` messages have no entry, `surplus` entries (repeated ones included) have no message, `doubled` messages
    have the id of an earlier one; `miscounted` parts have another number, or size where it is bounded, than counted.
    """

    lacking: int = 0
    surplus: int = 0
    miscounted: tuple[str, ...] = ()
    doubled: int = 0

    @property
    def can_be_rebuilt(self) -> bool:
        """Whether `rebuild_ids` changes anything."""
        return bool(self.lacking or self.surplus or self.miscounted)

    def __bool__(self) -> bool:
        return self.can_be_rebuilt or self.doubled > 0


CONSISTENT = Inconsistency()


def compare_ids(connection: sqlite3.Connection) -> Inconsistency:
    """Compare ids and counters with the messages in one snapshot: other processes may write meanwhile."""
    connection.execute("BEGIN")
    try:
        lacking, surplus = _compare_entries(connection)
        counted = dict(connection.execute("SELECT name, value FROM counters"))
        held = dict(connection.execute(_NUMBERS))
        doubled = sum(_count_doubled(connection, seqs) for seqs in _seqs_by_hash(connection))
    finally:
        connection.execute("ROLLBACK")
    miscounted = dict.fromkeys(name.partition(".")[0] for name, number in held.items() if counted.get(name) != number)
    return Inconsistency(lacking=lacking, surplus=surplus, miscounted=tuple(miscounted), doubled=doubled)


def rebuild_ids(path: Path | str) -> None:
    """Rebuild the id index and the counters in one transaction: some seconds for each million messages.

    Raises `UnusableLog` if the path does not have a log of trackcore, `SinkUnavailable` if it cannot be written now.
    """
    try:
        with used_once(partial(open_to_tidy, Path(path))) as connection:
            connection.execute("BEGIN IMMEDIATE")
            for statement in _REBUILD:
                connection.execute(statement)
            connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise unavailable(error) from error


def _compare_entries(connection: sqlite3.Connection) -> tuple[int, int]:
    messages = connection.execute(f"SELECT {_SUMS} FROM ({_WANTED})").fetchone()
    entries = connection.execute(f"SELECT {_SUMS} FROM ({_ENTRIES})").fetchone()
    if messages == entries:
        return 0, 0
    (lacking,) = connection.execute(_LACKING).fetchone()
    return lacking, entries[0] - (messages[0] - lacking)


def _seqs_by_hash(connection: sqlite3.Connection) -> Iterator[list[int]]:
    """Yield the sequence numbers of each hash that has several: few, if any."""
    for _, entries in groupby(connection.execute(f"{_ENTRIES} UNION ALL {_RECENT} ORDER BY hash"), itemgetter(0)):
        seqs = [seq for _, seq in entries]
        if len(seqs) > 1:
            yield seqs


def _count_doubled(connection: sqlite3.Connection, seqs: list[int]) -> int:
    array = json_array(seqs)
    (count,) = connection.execute(_COUNT_MESSAGES, (array,)).fetchone()
    return int(count) - len(deduplication.known_among(connection, array))


_BOUNDED = ("duplicates", "rejected", "quarantine")
_NUMBERS = " UNION ALL ".join(
    [
        *(f"SELECT '{part}.count', count(*) FROM {part}" for part in ("messages", *_BOUNDED)),
        *(f"SELECT '{part}.bytes', coalesce(sum(size), 0) FROM {part}" for part in _BOUNDED),
    ]
)
"""The correct counters.  The bytes decide which records are dropped: if they were too many, no new one would stay."""
_COUNT_MESSAGES = "SELECT count(*) FROM messages WHERE seq IN (SELECT value FROM json_each(?))"

_SUMS = "count(*), sum(seq), sum(hash >> 16), sum(((hash & 0xffffff) * (seq & 0xffffff)) & 0xffffffff)"
"""Checksums of pairs of seq and hash, in any order.  The terms have 32 bits, so that the sums do not overflow."""

_WANTED = f"""
    SELECT seq, message_id_hash(source_id, message_id) AS hash FROM messages
    WHERE seq <= {deduplication.INDEXED} LIMIT -1
"""
"""The correct entries.  The limit keeps SQLite from computing a hash as often as the query mentions it."""

_ENTRIES = " UNION ALL ".join(f"SELECT hash, seq FROM {table}" for table in deduplication.TABLES)
_RECENT = f"""
    SELECT message_id_hash(source_id, message_id), seq FROM messages WHERE seq > {deduplication.INDEXED}
"""
_LACKING = f"SELECT count(*) FROM ({_WANTED}) AS wanted WHERE " + " AND ".join(
    f"NOT EXISTS (SELECT 1 FROM {table} WHERE {table}.hash = wanted.hash AND {table}.seq = wanted.seq)"
    for table in reversed(deduplication.TABLES)
)
_REBUILD = [
    *(f"DELETE FROM {table}" for table in deduplication.TABLES),
    f"INSERT OR REPLACE INTO counters {_NUMBERS}",
    "INSERT OR REPLACE INTO counters SELECT 'ids.seq', value FROM counters WHERE name = 'messages.seq'",
    f"INSERT INTO {deduplication.TABLES[-1]} SELECT hash, seq FROM ({_WANTED}) ORDER BY 1, 2",
    "INSERT INTO id_moves SELECT coalesce(max(number), 0) + 1, NULL FROM id_moves",
]
