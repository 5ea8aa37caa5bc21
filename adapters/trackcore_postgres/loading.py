"""Loading: the rows of one batch, in a transaction that is open already."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs
import psycopg
from psycopg import Connection, errors

from trackcore.warehouse import (
    DISCARDS_TABLE,
    STAMPS,
    Change,
    CreateTable,
    Profile,
    WidenColumn,
    decode_stamps,
    encode_stamps,
)
from trackcore_postgres.batch import DiscardRow, SourceRows
from trackcore_postgres.catalog import SourceTables, tables_with_key
from trackcore_postgres.staging import StagedTable, Staging, copy_into
from trackcore_postgres.statements import quoted, statement_of, type_name


@attrs.define(eq=False)
class SchemaOutdated(Exception):
    """The tables are not what this process knew of them, or a column cannot be widened: read them again."""

    cause: str
    pin: tuple[str, str, str] | None = None
    """The schema, the table and the column that cannot be widened."""


_DISCARD_TYPES = dict.fromkeys(DiscardRow._fields, "text") | {"number": "int", "received_at": "timestamptz"}


@attrs.define
class Loading:
    """Writes the rows of the sources of a batch.  Raises `SchemaOutdated` and the errors of psycopg."""

    _connection: Connection[Any]
    _staging: Staging
    _known: Mapping[str, SourceTables]

    def run(self, sources: Sequence[SourceRows]) -> None:
        """Make the changes, then insert the rows, then bring the latest traits up to date."""
        for source in sources:
            for change in source.changes:
                self._change(source.name, change)
        profiles = list(self._profiles(sources))
        rows = list(self._rows(sources))
        if self._staging.may_copy_directly() and self._copy_directly(rows):
            rows = []
        if rows or profiles:
            self._staging.copy([*rows, *profiles])
        for number, table in enumerate(rows):
            self._staging.insert(number, table, ", ".join(_key_of(table.table)))
        for number, table in enumerate(profiles, len(rows)):
            self._staging.update(number, table, "id")

    def _copy_directly(self, rows: Sequence[StagedTable]) -> bool:
        """Copy rows into their tables; return whether that was done.

        It is not if a row was there already, or a table has no key, which somebody has dropped: then nothing would
        refuse a row that comes again.
        """
        names = {(table.schema, table.table) for table in rows}
        if tables_with_key(self._connection, names, _key_of) != names:
            return False
        try:
            with self._connection.transaction():
                copy_into(self._connection, rows)
        except errors.UniqueViolation:
            self._staging.note_duplicates()
            return False
        return True

    @staticmethod
    def width(sources: Sequence[SourceRows]) -> int:
        """Return how many columns the widest row has."""
        tables = (len(table.columns) for source in sources for table in source.tables.values())
        profiles = (len(source.schema.tables[table]) + 1 for source in sources for table in source.profiles)
        return max([len(DiscardRow._fields), *tables, *profiles])

    def _change(self, schema: str, change: Change) -> None:
        if not isinstance(change, WidenColumn):
            self._connection.execute(statement_of(schema, change).encode())
            if isinstance(change, CreateTable):
                self._known[schema].with_stamps.add(change.table)
            return
        try:
            with self._connection.transaction():
                self._connection.execute(statement_of(schema, change).encode())
        except errors.FeatureNotSupported as error:  # a view uses the column
            raise SchemaOutdated(str(error), (schema, change.table, change.column)) from None

    def _rows(self, sources: Sequence[SourceRows]) -> Iterator[StagedTable]:
        for source in sources:
            for name, table in source.tables.items():
                if len(table):
                    types = self._types(source.name, name, table.columns)
                    yield StagedTable(source.name, name, types, list(table.cells()))
            if source.discards:
                yield StagedTable(source.name, DISCARDS_TABLE, _DISCARD_TYPES, source.discards)

    def _types(self, schema: str, table: str, columns: Iterable[str]) -> dict[str, str]:
        """Return the types to which the texts of columns are converted: the real ones of the database."""
        known = self._known[schema]
        types = known.schema.tables[table]
        return {name: known.other_types.get((table, name)) or type_name(types[name]) for name in columns}

    def _profiles(self, sources: Sequence[SourceRows]) -> Iterator[StagedTable]:
        """Yield the new values of users and accounts, whose rows are made and locked first."""
        for source in sources:
            for table, sent in source.profiles.items():
                profiles = self._locked(source.name, table, sorted(sent))
                for profile_id, values in sent.items():
                    for stamp, one in values:
                        profiles[profile_id].add(one, stamp)
                yield from self._staged(source, table, profiles)

    def _locked(self, schema: str, table: str, ids: list[str]) -> dict[str, Profile]:
        name = f"{quoted(schema)}.{quoted(table)}"
        if table not in self._known[schema].with_stamps:
            self._connection.execute(f"ALTER TABLE {name} ADD COLUMN IF NOT EXISTS {STAMPS} text".encode())
            self._known[schema].with_stamps.add(table)
        insert = f"INSERT INTO {name} (id) SELECT unnest(%s::text[]) ON CONFLICT (id) DO NOTHING"
        self._connection.execute(insert.encode(), [ids])
        select = f"SELECT id, coalesce({STAMPS}, '') FROM {name} WHERE id = ANY(%s) ORDER BY id FOR UPDATE"
        found = self._connection.execute(select.encode(), [ids])
        return {profile_id: Profile(decode_stamps(stamps)) for profile_id, stamps in found}

    def _staged(self, source: SourceRows, table: str, profiles: Mapping[str, Profile]) -> Iterator[StagedTable]:
        rows = source.table(table)
        types = source.schema.tables[table]
        for profile_id, profile in profiles.items():
            if profile.values:
                rows.add({"id": profile_id, **profile.values}, types)
        if not len(rows):
            return
        stamps = [encode_stamps(profile.stamps) for profile in profiles.values() if profile.values]
        cells = [[*cell, stamp] for cell, stamp in zip(rows.cells(), stamps, strict=True)]
        rows.clear()
        yield StagedTable(source.name, table, {**self._types(source.name, table, rows.columns), STAMPS: "text"}, cells)


def _key_of(table: str) -> Sequence[str]:
    return ("message_id", "table_name", "number") if table == DISCARDS_TABLE else ("id",)


def is_outdated(error: psycopg.Error) -> bool:
    """Return whether an error shows that the tables are not what this process knew of them."""
    return isinstance(
        error,
        errors.UndefinedTable
        | errors.UndefinedColumn
        | errors.InvalidSchemaName
        | errors.DuplicateTable
        | errors.DuplicateColumn
        | errors.DuplicateSchema
        | errors.DatatypeMismatch
        | errors.CannotCoerce
        | errors.UndefinedFunction,
    ) or (isinstance(error, errors.UniqueViolation) and (error.diag.schema_name or "").startswith("pg_"))


def is_of_message(error: psycopg.Error) -> bool:
    """Return whether a value of a message caused an error, so that the others can be stored without it."""
    return isinstance(error, psycopg.DataError | psycopg.IntegrityError | errors.ProgramLimitExceeded)
