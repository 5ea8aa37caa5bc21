"""A database of DuckDB in a file: a schema for each source, a table for each of its tables.

Theory.  A batch is one transaction: changes of tables, rows and latest traits.  The primary keys decide what is there
already, so a batch or a part of it that comes again, for whatever reason, adds nothing; the latest traits have stamps
(`trackcore.warehouse.profiles`) for that.

DuckDB keeps what a transaction has added in memory, some MB for each table.  So a batch that fills very many tables is
several transactions.  Discards are in the first one with rows: a row that is there never lacks them.

DuckDB lets one process write, and others read only while none writes.  So the file is opened for each batch and closed
after it.  While another process has it open the batch waits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
import duckdb
from trackcore_delivery import DeliveryBatch, ErasureRequest, MessageRefused, delete_leftovers, scratch_folder

from trackcore.warehouse import (
    DISCARDS_TABLE,
    PROFILE_TABLES,
    STAMPS,
    ColumnType,
    Profile,
    Schema,
    Stamp,
    Value,
    WarehouseOptions,
    decode_stamps,
    encode_stamps,
    schema_name,
)
from trackcore_duckdb.database_erasure import DatabaseErasure, rewrite_file
from trackcore_duckdb.database_files import existing_files
from trackcore_duckdb.engine import connect, json_lines, quoted, retried, widened
from trackcore_duckdb.persons import Persons
from trackcore_duckdb.stored_rows import (
    SQL_TYPES,
    Lines,
    Numbered,
    RowReader,
    StoredRow,
    Unreadable,
    by_schema,
    columns_of,
)

_BOOKKEEPING = frozenset({STAMPS})
_KEYS = {DISCARDS_TABLE: ("message_id", "table_name", "number")}
_COLUMNS_AT_ONCE = 3_000
"""How many columns of tables are made or filled before a transaction is committed: about 200 MB."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TYPES = {name: column_type for column_type, name in SQL_TYPES.items()}


@attrs.define(kw_only=True)
class DatabaseSender:
    """Loads batches into a database."""

    _file: Path = attrs.field(alias="file")
    _options: WarehouseOptions = attrs.field(alias="options")
    _pattern: str = attrs.field(alias="schema")

    def send(self, batch: DeliveryBatch) -> Sequence[MessageRefused]:
        """See `Sender.send`."""
        with retried(), scratch_folder() as scratch:
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            connection = connect(str(self._file), scratch)
            try:
                transaction = _Transaction(connection)
                unreadable = [
                    one
                    for source, messages in by_schema(batch.messages, self._pattern).items()
                    for one in _Loading(connection, transaction, scratch, source, self._options).run(messages)
                ]
                transaction.commit()
            finally:
                connection.close()  # what is not committed is not there
        return [MessageRefused(index, detail) for index, detail in unreadable]

    def forget(self, request: ErasureRequest) -> None:
        """See `Forgetting.forget`: in the tables, and then in the bytes of the files, those of a rebuild too."""
        with retried():
            for file in existing_files(self._file):
                self._forget_in(file, request)

    def _forget_in(self, file: Path, request: ErasureRequest) -> None:
        with scratch_folder() as scratch:
            delete_leftovers()
            connection = connect(str(file), scratch)
            try:
                connection.execute("BEGIN")
                source = request.source
                for schema in schemas_in(connection) if source is None else [schema_name(source, self._pattern)]:
                    DatabaseErasure(connection, schema, Persons(request)).run(keyed_tables(connection, schema))
                connection.execute("COMMIT")
            finally:
                connection.close()
            rewrite_file(file, scratch)

    def close(self) -> None:
        """See `Sender.close`."""


@attrs.define
class _Transaction:
    """The transaction of a batch, which is committed before it needs too much memory, and another begins."""

    _connection: duckdb.DuckDBPyConnection
    _columns: int = attrs.field(init=False, default=0)

    def __attrs_post_init__(self) -> None:
        self._connection.execute("BEGIN")

    def use(self, columns: int) -> None:
        """Note that a table of so many columns was made, or has got rows."""
        self._columns += columns
        if self._columns >= _COLUMNS_AT_ONCE:
            self.commit()
            self._connection.execute("CHECKPOINT")  # else the rows stay in memory
            self._connection.execute("BEGIN")
            self._columns = 0

    def commit(self) -> None:
        """Commit what was done since it began."""
        self._connection.execute("COMMIT")


