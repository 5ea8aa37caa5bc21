"""A Bloom filter over the large tables of ids, which avoids most lookups there.

Theory.  Almost every id is new, yet finding that out reads a page of each large table, another page for each message,
and no cache holds them all.  So the hashes in these tables are kept in memory as a Bloom filter: the space of hashes is
cut into slices, and a slice is an array of bits, of which the hash of an entry sets three.  If one of the three bits is
not set, the hash is not in the tables; if all are set, the tables are read.  All slices together take 8 MiB, however
few the entries are, so the memory of a server does not grow with its log; beyond eight million entries there are fewer
than eight bits for each, and lookups become more frequent.

A missing slice is read from the tables, one with each commit; until then its hashes are looked up there.  Entries are
added to these tables by moves alone.  Each move is written to `id_moves` in its own transaction, and the newest are
kept, so a process learns which hashes other processes have moved since its last commit; if there are too many moves, it
discards all slices.  (Entries that retention removes leave their bits behind, at the cost of a lookup.)
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

import msgspec

SLICES_BITS = 12
MOVES_KEPT = 256

_SLICE_BYTES = 2_048
_LAST_BIT = 8 * _SLICE_BYTES - 1
_UNKNOWN = -1


class BloomFilter:
    """Knows of most absent hashes that they are not in the large tables.  It belongs to one connection."""

    moved: int
    """The number of the newest move that it includes."""

    def __init__(self, connection: sqlite3.Connection, tables: Sequence[str], hash_bits: int) -> None:
        self.moved = _UNKNOWN
        self._connection = connection
        self._read_slice = "SELECT json_group_array(hash) FROM ({})".format(
            " UNION ALL ".join(f"SELECT hash FROM {table} WHERE hash >= :low AND hash < :high" for table in tables)
        )
        self._shift = hash_bits - SLICES_BITS
        self._discard_all()

    def candidates(self, hashes: Sequence[int]) -> list[int]:
        """Return those of the hashes that may be in the tables."""
        slices, shift = self._slices, self._shift
        return [id_hash for id_hash in hashes if (bits := slices[id_hash >> shift]) is None or _has(bits, id_hash)]

    def catch_up(self, moved: int) -> None:
        """Add the hashes that other processes have moved, up to the move of this number."""
        query = "SELECT hashes FROM id_moves WHERE number > ? ORDER BY number"
        moves = self._connection.execute(query, (self.moved,)).fetchall() if self.moved != _UNKNOWN else []
        if len(moves) == moved - self.moved and all(hashes for (hashes,) in moves):
            for (hashes,) in moves:
                self._add(hashes)
        else:
            self._discard_all()
        self.moved = moved

    def load(self, limit: int) -> None:
        """Read missing slices, `limit` of them at most."""
        for _ in range(min(limit, len(self._missing))):
            self._read(self._missing.pop())

    def move(self, hashes: str) -> None:
        """Announce hashes that are moved into the tables, a JSON array, to other processes, and add them."""
        self.moved += 1
        self._connection.execute("INSERT INTO id_moves VALUES (?, ?)", (self.moved, hashes))
        self._connection.execute("DELETE FROM id_moves WHERE number <= ?", (self.moved - MOVES_KEPT,))
        self._add(hashes)

    def _read(self, number: int) -> None:
        low = number << self._shift
        bounds = {"low": low, "high": low + (1 << self._shift)}
        (hashes,) = self._connection.execute(self._read_slice, bounds).fetchone()
        bits = self._slices[number] = bytearray(_SLICE_BYTES)
        for id_hash in msgspec.json.decode(hashes):
            _set(bits, id_hash)

    def _add(self, hashes: str) -> None:
        for id_hash in msgspec.json.decode(hashes):
            if (bits := self._slices[id_hash >> self._shift]) is not None:
                _set(bits, id_hash)

    def _discard_all(self) -> None:
        self._slices: list[bytearray | None] = [None] * (1 << SLICES_BITS)
        self._missing = list(range(len(self._slices)))


def _places(id_hash: int) -> Iterable[int]:
    return id_hash & _LAST_BIT, (id_hash >> 11) & _LAST_BIT, (id_hash >> 22) & _LAST_BIT


def _has(bits: bytearray, id_hash: int) -> bool:
    return all(bits[place >> 3] >> (place & 7) & 1 for place in _places(id_hash))


def _set(bits: bytearray, id_hash: int) -> None:
    for place in _places(id_hash):
        bits[place >> 3] |= 1 << (place & 7)
