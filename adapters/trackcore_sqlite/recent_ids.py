"""The ids of the newest messages, which are not in the tables of ids yet.

Every process has them in memory.  On the disk the messages themselves are the record of them: a process that opens the
log reads their ids from there, and after another process has written, it reads the ids of those messages.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from itertools import count

from trackcore_sqlite.message_ids import Key, hash_of


class RecentIds:
    """The ids of the messages after the one numbered `indexed`, up to the one numbered `last`."""

    def __init__(self, indexed: int) -> None:
        self.indexed = self.last = indexed
        self.hashes: list[int | None] = []
        """The hashes of the ids in order, None for a message that was deleted."""
        self._seqs: dict[Key, int] = {}

    def seqs(self, keys: Iterable[Key]) -> list[int]:
        """Return the sequence numbers of those of the keys that are among these."""
        seqs = self._seqs
        return [seqs[key] for key in keys if key in seqs]

    def add(self, keys: Sequence[Key], hashes: Sequence[int]) -> None:
        """Add the messages that follow the last one."""
        self._seqs.update(zip(keys, count(self.last + 1), strict=False))
        self.hashes += hashes
        self.last += len(keys)

    def read(self, connection: sqlite3.Connection, last: int) -> Iterable[int]:
        """Add the stored ones of the messages up to the one numbered `last`, and return the hashes of their ids."""
        found = connection.execute(_IDS, (self.last, last)).fetchall()
        hashes = {seq: hash_of(source_id, message_id) for seq, source_id, message_id in found}
        self._seqs.update(((source_id, message_id), seq) for seq, source_id, message_id in found)
        self.hashes += map(hashes.get, range(self.last + 1, last + 1))
        self.last = last
        return hashes.values()


_IDS = "SELECT seq, source_id, message_id FROM messages WHERE seq > ? AND seq <= ?"