@attrs.define
class _Loading:
    """The messages of one source in a batch, within a transaction."""

    _connection: duckdb.DuckDBPyConnection
    _transaction: _Transaction
    _scratch: Path
    _source: str
    _options: WarehouseOptions

    def run(self, messages: Sequence[Numbered]) -> Sequence[Unreadable]:
        """Change the tables and insert the rows; return which messages have none since they cannot be read."""
        self._connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(self._source)}")
        before = _read_tables(self._connection, self._source)
        has_discards = before.pop(DISCARDS_TABLE, None) is not None
        reader = RowReader(Schema(self._options, {table: {**columns} for table, columns in before.items()}))
        lines: dict[str, Lines] = {}
        profiles: dict[str, list[StoredRow]] = {}
        for row in reader.read(messages):
            if row.table in PROFILE_TABLES:
                profiles.setdefault(row.table, []).append(row)
            else:
                self._lines(lines, row.table).add(row.message, row.values)
        self._change_tables(before, reader.schema)
        if DISCARDS_TABLE in lines and not has_discards:
            self._create(DISCARDS_TABLE, columns_of(reader.schema, DISCARDS_TABLE))
        for table, file in sorted(lines.items(), key=lambda item: item[0] != DISCARDS_TABLE):
            self._insert(table, file, columns_of(reader.schema, table))
        for table, rows in profiles.items():
            self._update_profiles(table, rows, reader.schema.tables[table])
        return reader.unreadable

    def _lines(self, lines: dict[str, Lines], table: str) -> Lines:
        if table not in lines:
            lines[table] = Lines(self._scratch / f"{self._source}-{len(lines)}.jsonl")
        return lines[table]

    def _change_tables(self, before: Mapping[str, Mapping[str, ColumnType]], after: Schema) -> None:
        for table, columns in after.tables.items():
            known = before.get(table)
            if known is None:
                self._create(table, columns)
                continue
            name = self._name(table)
            for column, column_type in columns.items():
                earlier = known.get(column)
                if earlier is None:
                    self._connection.execute(f"ALTER TABLE {name} ADD COLUMN {_declared(column, column_type)}")
                elif earlier is not column_type:
                    change = (
                        f"{quoted(column)} TYPE {SQL_TYPES[column_type]} USING {widened(column, earlier, column_type)}"
                    )
                    self._connection.execute(f"ALTER TABLE {name} ALTER COLUMN {change}")

    def _create(self, table: str, columns: Mapping[str, ColumnType]) -> None:
        parts = [_declared(column, column_type) for column, column_type in columns.items()]
        if table in PROFILE_TABLES:
            parts.append(_declared(STAMPS, ColumnType.TEXT))
        key = ", ".join(map(quoted, _KEYS.get(table, ("id",))))
        self._connection.execute(f"CREATE TABLE {self._name(table)} ({', '.join(parts)}, PRIMARY KEY ({key}))")
        self._transaction.use(len(parts))

    def _insert(self, table: str, file: Lines, columns: Mapping[str, ColumnType]) -> None:
        file.flush()
        key = ", ".join(map(quoted, _KEYS.get(table, ("id",))))
        rows = f"SELECT DISTINCT ON ({key}) * FROM {json_lines(file.path, columns)}"
        self._connection.execute(f"INSERT INTO {self._name(table)} BY NAME {rows} ON CONFLICT DO NOTHING")
        self._transaction.use(len(columns))

    def _update_profiles(self, table: str, rows: Sequence[StoredRow], columns: Mapping[str, ColumnType]) -> None:
        profiles = self._profiles(table, {str(row.values["id"]) for row in rows})
        for row in rows:
            values = {**row.values}
            profile = profiles.setdefault(str(values.pop("id")), Profile({}))
            profile.add(values, _stamp(row))
        file = Lines(self._scratch / f"{self._source}-{table}.jsonl")
        for profile_id, profile in profiles.items():
            if profile.values:
                file.add(rows[0].message, {**profile.values, "id": profile_id, STAMPS: encode_stamps(profile.stamps)})
        file.flush()
        stored = {**columns, STAMPS: ColumnType.TEXT}
        updates = ", ".join(
            f"{quoted(name)} = coalesce(excluded.{quoted(name)}, {quoted(name)})" for name in stored if name != "id"
        )
        self._connection.execute(
            f"INSERT INTO {self._name(table)} BY NAME SELECT * FROM {json_lines(file.path, stored)} "
            f"ON CONFLICT (id) DO UPDATE SET {updates}"
        )

    def _profiles(self, table: str, ids: Iterable[str]) -> dict[str, Profile]:
        """Return the stamps of profiles that exist."""
        found = self._connection.execute(
            f"SELECT id, {STAMPS} FROM {self._name(table)} WHERE id IN (SELECT unnest(?::VARCHAR[]))", [sorted(ids)]
        )
        return {profile_id: Profile(decode_stamps(stamps or "")) for profile_id, stamps in found.fetchall()}

    def _name(self, table: str) -> str:
        return f"{quoted(self._source)}.{quoted(table)}"


def schemas_in(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Return the schemas of the database."""
    found = connection.execute("SELECT schema_name FROM duckdb_schemas() WHERE database_name = current_database()")
    return [name for (name,) in found.fetchall()]


def _read_tables(connection: duckdb.DuckDBPyConnection, schema: str) -> dict[str, dict[str, ColumnType]]:
    found = connection.execute(
        "SELECT table_name, column_name, data_type FROM duckdb_columns() "
        "WHERE database_name = current_database() AND schema_name = ? ORDER BY table_oid, column_index",
        [schema],
    )
    tables: dict[str, dict[str, ColumnType]] = {}
    for table, column, type_name in found.fetchall():
        if column not in _BOOKKEEPING:
            tables.setdefault(table, {})[column] = _TYPES.get(type_name, ColumnType.TEXT)
    return tables


def keyed_tables(connection: duckdb.DuckDBPyConnection, schema: str) -> dict[str, dict[str, ColumnType]]:
    """Return the tables that were made here: those with a primary key, while tables and views of others have none."""
    found = connection.execute(
        "SELECT table_name FROM duckdb_tables() "
        "WHERE database_name = current_database() AND schema_name = ? AND has_primary_key ORDER BY table_oid",
        [schema],
    )
    keyed = {table for (table,) in found.fetchall()}
    return {
        table: columns
        for table, columns in _read_tables(connection, schema).items()
        if table in keyed and "received_at" in columns
    }


def _declared(column: str, column_type: ColumnType) -> str:
    return f"{quoted(column)} {SQL_TYPES[column_type]}"


def _stamp(row: StoredRow) -> Stamp:
    received_at: Value | Any = row.values.get("received_at", row.message.received_at)
    assert isinstance(received_at, datetime)
    return Stamp((received_at - _EPOCH) // timedelta(microseconds=1), row.message.position)
