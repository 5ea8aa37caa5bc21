"""How many errors a schema can have for one value: what bounds the time that it takes to list those of a message.

The validator lists all errors at once, and each takes microseconds.  A message of a few thousand bytes can have
hundreds of thousands of them: an array of empty objects, of which each lacks a hundred fields.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from trackcore import JSONObject
from trackcore.plans import applied_with

_VALUES_OF_AN_ENUM = 16
"""An error carries the values that are allowed: so many of them cost as much as a further error."""

_NO_ERRORS = frozenset({"$schema", "$id", "id", "title", "description", "default", "examples", "labels", "x-seen"})
_NO_ERRORS |= {"properties", "required", "items", "prefixItems", "definitions", "$defs"}
_OTHER_FIELDS = ("additionalProperties", "propertyNames", "unevaluatedProperties")
_ITEMS = ("items", "prefixItems", "additionalItems", "unevaluatedItems")


@attrs.frozen
class ErrorCount:
    """The most errors that one value of a message can have: any value, and in addition an object."""

    of_value: int
    of_object: int

    def of(self, message: Any) -> int:
        """Return the most errors that a message can have."""
        values, objects = _counted(message)
        return values * self.of_value + objects * self.of_object


def most_errors(schema: JSONObject) -> ErrorCount:
    """Return the most errors that a schema can have for one value."""
    return _most([schema], schema)


def _most(schemas: Iterable[JSONObject], root: JSONObject) -> ErrorCount:
    """Return the most errors of a value to which several schemas apply, or of any value in it."""
    applied = [part for schema in schemas for part in applied_with(schema, root)]
    named: dict[str, list[JSONObject]] = {}
    for part in applied:
        for name, inner in _objects(part.get("properties")):
            named.setdefault(name, []).append(inner)
    others = [inner for part in applied for inner in _of_other_fields(part)]
    items = [inner for part in applied for keyword in _ITEMS for inner in _listed(part.get(keyword))]
    fields = _highest([_most(found, root) for found in named.values()])
    if others:  # a field that is named may match a pattern, too
        more = _most(others, root)
        fields = ErrorCount(fields.of_value + more.of_value, fields.of_object + more.of_object)
    own = ErrorCount(sum(map(_of_any_value, applied)), sum(map(_of_an_object, applied)))
    return _highest([own, fields, _most(items, root) if items else _NONE])


_NONE = ErrorCount(0, 0)


def _highest(counts: Sequence[ErrorCount]) -> ErrorCount:
    return ErrorCount(
        max((count.of_value for count in counts), default=0), max((count.of_object for count in counts), default=0)
    )


def _of_any_value(schema: JSONObject) -> int:
    allowed = schema.get("enum")
    return len(schema.keys() - _NO_ERRORS) + (len(allowed) // _VALUES_OF_AN_ENUM if isinstance(allowed, list) else 0)


def _of_an_object(schema: JSONObject) -> int:
    needed = [names for _, names in _pairs(schema.get("dependencies")) if isinstance(names, list)]
    needed += [names for _, names in _pairs(schema.get("dependentRequired"))]
    required = schema.get("required")
    return sum(map(len, needed)) + (len(required) if isinstance(required, list) else 0)


def _of_other_fields(schema: JSONObject) -> list[JSONObject]:
    single = [schema[keyword] for keyword in _OTHER_FIELDS if isinstance(schema.get(keyword), dict)]
    return single + [inner for _, inner in _objects(schema.get("patternProperties"))]


def _listed(value: Any) -> list[JSONObject]:
    return [item for item in (value if isinstance(value, list) else [value]) if isinstance(item, dict)]


def _pairs(value: Any) -> Iterable[tuple[str, Any]]:
    return value.items() if isinstance(value, dict) else ()


def _objects(value: Any) -> list[tuple[str, JSONObject]]:
    return [(name, inner) for name, inner in _pairs(value) if isinstance(inner, dict)]


def _counted(value: Any) -> tuple[int, int]:
    """Return the number of values in a value, itself included, and how many of them are objects."""
    if isinstance(value, dict):
        counts = [_counted(item) for item in value.values()]
    elif isinstance(value, list):
        counts = [_counted(item) for item in value]
    else:
        return 1, 0
    return 1 + sum(values for values, _ in counts), isinstance(value, dict) + sum(objects for _, objects in counts)
