"""The statements that make and change tables, as text: they are executed, and shown by `trackcore warehouse plan`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from trackcore.warehouse import (
    DISCARDS_TABLE,
    LOADED_AT,
    MAX_NAME,
    PROFILE_TABLES,
    STAMPS,
    AddColumn,
    Change,
    ColumnType,
    CreateTable,
    WidenColumn,
)

BOOKKEEPING = "_trackcore"
"""The schema of what is known of destinations and sources.  No source has it: a slug does not begin with `_`."""

NEW, OLD = "__new", "__old"
"""The ends of the names of schemas that a rebuild makes; no slug has two underscores in a row."""

_TYPES: Mapping[ColumnType, str] = {
    ColumnType.TEXT: "text",
    ColumnType.INTEGER: "bigint",
    ColumnType.FLOAT: "double precision",
    ColumnType.BOOLEAN: "boolean",
    ColumnType.TIMESTAMP: "timestamptz",
}

KNOWN_TYPES: Mapping[str, ColumnType] = {
    **dict.fromkeys(("text", "varchar", "bpchar"), ColumnType.TEXT),
    **dict.fromkeys(("int8", "int4", "int2"), ColumnType.INTEGER),
    **dict.fromkeys(("float8", "float4", "numeric"), ColumnType.FLOAT),
    "bool": ColumnType.BOOLEAN,
    **dict.fromkeys(("timestamptz", "timestamp", "date"), ColumnType.TIMESTAMP),
}
"""The type of a column by the internal name in PostgreSQL; any other is read as text, and converted from it."""

_TIME_AS_TEXT = """to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""
"""The same text as `trackcore.warehouse.text_of` returns."""


def quoted(name: str) -> str:
    """Return a name as an identifier."""
    return '"' + name.replace('"', '""') + '"'


def beside(schema: str, suffix: str) -> str:
    """Return the name of a schema beside another one."""
    return schema[: MAX_NAME - len(suffix)] + suffix


def schemas_beside(schema: str) -> tuple[str, str]:
    """Return the schemas in which a rebuild has fresh tables, and keeps earlier ones."""
    return beside(schema, NEW), beside(schema, OLD)


def type_name(column: ColumnType) -> str:
    """Return the type of PostgreSQL for a type."""
    return _TYPES[column]


def create_bookkeeping() -> Iterable[str]:
    """Yield the statements that make the tables of bookkeeping."""
    yield f"CREATE SCHEMA IF NOT EXISTS {quoted(BOOKKEEPING)}"
    yield (
        f"CREATE TABLE IF NOT EXISTS {quoted(BOOKKEEPING)}.cursors (destination text NOT NULL, lane text NOT NULL, "
        "cursor text NOT NULL, moved_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (destination, lane))"
    )
    yield (
        f"CREATE TABLE IF NOT EXISTS {quoted(BOOKKEEPING)}.sources (schema_name text PRIMARY KEY, "
        "source text NOT NULL, generation bigint NOT NULL DEFAULT 0)"
    )


def create_schema(schema: str) -> Iterable[str]:
    """Yield the statements that make the schema of a source with its table of discards."""
    yield f"CREATE SCHEMA {quoted(schema)}"
    yield create_discards(schema)


def create_discards(schema: str) -> str:
    """Return the statement that makes the table of discards."""
    return (
        f"CREATE TABLE IF NOT EXISTS {quoted(schema)}.{quoted(DISCARDS_TABLE)} (message_id text NOT NULL, "
        "table_name text NOT NULL, number integer NOT NULL, column_name text NOT NULL, column_value text NOT NULL, "
        f"reason text NOT NULL, received_at timestamptz, {LOADED_AT} timestamptz DEFAULT now(), "
        "PRIMARY KEY (message_id, table_name, number))"
    )


def statement_of(schema: str, change: Change) -> str:
    """Return the statement that makes a change."""
    table = f"{quoted(schema)}.{quoted(change.table)}"
    if isinstance(change, CreateTable):
        return _create_table(table, change)
    if isinstance(change, AddColumn):
        return f"ALTER TABLE {table} ADD COLUMN {quoted(change.column)} {type_name(change.column_type)}"
    return _widen_column(table, change)


def _create_table(table: str, change: CreateTable) -> str:
    columns = [f"{quoted(name)} {type_name(column)}" for name, column in change.columns.items()]
    if change.table in PROFILE_TABLES:
        columns.append(f"{quoted(STAMPS)} text")
    # The name of an index is one of the names of tables: this one is the slug of no event.
    key = "_key_" + hashlib.sha256(change.table.encode()).hexdigest()[:20]
    columns += [f"{LOADED_AT} timestamptz DEFAULT now()", f"CONSTRAINT {key} PRIMARY KEY (id)"]
    return f"CREATE TABLE {table} ({', '.join(columns)})"


def _widen_column(table: str, change: WidenColumn) -> str:
    column = quoted(change.column)
    is_time = change.before is ColumnType.TIMESTAMP
    using = _TIME_AS_TEXT.format(column=column) if is_time else f"{column}::{type_name(change.column_type)}"
    return f"ALTER TABLE {table} ALTER COLUMN {column} TYPE {type_name(change.column_type)} USING {using}"
