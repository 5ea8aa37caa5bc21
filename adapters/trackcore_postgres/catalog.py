"""The database's own description of the tables of a source."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs
from psycopg import Connection

from trackcore.warehouse import DISCARDS_TABLE, LOADED_AT, STAMPS, ColumnType, Schema, WarehouseOptions
from trackcore_postgres.statements import KNOWN_TYPES

_COLUMNS = b"""
SELECT c.relname, a.attname, t.typname
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
WHERE c.relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = %s) AND c.relkind IN ('r', 'p')
ORDER BY c.relname, a.attnum
"""

_KEYS = b"""
SELECT n.nspname, c.relname, array(
    SELECT a.attname::text FROM pg_catalog.pg_attribute a
    WHERE a.attrelid = c.oid AND a.attnum = ANY(i.indkey) ORDER BY a.attname
)
FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = ANY(%s) AND c.relname = ANY(%s)
    AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
"""

_OWN_COLUMNS = frozenset({LOADED_AT, STAMPS})
"""Columns that no message fills."""


@attrs.frozen
class SourceTables:
    """The tables of a source: their schema, and the real types of columns that have none of the five."""

    schema: Schema
    other_types: Mapping[tuple[str, str], str]
    with_stamps: set[str]


def has_schema(connection: Connection[Any], name: str) -> bool:
    """Return whether a schema exists."""
    found = connection.execute(b"SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = %s", [name])
    return found.fetchone() is not None


def has_table(connection: Connection[Any], schema: str, table: str) -> bool:
    """Return whether a table exists."""
    query = b"SELECT 1 FROM pg_catalog.pg_tables WHERE schemaname = %s AND tablename = %s"
    return connection.execute(query, [schema, table]).fetchone() is not None


def tables_with_key(
    connection: Connection[Any], tables: Iterable[tuple[str, str]], key_of: Callable[[str], Sequence[str]]
) -> set[tuple[str, str]]:
    """Return those of some tables, by schema and name, that refuse two rows with one key."""
    wanted = {*tables}
    found = connection.execute(_KEYS, [[schema for schema, _ in wanted], [table for _, table in wanted]])
    return {
        (schema, table)
        for schema, table, columns in found
        if (schema, table) in wanted and columns == sorted(key_of(table))
    }


def read_tables(
    connection: Connection[Any], name: str, options: WarehouseOptions, pinned: set[tuple[str, str]]
) -> SourceTables:
    """Read the tables of a source from the catalog of the database."""
    schema = Schema(options, pinned=pinned)
    other_types: dict[tuple[str, str], str] = {}
    with_stamps: set[str] = set()
    for table, column, type_name in connection.execute(_COLUMNS, [name]):
        if table == DISCARDS_TABLE:
            continue
        columns = schema.tables.setdefault(table, {})
        if column == STAMPS:
            with_stamps.add(table)
        if column in _OWN_COLUMNS:
            continue
        known = KNOWN_TYPES.get(type_name)
        columns[column] = known or ColumnType.TEXT
        if known is None or type_name not in _USUAL:
            other_types[table, column] = type_name
        if known is None:
            pinned.add((table, column))
    return SourceTables(schema, other_types, with_stamps)


_USUAL = frozenset({"text", "int8", "float8", "bool", "timestamptz"})
