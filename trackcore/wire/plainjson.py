"""Conversion of Python values to plain JSON, for messages that are made in this process.

Theory.  msgspec encodes more than JSON's own types, and so does this module: a datetime, date, time and timedelta as
ISO 8601, a UUID as text, a Decimal as its digits in a string, an enum as its value, bytes as base64, a tuple or a set
as an array, an attrs or data class as an object.  msgspec loses data silently in four cases, which are decided here:

- NaN and infinity have no JSON form: they become null, as in JavaScript, and the place is reported;
- a field whose name begins with an underscore is a field: `attrs.asdict` and `dataclasses.asdict` have it too;
- keys are text in JSON: `True` is `"true"` as a client would write it, NaN is refused, and so are two keys that would
  become one;
- a value that contains itself, or nests too deeply, is refused with its path.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from decimal import Decimal
from enum import Enum
from typing import Any

import attrs
import msgspec

from trackcore.errors import InvalidMessage, Reason
from trackcore.typing import JSONObject

_MAX_LEVELS = 200
"""Above any depth limit, and far below Python's own."""


def plain_object(values: JSONObject, not_finite: list[str]) -> JSONObject:
    """Return `values` as plain JSON; the paths of numbers that became null are appended to `not_finite`.

    Raises `InvalidMessage` with the path of a value that has no JSON form.
    """
    return _object(values.items(), "", 0, not_finite)


def _plain(value: Any, path: str, level: int, not_finite: list[str]) -> Any:
    kind = value.__class__
    if kind is str or kind is bool or value is None:
        return value
    if kind is int:
        if not -_INT_BOUND < value < _INT_BOUND:
            raise _no_form(path, f"an integer of more than {_MAX_DIGITS} digits, which readers of JSON refuse")
        return value
    if kind is float and math.isfinite(value):
        return value
    if kind is dict:
        return _object(value.items(), path, level, not_finite)
    if kind is list:
        return _array(value, path, level, not_finite)
    return _converted(value, path, level, not_finite)


def _converted(value: Any, path: str, level: int, not_finite: list[str]) -> Any:
    """Return the JSON form of a value of another type, by the first rule that fits."""
    if _is_not_finite(value):
        not_finite.append(path)
        return None
    if isinstance(value, Enum):
        return _plain(value.value, path, level, not_finite)
    if isinstance(value, dict):
        return _object(value.items(), path, level, not_finite)
    if isinstance(value, list | tuple | set | frozenset):
        return _array(value, path, level, not_finite)
    fields = _fields_of(value)
    if fields is not None:
        return _object(fields, path, level, not_finite)
    try:
        plain = msgspec.to_builtins(value, enc_hook=_as_base)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise _no_form(path, str(error)) from error
    return plain if plain.__class__ in _SCALARS else _plain(plain, path, level, not_finite)


_SCALARS = (str, float, bool, type(None))


_MAX_DIGITS = 4300
"""The limit of Python for converting text (`sys.int_info.default_max_str_digits`), and so the limit of a body."""

_INT_BOUND = 10**_MAX_DIGITS


def _is_not_finite(value: Any) -> bool:
    if isinstance(value, Decimal):
        return not value.is_finite()  # `math` raises for a NaN that signals
    return isinstance(value, float) and not math.isfinite(value)


def _object(items: Iterable[tuple[Any, Any]], path: str, level: int, not_finite: list[str]) -> JSONObject:
    _check_level(path, level)
    plain: JSONObject = {}
    for key, value in items:
        name = key if key.__class__ is str else _name_of(key, path)
        if name in plain:
            raise _no_form(path, f"two keys of one object would both be written as {name!r}")
        plain[name] = _plain(value, f"{path}.{name}" if path else name, level + 1, not_finite)
    return plain


def _array(values: Iterable[Any], path: str, level: int, not_finite: list[str]) -> list[Any]:
    _check_level(path, level)
    return [_plain(value, f"{path}[{index}]", level + 1, not_finite) for index, value in enumerate(values)]


def _check_level(path: str, level: int) -> None:
    if level > _MAX_LEVELS:
        shown = path[:_SHOWN_PATH_CHARS] + "…" if len(path) > _SHOWN_PATH_CHARS else path
        raise _no_form(shown, f"a value contains itself, or nests more than {_MAX_LEVELS} levels")


def _name_of(key: Any, path: str) -> str:
    """Return a key of an object as text."""
    if isinstance(key, Enum):
        return _name_of(key.value, path)
    if isinstance(key, bool):
        return str(key).lower()
    if isinstance(key, str):
        return str.__str__(key)
    if _is_not_finite(key):
        raise _no_form(path, f"{key} cannot be the key of an object")
    try:
        name = next(iter(msgspec.to_builtins({key: None}, str_keys=True, enc_hook=_as_base)))
    except (TypeError, ValueError, OverflowError) as error:
        raise _no_form(path, f"the key of an object is text, not {type(key).__name__}") from error
    return str(name)


def _fields_of(value: Any) -> list[tuple[str, Any]] | None:
    """Return the fields of an attrs or data class with their values, without unset ones; None for other values."""
    kind = type(value)
    if attrs.has(kind):
        names: list[str] = [field.name for field in attrs.fields(kind)]
    elif dataclasses.is_dataclass(kind):
        names = [field.name for field in dataclasses.fields(kind)]
    else:
        return None
    return [(name, getattr(value, name)) for name in names if hasattr(value, name)]


def _as_base(value: Any) -> str | int | float:
    """Return an instance of a subclass of a JSON type as that type: Markup, Django's SafeString, numpy's float64."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _no_form(path: str, detail: str) -> InvalidMessage:
    return InvalidMessage(reason=Reason.VALUE_NOT_JSON, detail=detail, path=path)


_SHOWN_PATH_CHARS = 100
