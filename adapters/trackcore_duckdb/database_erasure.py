"""Forgetting persons in a database of DuckDB: their rows are deleted or changed, then the file is rewritten.

DuckDB does not overwrite what it frees: deleted rows, earlier values, and columns before they were widened stay in its
blocks until these are used again, also after a checkpoint.  So the content is copied into another file, which replaces
the database.  A process that is killed before that does it the next time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import attrs
import duckdb
from trackcore_delivery import sync_folder
from trackcore_objects import FolderStore

from trackcore.warehouse import DISCARDS_TABLE, PROFILE_TABLES, ColumnType
from trackcore_duckdb.engine import connect, quoted, text
from trackcore_duckdb.persons import Persons

_FORGOTTEN = "trackcore_forgotten"


@attrs.frozen
class DatabaseErasure:
    """The tables of one source, within a transaction.  It raises `duckdb.Error`."""

    _connection: duckdb.DuckDBPyConnection
    _schema: str
    _persons: Persons

    def run(self, tables: Mapping[str, Mapping[str, ColumnType]]) -> None:
        """Forget the persons in tables, which have these columns."""
        self._connection.execute(f"CREATE OR REPLACE TEMP TABLE {_FORGOTTEN} (id VARCHAR)")
        for table, columns in tables.items():
            if table not in PROFILE_TABLES and table != DISCARDS_TABLE:
                self._forget_in(table, columns)
        if DISCARDS_TABLE in tables:
            self._delete(DISCARDS_TABLE, f"message_id IN (FROM {_FORGOTTEN})")
        if "users" in tables:
            self._delete("users", self._persons.users())
        for table in PROFILE_TABLES & tables.keys() - {"users"}:
            # A value does not say whose message it is from.
            texts = [name for name, column_type in tables[table].items() if column_type is ColumnType.TEXT]
            self._update(table, {name: self._persons.renamed(name) for name in texts if name != "id"}, "TRUE")
        self._connection.execute(f"DROP TABLE {_FORGOTTEN}")

    def _forget_in(self, table: str, columns: Mapping[str, ColumnType]) -> None:
        rows = self._persons.rows(columns)
        self._connection.execute(f"INSERT INTO {_FORGOTTEN} SELECT id FROM {self._name(table)} WHERE {rows}")
        if self._persons.are_kept:
            self._update(table, self._persons.changes(table, columns), rows)
        else:
            self._delete(table, rows)

    def _delete(self, table: str, condition: str) -> None:
        self._connection.execute(f"DELETE FROM {self._name(table)} WHERE {condition}")

    def _update(self, table: str, changes: Mapping[str, str], condition: str) -> None:
        if changes:
            values = ", ".join(f"{quoted(name)} = {value}" for name, value in changes.items())
            self._connection.execute(f"UPDATE {self._name(table)} SET {values} WHERE {condition}")

    def _name(self, table: str) -> str:
        return f"{quoted(self._schema)}.{quoted(table)}"


def rewrite_file(file: Path, scratch: Path) -> None:
    """Replace a database by a copy of its content.  Raises `OSError` and `duckdb.Error`; then it is as it was."""
    with replacement(file, scratch):
        pass


@contextmanager
def replacement(file: Path, scratch: Path, *, kept_as: Path | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
    """Copy the content of a database into the database `fresh` of a connection, which replaces it after the block.

    With `kept_as` the earlier file stays, under that name.  Raises as `rewrite_file` does, and `StoreUnavailable`.
    """
    part = file.with_name(f".{file.name}.part")
    leftovers = (part, log_of(part))
    delete_files(leftovers)
    connection = connect(":memory:", scratch)
    try:
        # From here on, until it is closed, no other process can write.
        connection.execute(f"ATTACH {text(file)} AS stored (READ_ONLY)")
        if log_of(file).exists():
            raise duckdb.IOException("another process has written to the database meanwhile")
        connection.execute(f"ATTACH {text(part)} AS fresh")
        part.chmod(file.stat().st_mode & 0o777)
        connection.execute("COPY FROM DATABASE stored TO fresh")
        yield connection
        connection.execute("DETACH fresh")  # a checkpoint, which is durable
        if kept_as is not None:
            _keep(file, kept_as)
        part.replace(file)
    finally:
        delete_files(leftovers)
        connection.close()
    sync_folder(file.parent)


def log_of(file: Path) -> Path:
    """Return the write-ahead log of a database, which exists while it is written or after its process was killed."""
    return file.with_name(f"{file.name}.wal")


def delete_files(paths: Iterable[Path]) -> None:
    """Delete files, those that exist.  Raises `OSError`."""
    for path in paths:
        path.unlink(missing_ok=True)


def _keep(file: Path, name: Path) -> None:
    """Store a database under another name too, durably.  Raises `StoreUnavailable` and `OSError`."""
    try:
        name.hardlink_to(file)
    except OSError:  # not every file system has links
        if not FolderStore(name.parent).put_new(name.name, file):
            raise
        name.chmod(file.stat().st_mode & 0o777)
    sync_folder(name.parent)
