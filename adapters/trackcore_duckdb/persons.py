"""Persons in tables as SQL: the condition of their rows, and the values that these get under a pseudonym.

Ids are in the statements as quoted text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import attrs
from trackcore_delivery import ErasureRequest

from trackcore.text import encode_json
from trackcore.warehouse import ColumnType, id_as_json, ids_by_column, is_personal, storable, user_ids
from trackcore_duckdb.engine import quoted, text


@attrs.frozen
class Persons:
    """The persons of a request."""

    _request: ErasureRequest

    @property
    def are_kept(self) -> bool:
        """Whether their rows are kept under pseudonyms."""
        return self._request.pseudonyms is not None

    def rows(self, columns: Iterable[str]) -> str:
        """Return the condition of their rows in a table with these columns."""
        found = ids_by_column(self._request.subjects, columns)
        return _any(_is_one_of(column, ids) for column, ids in found.items())

    def users(self) -> str:
        """Return the condition of their rows in the table of users."""
        return _any([_is_one_of("id", ids)] if (ids := user_ids(self._request.subjects)) else [])

    def changes(self, table: str, columns: Mapping[str, ColumnType]) -> Mapping[str, str]:
        """Return the new value of each column that changes in their rows, if these are kept."""
        changed = {column: "NULL" for column in columns if is_personal(table, column)}
        texts = (column for column, column_type in columns.items() if column_type is ColumnType.TEXT and column != "id")
        return {**{column: self.renamed(column) for column in texts}, **changed}

    def renamed(self, column: str) -> str:
        """Return the value of a column of text in which the pseudonyms replace the ids; NULL if there are none.

        It is an id itself, or an array as JSON with one in it.
        """
        subjects, pseudonyms = self._request.subjects, self._request.pseudonyms
        name = quoted(column)
        ids = [storable(subject.id) for subject in subjects]
        quotes = [text(id_as_json(subject)) for subject in subjects]
        has_quote = " OR ".join(f"contains({name}, {quote})" for quote in quotes)
        whole = array = "NULL"
        if pseudonyms is not None:
            names = [pseudonyms[subject] for subject in subjects]
            whole, array = f"{_list(names)}[list_position({_list(ids)}, {name})]", name
            for quote, pseudonym in zip(quotes, names, strict=True):
                array = f"replace({array}, {quote}, {text(encode_json(pseudonym).decode())})"
        cases = (
            f"WHEN {name} IN {_tuple(ids)} THEN {whole} WHEN starts_with({name}, '[') AND ({has_quote}) THEN {array}"
        )
        return f"CASE {cases} ELSE {name} END"


def _is_one_of(column: str, ids: Sequence[str]) -> str:
    return f"coalesce({quoted(column)} IN {_tuple(ids)}, FALSE)"


def _any(conditions: Iterable[str]) -> str:
    return f"({' OR '.join(conditions) or 'FALSE'})"


def _tuple(texts: Iterable[str]) -> str:
    return f"({', '.join(map(text, texts))})"


def _list(texts: Iterable[str]) -> str:
    return f"[{', '.join(map(text, texts))}]"
