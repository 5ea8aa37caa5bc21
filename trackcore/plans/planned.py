"""The names that a rule plans: a schema that refuses all others.

Theory.  JSON Schema allows any name that it does not list, unless `additionalProperties` is false; a tracking plan does
not.  So a second schema is derived from a rule, which has the names alone: an object whose names are listed has no
others, at any depth.  An object of which nothing is listed is open, and so is one whose rule allows further names by
`additionalProperties`; where that is false, the rule reports the names itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

from trackcore.plans.documents import Rule, RuleType
from trackcore.plans.locations import Location
from trackcore.plans.schemas import applied_with
from trackcore.typing import JSONObject

_SECTIONS: tuple[tuple[str, ...], ...] = (("properties",), ("traits",), ("context", "traits"))


def planned_names(rule: Rule, common: Rule | None) -> JSONObject:
    """Return the schema that allows only planned names in the sections of a message that the rule describes.

    Names of the `common` rule are planned too.
    """
    schema: JSONObject = {}
    for section in _SECTIONS:
        own = _below([_Part(rule.schema, rule.schema)], section)
        if not _names(own):
            continue
        shared = [] if common is None else _below([_Part(common.schema, common.schema)], section)
        schema = _put(schema, section, _closed([*own, *shared]))
    return schema


def names_at(schema: JSONObject, location: Location) -> tuple[str, ...]:
    """Return the names that `planned_names` lists at a location."""
    for step in location:
        inner = schema.get("items", {}) if isinstance(step, int) else schema.get("properties", {}).get(step, {})
        schema = inner if isinstance(inner, dict) else {}
    return tuple(schema.get("properties", ()))


def names_in(rule: Rule) -> tuple[str, ...]:
    """Return the names that a rule lists in its own section: its properties or traits."""
    section = "properties" if rule.type is RuleType.COMMON else rule.type.section
    return tuple(_names(_below([_Part(rule.schema, rule.schema)], (section,))))


@attrs.frozen
class _Part:
    """A schema that applies to a value, and the whole schema that its references are about."""

    schema: JSONObject
    root: JSONObject


def _applied(parts: Iterable[_Part]) -> list[_Part]:
    return [_Part(schema, part.root) for part in parts for schema in applied_with(part.schema, part.root)]


def _below(parts: Sequence[_Part], steps: Iterable[str]) -> list[_Part]:
    """Return the schemas of the value at some steps below."""
    found = _applied(parts)
    for step in steps:
        found = _applied(_listed(found, step))
    return found


def _listed(parts: Iterable[_Part], name: str) -> list[_Part]:
    listed = ((part, part.schema.get("properties")) for part in parts)
    inner = ((part, names.get(name)) for part, names in listed if isinstance(names, dict))
    return [_Part(schema, part.root) for part, schema in inner if isinstance(schema, dict)]


def _names(parts: Iterable[_Part]) -> dict[str, None]:
    """Return the names that are listed for an object, in their order."""
    listed = (part.schema.get("properties") for part in parts)
    return dict.fromkeys(name for names in listed if isinstance(names, dict) for name in names)


def _closed(parts: Sequence[_Part]) -> JSONObject:
    names = _names(parts)
    patterns = [part.schema["patternProperties"] for part in parts if part.schema.get("patternProperties")]
    closed: JSONObject = {}
    if names:
        closed["properties"] = {name: _closed(_applied(_listed(parts, name))) for name in names}
        if not any("additionalProperties" in part.schema for part in parts):
            closed["patternProperties"] = {pattern: {} for found in patterns for pattern in found}
            closed["additionalProperties"] = False
    items = [_Part(part.schema["items"], part.root) for part in parts if isinstance(part.schema.get("items"), dict)]
    if items and (inner := _closed(_applied(items))):
        closed["items"] = inner
    return closed


def _put(schema: JSONObject, steps: Sequence[str], inner: JSONObject) -> JSONObject:
    if not steps:
        return inner
    properties = schema.get("properties", {})
    return {**schema, "properties": {**properties, steps[0]: _put(properties.get(steps[0], {}), steps[1:], inner)}}
