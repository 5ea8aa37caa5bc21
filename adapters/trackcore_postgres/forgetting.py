"""Forgetting persons: their rows are deleted, or kept under another name without traits and address.

All tables of a source are searched, those from before a rebuild too.  With pseudonyms each column of text that is the
id of a person gets the pseudonym.  PostgreSQL frees the space of deleted rows by its VACUUM, which runs by itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs
from psycopg import Connection

from trackcore.privacy import Subject
from trackcore.warehouse import (
    DISCARDS_TABLE,
    PROFILE_TABLES,
    ColumnType,
    Schema,
    ids_by_column,
    is_personal,
    storable,
    user_ids,
)
from trackcore_postgres.catalog import has_table
from trackcore_postgres.statements import quoted


@attrs.frozen
class Forgetting:
    """The persons to forget, and their pseudonyms if their rows are kept."""

    _connection: Connection[Any]
    _subjects: Sequence[Subject]
    _pseudonyms: Mapping[Subject, str] | None

    def run(self, name: str, schema: Schema) -> None:
        """Forget them in the tables of one schema."""
        if "users" in schema.tables:
            self._connection.execute(
                _statement("DELETE FROM {} WHERE id = ANY(%s)", name, "users"), [user_ids(self._subjects)]
            )
        forgotten: set[str] = set()
        for table, columns in schema.tables.items():
            condition, values = self._condition(columns)
            if table not in PROFILE_TABLES and condition:
                forgotten.update(self._forget(name, table, columns, condition, values))
        if has_table(self._connection, name, DISCARDS_TABLE):
            statement = _statement("DELETE FROM {} WHERE message_id = ANY(%s)", name, DISCARDS_TABLE)
            self._connection.execute(statement, [sorted(forgotten)])

    def _condition(self, columns: Iterable[str]) -> tuple[str, list[Any]]:
        """Return the condition for rows of these persons, and its values."""
        found = ids_by_column(self._subjects, columns)
        return " OR ".join(f"{column} = ANY(%s)" for column in found), [*found.values()]

    def _forget(
        self, name: str, table: str, columns: Mapping[str, ColumnType], condition: str, values: list[Any]
    ) -> Iterable[str]:
        """Forget rows of a table, and return their ids."""
        if self._pseudonyms is None:
            statement = f"DELETE FROM {{}} WHERE {condition} RETURNING id"
            return [one for (one,) in self._connection.execute(_statement(statement, name, table), values)]
        names = json.dumps({storable(subject.id): name for subject, name in self._pseudonyms.items()})
        settings: list[str] = []
        given: list[Any] = []
        for column, column_type in columns.items():
            if is_personal(table, column):
                settings.append(f"{quoted(column)} = NULL")
            elif column_type is ColumnType.TEXT and column != "id":
                settings.append(f"{quoted(column)} = coalesce(%s::jsonb ->> {quoted(column)}, {quoted(column)})")
                given.append(names)
        statement = f"UPDATE {{}} SET {', '.join(settings)} WHERE {condition} RETURNING id"
        return [one for (one,) in self._connection.execute(_statement(statement, name, table), [*given, *values])]


def _statement(statement: str, schema: str, table: str) -> bytes:
    return statement.replace("{}", f"{quoted(schema)}.{quoted(table)}").encode()
