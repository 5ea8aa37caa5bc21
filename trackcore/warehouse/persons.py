"""Persons in a warehouse: which columns have their ids, and which are dropped where rows are kept under a pseudonym."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from trackcore.privacy.subjects import Subject
from trackcore.warehouse.columns import CONTEXT, standard_columns
from trackcore.warehouse.values import scalar_of, storable

_TABLES_WITH_TRAITS = frozenset({"identifies", "groups", "aliases"})
_ADDRESS = f"{CONTEXT}_ip"
_TRAITS = f"{CONTEXT}_traits_"


def user_ids(subjects: Iterable[Subject]) -> list[str]:
    """Return the ids of users, as they are stored: those of rows in `users`."""
    return [storable(subject.id) for subject in subjects if subject.kind == "user"]


def id_as_json(subject: Subject) -> str:
    r"""Return the id with its quotes, as an array that is stored in a column of text has it.

    >>> id_as_json(Subject("user", 'a"b'))
    '"a\\"b"'
    """
    return storable(str(scalar_of([subject.id]))[1:-1])


def ids_by_column(subjects: Sequence[Subject], columns: Iterable[str]) -> Mapping[str, Sequence[str]]:
    """Return the ids of persons by the columns of a table in which a row of theirs has one of them.

    It is empty if no row of the table can be theirs.
    """
    every = [storable(subject.id) for subject in subjects]
    anonymous = [storable(subject.id) for subject in subjects if subject.kind == "anonymous"]
    found = {"user_id": user_ids(subjects), "anonymous_id": anonymous, "previous_id": every}
    present = set(columns)
    return {column: ids for column, ids in found.items() if column in present and ids}


def is_personal(table: str, column: str) -> bool:
    """Return whether a column has an address or traits: a row under a pseudonym does not keep its value.

    >>> is_personal("tracks", "context_ip"), is_personal("identifies", "email"), is_personal("order_paid", "total")
    (True, True, False)
    """
    if column == _ADDRESS or column.startswith(_TRAITS):
        return True
    is_context = column.startswith(f"{CONTEXT}_")
    return table in _TABLES_WITH_TRAITS and column not in standard_columns(table) and not is_context
