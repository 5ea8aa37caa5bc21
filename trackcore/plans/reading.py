"""The fields of a message that the rules of a plan read; of a stored message nothing else is decoded.

Theory.  Most of a message is its context, of which most plans say nothing.  A schema reads a field of the message if it
says something about it, or requires it.  One that is about all fields, whatever their names, reads the whole message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypedDict

import msgspec

from trackcore.plans.schemas import applied_with
from trackcore.typing import JSONObject

_ABOUT_ALL_FIELDS = frozenset(
    {
        "additionalProperties",
        "const",
        "dependencies",
        "dependentRequired",
        "dependentSchemas",
        "enum",
        "maxProperties",
        "minProperties",
        "not",
        "patternProperties",
        "propertyNames",
        "unevaluatedProperties",
    }
)
_OPEN: tuple[Any, ...] = ({}, True)


def fields_read(schemas: Iterable[JSONObject]) -> frozenset[str] | None:
    """Return the names of the fields that schemas of whole messages read, None for all fields."""
    fields: set[str] = set()
    for schema in (part for whole in schemas for part in applied_with(whole, whole)):
        if not schema.keys().isdisjoint(_ABOUT_ALL_FIELDS):
            return None
        listed, required = schema.get("properties", {}), schema.get("required", [])
        fields.update(name for name, inner in listed.items() if inner not in _OPEN)
        fields.update(required)
    return frozenset(fields)


def reader_of(fields: frozenset[str] | None) -> Callable[[bytes], JSONObject]:
    """Return what decodes the text of a message: all of it, or nothing but some fields."""
    if fields is None:
        return msgspec.json.Decoder(dict[str, Any]).decode
    return msgspec.json.Decoder(_typed_dict("Message", dict.fromkeys(fields, Any), total=False)).decode


_typed_dict: Any = TypedDict  # static types know no names that are computed
