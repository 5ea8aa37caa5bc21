"""Strict conversion of TOML tables into attrs classes, where cattrs would coerce, and errors with their path."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args, get_origin

import attrs
from cattrs import (
    AttributeValidationNote,
    BaseValidationError,
    ClassValidationError,
    Converter,
    ForbiddenExtraKeysError,
    IterableValidationNote,
)
from cattrs.gen import make_dict_structure_fn, override
from trackcore_delivery import Secret
from trackcore_http import segments_name

from trackcore import Destination, TrackcoreError, WriteKey
from trackcore.support import write_key_fault
from trackcore_server.config.sdk_settings import NAMED_BY_SEGMENT
from trackcore_server.config.units import parse_age, parse_size


def nearest(name: str, valid: Sequence[str]) -> str:
    """Return the end of a sentence that suggests the valid name nearest to a wrong one, if any is near."""
    matches = get_close_matches(name, valid, n=1)
    return f"; did you mean {matches[0]!r}?" if matches else ""


_KINDS: dict[type, str] = {
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a number with a fraction",
    list: "an array",
    dict: "a table",
}


def _kind_of(value: object) -> str:
    return _KINDS.get(type(value), "a date or time")


def exactly(kind: type) -> Callable[[Any, Any], Any]:
    """Return a hook that accepts only values of exactly this type."""

    def structure(value: Any, _: Any) -> Any:
        if type(value) is not kind:
            raise ValueError(f"expected {_KINDS[kind]}, found {_kind_of(value)}")
        return value

    return structure


def _from_text(read: Callable[[str], Any]) -> Callable[[Any, Any], Any]:
    text = exactly(str)
    return lambda value, kind: read(text(value, kind))


def _as_number(value: Any, _: Any) -> float:
    if type(value) not in (int, float):
        raise ValueError(f"expected a number, found {_kind_of(value)}")
    return float(value)


def _as_byte_count(value: Any, _: Any) -> int:
    if type(value) is int and value >= 0:
        return value
    if type(value) is not str:  # a string is not quoted
        found = value if type(value) is int else _kind_of(value)
        raise ValueError(f"expected a number of bytes or a size such as '64 MiB', found {found}")
    return parse_size(value)


def _comes_from(origin: type) -> Callable[[Any], bool]:
    return lambda kind: get_origin(kind) is origin


def _tuple_hook(kind: Any, converter: Converter) -> Callable[[Any, Any], Any]:
    item_type = get_args(kind)[0]

    def structure(value: Any, _: Any) -> Any:
        if type(value) is not list:
            expected = "an array of tables, `[[...]]`" if attrs.has(item_type) else "an array"
            raise ValueError(f"expected {expected}, found {_kind_of(value)}")
        return tuple(converter.structure(value, list[item_type]))  # type: ignore[valid-type]

    return structure


def class_hook(cls: Any, converter: Converter, name_of: Callable[[str], str] = str) -> Callable[[Any, Any], Any]:
    """Structure a table and run the validators field by field, so that an error has the path of its field.

    `name_of` returns the name of a setting for that of a field.  A setting whose name ends in `_bytes` is a size, which
    may be written with a unit.
    """

    def checked(field: Any) -> Callable[[Any, Any], Any]:
        read = _as_byte_count if field.name.endswith("_bytes") else converter.structure

        def structure(value: Any, kind: Any) -> Any:
            structured = read(value, kind)
            if field.validator is not None:
                field.validator(None, field, structured)
            return structured

        return structure

    overrides: Any = {
        field.name: override(struct_hook=checked(field), rename=name_of(field.name)) for field in attrs.fields(cls)
    }
    structure_table = make_dict_structure_fn(cls, converter, **overrides)

    def structure(value: Any, kind: Any) -> Any:
        return structure_table(exactly(dict)(value, kind), kind)

    return structure


def _table_hook(kind: Any, converter: Converter) -> Callable[[Any, Any], Any]:
    """Structure a table with arbitrary names, such as HTTP headers."""
    value_type = get_args(kind)[1]

    def structure(value: Any, _: Any) -> Any:
        structured, errors = {}, []
        for name, item in exactly(dict)(value, kind).items():
            try:
                structured[name] = converter.structure(item, value_type)
            except ValueError as error:
                error.add_note(AttributeValidationNote("", name, value_type))
                errors.append(error)
        if errors:
            raise ClassValidationError("", errors, dict)
        return structured

    return structure


def _as_write_key(value: Any, kind: Any) -> WriteKey:
    """Read a write key: the string itself, or `env:NAME` for the environment variable NAME."""
    text: str = exactly(str)(value, kind)
    if text.startswith("env:"):
        text = Secret(text).reveal(os.environ)
    if (fault := write_key_fault(text)) is not None:
        raise ValueError(fault)
    return WriteKey(text)


def strict_converter() -> Converter:
    """Make a converter for attrs classes of strings, booleans, integers, sizes, ages, paths, tuples and tables."""
    converter = Converter(forbid_extra_keys=True)
    converter.register_structure_hook_factory(attrs.has, class_hook)
    converter.register_structure_hook_factory(_comes_from(tuple), _tuple_hook)
    converter.register_structure_hook_factory(_comes_from(dict), _table_hook)
    converter.register_structure_hook(Secret, _from_text(Secret))
    converter.register_structure_hook(str | None, exactly(str))  # TOML has no null
    for kind in (str, bool, int):
        converter.register_structure_hook(kind, exactly(kind))
    converter.register_structure_hook(float, _as_number)
    converter.register_structure_hook(WriteKey, _as_write_key)
    converter.register_structure_hook(timedelta, _from_text(parse_age))
    converter.register_structure_hook(Path, _from_text(Path))
    return converter


# From an exception of cattrs to an error message


def describe_errors(error: BaseException, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the path and the description of each error.

    In each table unknown names come first: such a name may be why another is missing.
    """
    if isinstance(error, BaseValidationError):
        name_of = segments_name if getattr(error, "cl", None) in NAMED_BY_SEGMENT else str
        for cause in sorted(error.exceptions, key=lambda cause: not isinstance(cause, ForbiddenExtraKeysError)):
            yield from describe_errors(cause, path + _step(cause, name_of, is_first=not path))
    elif isinstance(error, ForbiddenExtraKeysError):
        for name in sorted(error.extra_fields):
            yield f"{path}.{name}".lstrip("."), _unknown(name, error.cl)
    else:
        yield path, _detail_of(error)


def _unknown(name: str, cls: type) -> str:
    name_of = segments_name if cls in NAMED_BY_SEGMENT else str
    valid = [name_of(field.name) for field in attrs.fields(cls)]
    if issubclass(cls, Destination):
        valid.append("kind")
    hint = nearest(name, valid) or f"; valid settings: {', '.join(valid)}"
    return f"unknown setting{hint}"


def _detail_of(error: BaseException) -> str:
    if isinstance(error, KeyError):
        return "is missing"
    if isinstance(error, TrackcoreError) or type(error) is ValueError:  # raised by our own checks
        return str(error)
    return f"cannot be used ({type(error).__name__})"  # the message of a library may quote the setting


def _step(error: BaseException, name_of: Callable[[str], str], *, is_first: bool) -> str:
    """Return the place of an error within its parent, from the note that cattrs adds to it."""
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, AttributeValidationNote):
            return name_of(note.name) if is_first else f".{name_of(note.name)}"
        if isinstance(note, IterableValidationNote):
            return f"[{note.index}]"
    return ""
