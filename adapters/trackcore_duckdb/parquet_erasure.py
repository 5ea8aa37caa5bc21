"""Forgetting persons in Parquet files: a file that has rows of theirs is replaced, or deleted if it has no other.

Rows of other tables lead to those of the discards and of the latest traits, which have the ids of messages but not
always those of persons.  So the first are read, then the second rewritten, then the first: a process that is killed in
between finds the rest again.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import attrs
from trackcore_objects import ObjectStore, StoreUnavailable, files_in

from trackcore.warehouse import DISCARDS_TABLE, PROFILE_TABLES
from trackcore_duckdb.compaction import level_of
from trackcore_duckdb.engine import Engine, quoted
from trackcore_duckdb.persons import Persons
from trackcore_duckdb.stored_rows import message_id_column

_DERIVED = frozenset({*PROFILE_TABLES, DISCARDS_TABLE})


@attrs.frozen(kw_only=True)
class ParquetErasure:
    """The files of one source, which are in `folders` by table.  It raises `StoreUnavailable` and `duckdb.Error`."""

    store: ObjectStore
    engine: Engine
    scratch: Path
    folders: dict[str, str]
    persons: Persons

    def run(self) -> None:
        """Forget the persons."""
        message_ids: set[str] = set()
        theirs: list[tuple[str, str]] = []
        for table, key in self._files(are_derived=False):
            local = self._fetched(key)
            found = set(self.engine.ids(local, "id", self.persons.rows(self.engine.columns(local))))
            if found:
                message_ids |= found
                theirs.append((table, key))
        for table, key in self._files(are_derived=True):
            self._rewrite_derived(table, key, sorted(message_ids))
        for table, key in theirs:
            self._rewrite(table, key)

    def _rewrite_derived(self, table: str, key: str, message_ids: list[str]) -> None:
        local = self._fetched(key)
        is_theirs = f"{quoted(message_id_column(table))} IN (SELECT unnest(?::VARCHAR[]))"
        if table == "users":
            is_theirs = f"({is_theirs} OR {self.persons.users()})"
        self._replace(key, local, is_theirs, [message_ids])

    def _rewrite(self, table: str, key: str) -> None:
        local = self._fetched(key)
        columns = self.engine.columns(local)
        is_theirs = self.persons.rows(columns)
        if not self.persons.are_kept:
            self._replace(key, local, is_theirs)
            return
        target = self.scratch / "kept.parquet"
        self.engine.change(local, is_theirs, self.persons.changes(table, columns), target)
        self.store.replace(key, target)

    def _replace(self, key: str, local: Path, is_theirs: str, parameters: list[list[str]] | None = None) -> None:
        """Replace a file by one without some rows, if it has any of them."""
        target = self.scratch / "kept.parquet"
        before, after = self.engine.without(local, is_theirs, parameters or [], target)
        if not after:
            self.store.delete([key])
        elif after < before:
            self.store.replace(key, target)

    def _files(self, *, are_derived: bool) -> Iterator[tuple[str, str]]:
        for table, folder in self.folders.items():
            if (table in _DERIVED) is not are_derived:
                continue
            for day in self.store.folders(folder):
                for file in files_in(self.store, f"{folder}/{day}"):
                    if level_of(file) is not None:
                        yield table, f"{folder}/{day}/{file}"

    def _fetched(self, key: str) -> Path:
        local = self.scratch / "before.parquet"
        if not self.store.fetch(key, local):
            raise StoreUnavailable(detail=f"{key} was deleted by another process")
        return local
