"""Values of columns: five types, which type a JSON value has, and how it is converted to that of its column.

Theory.  JSON's numbers have no bound and databases' have, so numbers are read with all their digits (`Digits`), and a
column of text keeps them.  A value is converted only if nothing of it is lost; what cannot be converted so is not
stored, or the column is widened (`trackcore.warehouse.schema`).  Two things differ from the message all the same: a
time keeps microseconds, and text cannot hold NUL or an unpaired surrogate, so U+FFFD takes their place.
"""

from __future__ import annotations

import json
import math
import re
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeAlias

import attrs
import msgspec

from trackcore.text.jsontext import encode_json, replace_surrogates
from trackcore.text.timetext import parse_timestamp
from trackcore.typing import JSONObject


class ColumnType(StrEnum):
    """The type of a column."""

    TEXT = "text"
    INTEGER = "integer"  # of 64 bits
    FLOAT = "float"  # of 64 bits
    BOOLEAN = "boolean"
    TIMESTAMP = "timestamp"  # with a time zone


@attrs.frozen
class Digits:
    """A number as it is written in JSON: `14.10`, `1e400`."""

    text: str

    def __float__(self) -> float:
        return float(self.text)


Scalar: TypeAlias = str | bool | int | Digits | datetime
"""A value of a message before its column is known.  An array is already its JSON text."""

Value: TypeAlias = str | bool | int | float | datetime
"""A value that a column of some type can hold."""

_INTEGERS = range(-(2**63), 2**63)
_EXACT = 2**53
"""Up to here a float holds every integer."""

_is_integer = re.compile(r"-?[0-9]{1,19}").fullmatch
_is_number = re.compile(r"-?[0-9]{1,400}(\.[0-9]{1,400})?([eE][+-]?[0-9]{1,4})?").fullmatch
_is_time = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,12})?)?(Z|[+-][0-9]{2}(:?[0-9]{2})?)?"
).fullmatch
_is_date = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}").fullmatch
_unstorable = re.compile("[\x00\ud800-\udfff]")
_BOOLEANS = {"true": True, "false": False}
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

_digits_kept = msgspec.json.Decoder(float_hook=msgspec.Raw)


def read_message(payload: bytes) -> JSONObject:
    """Decode a stored message with all digits of its numbers.  Raises `ValueError` if it is not a JSON object."""
    try:
        message = _digits_kept.decode(payload)
    except (msgspec.MsgspecError, RecursionError):  # an integer of thousands of digits, an unpaired surrogate
        message = json.loads(replace_surrogates(payload), parse_float=msgspec.Raw, parse_int=_long_integer)
    if not isinstance(message, dict):
        raise ValueError("a stored message is a JSON object")  # noqa: TRY004 - the text is wrong, not its type
    return message


def _long_integer(text: str) -> int | msgspec.Raw:
    return int(text) if _is_integer(text) else msgspec.Raw(text)


def scalar_of(value: Any) -> Scalar | None:
    """Return a JSON value that is not an object as a scalar; None for null and for a float that JSON cannot hold."""
    kind = value.__class__
    if kind is str or kind is bool or kind is int or value is None:
        return value  # type: ignore[no-any-return]
    if kind is msgspec.Raw:
        return Digits(bytes(value).decode())
    if kind is float:
        return Digits(repr(value)) if math.isfinite(value) else None
    return _json_text(value)


def _json_text(value: Any) -> str:
    try:
        return encode_json(value).decode()
    except (UnicodeEncodeError, OverflowError):  # a surrogate; only messages of other programs have one
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_as_number)


def _as_number(value: msgspec.Raw) -> float:
    return float(bytes(value))


def type_of(value: Scalar) -> ColumnType:
    """Return the type of a new column by its first value.  A number beyond 64 bits is text, with all its digits."""
    kind = value.__class__
    if kind is str:
        return ColumnType.TIMESTAMP if _time_of(value) is not None else ColumnType.TEXT  # type: ignore[arg-type]
    if kind is bool:
        return ColumnType.BOOLEAN
    if kind is int:
        return ColumnType.INTEGER if value in _INTEGERS else ColumnType.TEXT
    if kind is datetime:
        return ColumnType.TIMESTAMP
    return ColumnType.FLOAT if math.isfinite(float(value)) else ColumnType.TEXT  # type: ignore[arg-type]


