"""Parquet files, a folder for each source, table and received day:

    trackcore_source=web/trackcore_table=order_paid/received_day=2026-01-31/{first}-{last}-{digest}.parquet

Theory.  The rows of a batch go to one file in each folder that they belong to, put as `trackcore_objects.placing`
describes, so that each row is there once.  All files of a table are one table to their readers:

- a file has every column that its table had when it was put, so that later files have those of earlier ones;
- a column has one type in all files.  Before a batch that widens it is put, the earlier files are rewritten, each in
  place; then the schema is stored; then the batch is put.  A process that is killed in between begins with the same
  batch again, and finds that a part is done.

`users` and `accounts` have a row for each message here, since files cannot be updated: their latest values are a query
over them.  The columns `_position` and `_message_id` tell such rows apart and put them in order.

Small files are merged (`compaction`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC
from pathlib import Path
from typing import Any, NamedTuple

import attrs
from trackcore_delivery import (
    DeliveryBatch,
    ErasureRequest,
    FedMessage,
    MessageRefused,
    delete_leftovers,
    scratch_folder,
)
from trackcore_objects import (
    FileName,
    ObjectStore,
    StoreUnavailable,
    StoreWithin,
    files_in,
    missing_messages,
    name_for,
    partition_of,
)

from trackcore.warehouse import PROFILE_TABLES, ColumnType, Schema, WarehouseOptions, schema_name
from trackcore_duckdb.compaction import Compaction
from trackcore_duckdb.engine import Engine, opened, retried
from trackcore_duckdb.parquet_erasure import ParquetErasure
from trackcore_duckdb.parquet_places import (
    DAY_KEY,
    NEW,
    OLD,
    SOURCE_KEY,
    TABLE_KEY,
    source_folder,
    source_schemas,
)
from trackcore_duckdb.parquet_swap import complete_swap
from trackcore_duckdb.persons import Persons
from trackcore_duckdb.schema_files import SchemaVersion, load_schema, store_schema
from trackcore_duckdb.stored_rows import (
    MESSAGE_ID,
    POSITION,
    PROFILE_FILE_COLUMNS,
    Lines,
    Numbered,
    RowReader,
    StoredRow,
    Unreadable,
    by_schema,
    columns_of,
    message_id_column,
)

SUFFIX = ".parquet"

_MAX_CHECKED = 20_000
_ATTEMPTS = 5
"""How often the rows of a batch are made again because another process has changed the schema."""


class _Group(NamedTuple):
    """Rows that may be in one file: of one folder, and of one partition, within which numbers compare."""

    table: str
    day: str
    partition: int


@attrs.define(kw_only=True)
class ParquetSender:
    """Puts the rows of batches as Parquet files."""

    _store: ObjectStore = attrs.field(repr=False, alias="store")
    _options: WarehouseOptions = attrs.field(alias="options")
    _pattern: str = attrs.field(alias="schema")
    _checked: set[str] = attrs.field(init=False, factory=set)

    def send(self, batch: DeliveryBatch) -> Sequence[MessageRefused]:
        """See `Sender.send`."""
        checked, self._checked = self._checked, set()
        with retried(), scratch_folder() as scratch, opened(scratch) as engine:
            complete_swap(self._store)
            unreadable = [
                one
                for source, messages in by_schema(batch.messages, self._pattern).items()
                for one in self._source_batch(engine, scratch, source, checked).put(messages)
            ]
        self._checked = checked if len(checked) < _MAX_CHECKED else set()
        return [MessageRefused(index, detail) for index, detail in unreadable]

    def forget(self, request: ErasureRequest) -> None:
        """See `Forgetting.forget`: in all files, those of a rebuild too."""
        with retried(), scratch_folder() as scratch, opened(scratch) as engine:
            delete_leftovers()
            complete_swap(self._store)
            for store in (self._store, StoreWithin(self._store, NEW), StoreWithin(self._store, OLD)):
                for source in self._sources(store, request.source):
                    ParquetErasure(
                        store=store,
                        engine=engine,
                        scratch=scratch,
                        folders=_table_folders(store, source),
                        persons=Persons(request),
                    ).run()

    def close(self) -> None:
        """See `Sender.close`."""

    def _sources(self, store: ObjectStore, source: str | None) -> Sequence[str]:
        schemas = source_schemas(store) if source is None else [schema_name(source, self._pattern)]
        return list(map(source_folder, schemas))

    def _source_batch(self, engine: Engine, scratch: Path, source: str, checked: set[str]) -> _SourceBatch:
        return _SourceBatch(self._store, engine, scratch, source, self._options, checked)


@attrs.define
class _SourceBatch:
    """The messages of one source in a batch."""

    _store: ObjectStore
    _engine: Engine
    _scratch: Path
    _source: str
    _options: WarehouseOptions
    _checked: set[str]

    def put(self, messages: Sequence[Numbered]) -> Sequence[Unreadable]:
        """Put the rows of the messages; return which have none since they cannot be read."""
        for attempt in range(_ATTEMPTS):
            before = load_schema(self._store, self._source)
            reader = RowReader(before.schema(self._options))
            folder = self._scratch / f"{self._source}-{attempt}"
            folder.mkdir()
            groups = _grouped(reader.read(messages), folder)
            if self._change_schema(before, reader.schema):
                for group, lines in groups.items():
                    self._put(group, lines, reader.schema)
                return reader.unreadable
        raise StoreUnavailable(detail=f"the schema of {self._source} is changed by other processes all the time")

    def _change_schema(self, before: SchemaVersion, after: Schema) -> bool:
        """Store what has changed; return False if another process has changed the schema too."""
        if after.tables == before.tables:
            return True
        for table, columns in before.tables.items():
            if any(after.tables[table][name] is not column_type for name, column_type in columns.items()):
                self._compaction(table, after).widen_all()
        return store_schema(self._store, self._source, before, after.tables)

    def _put(self, group: _Group, lines: Lines, schema: Schema) -> None:
        lines.flush()
        folder = f"{self._folder(group.table)}/{DAY_KEY}={group.day}"
        files = files_in(self._store, folder)
        id_column = message_id_column(group.table)
        missing = missing_messages(
            files, lines.messages, lambda file, ids: self._present_in(folder, file, id_column, ids)
        )
        if missing:
            present = {message.message_id for message in lines.messages} - {one.message_id for one in missing}
            name = name_for(missing, SUFFIX)
            target = self._scratch / "put.parquet"
            columns = file_columns(schema, group.table)
            self._engine.write(lines.path, columns, target, id_column=id_column, absent=present)
            self._store.put_new(f"{folder}/{name}", target)
            files = sorted({*files, name}, key=str)
        self._compaction(group.table, schema).compact(folder, files)

    def _present_in(self, folder: str, file: FileName, id_column: str, wanted: AbstractSet[str]) -> Iterable[str]:
        local = self._scratch / "present.parquet"
        if not self._store.fetch(f"{folder}/{file}", local):
            raise StoreUnavailable(detail=f"{folder}/{file} was deleted by another process")
        return wanted & set(self._engine.ids(local, id_column))

    def _compaction(self, table: str, schema: Schema) -> Compaction:
        return Compaction(
            store=self._store,
            engine=self._engine,
            scratch=self._scratch,
            folder=self._folder(table),
            columns=file_columns(schema, table),
            id_column=message_id_column(table),
            checked=self._checked,
        )

    def _folder(self, table: str) -> str:
        return f"{source_folder(self._source)}/{TABLE_KEY}={table}"


def _table_folders(store: ObjectStore, source: str) -> dict[str, str]:
    prefix = f"{TABLE_KEY}="
    names = [name for name in store.folders(source) if name.startswith(prefix)]
    return {name.removeprefix(prefix): f"{source}/{name}" for name in names}


def file_columns(schema: Schema, table: str) -> dict[str, ColumnType]:
    """Return the columns of the files of a table."""
    columns = {_file_column(name): column_type for name, column_type in columns_of(schema, table).items()}
    return {**columns, **PROFILE_FILE_COLUMNS} if table in PROFILE_TABLES else columns


def _file_column(name: str) -> str:
    """Return the name of a column in files: readers take the keys of folders for columns too."""
    return f"_{name}" if name in _KEYS else name


_KEYS = frozenset({SOURCE_KEY, TABLE_KEY, DAY_KEY})


def _grouped(rows: Iterable[StoredRow], folder: Path) -> Mapping[_Group, Lines]:
    groups: dict[_Group, Lines] = {}
    for message, table, values in rows:
        day = message.received_at.astimezone(UTC).date().isoformat()
        group = _Group(table, day, partition_of(message.position))
        if group not in groups:
            groups[group] = Lines(folder / f"{len(groups)}.jsonl")
        groups[group].add(message, _in_file(message, table, values))
    return groups


def _in_file(message: FedMessage, table: str, values: Mapping[str, Any]) -> Mapping[str, Any]:
    if not _KEYS.isdisjoint(values):
        values = {_file_column(name): value for name, value in values.items()}
    if table in PROFILE_TABLES:
        return {**values, POSITION: message.position, MESSAGE_ID: message.message_id}
    return values
