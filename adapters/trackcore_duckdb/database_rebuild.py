"""A rebuild of a database: fresh tables are filled in a file beside it, `NAME.new`, and take their place at the end.

Then the database is copied, the tables of the sources in the copy are replaced by the fresh ones, and the copy gets the
name of the database: at no moment is there no file of that name, or half of one.  The earlier file stays as `NAME.old`:
a rebuild deletes nothing, and refuses to begin while it would have to.  Tables and views of others are in the
copy too; a view reads the fresh tables, since DuckDB binds it to names.

A process that was killed before the copy got its name has changed nothing; its files are deleted when the next rebuild
begins.  `NAME.old` is then another name of the database itself, if it is there already.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from shlex import quote
from time import sleep

import attrs
import duckdb
from trackcore_delivery import scratch_folder, sync_folder

from trackcore.warehouse import OldTablesRemain, WarehouseOptions
from trackcore_duckdb.database import DatabaseSender, keyed_tables, schemas_in
from trackcore_duckdb.database_erasure import delete_files, log_of, replacement
from trackcore_duckdb.database_files import end_interrupted_swap, fresh_file, old_file
from trackcore_duckdb.engine import connect, quoted, retried, text

ATTEMPTS = 60
"""How often a database is tried that another process has open: a rebuild of hours should not be in vain."""

_PAUSE_SECONDS = 1.0


@attrs.define(kw_only=True)
class DatabaseRebuild:
    """A rebuild of a database in a file.  `sender` loads the messages."""

    _file: Path = attrs.field(alias="file")
    _options: WarehouseOptions = attrs.field(alias="options")
    _pattern: str = attrs.field(alias="schema")
    sender: DatabaseSender = attrs.field(init=False)

    @sender.default
    def _sender(self) -> DatabaseSender:
        return DatabaseSender(file=fresh_file(self._live), options=self._options, schema=self._pattern)

    def begin(self, sources: Sequence[str]) -> None:
        """Delete the file of a rebuild that was interrupted.

        Raises:
            OldTablesRemain: the file from before an earlier rebuild is there.
            RetryLater: a file cannot be deleted.
        """
        del sources
        with retried():
            end_interrupted_swap(self._live)
            if (old := old_file(self._live)).exists():
                raise OldTablesRemain(removal=f"rm {quote(str(old))}")
            self._delete_fresh()

    def swap(self, load_rest: Callable[[], None]) -> Sequence[str]:
        """Load the last messages, and let the fresh tables take their place; return the schemas that were rebuilt.

        Nothing else may be stored meanwhile.  Raises `RetryLater`; then everything is as it was.
        """
        load_rest()
        fresh = fresh_file(self._live)
        with retried(), scratch_folder() as scratch:
            schemas = _schemas_with_tables(fresh, scratch) if fresh.exists() else []
            if not schemas:
                return []
            if self._live.exists():
                self._replace_patiently(schemas, scratch)
                self._delete_fresh()
            else:
                fresh.replace(self._live)
                sync_folder(self._live.parent)
            return schemas

    @property
    def _live(self) -> Path:
        return self._file.resolve()  # the files are beside it, not beside a link to it

    def close(self) -> None:
        """Release nothing: the files are open only while they are used."""

    def _replace_patiently(self, schemas: Sequence[str], scratch: Path) -> None:
        for _ in range(ATTEMPTS - 1):
            try:
                return self._replace(schemas, scratch)
            except duckdb.IOException as error:
                if "Could not set lock" not in str(error):
                    raise
            sleep(_PAUSE_SECONDS)
        return self._replace(schemas, scratch)

    def _replace(self, schemas: Sequence[str], scratch: Path) -> None:
        if log_of(self._live).exists():  # of a process that was killed
            connect(str(self._live), scratch).close()
        with replacement(self._live, scratch, kept_as=old_file(self._live)) as connection:
            connection.execute(f"ATTACH {text(fresh_file(self._live))} AS rebuilt (READ_ONLY)")
            connection.execute("USE fresh")
            for schema in schemas:
                _replace_tables(connection, schema)
            connection.execute("USE memory")
            connection.execute("DETACH rebuilt")

    def _delete_fresh(self) -> None:
        fresh = fresh_file(self._live)
        delete_files((log_of(fresh), fresh))


def _schemas_with_tables(file: Path, scratch: Path) -> list[str]:
    connection = connect(str(file), scratch)
    try:
        return sorted(schema for schema in schemas_in(connection) if keyed_tables(connection, schema))
    finally:
        connection.close()


def _replace_tables(connection: duckdb.DuckDBPyConnection, schema: str) -> None:
    """Replace the tables of a source in `fresh`, which is in use, by those in `rebuilt`."""
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)}")
    for table in keyed_tables(connection, schema):
        connection.execute(f"DROP TABLE {quoted(schema)}.{quoted(table)}")
    connection.execute("CHECKPOINT fresh")  # what the earlier tables had is free now
    statements = connection.execute(
        "SELECT table_name, sql FROM duckdb_tables() WHERE database_name = 'rebuilt' AND schema_name = ? "
        "ORDER BY table_oid",
        [schema],
    ).fetchall()
    for table, statement in statements:
        connection.execute(statement)
        name = f"{quoted(schema)}.{quoted(table)}"
        connection.execute(f"INSERT INTO fresh.{name} FROM rebuilt.{name}")
        connection.execute("CHECKPOINT fresh")  # else the rows stay in memory
