"""Which ids are in the log: the tables of ids, which de-duplication queries for each message.

Theory.  The ids of SDKs are random.  With one index over all of them, every message would change a different page of
it; at millions of messages that costs more than the messages themselves, which are only appended.  So the ids of the
newest messages are in memory alone (see `trackcore_sqlite.recent_ids`).  Some thousand at a time are added to the first
of four tables of increasing size, `message_ids_1` to `message_ids_4`, as entries of a hash and the sequence number of
the message.  That table is so small that the entries share its few pages.  As often, the entries of one range of hashes
move from each table to the next.  They are adjacent in both, so they share pages there as well.  The ranges follow each
other in a cycle; each cycle is longer than the one before it by the same factor, and the last takes as long as a good
part of the log did.  So the largest table is changed the least.  These steps take turns, so that no commit takes long.

Everything happens in the transaction of the messages, so the tables are as safe as the messages, and consistent for
every process.  All tables are searched for an entry; `trackcore_sqlite.bloom` avoids almost all of these lookups.  The
next range follows from the sequence number, so no state is kept for it; a range that was left out would only move one
cycle later.

A hash is a hint: the message that it finds is compared itself, so two ids with one hash do no harm.

As long as no other connection writes, a transaction reads nothing at all: everything is known since the last one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from itertools import pairwise

from trackcore_sqlite.bloom import BloomFilter
from trackcore_sqlite.message_ids import HASH_BITS, Key
from trackcore_sqlite.queries import json_array
from trackcore_sqlite.recent_ids import RecentIds

STEP = 1_024
"""The number of messages from one step to the next."""

TABLES = ("message_ids_1", "message_ids_2", "message_ids_3", "message_ids_4")
"""(`message_ids_0` had the ids of the newest messages until schema 6.)"""

INDEXED = "(SELECT value FROM counters WHERE name = 'ids.seq')"
"""The SQL of the number of the last message whose id is in the tables."""

_READ_WITH_COMMIT = 256
_READ_WITH_MESSAGE = 16
"""How many entries of the tables are read into the filter with each commit, and with each message in it."""

_ROUND = len(TABLES)
"""The number of steps in a round: in one of them the recent ids are added, and in the others entries move."""

_LONGEST_FACTOR = 4
"""The length of a cycle is a power of two, in rounds; each is longer than the one before it by this power at most."""

_LAST_CYCLE_BELOW_ALL = 1
"""By how many powers of two the last cycle is shorter than the number of rounds that the log has had."""


def seqs_of(hashes: str) -> str:
    """Return the SQL of the sequence numbers of messages whose ids may have one of the hashes that a query selects."""
    return f"{_seqs_in_tables(hashes)} UNION ALL SELECT seq FROM messages WHERE seq > {INDEXED}"


def known_among(connection: sqlite3.Connection, seqs: str) -> set[Key]:
    """Return the keys of messages, by their sequence numbers as a JSON array."""
    return set(connection.execute(_KEYS, (seqs,)))


class StoredIds:
    """The ids in the log, for the transactions of one connection; discarded with it when one is rolled back."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._bloom = BloomFilter(connection, TABLES, HASH_BITS)
        self._recent = RecentIds(0)
        self._stored = 0

    @property
    def seq(self) -> int:
        """The last sequence number."""
        return self._recent.last

    def catch_up(self) -> None:
        """Read what other connections have written since the last transaction; needed before the first one as well."""
        seq, stored, indexed, addition = self._connection.execute(_STATE).fetchone()
        self._bloom.catch_up(addition, stored)
        deleted, deleted_before = seq - stored, self.seq - self._stored
        if indexed != self._recent.indexed or deleted != deleted_before:
            self._recent = RecentIds(indexed)
        self._bloom.add(self._recent.read(self._connection, seq))  # as if they were in the tables already
        self._stored = stored

    def find(self, keys: Sequence[Key], hashes: Sequence[int]) -> set[Key]:
        """Return the keys that the log has, and perhaps some that were not looked up."""
        seqs = self._recent.seqs(keys)
        if candidates := self._bloom.candidates(hashes):
            seqs += [seq for (seq,) in self._connection.execute(_SEQS, (json_array(candidates),))]
        return known_among(self._connection, json_array(seqs)) if seqs else set()

    def add(self, keys: Sequence[Key], hashes: Sequence[int]) -> None:
        """Add the ids of the messages that follow the last one, in their order."""
        steps = range(self.seq // STEP, (self.seq + len(keys)) // STEP)
        self._recent.add(keys, hashes)
        self._bloom.add(hashes)
        self._stored += len(keys)
        self._connection.execute(_COUNT, (len(keys),))
        for step in steps:
            self._take_step(step)
        self._bloom.load(_READ_WITH_COMMIT + _READ_WITH_MESSAGE * len(keys), self._stored)

    def _take_step(self, step: int) -> None:
        """Add the recent ids to the first table, or move entries on from one table, from the last one to the first."""
        number, place = divmod(step, _ROUND)
        moves = _moves(self._stored)
        if place == 0:
            self._index()
        elif place <= len(moves):
            newer, older, cycle = moves[-place]
            for statement in _MOVE:
                self._connection.execute(statement.format(newer=newer, older=older), _range(number, cycle))

    def _index(self) -> None:
        hashes = self._recent.hashes
        self._connection.execute(_ADD, (self._recent.indexed + 1, json_array(hashes)))
        self._connection.execute(_SET_INDEXED, (self.seq,))
        self._bloom.announce([id_hash for id_hash in hashes if id_hash is not None])
        self._recent = RecentIds(self.seq)


def read_entries(connection: sqlite3.Connection, where: str, values: Sequence[object]) -> str:
    """Return the entries of the messages that an SQL condition selects, and load their pages into the cache."""
    entries = connection.execute(f"SELECT message_id_hash(source_id, message_id), seq FROM messages {where}", values)
    listed = json_array(entries.fetchall())
    for table in TABLES:
        connection.execute(f"SELECT count(*) FROM {table} {_AMONG}", (listed,)).fetchone()
    return listed


def remove(connection: sqlite3.Connection, entries: str) -> None:
    """Remove entries that `read_entries` returned."""
    for table in TABLES:
        connection.execute(f"DELETE FROM {table} {_AMONG}", (entries,))


def _moves(stored: int) -> list[tuple[str, str, int]]:
    """Return from which table to which entries move, and in how many rounds all of them do, as a power of two.

    A log that is not large needs fewer tables.
    """
    last = max(_LONGEST_FACTOR, (stored // STEP // _ROUND).bit_length() - _LAST_CYCLE_BELOW_ALL)
    count = min(len(TABLES) - 1, -(-last // _LONGEST_FACTOR))
    cycles = [last * level // count for level in range(1, count + 1)]
    return [(*tables, cycle) for tables, cycle in zip(pairwise([*TABLES[:count], TABLES[-1]]), cycles, strict=True)]


def _range(number: int, cycle: int) -> tuple[int, int]:
    """Return the range of hashes that moves in a round, its end excluded."""
    place = number % (1 << cycle)
    return (place << HASH_BITS) >> cycle, ((place + 1) << HASH_BITS) >> cycle


def _seqs_in_tables(hashes: str) -> str:
    return " UNION ALL ".join(f"SELECT seq FROM {table} WHERE hash IN ({hashes})" for table in TABLES)


_STATE = f"""
    SELECT (SELECT value FROM counters WHERE name = 'messages.seq'),
           (SELECT value FROM counters WHERE name = 'messages.count'),
           {INDEXED},
           (SELECT coalesce(max(number), 0) FROM id_moves)
"""
_SEQS = _seqs_in_tables("SELECT value FROM json_each(?1)")
_KEYS = "SELECT source_id, message_id FROM messages WHERE seq IN (SELECT value FROM json_each(?))"
_COUNT = "UPDATE OR FAIL counters SET value = value + ? WHERE name BETWEEN 'messages.count' AND 'messages.seq'"
_SET_INDEXED = "UPDATE counters SET value = ? WHERE name = 'ids.seq'"
_ADD = f"INSERT OR IGNORE INTO {TABLES[0]} SELECT value, ? + key FROM json_each(?) WHERE value IS NOT NULL"
_MOVE = (
    "INSERT OR IGNORE INTO {older} SELECT hash, seq FROM {newer} WHERE hash >= ? AND hash < ?",
    "DELETE FROM {newer} WHERE hash >= ? AND hash < ?",
)
"""An entry that is there already is an inconsistency (see `trackcore_sqlite.id_check`); new messages are stored."""

_AMONG = "WHERE (hash, seq) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?))"
