"""The id of a message: its key, and the hash under which the tables of ids have it."""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from typing import TypeAlias

Key: TypeAlias = tuple[int, str]
"""The key that makes a message unique: the id of its source, and its messageId."""

HASH_BITS = 47
"""The most that SQLite keeps in six bytes.  Among a billion ids, one new id in 140,000 has the hash of another."""

_DIGEST_BYTES = 6
_SOURCES_CACHED = 1_000


def hash_of(source_id: int, message_id: str) -> int:
    """Return the hash of an id; its name in SQL is `message_id_hash`."""
    digest = _begun(source_id).copy()
    digest.update(message_id.encode())
    return int.from_bytes(digest.digest()) >> (8 * _DIGEST_BYTES - HASH_BITS)


@lru_cache(_SOURCES_CACHED)
def _begun(source_id: int) -> blake2b:
    """Cached, since a copy takes half as long as a new one."""
    return blake2b(b"%d:" % source_id, digest_size=_DIGEST_BYTES)
