"""The options of a warehouse that change what it stores."""

from __future__ import annotations

from collections.abc import Iterable

import attrs
from attrs import validators

from trackcore.warehouse.columns import CONTEXT

WIDEN = "widen"
DISCARD = "discard"

_MIN_COLUMNS = 100
"""Room for the standard and the declared columns."""


def as_names(names: Iterable[str]) -> tuple[str, ...]:
    """Convert any iterable, so that a list may be passed for a tuple."""
    return tuple(names)


def _as_optional_names(names: Iterable[str] | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(names)


def check_declared(_: object, __: object, declared: Iterable[str]) -> None:
    """Raise `ValueError` for a group of columns that does not exist."""
    if unknown := [name for name in declared if name != CONTEXT]:
        raise ValueError(f"expected {CONTEXT!r}, found {unknown[0]!r}")


def check_on_conflict(_: object, __: object, on_conflict: str) -> None:
    """Raise `ValueError` for another word."""
    if on_conflict not in (WIDEN, DISCARD):
        raise ValueError(f"expected {WIDEN!r} or {DISCARD!r}")


@attrs.frozen(kw_only=True)
class WarehouseOptions:
    """The choice of the data that a warehouse stores.

    `tables` are the only ones to fill, None for all.  `declare` names groups of columns that each table has from the
    start.  A table has at most `max_columns`, a schema at most `max_tables` of events.  If a value does not fit its
    column, `on_conflict` is to "widen" the column, or to "discard" the value, or its fraction, as Segment does.
    `users` is whether the tables of the latest traits are kept, `users` and `accounts`.
    """

    tables: tuple[str, ...] | None = attrs.field(default=None, converter=_as_optional_names)
    declare: tuple[str, ...] = attrs.field(default=(CONTEXT,), converter=as_names, validator=check_declared)
    max_columns: int = attrs.field(default=400, validator=validators.ge(_MIN_COLUMNS))
    max_tables: int = attrs.field(default=1000, validator=validators.ge(0))
    on_conflict: str = attrs.field(default=WIDEN, validator=check_on_conflict)
    users: bool = True


DEFAULT_OPTIONS = WarehouseOptions()
