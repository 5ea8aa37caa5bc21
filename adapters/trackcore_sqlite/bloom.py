"""A Bloom filter over the tables of ids, which avoids almost all lookups there.

Theory.  Almost every id is new, yet finding that out reads a page of each table, another page for each message, and no
cache holds them all.  So the hashes in the tables are kept in memory as a Bloom filter: an array of bits, of which the
hash of an entry sets three.  If one of the three bits is not set, the hash is not in the tables; if all are set, the
tables are read.  The array has 1 MiB, and from 100,000 messages on 8 MiB, so the memory of a server does not grow with
its log; beyond eight million entries there are fewer than eight bits for each, and lookups become more frequent.

A process reads the entries that the tables have already in the order of their hashes, some with each commit; until it
has read those of a hash, it looks that hash up.  Some commits add entries to the tables.  Each addition is written to
`id_moves` in the same transaction, and the newest are kept, so a process learns which hashes other processes have added
since its last commit; if there are too many additions, it discards everything.  (Entries that retention removes leave
their bits behind, at the cost of a lookup.)
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

import msgspec

from trackcore_sqlite.queries import json_array

ADDITIONS_KEPT = 256
LARGE_FROM = 100_000
"""The number of stored messages from which the filter is large."""

_SMALL_BITS, _LARGE_BITS = 20, 23
"""The number of bits in the number of a byte of the array."""

_BLOCK_BYTES = 64
_UNKNOWN = -1


class BloomFilter:
    """Knows of most absent hashes that they are not in the tables.  It belongs to one connection.

    The three bits of a hash are in one block of 64 bytes, so that testing a hash loads one line of the processor's
    cache.  The highest bits of the hash are the number of the block, the lowest are those of the three bits in it.
    """

    addition: int
    """The number of the newest addition that it includes."""

    _bits: bytearray
    _shift: int
    """By how many bits a hash is larger than the number of a byte."""

    _known: int
    """The hash from which on the entries of the tables were not read yet."""

    def __init__(self, connection: sqlite3.Connection, tables: Sequence[str], hash_bits: int) -> None:
        self._connection = connection
        self._read = "SELECT json_group_array(hash) FROM ({})".format(
            " UNION ALL ".join(f"SELECT hash FROM {table} WHERE hash >= :low AND hash < :high" for table in tables)
        )
        self._end = 1 << hash_bits
        self._empty(_UNKNOWN, 0)

    def candidates(self, hashes: Sequence[int]) -> list[int]:
        """Return those of the hashes that may be in the tables."""
        bits, shift, known = self._bits, self._shift, self._known
        return [
            id_hash
            for id_hash in hashes
            if (
                bits[id_hash >> shift & -64 | id_hash & 63] >> (id_hash >> 6 & 7) & 1
                and bits[id_hash >> shift & -64 | id_hash >> 9 & 63] >> (id_hash >> 15 & 7) & 1
                and bits[id_hash >> shift & -64 | id_hash >> 18 & 63] >> (id_hash >> 24 & 7) & 1
            )
            or id_hash >= known
        ]

    def catch_up(self, addition: int, stored: int) -> None:
        """Add the hashes that other processes have added, up to the addition of this number."""
        additions = []
        if self.addition != _UNKNOWN:
            additions = self._connection.execute(_ADDITIONS, (self.addition,)).fetchall()
        if len(additions) == addition - self.addition and all(hashes for (hashes,) in additions):
            for (hashes,) in additions:
                self.add(msgspec.json.decode(hashes))
            self.addition = addition
        else:
            self._empty(addition, stored)

    def load(self, count: int, stored: int) -> None:
        """Read about `count` of the entries that were not read yet; `stored` is the number of all."""
        if stored >= LARGE_FROM and len(self._bits) < 1 << _LARGE_BITS:
            self._enlarge()
        low = self._known
        if low < self._end:
            self._known = min(self._end, low + self._end * count // max(stored, 1) + 1)
            (hashes,) = self._connection.execute(self._read, {"low": low, "high": self._known}).fetchone()
            self.add(msgspec.json.decode(hashes))

    def announce(self, hashes: Sequence[int]) -> None:
        """Announce hashes that are added to the tables, and that it has already, to other processes."""
        self.addition += 1
        self._connection.execute("INSERT INTO id_moves VALUES (?, ?)", (self.addition, json_array(hashes)))
        self._connection.execute("DELETE FROM id_moves WHERE number <= ?", (self.addition - ADDITIONS_KEPT,))

    def add(self, hashes: Iterable[int]) -> None:
        """Add hashes."""
        bits, shift = self._bits, self._shift
        for id_hash in hashes:
            block = id_hash >> shift & -64
            bits[block | id_hash & 63] |= 1 << (id_hash >> 6 & 7)
            bits[block | id_hash >> 9 & 63] |= 1 << (id_hash >> 15 & 7)
            bits[block | id_hash >> 18 & 63] |= 1 << (id_hash >> 24 & 7)

    def _enlarge(self) -> None:
        """Let copies of a block take its place, since its entries may belong to any of them."""
        bits, copies = self._bits, 1 << (_LARGE_BITS - _SMALL_BITS)
        blocks = (bits[start : start + _BLOCK_BYTES] for start in range(0, len(bits), _BLOCK_BYTES))
        self._set_bits(bytearray().join(block * copies for block in blocks))

    def _empty(self, addition: int, stored: int) -> None:
        self.addition = addition
        self._set_bits(bytearray(1 << (_SMALL_BITS if stored < LARGE_FROM else _LARGE_BITS)))
        self._known = 0

    def _set_bits(self, bits: bytearray) -> None:
        self._bits = bits
        self._shift = max(0, self._end.bit_length() - len(bits).bit_length())


_ADDITIONS = "SELECT hashes FROM id_moves WHERE number > ? ORDER BY number"
