"""The interface of a store of files: a folder (`folder`) or a bucket (`s3`).

A key is a path with `/`, relative to the root of the store.  Files appear whole or not at all, and those of the same
key never replace each other, unless `replace` is called.  Every method raises `StoreUnavailable`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import attrs

from trackcore import TrackcoreError


@attrs.define(kw_only=True, eq=False)
class StoreUnavailable(TrackcoreError):
    """The store has not done what it was asked for; it may have, if its answer was lost."""

    detail: str


class ObjectStore(Protocol):
    """A folder or a bucket."""

    def names(self, folder: str) -> Sequence[str]:
        """Return the names of the files in a folder, sorted; none if there is no such folder."""

    def folders(self, folder: str) -> Sequence[str]:
        """Return the names of the folders in a folder, sorted; none if there is no such folder."""

    def put_new(self, key: str, content: Path | bytes) -> bool:
        """Store a file durably; return False, and store nothing, if the key exists."""

    def replace(self, key: str, content: Path) -> None:
        """Store a file durably, in place of the one with this key."""

    def read(self, key: str) -> bytes | None:
        """Return the content of a file, None if there is none."""

    def fetch(self, key: str, target: Path) -> bool:
        """Copy a file into a local one; return False if there is none."""

    def delete(self, keys: Iterable[str]) -> None:
        """Delete files, those that exist."""
