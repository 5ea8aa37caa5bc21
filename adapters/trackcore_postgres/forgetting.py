"""Forgetting persons: their rows are deleted, or kept under another name without traits and address.

All tables of a source are searched, those from before a rebuild too.  With pseudonyms each column of text that is the
id of a person gets the pseudonym, and so does each id in an array, which a column holds as JSON.  PostgreSQL frees the
space of deleted rows by its VACUUM, which runs by itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs
from psycopg import Connection

from trackcore.privacy import Subject
from trackcore.text import encode_json
from trackcore.warehouse import (
    DISCARDS_TABLE,
    PROFILE_TABLES,
    ColumnType,
    Schema,
    id_as_json,
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

    def _condition(self, columns: Iterable[str]) -> tuple[str, dict[str, Any]]:
        """Return the condition for rows of these persons, and its values."""
        found = ids_by_column(self._subjects, columns)
        return " OR ".join(f"{column} = ANY(%({column})s)" for column in found), {**found}

    def _forget(
        self, name: str, table: str, columns: Mapping[str, ColumnType], condition: str, values: dict[str, Any]
    ) -> Iterable[str]:
        """Forget rows of a table, and return their ids."""
        statement = f"DELETE FROM {{}} WHERE {condition} RETURNING id"
        if self._pseudonyms is not None:
            renamed, names = _renaming(self._pseudonyms)
            values = {**values, **names}
            settings = []
            for column, column_type in columns.items():
                if is_personal(table, column):
                    settings.append(f"{quoted(column)} = NULL")
                elif column_type is ColumnType.TEXT and column != "id":
                    settings.append(f"{quoted(column)} = {renamed.replace('{}', quoted(column))}")
            statement = f"UPDATE {{}} SET {', '.join(settings)} WHERE {condition} RETURNING id"
        return [one for (one,) in self._connection.execute(_statement(statement, name, table), values)]


def _renaming(pseudonyms: Mapping[Subject, str]) -> tuple[str, dict[str, str]]:
    """Return the new value of a column of text, whose name is `{}`, and the values that it needs.

    Values have names, since each column needs all of them, and PostgreSQL takes at most 65,535 in a statement.
    """
    array, values = "{}", {"names": json.dumps({storable(subject.id): name for subject, name in pseudonyms.items()})}
    for number, (subject, name) in enumerate(pseudonyms.items()):
        array = f"replace({array}, %(id_{number})s, %(name_{number})s)"
        values |= {f"id_{number}": id_as_json(subject), f"name_{number}": encode_json(name).decode()}
    in_array = f"CASE WHEN starts_with({{}}, '[') THEN {array} ELSE {{}} END"
    return f"coalesce(%(names)s::jsonb ->> {{}}, {in_array})", values


def _statement(statement: str, schema: str, table: str) -> bytes:
    return statement.replace("{}", f"{quoted(schema)}.{quoted(table)}").encode()
