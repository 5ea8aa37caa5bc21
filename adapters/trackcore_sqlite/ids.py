"""Which ids are in the log: what de-duplication asks with each message.

Theory.  The ids of SDKs are random.  One index over all of them would have every message change a page of its own, each
somewhere else; at millions of messages that costs more than the messages themselves, which are only appended.  So the
ids lie in four tables of rising size, `message_ids_0` to `message_ids_3`, as entries of a hash and the sequence number
of the message.  A new entry goes into the first, which is so small that the entries of a commit share its few pages.
With every `STEP` messages the entries of one range of hashes move on from each table to the next.  They lie side by
side in both, so they share pages there as well.  The ranges come round in a cycle, and each cycle is as many times as
long as the one before it, from the first table to the size of the whole log; thus of a hundred messages some twenty
pages are changed where it were a hundred, and it grows with the third root of the log.

Everything happens in the transaction of the messages, so the tables are as safe as those are, and right for every
process.  An entry is found wherever it is by now.  Which range is next follows from the sequence number, so nothing is
to be remembered; a range that was left out would only move on one cycle later.

A hash is a hint: what it finds is compared with the message itself, so two ids of one hash do no harm.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from hashlib import blake2b
from itertools import pairwise
from typing import TypeAlias

import msgspec

HASH_BITS = 48
"""The most that SQLite keeps in six bytes.  Among a billion ids, one new one in 280,000 meets the hash of another."""

STEP = 512
"""How many messages are stored from one move to the next."""

Key: TypeAlias = tuple[int, str]
"""What makes a message unique: the id of its source, and its messageId."""

TABLES = ("message_ids_0", "message_ids_1", "message_ids_2", "message_ids_3")

_DIGEST_BYTES = 6
_FIRST_CYCLE = 2  # as the power of two of steps: the first table holds 1,024 entries on average
_LAST = len(TABLES) - 1


def hash_of(source_id: int, message_id: str) -> int:
    """Give the hash under which an id is kept; SQL knows it as `message_id_hash`."""
    digest = blake2b(b"%d:%s" % (source_id, message_id.encode()), digest_size=_DIGEST_BYTES).digest()
    return int.from_bytes(digest) >> (8 * _DIGEST_BYTES - HASH_BITS)


def seqs_of(hashes: str) -> str:
    """Give the SQL that selects the sequence numbers kept under hashes, which an SQL query selects."""
    return " UNION ALL ".join(f"SELECT seq FROM {table} WHERE hash IN ({hashes})" for table in TABLES)


def known_among(connection: sqlite3.Connection, seqs: str) -> set[Key]:
    """Give the keys of messages, by their sequence numbers as a JSON array."""
    return set(connection.execute(_KEYS, (seqs,)))


def add(connection: sqlite3.Connection, hashes: Sequence[int], seq: int, stored: int) -> None:
    """Add the entries of the messages behind `seq`, in their order.

    Args:
        connection: in the transaction that stores the messages.
        hashes: of each of them.
        seq: the sequence number before the first of them.
        stored: how many messages the log holds.
    """
    connection.execute(_ADD, (seq + 1, msgspec.json.encode(hashes).decode()))
    for step in range(seq // STEP, (seq + len(hashes)) // STEP):
        for level in reversed(range(_LAST)):
            entries = _range(step, _cycle(level, stored))
            connection.execute(_COPY[level], entries)
            connection.execute(_DROP[level], entries)


def remove(connection: sqlite3.Connection, where: str, values: Sequence[object]) -> None:
    """Remove the entries of messages that are about to be deleted, named by an SQL condition on them."""
    entries = connection.execute(f"SELECT message_id_hash(source_id, message_id), seq FROM messages {where}", values)
    array = msgspec.json.encode(entries.fetchall()).decode()
    for statement in _REMOVE:
        connection.execute(statement, (array,))


def _cycle(level: int, stored: int) -> int:
    """Tell after how many steps the entries of a table have all moved on, as a power of two."""
    whole = max(_FIRST_CYCLE, (2 * stored // STEP).bit_length())
    return _FIRST_CYCLE + level * (whole - _FIRST_CYCLE) // _LAST


def _range(step: int, cycle: int) -> tuple[int, int]:
    """Give the range of hashes, its end excluded, that is next in a cycle."""
    place = step % (1 << cycle)
    return (place << HASH_BITS) >> cycle, ((place + 1) << HASH_BITS) >> cycle


_KEYS = "SELECT source_id, message_id FROM messages WHERE seq IN (SELECT value FROM json_each(?))"
_ADD = f"INSERT INTO {TABLES[0]} SELECT value, ? + key FROM json_each(?)"
_COPY = [
    f"INSERT INTO {older} SELECT hash, seq FROM {newer} WHERE hash >= ? AND hash < ?"
    for newer, older in pairwise(TABLES)
]
_DROP = [f"DELETE FROM {newer} WHERE hash >= ? AND hash < ?" for newer in TABLES[:-1]]
_REMOVE = [
    f"DELETE FROM {table} WHERE (hash, seq) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?))" for table in TABLES
]
