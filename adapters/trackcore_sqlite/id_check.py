"""The ids and the counters held against the messages, and made anew from them.

Both only repeat what the messages say, and no constraint of SQLite guards them: who deletes messages by other means
than trackcore leaves them behind.  A message that lacks its entry could be stored twice; other misfits do no harm.

Entries and messages are compared by their number and by sums over them, so a log that is in order is read once; only
where these differ, each is looked for.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import attrs
import msgspec
from trackcore_sqlitefile import used_once

from trackcore_sqlite import ids
from trackcore_sqlite.failures import unavailable
from trackcore_sqlite.tables import open_to_tidy

_BUSY_SECONDS = 30.0


@attrs.frozen(kw_only=True)
class Inconsistency:
    """In what ids and counters do not fit the messages.

    Attributes:
        lacking: how many messages have no entry.
        surplus: how many entries belong to no message, or are there more than once.
        miscounted: the parts of the log whose number, or size where it is bounded, is not what their counter says.
        doubled: how many messages have the id of an earlier one.
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
    """Hold ids and counters against the messages, as they are at one instant: others may write meanwhile."""
    connection.execute("BEGIN")
    try:
        lacking, surplus = _compare_entries(connection)
        counted = dict(connection.execute("SELECT name, value FROM counters"))
        held = dict(connection.execute(_NUMBERS))
        doubled = sum(_count_doubled(connection, seqs) for seqs in _of_one_hash(connection))
    finally:
        connection.execute("ROLLBACK")
    miscounted = dict.fromkeys(name.partition(".")[0] for name, number in held.items() if counted.get(name) != number)
    return Inconsistency(lacking=lacking, surplus=surplus, miscounted=tuple(miscounted), doubled=doubled)


def rebuild_ids(path: Path | str) -> None:
    """Make ids and counters anew, in one transaction: some seconds for each million messages.

    Raises:
        UnusableLog: there is no log of ours there.
        SinkUnavailable: it cannot be written now.
    """
    try:
        with used_once(partial(open_to_tidy, Path(path), _BUSY_SECONDS)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            for statement in _MEND:
                connection.execute(statement)
            connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise unavailable(error) from error


def _compare_entries(connection: sqlite3.Connection) -> tuple[int, int]:
    """Tell how many messages lack an entry, and how many entries are surplus."""
    messages = connection.execute(f"SELECT {_SUMS} FROM ({_WANTED})").fetchone()
    entries = connection.execute(f"SELECT {_SUMS} FROM ({_ENTRIES})").fetchone()
    if messages == entries:
        return 0, 0
    (lacking,) = connection.execute(_LACKING).fetchone()
    return lacking, entries[0] - (messages[0] - lacking)


def _of_one_hash(connection: sqlite3.Connection) -> Iterator[list[int]]:
    """Give the sequence numbers of each hash that has several: few, if any."""
    for _, entries in groupby(connection.execute(f"{_ENTRIES} ORDER BY hash"), itemgetter(0)):
        seqs = [seq for _, seq in entries]
        if len(seqs) > 1:
            yield seqs


def _count_doubled(connection: sqlite3.Connection, seqs: list[int]) -> int:
    array = msgspec.json.encode(seqs).decode()
    count: int
    (count,) = connection.execute(_COUNT_MESSAGES, (array,)).fetchone()
    return count - len(ids.known_among(connection, array))


_BOUNDED = ("duplicates", "rejected", "quarantine")
_NUMBERS = " UNION ALL ".join(
    [
        *(f"SELECT '{part}.count', count(*) FROM {part}" for part in ("messages", *_BOUNDED)),
        *(f"SELECT '{part}.bytes', coalesce(sum(size), 0) FROM {part}" for part in _BOUNDED),
    ]
)
"""What the counters should say.  The bytes decide what is dropped: were they too many, nothing new would be kept."""
_COUNT_MESSAGES = "SELECT count(*) FROM messages WHERE seq IN (SELECT value FROM json_each(?))"

_SUMS = "count(*), sum(seq), sum(hash >> 16), sum(((hash & 0xffffff) * (seq & 0xffffff)) & 0xffffffff)"
"""Of pairs of seq and hash, in whatever order.  The terms have 32 bits, so that the sums do not overflow."""

_WANTED = "SELECT seq, message_id_hash(source_id, message_id) AS hash FROM messages LIMIT -1"
"""The entries that there should be.  The limit keeps SQLite from computing a hash as often as it is mentioned."""

_ENTRIES = " UNION ALL ".join(f"SELECT hash, seq FROM {table}" for table in ids.TABLES)
_LACKING = f"SELECT count(*) FROM ({_WANTED}) AS wanted WHERE " + " AND ".join(
    f"NOT EXISTS (SELECT 1 FROM {table} WHERE {table}.hash = wanted.hash AND {table}.seq = wanted.seq)"
    for table in reversed(ids.TABLES)
)
_MEND = [
    *(f"DELETE FROM {table}" for table in ids.TABLES),
    f"INSERT INTO {ids.TABLES[-1]} SELECT message_id_hash(source_id, message_id), seq FROM messages ORDER BY 1, 2",
    "INSERT INTO id_moves SELECT coalesce(max(number), 0) + 1, NULL FROM id_moves",
    f"INSERT OR REPLACE INTO counters {_NUMBERS}",
]
