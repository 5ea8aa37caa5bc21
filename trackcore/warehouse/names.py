"""Names of schemas, tables and columns: Segment's rule, cut to what databases accept.

Theory.  Segment names go-snakecase (https://github.com/segmentio/go-snakecase) as its rule.  Only ASCII letters and
digits are content; a word is a run of capitals and digits followed by a run of small letters and digits; words are in
small letters and joined by `_`.  So a slug never begins or ends with `_`, and never has two of them in a row; names
with a leading `_` are free for what no slug may be: an event table named like a standard one (`_users`), a column
named like a system column of PostgreSQL (`_xmin`), and tables for bookkeeping (`_discards`).

PostgreSQL cuts names silently after 63 bytes, so that two long names would become one.  Here a long name is cut and
ends in a hash of the whole: two long names stay two.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache

MAX_NAME = 63
"""Bytes of a name that PostgreSQL keeps; the other databases keep more."""

STANDARD_TABLES = frozenset({"tracks", "identifies", "users", "groups", "accounts", "pages", "screens", "aliases"})
"""The tables that no event can have: one of an event of that name gets a leading `_`."""

DISCARDS_TABLE = "_discards"

SYSTEM_COLUMNS = frozenset({"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"})
"""Columns that every table of PostgreSQL has already."""

_RESERVED_SCHEMAS = frozenset({"information_schema"})
_RESERVED_SCHEMA_PREFIX = "pg_"

_words = re.compile(r"[A-Z0-9]+[a-z0-9]*|[a-z0-9]+").findall
_HASH_CHARS = 10
_CACHED_KEYS, _CACHED_CHARS = 30, 400
"""Most objects of a client have the same keys; a client cannot make the cache grow."""


def slug(name: str) -> str:
    """Return a name by Segment's rule: `Order Completed` is `order_completed`.  Empty without an ASCII character."""
    return "_".join(_words(name)).lower()


def fit(name: str) -> str:
    """Return a name of at most 63 characters; a longer one is cut, and ends in a hash of the whole."""
    if len(name) <= MAX_NAME:
        return name
    return f"{name[: MAX_NAME - _HASH_CHARS - 1]}_{_hash(name)}"


def event_table(event: str) -> str | None:
    """Return the table of an event, None if its name has no ASCII letter or digit."""
    return event_names(event)[1]


def event_names(event: str) -> tuple[str, str | None]:
    """Return the slug of an event and its table."""
    return (_cached_event_names if len(event) <= _CACHED_CHARS else _event_names)(event)


def column_places(prefix: str, keys: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Return for each key of an object, of whose path `prefix` is the slug, the slug of its path, and its column.

    The slug of a path is the same as that of its keys, joined.
    """
    is_usual = len(keys) <= _CACHED_KEYS and len(prefix) + sum(map(len, keys)) <= _CACHED_CHARS
    return (_cached_places if is_usual else _column_places)(prefix, keys)


def schema_name(source: str, pattern: str = "{source}") -> str:
    """Return the schema of a source: its slug, put into the pattern.

    A source without an ASCII letter gets a hash, and a name that PostgreSQL reserves a leading `_`.
    """
    name = fit(pattern.replace("{source}", slug(source) or f"source_{_hash(source)}"))
    is_reserved = name in _RESERVED_SCHEMAS or name.startswith(_RESERVED_SCHEMA_PREFIX)
    return fit(f"_{name}") if is_reserved else name


def _column_place(prefix: str, key: str) -> tuple[str, str]:
    name = slug(key)
    path = f"{prefix}_{name}" if prefix and name else prefix or name
    return path, f"_{path}" if path in SYSTEM_COLUMNS else fit(path)


def _event_names(event: str) -> tuple[str, str | None]:
    name = slug(event)
    table = fit(name)
    return name, f"_{table}" if table in STANDARD_TABLES else table or None


_cached_event_names = lru_cache(2048)(_event_names)


def _column_places(prefix: str, keys: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    return tuple(_column_place(prefix, key) for key in keys)


_cached_places = lru_cache(2048)(_column_places)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_CHARS]
