"""The reader of a database of DuckDB, which opens it for reading alone, and not for long: that blocks delivery."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from time import sleep

import attrs
import duckdb
from trackcore_delivery import scratch_folder

from trackcore import StoredMessage
from trackcore.warehouse import DISCARDS_TABLE, Discard, TableInfo, schema_name
from trackcore_duckdb.engine import Engine, connect, quoted
from trackcore_duckdb.inspection import WarehouseUnreadable, discard_counts, discards_in, reported

ATTEMPTS = 30
"""How often a database is opened that another process has open: delivery has it for a moment, for each batch."""

_PAUSE_SECONDS = 0.1

_TABLES = """
SELECT t.schema_name, t.table_name, t.column_count FROM duckdb_tables() t
WHERE t.database_name = current_database() AND NOT t.internal AND NOT t.temporary AND t.has_primary_key
    AND EXISTS (FROM duckdb_columns() c WHERE c.table_oid = t.table_oid AND c.database_oid = t.database_oid
        AND c.column_name = 'received_at')
ORDER BY ALL
"""
"""The tables that were made here: those with a primary key, while tables and views of others have none."""


class _Locked(Exception):
    """Another process has the database open for writing."""


@attrs.frozen(kw_only=True)
class DatabaseReader:
    """See `trackcore.warehouse.WarehouseReader`."""

    _file: Path = attrs.field(alias="file")
    _pattern: str = attrs.field(alias="schema")

    def tables(self) -> Sequence[TableInfo]:
        """See `WarehouseReader.tables`."""
        with self._opened() as engine:
            return [] if engine is None else list(_tables(engine))

    def discards(self, message: StoredMessage) -> Sequence[tuple[str, Discard]]:
        """See `WarehouseReader.discards`."""
        schema = schema_name(message.source, self._pattern)
        with self._opened() as engine:
            if engine is None or not any(row[:2] == (schema, DISCARDS_TABLE) for row in engine.query(_TABLES)):
                return []
            return discards_in(engine, f"{quoted(schema)}.{quoted(DISCARDS_TABLE)}", message)

    def close(self) -> None:
        """See `WarehouseReader.close`."""

    @contextmanager
    def _opened(self) -> Iterator[Engine | None]:
        """Open the database; None if there is none, since nothing has arrived yet."""
        with reported():
            if not self._file.exists():
                yield None
                return
            with scratch_folder() as scratch:
                connection = self._connected(scratch)
                try:
                    yield Engine(connection)
                finally:
                    connection.close()

    def _connected(self, scratch: Path) -> duckdb.DuckDBPyConnection:
        for _ in range(ATTEMPTS - 1):
            with suppress(_Locked):
                return self._connect(scratch)
            sleep(_PAUSE_SECONDS)
        try:
            return self._connect(scratch)
        except _Locked as error:
            detail = f"another process has {self._file} open, as delivery has for each batch; try again"
            raise WarehouseUnreadable(detail=detail) from error

    def _connect(self, scratch: Path) -> duckdb.DuckDBPyConnection:
        try:
            return connect(str(self._file), scratch, is_read_only=True)
        except duckdb.IOException as error:
            if "Could not set lock" in str(error):
                raise _Locked from error
            raise


def _tables(engine: Engine) -> Iterator[TableInfo]:
    found = engine.query(_TABLES)
    discards = {
        schema: discard_counts(engine, f"{quoted(schema)}.{quoted(table)}")
        for schema, table, _ in found
        if table == DISCARDS_TABLE
    }
    for schema, table, columns in found:
        if table != DISCARDS_TABLE:
            ((rows,),) = engine.query(f"SELECT count(*) FROM {quoted(schema)}.{quoted(table)}")
            count = discards.get(schema, {}).get(table, 0)
            yield TableInfo(schema=schema, table=table, columns=columns, rows=rows, discards=count)
