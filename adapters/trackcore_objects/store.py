"""The interface of a store of files: a folder (`folder`) or a bucket (`s3`).

A key is a path with `/`, relative to the root of the store.  Files appear whole or not at all, and those of the same
key never replace each other, unless `replace` or `copy` is called.  Every method raises `StoreUnavailable`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import attrs

from trackcore import TrackcoreError


@attrs.define(kw_only=True, eq=False)
class StoreUnavailable(TrackcoreError):
    """The store has not done what it was asked for; it may have, if its answer was lost."""

    detail: str


class StoredFile(NamedTuple):
    """A file of a store: its key and its size in bytes."""

    key: str
    size: int

    @property
    def name(self) -> str:
        """The last part of the key."""
        return self.key.rpartition("/")[2]


class ObjectStore(Protocol):
    """A folder or a bucket."""

    def names(self, folder: str) -> Sequence[str]:
        """Return the names of the files in a folder, sorted; none if there is no such folder."""

    def folders(self, folder: str) -> Sequence[str]:
        """Return the names of the folders in a folder, sorted; none if there is no such folder."""

    def files_below(self, folder: str) -> Sequence[StoredFile]:
        """Return the files in a folder and in all folders below it, sorted by their keys.

        Nothing is changed, while `names` may delete what a crashed process has left.
        """

    def put_new(self, key: str, content: Path | bytes) -> bool:
        """Store a file durably; return False, and store nothing, if the key exists."""

    def replace(self, key: str, content: Path) -> None:
        """Store a file durably, in place of the one with this key."""

    def copy(self, key: str, target: str) -> None:
        """Store a file under another key too, durably, in place of the one with that key."""

    def read(self, key: str) -> bytes | None:
        """Return the content of a file, None if there is none."""

    def read_range(self, key: str, start: int, end: int) -> bytes | None:
        """Return a part of a file, up to `end` exclusively, None if there is no such file."""

    def fetch(self, key: str, target: Path) -> bool:
        """Copy a file into a local one; return False if there is none."""

    def delete(self, keys: Iterable[str]) -> None:
        """Delete files durably, those that exist."""

    def prune(self, folder: str) -> None:
        """Delete a folder, and those below it, as far as they have no files; a bucket has no such folders."""
