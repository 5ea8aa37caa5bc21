"""The columns that tables have from the start, by the layout of Segment.

Source: https://segment.com/docs/connections/storage/warehouses/schema/
"""

from __future__ import annotations

from collections.abc import Mapping

from trackcore.warehouse.names import STANDARD_TABLES
from trackcore.warehouse.values import ColumnType

CONTEXT = "context"
"""The prefix of columns from `context`, and the name in `declare` of those that are well known."""

_TEXT, _TIME = ColumnType.TEXT, ColumnType.TIMESTAMP

_COMMON: Mapping[str, ColumnType] = {
    "id": _TEXT,
    "received_at": _TIME,
    "anonymous_id": _TEXT,
    "user_id": _TEXT,
    "sent_at": _TIME,
    "timestamp": _TIME,
    "original_timestamp": _TIME,
}
_EVENT: Mapping[str, ColumnType] = {**_COMMON, "event": _TEXT, "event_text": _TEXT}
_PAGE: Mapping[str, ColumnType] = {**_COMMON, "name": _TEXT, "category": _TEXT}
_PROFILE: Mapping[str, ColumnType] = {"id": _TEXT, "received_at": _TIME}

_STANDARD: Mapping[str, Mapping[str, ColumnType]] = {
    "tracks": _EVENT,
    "identifies": _COMMON,
    "users": _PROFILE,
    "groups": {**_COMMON, "group_id": _TEXT},
    "accounts": _PROFILE,
    "pages": _PAGE,
    "screens": _PAGE,
    "aliases": {**_COMMON, "previous_id": _TEXT},
}
assert _STANDARD.keys() == STANDARD_TABLES

PROFILE_TABLES = frozenset({"users", "accounts"})
"""Tables of the latest traits: one row for each user, or for each group."""

STAMPS = "_stamps"
"""In the tables of the latest traits: when each value was sent, as `trackcore.warehouse.profiles` writes it."""

LOADED_AT = "uuid_ts"
"""The time when a row was loaded, which the database sets: no message can."""


def _text(prefix: str, names: str) -> dict[str, ColumnType]:
    return {f"context_{prefix}_{name}": ColumnType.TEXT for name in names.split()}


DECLARED_CONTEXT: Mapping[str, ColumnType] = {
    "context_ip": _TEXT,
    "context_locale": _TEXT,
    "context_timezone": _TEXT,
    "context_user_agent": _TEXT,
    **_text("library", "name version"),
    **_text("page", "url path title search referrer"),
    **_text("campaign", "name source medium term content"),
    **_text("app", "name version build namespace"),
    **_text("os", "name version"),
    **_text("device", "id type model name manufacturer advertising_id"),
    "context_device_ad_tracking_enabled": ColumnType.BOOLEAN,
    "context_screen_width": ColumnType.INTEGER,
    "context_screen_height": ColumnType.INTEGER,
    "context_screen_density": ColumnType.FLOAT,
    "context_network_wifi": ColumnType.BOOLEAN,
    "context_network_cellular": ColumnType.BOOLEAN,
    "context_network_bluetooth": ColumnType.BOOLEAN,
    "context_network_carrier": _TEXT,
    **_text("protocols", "source_id source_name violations omitted"),
}
"""Well-known columns, which models that are written for this layout name before a message has filled them."""

_WITHOUT_CONTEXT = frozenset({"accounts"})


def standard_columns(table: str) -> Mapping[str, ColumnType]:
    """Return the columns that a table has in any case; a table that is not a standard one is that of an event."""
    return _STANDARD.get(table, _EVENT)


def known_columns(table: str) -> Mapping[str, ColumnType]:
    """Return the columns of a table whose type does not depend on values: standard ones and well-known context."""
    return _KNOWN.get(table, _KNOWN["tracks"])


def reserved_columns(table: str) -> frozenset[str]:
    """Return the columns that no property and no trait can fill."""
    return _RESERVED.get(table, _RESERVED["tracks"])


_KNOWN: Mapping[str, Mapping[str, ColumnType]] = {
    table: columns if table in _WITHOUT_CONTEXT else {**columns, **DECLARED_CONTEXT}
    for table, columns in _STANDARD.items()
}
_RESERVED = {table: frozenset({*columns, *DECLARED_CONTEXT, LOADED_AT}) for table, columns in _STANDARD.items()}

RESERVED = frozenset[str]().union(*_RESERVED.values())
"""The columns that no property and no trait can fill, of any table."""
