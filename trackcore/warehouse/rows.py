"""The rows of a message, by Segment's layout: which tables, which columns, and what stays out.

Theory.  A message is a row of the table of its call; a track is one of its event's table too, an identify one of
`users`, and a group one of `accounts`, where the latest traits are kept.  Properties and traits become columns by their
slug, nested objects by their path (`address.city` is `address_city`), and so does the context, behind `context_`.  An
array is its JSON text.  Null, an empty object, and whatever else a message has at its top (`integrations`, `type`,
`version`, ...) become no column.

Consecutive messages of a client have the same context, byte by byte: `read_rows` makes its columns once.

A property never overwrites a standard column or one of the context.  Of two properties with one slug the last wins.
Whatever is left out for such a reason is a `Discard` of the row.

Source: https://segment.com/docs/connections/storage/warehouses/schema/
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from types import NoneType
from typing import Any, NamedTuple, TypedDict, cast

import msgspec

from trackcore.caching import cached_by_text
from trackcore.text.timetext import parse_timestamp
from trackcore.typing import JSONObject
from trackcore.warehouse.columns import CONTEXT, RESERVED, reserved_columns, standard_columns
from trackcore.warehouse.names import column_places, event_names
from trackcore.warehouse.options import DEFAULT_OPTIONS, WarehouseOptions
from trackcore.warehouse.values import Scalar, read_message, scalar_of, storable, text_of

_SHOWN_CHARS = 1_000
_MAX_ID_CHARS = 500
"""Of a user or a group: an index of PostgreSQL has room for 2,700 bytes."""

_CACHED_CONTEXTS, _CACHED_CONTEXT_BYTES = 1_000, 2_000
_CACHED_KEYS, _CACHED_CHARS = 30, 400

_MAX_DISCARDS = 20
"""How many discards of one row are kept one by one: a client cannot make its row into thousands of others."""


class DiscardReason(StrEnum):
    """Why a value is not in its column."""

    STANDARD_COLUMN = "standard_column"  # a property named like a column of the layout
    SAME_NAME = "same_name"  # another property of the message has the same slug, and came later
    NO_NAME = "no_name"  # the name has no ASCII letter or digit
    ID_TOO_LONG = "id_too_long"  # of a user or a group: no index takes it, so its latest traits are not kept
    NOT_A_TIME = "not_a_time"  # a time of the message that cannot be parsed
    DOES_NOT_FIT = "does_not_fit"  # the column has another type
    FRACTION_CUT = "fraction_cut"  # the column has integers, and keeps the integer part
    CHARACTER_REPLACED = "character_replaced"  # NUL or an unpaired surrogate, stored as U+FFFD
    TOO_MANY_COLUMNS = "too_many_columns"
    TOO_MANY_TABLES = "too_many_tables"
    AND_MORE = "and_more"  # further values, which are not listed; the value is their number


class Discard(NamedTuple):
    """A value that a row does not have as it was sent.  `column` is empty if it concerns the row, or has no name."""

    column: str
    value: str
    reason: DiscardReason


class Row(NamedTuple):
    """One row: its table, its values that are not null, and what of the message it does not have.

    Rows of a table with the same `shape` have the same columns, with values of the same classes, and every text of them
    is storable.  It is None if that is not known.
    """

    table: str
    values: Mapping[str, Scalar]
    discards: tuple[Discard, ...] = ()
    shape: Hashable = None


def rows(message: JSONObject, options: WarehouseOptions = DEFAULT_OPTIONS) -> tuple[Row, ...]:
    """Return the rows of a message as `read_message` decodes it; none for one whose type is not that of a call."""
    return _rows(_Parts(message, _context_of(message.get("context"))), options)


def read_rows(payload: bytes, options: WarehouseOptions = DEFAULT_OPTIONS) -> tuple[Row, ...]:
    """Return the rows of a stored message: those of `read_message`.  Raises `ValueError` if it is not a JSON object."""
    try:
        if not payload.isascii():
            payload.decode()  # what is skipped is checked too
        message = _decode_fields(payload)
        context = _read_context(bytes(message.get("context", b"null")))
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return rows(read_message(payload), options)
    return _rows(_Parts(message, context, has_shape=b"\\" not in payload or _ESCAPE not in payload), options)


_FIELDS = (
    *("type", "messageId", "receivedAt", "sentAt", "timestamp", "originalTimestamp", "anonymousId", "userId"),
    *("groupId", "previousId", "event", "name", "category", "properties", "traits"),
)
"""The fields of a message that its rows need, beside `context`; others are skipped."""

_ESCAPE = b"\\u"
"""JSON has NUL and an unpaired surrogate as an escape alone."""

_Fields = TypedDict("_Fields", {**dict.fromkeys(_FIELDS, Any), "context": msgspec.Raw}, total=False)  # type: ignore[misc]
_decode_fields = cast(
    "Callable[[bytes], JSONObject]", msgspec.json.Decoder(cast("Any", _Fields), float_hook=msgspec.Raw).decode
)
_decode = msgspec.json.Decoder(float_hook=msgspec.Raw).decode


class _Context(NamedTuple):
    """The columns of a context, which many messages share, and what they do not have of it."""

    columns: Mapping[str, Scalar]
    discards: Sequence[Discard]
    shape: object


def _context_of(context: Any) -> _Context:
    columns: dict[str, Scalar] = {}
    discards: list[Discard] = []
    _flatten(CONTEXT, _object(context), columns, discards)
    return _Context(columns, discards, _context_shape(_columns_shape(columns)))


@lru_cache(_CACHED_CONTEXTS)
def _context_shape(shape: Hashable) -> object:
    """Return an object for a shape: it is hashed faster than its columns."""
    del shape
    return object()


def _columns_shape(columns: Mapping[str, Scalar]) -> Hashable:
    return tuple(columns), tuple(map(type, columns.values()))


_read_context = cached_by_text(lambda text: _context_of(_decode(text)), _CACHED_CONTEXTS, _CACHED_CONTEXT_BYTES)


def _rows(parts: _Parts, options: WarehouseOptions) -> tuple[Row, ...]:
    made = _ROWS.get(parts.message.get("type"))  # type: ignore[arg-type]
    if made is None:
        return ()
    found = made(parts, options)
    if options.tables is None:
        return tuple(found)
    return tuple(row for row in found if row.table in options.tables)


class _Parts:
    """The parts of a message that its rows share."""

    common: dict[str, Scalar]

    def __init__(self, message: JSONObject, context: _Context, *, has_shape: bool = False) -> None:
        self.message = message
        self.context = context.columns
        self.discards = [*context.discards]
        common = self.common = {"id": _text(message.get("messageId")) or ""}
        for column, field in _TIMES:
            value = message.get(field)
            time = None if value is None else _time_of(value)
            if time is not None:
                common[column] = time
            elif value is not None:
                self.discards.append(discard(column, scalar_of(value), DiscardReason.NOT_A_TIME))
        for column, field in _IDS:
            if text := _text(message.get(field)):
                common[column] = text
        self.shape = (context.shape, tuple(common)) if has_shape else None

    def row(self, table: str, standard: Mapping[str, Scalar], free: JSONObject) -> Row:
        """Build a row of the common columns, `standard` ones of the table, and those of a free-form part."""
        shape = None if self.shape is None else (self.shape, tuple(standard))
        if not free:
            return Row(table, {**self.common, **standard, **self.context}, limited(self.discards), shape)
        flat = _flat_of(free)
        if flat is None or not (flat.is_free or self._are_free(table, flat.columns)):
            return self._unusual_row(table, standard, free, shape)
        values = {**self.common, **standard, **flat.scalars(free), **self.context}
        return Row(table, values, limited(self.discards), shape and (shape, flat.shape))

    def _unusual_row(self, table: str, standard: Mapping[str, Scalar], free: JSONObject, shape: Hashable) -> Row:
        """Build a row of a free-form part with objects in it, or with columns that are those of others."""
        discards = [*self.discards]
        found: dict[str, Scalar] = {}
        _flatten("", free, found, discards)
        if self._are_free(table, found):
            values = {**self.common, **standard, **found, **self.context}
            return Row(table, values, limited(discards), shape and (shape, _columns_shape(found)))
        values = {**self.common, **standard}
        self._add_free(values, found, reserved_columns(table), discards)
        values.update(self.context)
        return Row(table, values, limited(discards))

    def _are_free(self, table: str, columns: Iterable[str]) -> bool:
        return reserved_columns(table).isdisjoint(columns) and self.context.keys().isdisjoint(columns)

    def _add_free(
        self,
        values: dict[str, Scalar],
        found: Mapping[str, Scalar],
        reserved: AbstractSet[str],
        discards: list[Discard],
    ) -> None:
        """Add the columns of a free-form part, of which some have the names of others."""
        for column, value in found.items():
            if column not in reserved and column not in self.context:
                values[column] = value
            elif values.get(column) != value:
                discards.append(discard(column, value, DiscardReason.STANDARD_COLUMN))

    def profile(self, table: str, profile_id: str, row: Row, *, with_context: bool) -> Row:
        """Build the row of latest traits: those of a row of the message, whose discards they share."""
        values: dict[str, Scalar] = {"id": profile_id}
        if "received_at" in self.common:
            values["received_at"] = self.common["received_at"]
        standard, context = standard_columns(row.table), () if with_context else self.context
        values.update(
            (name, value) for name, value in row.values.items() if name not in standard and name not in context
        )
        return Row(table, values, shape=row.shape)


def _time_of(value: Any) -> datetime | None:
    is_usual = value.__class__ is str and len(value) <= _CACHED_TIME_CHARS
    return (_cached_time if is_usual else parse_timestamp)(value)


_CACHED_TIME_CHARS = 30
_cached_time = lru_cache(256)(parse_timestamp)
"""The messages of one request were sent and received at one time."""

_TIMES = (
    ("received_at", "receivedAt"),
    ("sent_at", "sentAt"),
    ("timestamp", "timestamp"),
    ("original_timestamp", "originalTimestamp"),
)
_IDS = (("anonymous_id", "anonymousId"), ("user_id", "userId"))


def _track(parts: _Parts, options: WarehouseOptions) -> Iterator[Row]:
    del options
    text = _text(parts.message.get("event")) or ""
    name, table = event_names(text)
    event: dict[str, Scalar] = {"event": name, "event_text": text} if name else {"event_text": text}
    yield parts.row("tracks", event, {})
    if table is not None:
        yield parts.row(table, event, _object(parts.message.get("properties")))


def _identify(parts: _Parts, options: WarehouseOptions) -> Iterator[Row]:
    row = parts.row("identifies", {}, _object(parts.message.get("traits")))
    user = parts.common.get("user_id")
    if not options.users or not isinstance(user, str):
        yield row
    elif len(user) > _MAX_ID_CHARS:
        yield _without_profile(row, user)
    else:
        yield row
        yield parts.profile("users", user, row, with_context=True)


def _group(parts: _Parts, options: WarehouseOptions) -> Iterator[Row]:
    group = _text(parts.message.get("groupId"))
    row = parts.row("groups", {"group_id": group} if group else {}, _object(parts.message.get("traits")))
    if not options.users or not group:
        yield row
    elif len(group) > _MAX_ID_CHARS:
        yield _without_profile(row, group)
    else:
        yield row
        yield parts.profile("accounts", group, row, with_context=False)


def _without_profile(row: Row, profile_id: str) -> Row:
    too_long = discard("id", profile_id, DiscardReason.ID_TOO_LONG)
    return row._replace(discards=(*row.discards, too_long))


def _alias(parts: _Parts, options: WarehouseOptions) -> Iterator[Row]:
    del options
    previous = _text(parts.message.get("previousId"))
    yield parts.row("aliases", {"previous_id": previous} if previous else {}, _object(parts.message.get("traits")))


def _page(parts: _Parts, options: WarehouseOptions) -> Iterator[Row]:
    yield _viewed("pages", parts)
    del options


def _screen(parts: _Parts, options: WarehouseOptions) -> Iterator[Row]:
    yield _viewed("screens", parts)
    del options


def _viewed(table: str, parts: _Parts) -> Row:
    """Build the row of a page or a screen: its name and category are in the message, else among its properties."""
    properties = _object(parts.message.get("properties"))
    standard: dict[str, Scalar] = {}
    for field in ("name", "category"):
        text = _text(parts.message.get(field)) or _text(properties.get(field))
        if text:
            standard[field] = text
    return parts.row(table, standard, properties)


_ROWS = {
    "track": _track,
    "identify": _identify,
    "group": _group,
    "alias": _alias,
    "page": _page,
    "screen": _screen,
}


def _object(value: Any) -> JSONObject:
    return value if value.__class__ is dict else {}


def _text(value: Any) -> str | None:
    if value.__class__ is str:
        return value
    scalar = None if value.__class__ is dict else scalar_of(value)
    return None if scalar is None else text_of(scalar)


def _flatten(prefix: str, values: JSONObject, found: dict[str, Scalar], discards: list[Discard]) -> None:
    """Put the values of an object, and of those inside it, under the names of their columns."""
    for (path, column), value in zip(column_places(prefix, tuple(values)), values.values(), strict=True):
        kind = value.__class__
        if kind is dict:
            _flatten(path, value, found, discards)
            continue
        scalar = value if kind is str else scalar_of(value)
        if scalar is None:
            continue
        if path == prefix:  # the key has no ASCII letter or digit
            discards.append(discard(prefix, scalar, DiscardReason.NO_NAME))
            continue
        if column in found:
            discards.append(discard(column, found[column], DiscardReason.SAME_NAME))
        found[column] = scalar


class _Flat(NamedTuple):
    """The columns of free-form parts with these keys and classes of values; each key has a column of its own."""

    columns: tuple[str, ...]
    converted: tuple[str, ...]
    nulls: tuple[str, ...]
    is_free: bool  # no table has standard columns or context of these names
    shape: object

    def scalars(self, free: JSONObject) -> dict[str, Scalar]:
        """Return the scalars of such a part, by their columns."""
        found = dict(zip(self.columns, free.values(), strict=True))
        for column in self.converted:
            found[column] = scalar_of(found[column])
        for column in self.nulls:
            del found[column]
        return found


def _flat_of(free: JSONObject) -> _Flat | None:
    """Return the columns of a free-form part; None for one with an object in it, or names without a column."""
    keys = tuple(free)
    is_usual = len(keys) <= _CACHED_KEYS and len("".join(keys)) <= _CACHED_CHARS
    return _cached_flat(keys, tuple(map(type, free.values()))) if is_usual else None


@lru_cache(2048)
def _cached_flat(keys: tuple[str, ...], kinds: tuple[type, ...]) -> _Flat | None:
    places = column_places("", keys)
    columns = tuple(column for _, column in places)
    if not _FLAT.issuperset(kinds) or len({*columns}) < len(columns) or not all(path for path, _ in places):
        return None
    kind_of = dict(zip(columns, kinds, strict=True))
    return _Flat(
        columns,
        converted=tuple(column for column, kind in kind_of.items() if kind in _CONVERTED),
        nulls=tuple(column for column, kind in kind_of.items() if kind is NoneType),
        is_free=all(column not in RESERVED and not column.startswith(CONTEXT) for column in columns),
        shape=object(),
    )


_CONVERTED = frozenset({list, msgspec.Raw})
_FLAT = frozenset({str, bool, int, NoneType}) | _CONVERTED
"""The classes of values that have one column at most.  The scalar of each is of one class too."""


def discard(column: str, value: Scalar | None, reason: DiscardReason) -> Discard:
    """Build a discard: the value as text that a database can store, cut if it is long."""
    return Discard(column, "" if value is None else storable(text_of(value)[:_SHOWN_CHARS]), reason)


def limited(discards: list[Discard]) -> tuple[Discard, ...]:
    """Return the first discards of a row, and the number of the others in one more."""
    if len(discards) <= _MAX_DISCARDS:
        return tuple(discards)
    more = Discard("", str(len(discards) - _MAX_DISCARDS), DiscardReason.AND_MORE)
    return (*discards[:_MAX_DISCARDS], more)
