"""Many small Parquet files become few large ones, and files get the wider types of columns.

Theory.  Sixteen files of one folder and level are merged into one of the next level, so that a row is written again at
most as often as there are levels, and a folder has few files of each.  The merged file is put first, then those that it
was made of are deleted; a reader in between sees their rows twice.  A process that is killed there is sent the same
batch again, comes to the same folders, and deletes a file whose messages all are in one of a higher level.

A file that has an earlier type of a column is rewritten in place, with the same rows: a reader sees the one or the
other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import attrs
from trackcore_objects import FileName, ObjectStore, digest_of, files_in, partition_of

from trackcore.warehouse import ColumnType
from trackcore_duckdb.engine import Engine

FILES_OF_A_LEVEL = 16
LEVELS = 3
"""Merged files are of level 1 and 2."""

LARGEST_BYTES = 512 << 20
"""Files that are larger together are not merged: readers like files of this size."""

_LEVEL = re.compile(r"(?:\.c(\d))?\.parquet", re.ASCII)


def level_of(file: FileName) -> int | None:
    """Return the level of a file, None if it is not one of Parquet."""
    match = _LEVEL.fullmatch(file.suffix)
    return match and int(match[1] or 0)


@attrs.define(kw_only=True)
class Compaction:
    """The files of one table.  Every method raises `StoreUnavailable` and `duckdb.Error`."""

    store: ObjectStore
    engine: Engine
    scratch: Path
    folder: str
    columns: Mapping[str, ColumnType]
    id_column: str
    checked: set[str]
    """The folders in which this process has looked for leftovers of a killed one."""

    def compact(self, folder: str, files: Sequence[FileName]) -> None:
        """Merge small files of a folder, which has these files, if there are enough."""
        if folder not in self.checked:
            files = self._without_leftovers(folder, files)
            self.checked.add(folder)
        for level in range(LEVELS - 1):
            for group in _mergeable(files, level):
                files = self._merge(folder, group, level + 1, files)

    def widen_all(self) -> None:
        """Rewrite all files of the table that have an earlier type of a column."""
        for day in self.store.folders(self.folder):
            folder = f"{self.folder}/{day}"
            for file in files_in(self.store, folder):
                if level_of(file) is not None:
                    self._widen(f"{folder}/{file}")

    def _widen(self, key: str) -> None:
        local, target = self.scratch / "narrow.parquet", self.scratch / "wide.parquet"
        if not self.store.fetch(key, local):
            return
        present = self.engine.columns(local)
        if all(self.columns.get(name, before) is before for name, before in present.items()):
            return
        self.engine.merge([local], {name: self.columns.get(name, before) for name, before in present.items()}, target)
        self.store.replace(key, target)

    def _merge(self, folder: str, group: Sequence[FileName], level: int, files: Sequence[FileName]) -> list[FileName]:
        local = list(self._fetched(folder, group))
        if sum(path.stat().st_size for path in local) > LARGEST_BYTES:
            return [*files]
        target = self.scratch / "merged.parquet"
        columns = {name: column_type for path in local for name, column_type in self.engine.columns(path).items()}
        self.engine.merge(local, {**columns, **self.columns}, target)
        first, last = min(file.first for file in group), max(file.last for file in group)
        merged = FileName(first, last, digest_of(map(str, group)), f".c{level}.parquet")
        self.store.put_new(f"{folder}/{merged}", target)
        self.store.delete([f"{folder}/{file}" for file in group])
        for path in local:
            path.unlink()
        return [merged, *(file for file in files if file not in group)]

    def _fetched(self, folder: str, group: Sequence[FileName]) -> Iterator[Path]:
        for number, file in enumerate(group):
            path = self.scratch / f"part-{number}.parquet"
            if self.store.fetch(f"{folder}/{file}", path):
                yield path

    def _without_leftovers(self, folder: str, files: Sequence[FileName]) -> list[FileName]:
        """Delete files that were merged already, after a process was killed before it could."""
        kept = list(files)
        for merged in files:
            for file in _within(merged, files):
                if self._ids(folder, file) <= self._ids(folder, merged):
                    self.store.delete([f"{folder}/{file}"])
                    kept.remove(file)
        return kept

    def _ids(self, folder: str, file: FileName) -> set[str]:
        local = self.scratch / "ids.parquet"
        return set(self.engine.ids(local, self.id_column)) if self.store.fetch(f"{folder}/{file}", local) else set()


def _mergeable(files: Sequence[FileName], level: int) -> Iterator[Sequence[FileName]]:
    """Yield the files of a level that are enough to be merged, those of each partition by themselves."""
    partitions: dict[int, list[FileName]] = {}
    for file in sorted(files, key=str):
        if level_of(file) == level:
            partitions.setdefault(partition_of(file.first), []).append(file)
    yield from (found for found in partitions.values() if len(found) >= FILES_OF_A_LEVEL)


def _within(merged: FileName, files: Sequence[FileName]) -> list[FileName]:
    """Return the files of lower levels whose range is within that of a merged one."""
    level = level_of(merged) or 0
    return [
        file
        for file in files
        if (lower := level_of(file)) is not None
        and lower < level
        and merged.first <= file.first
        and file.last <= merged.last
    ]
