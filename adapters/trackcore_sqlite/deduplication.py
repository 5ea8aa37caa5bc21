"""The index of the ids in the log, which de-duplication queries for each message.

Theory.  The ids of SDKs are random.  With one index over all of them, every message would change a different page of
it; at millions of messages that costs more than the messages themselves, which are only appended.  So the ids are in
five tables of increasing size, `message_ids_0` to `message_ids_4`, as entries of a hash and the sequence number of the
message.  A new entry goes into the first table, which is so small that the entries of a commit share its few pages.
With every `STEP` messages the entries of one range of hashes move from each table to the next.  They are adjacent in
both, so they share pages there as well.  The ranges follow each other in a cycle; each cycle is longer than the one
before it by the same factor, and the last takes as long as a good part of the log did.  So the largest table is changed
the least: where a hundred messages would change a hundred pages of it, they change two, and about ten of the smaller
tables, which are in memory anyway.

Everything happens in the transaction of the messages, so the tables are as safe as the messages, and consistent for
every process.  All tables are searched for an entry; `trackcore_sqlite.bloom` avoids most lookups in the large ones.
The next range follows from the sequence number, so no state is kept for it; a range that was left out would only move
one cycle later.

A hash is a hint: the message that it finds is compared itself, so two ids with one hash do no harm.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from hashlib import blake2b
from itertools import pairwise
from typing import NamedTuple, TypeAlias

from trackcore_sqlite.bloom import BloomFilter
from trackcore_sqlite.queries import json_array

HASH_BITS = 47
"""The most that SQLite keeps in six bytes.  Among a billion ids, one new id in 140,000 has the hash of another."""

STEP = 512
"""The number of messages from one move to the next."""

FILTERED_FROM = 100_000
"""The number of stored messages from which the Bloom filter saves time."""

Key: TypeAlias = tuple[int, str]
"""The key that makes a message unique: the id of its source, and its messageId."""

TABLES = ("message_ids_0", "message_ids_1", "message_ids_2", "message_ids_3", "message_ids_4")

_MESSAGES_PER_SLICE = 64
"""The number of messages for which a further slice of the filter is read, in addition to one with each commit."""

_DIGEST_BYTES = 6
_FIRST_CYCLE = 2
"""The length of a cycle is a power of two, in steps; so the first table holds 1,024 entries on average."""

_LAST_CYCLE_BELOW_ALL = 1
"""By how many powers of two the last cycle is shorter than the number of steps that the log has had."""

_LAST = len(TABLES) - 1
_SMALL, _LARGE = TABLES[:2], TABLES[2:]


def hash_of(source_id: int, message_id: str) -> int:
    """Return the hash under which an id is stored; its name in SQL is `message_id_hash`."""
    digest = blake2b(b"%d:%s" % (source_id, message_id.encode()), digest_size=_DIGEST_BYTES).digest()
    return int.from_bytes(digest) >> (8 * _DIGEST_BYTES - HASH_BITS)


def seqs_of(hashes: str) -> str:
    """Return the SQL that selects the sequence numbers stored under the hashes that an SQL query selects."""
    return _seqs_in(TABLES, hashes)


def known_among(connection: sqlite3.Connection, seqs: str) -> set[Key]:
    """Return the keys of messages, by their sequence numbers as a JSON array."""
    return set(connection.execute(_KEYS, (seqs,)))


class Found(NamedTuple):
    """The state of the log at the beginning of a transaction.

    `seq` is the last sequence number, `stored` the number of messages, `known` has the keys that were looked up and are
    stored, and `schema` is SQLite's number of the schema (see `schema_of`).
    """

    seq: int
    stored: int
    known: set[Key]
    schema: int


class StoredIds:
    """The ids in the log, for the transactions of one connection; discarded with it when one is rolled back."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._bloom = BloomFilter(connection, _LARGE, HASH_BITS)

    def find(self, hashes: Sequence[int]) -> Found:
        """Look up ids by their hashes.  The result may contain keys that were not looked up."""
        seq, stored, moved, hits, schema = self._look_up(hashes)
        if moved != self._bloom.moved:
            self._bloom.catch_up(moved)
            _, _, _, hits, _ = self._look_up(hashes)
        known = known_among(self._connection, hits) if hits != _NOTHING else set()
        return Found(seq, stored, known, schema)

    def add(self, hashes: Sequence[int], found: Found) -> None:
        """Add the ids of the messages that follow those found, in their order."""
        self._connection.execute(_ADD, (found.seq + 1, json_array(hashes)))
        for step in range(found.seq // STEP, (found.seq + len(hashes)) // STEP):
            self._move_on(step, found.stored)
        if found.stored >= FILTERED_FROM:
            self._bloom.load(1 + len(hashes) // _MESSAGES_PER_SLICE)

    def _look_up(self, hashes: Sequence[int]) -> tuple[int, int, int, str, int]:
        looked_for = {"small": json_array(hashes), "large": json_array(self._bloom.candidates(hashes))}
        found: tuple[int, int, int, str, int] = self._connection.execute(_LOOK_UP, looked_for).fetchone()
        return found

    def _move_on(self, step: int, stored: int) -> None:
        for level in reversed(range(_LAST)):
            low, high = _range(step, _cycle(level, stored))
            if level == len(_SMALL) - 1:
                (moved,) = self._connection.execute(_READ_MOVED, (low, high)).fetchone()
                self._bloom.move(moved)
            self._connection.execute(_COPY[level], (low, high))
            self._connection.execute(_DROP[level], (low, high))


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


def _cycle(level: int, stored: int) -> int:
    """Return the number of steps in which all entries of a table move, as a power of two."""
    last = max(_FIRST_CYCLE, (stored // STEP).bit_length() - _LAST_CYCLE_BELOW_ALL)
    return _FIRST_CYCLE + level * (last - _FIRST_CYCLE) // (_LAST - 1)


def _range(step: int, cycle: int) -> tuple[int, int]:
    """Return the next range of hashes in a cycle, its end excluded."""
    place = step % (1 << cycle)
    return (place << HASH_BITS) >> cycle, ((place + 1) << HASH_BITS) >> cycle


def _seqs_in(tables: Sequence[str], hashes: str) -> str:
    return " UNION ALL ".join(f"SELECT seq FROM {table} WHERE hash IN ({hashes})" for table in tables)


_NOTHING = "[]"
_LOOK_UP = f"""
    SELECT (SELECT value FROM counters WHERE name = 'messages.seq'),
           (SELECT value FROM counters WHERE name = 'messages.count'),
           (SELECT coalesce(max(number), 0) FROM id_moves),
           (SELECT json_group_array(seq) FROM (
               {_seqs_in(_SMALL, "SELECT value FROM json_each(:small)")}
               UNION ALL {_seqs_in(_LARGE, "SELECT value FROM json_each(:large)")}
           )),
           (SELECT schema_version FROM pragma_schema_version)
"""
_READ_MOVED = f"SELECT json_group_array(hash) FROM {_SMALL[-1]} WHERE hash >= ? AND hash < ?"
_KEYS = "SELECT source_id, message_id FROM messages WHERE seq IN (SELECT value FROM json_each(?))"
_ADD = f"INSERT INTO {TABLES[0]} SELECT value, ? + key FROM json_each(?)"
_COPY = [
    f"INSERT OR IGNORE INTO {older} SELECT hash, seq FROM {newer} WHERE hash >= ? AND hash < ?"
    for newer, older in pairwise(TABLES)
]
"""An entry that is there already is an inconsistency (see `trackcore_sqlite.id_check`); new messages are stored."""

_DROP = [f"DELETE FROM {newer} WHERE hash >= ? AND hash < ?" for newer in TABLES[:-1]]
_AMONG = "WHERE (hash, seq) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?))"