def convert(value: Scalar, to: ColumnType) -> Value | None:
    """Return a value as a column of this type holds it, None if it would lose something."""
    return _CONVERSIONS[to](value)


def truncated(value: Scalar) -> int | None:
    """Return a number without its fraction, for a column of integers; None for other values."""
    if not isinstance(value, Digits) or not math.isfinite(number := float(value)):
        return None
    whole = int(number)
    return whole if whole in _INTEGERS else None


def widened_type(column: ColumnType, value: Scalar) -> ColumnType | None:
    """Return the type that a column needs so that it can hold a value too; None if it is not widened for that."""
    if column is ColumnType.INTEGER:
        is_number = isinstance(value, Digits) and math.isfinite(float(value))
        return ColumnType.FLOAT if is_number else None
    return ColumnType.TEXT if column in (ColumnType.BOOLEAN, ColumnType.TIMESTAMP) else None


def widen(value: Value, to: ColumnType) -> Value:
    """Return the value that a column held before it was widened, as it holds it afterwards."""
    if to is ColumnType.FLOAT:
        return float(value)  # type: ignore[arg-type]
    return text_of(value) if to is ColumnType.TEXT else value


def text_of(value: Scalar | Value) -> str:
    """Return a value as text: numbers with their digits, a time as `2026-01-31T12:00:00.276000Z`."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return f"{value.replace(tzinfo=None).isoformat(timespec='microseconds')}Z"
    return value.text if isinstance(value, Digits) else encode_json(value).decode()


def storable(text: str) -> str:
    """Return a text with U+FFFD for the characters that databases refuse: NUL and unpaired surrogates."""
    return text if is_storable(text) else _unstorable.sub(_REPLACEMENT, text)


def is_storable(text: str) -> bool:
    """Return whether a text has no character that databases refuse."""
    return "\0" not in text if text.isascii() else _unstorable.search(text) is None


def _to_text(value: Scalar) -> str:
    return storable(value if value.__class__ is str else text_of(value))


def _to_integer(value: Scalar) -> int | None:
    kind = value.__class__
    number: int | None = None
    if kind is int:
        number = value  # type: ignore[assignment]
    elif kind is str and _is_integer(value):  # type: ignore[arg-type]
        number = int(value)  # type: ignore[arg-type]
    elif kind is Digits and abs(exact := float(value)) <= _EXACT and exact.is_integer():  # type: ignore[arg-type]
        number = int(exact)
    return number if number is not None and number in _INTEGERS else None


def _to_float(value: Scalar) -> float | None:
    kind = value.__class__
    if kind is bool or kind is datetime or (kind is str and not _is_number(value)):  # type: ignore[arg-type]
        return None
    try:
        number = float(value)  # type: ignore[arg-type]
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _to_boolean(value: Scalar) -> bool | None:
    if value.__class__ is str:
        return _BOOLEANS.get(value)
    return value if value.__class__ is bool else None


def _to_timestamp(value: Scalar) -> datetime | None:
    if value.__class__ is str:
        time = _time_of(value)
        return parse_timestamp(value) if time is None and _is_date(value) else time
    return value if value.__class__ is datetime else None


def _time_of(text: str) -> datetime | None:
    """Return the time of a complete ISO 8601 date with a time; clients write other texts that could be one."""
    return parse_timestamp(text) if text[4:5] == "-" and _is_time(text) else None


_CONVERSIONS = {
    ColumnType.TEXT: _to_text,
    ColumnType.INTEGER: _to_integer,
    ColumnType.FLOAT: _to_float,
    ColumnType.BOOLEAN: _to_boolean,
    ColumnType.TIMESTAMP: _to_timestamp,
}
