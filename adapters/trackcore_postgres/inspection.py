"""The tables of a database with their rows and discards, and the statements that more messages would need."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from psycopg import Connection

from trackcore.warehouse import (
    DISCARDS_TABLE,
    AddColumn,
    Change,
    CreateTable,
    Discard,
    DiscardReason,
    Schema,
    TableInfo,
    WarehouseOptions,
    WidenColumn,
)
from trackcore_postgres.catalog import has_schema, has_table, read_tables
from trackcore_postgres.statements import (
    BOOKKEEPING,
    create_bookkeeping,
    create_discards,
    create_schema,
    quoted,
    statement_of,
)

_EXACT_ROWS = 100_000
"""Up to about so many rows a table is counted; above that the estimate of PostgreSQL is given."""

_ESTIMATES = b"""
SELECT c.relname, greatest(c.reltuples, s.n_live_tup, 0)::bigint,
    (SELECT count(*) FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_stat_user_tables s ON s.relid = c.oid
WHERE s.schemaname = %s ORDER BY c.relname
"""


def sources_of(connection: Connection[Any]) -> dict[str, str]:
    """Return the source of each schema."""
    if not has_table(connection, BOOKKEEPING, "sources"):
        return {}
    query = f"SELECT schema_name, source FROM {quoted(BOOKKEEPING)}.sources ORDER BY schema_name"
    return dict(connection.execute(query.encode()).fetchall())


def list_tables(connection: Connection[Any], schema: str, source: str) -> Iterator[TableInfo]:
    """Yield the tables of a source."""
    discards = _discards_by_table(connection, schema)
    for table, estimate, columns in connection.execute(_ESTIMATES, [schema]).fetchall():
        if table == DISCARDS_TABLE:
            continue
        is_exact = estimate <= _EXACT_ROWS
        yield TableInfo(
            source=source,
            schema=schema,
            table=table,
            columns=columns,
            rows=_count(connection, schema, table) if is_exact else estimate,
            is_exact=is_exact,
            discards=discards.pop(table, 0),
        )


def discards_of(connection: Connection[Any], schema: str, message_id: str) -> Iterator[tuple[str, Discard]]:
    """Yield what the rows of a message do not have as it was sent, each with its table."""
    if not has_table(connection, schema, DISCARDS_TABLE):
        return
    query = (
        f"SELECT table_name, column_name, column_value, reason FROM {quoted(schema)}.{quoted(DISCARDS_TABLE)} "
        "WHERE message_id = %s ORDER BY table_name, number"
    )
    for table, column, value, reason in connection.execute(query.encode(), [message_id]):
        yield table, Discard(column, value, DiscardReason(reason))


def known_schema(connection: Connection[Any], name: str, options: WarehouseOptions) -> Schema:
    """Return the tables of a source as they are; none if it has none yet."""
    return read_tables(connection, name, options, set()).schema


def missing_bookkeeping(connection: Connection[Any], schemas: Sequence[str]) -> list[str]:
    """Return the statements that make the schemas of sources, and the tables that are not filled from messages."""
    statements = [] if has_table(connection, BOOKKEEPING, "sources") else [*create_bookkeeping()]
    for schema in schemas:
        if not has_schema(connection, schema):
            statements += create_schema(schema)
        elif not has_table(connection, schema, DISCARDS_TABLE):
            statements.append(create_discards(schema))
    return statements


def statements_between(name: str, before: Schema, after: Schema) -> Iterator[str]:
    """Yield the statements that lead from the tables of a source to others."""
    for change in _changes(before, after):
        yield statement_of(name, change)


def _changes(before: Schema, after: Schema) -> Iterator[Change]:
    for table, columns in after.tables.items():
        known = before.tables.get(table)
        if known is None:
            yield CreateTable(table, columns)
            continue
        for name, column_type in columns.items():
            if name not in known:
                yield AddColumn(table, name, column_type)
            elif known[name] is not column_type:
                yield WidenColumn(table, name, known[name], column_type)


def _discards_by_table(connection: Connection[Any], schema: str) -> dict[str, int]:
    if not has_table(connection, schema, DISCARDS_TABLE):
        return {}
    query = f"SELECT table_name, count(*) FROM {quoted(schema)}.{quoted(DISCARDS_TABLE)} GROUP BY 1"
    return dict(connection.execute(query.encode()).fetchall())


def _count(connection: Connection[Any], schema: str, table: str) -> int:
    query = f"SELECT count(*) FROM {quoted(schema)}.{quoted(table)}"
    found = connection.execute(query.encode()).fetchone()
    return 0 if found is None else int(found[0])
