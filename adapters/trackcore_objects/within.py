"""A folder of a store, as a store of its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import attrs

from trackcore_objects.store import ObjectStore, StoredFile


@attrs.frozen
class StoreWithin:
    """See `trackcore_objects.store.ObjectStore`.  Its root is a folder of another store."""

    _store: ObjectStore = attrs.field(repr=False)
    _folder: str

    def names(self, folder: str) -> Sequence[str]:
        """See `ObjectStore.names`."""
        return self._store.names(self._below(folder))

    def folders(self, folder: str) -> Sequence[str]:
        """See `ObjectStore.folders`."""
        return self._store.folders(self._below(folder))

    def files_below(self, folder: str) -> Sequence[StoredFile]:
        """See `ObjectStore.files_below`."""
        start = len(self._folder) + 1
        return [StoredFile(key[start:], size) for key, size in self._store.files_below(self._below(folder))]

    def put_new(self, key: str, content: Path | bytes) -> bool:
        """See `ObjectStore.put_new`."""
        return self._store.put_new(self._below(key), content)

    def replace(self, key: str, content: Path) -> None:
        """See `ObjectStore.replace`."""
        self._store.replace(self._below(key), content)

    def copy(self, key: str, target: str) -> None:
        """See `ObjectStore.copy`."""
        self._store.copy(self._below(key), self._below(target))

    def read(self, key: str) -> bytes | None:
        """See `ObjectStore.read`."""
        return self._store.read(self._below(key))

    def read_range(self, key: str, start: int, end: int) -> bytes | None:
        """See `ObjectStore.read_range`."""
        return self._store.read_range(self._below(key), start, end)

    def fetch(self, key: str, target: Path) -> bool:
        """See `ObjectStore.fetch`."""
        return self._store.fetch(self._below(key), target)

    def delete(self, keys: Iterable[str]) -> None:
        """See `ObjectStore.delete`."""
        self._store.delete(map(self._below, keys))

    def prune(self, folder: str) -> None:
        """See `ObjectStore.prune`."""
        self._store.prune(self._below(folder))

    def _below(self, key: str) -> str:
        return f"{self._folder}/{key}" if key else self._folder
