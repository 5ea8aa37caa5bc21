"""The essence of a schema: the same schema without all that means nothing, to see what a form has no words for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from trackcore import JSONObject
from trackcore.plans import DRAFT_07, RuleType, subschemas

_SECTIONS = frozenset({"properties", "traits", "context"})
_OPEN: tuple[JSONObject, ...] = ({}, {"type": "object"})
_EMPTY: tuple[Any, ...] = ("", {}, [])
_MEANINGLESS = ("labels", "id", "$id", "title", "$comment")


def essence(schema: JSONObject) -> JSONObject:
    """Return the schema of a whole message without all that means nothing to messages that intake has accepted.

    The sections of a message are objects, and an absent one counts as empty, so nothing needs to say so.
    """
    outer = _essence(schema)
    sections = {name: _section(name, inner) for name, inner in outer.get("properties", {}).items()}
    outer["properties"] = {name: inner for name, inner in sections.items() if inner not in _OPEN}
    outer["required"] = [name for name in outer.get("required", []) if name not in _SECTIONS]
    if outer.get("$schema", DRAFT_07).rstrip("#") == DRAFT_07.rstrip("#"):
        outer.pop("$schema", None)
    outer.pop("type", None)
    return {name: value for name, value in outer.items() if value not in _EMPTY}


def section_essence(schema: JSONObject, rule_type: RuleType) -> JSONObject:
    """Return the essence of a schema with nothing but the section of the rule, and its own description."""
    section = essence(schema).get("properties", {}).get(rule_type.section)
    whole: JSONObject = {} if section is None else {"properties": {rule_type.section: section}}
    return {**whole, **{name: schema[name] for name in ("description", "$defs", "definitions") if schema.get(name)}}


def annotation_keywords(schema: JSONObject) -> Iterator[str]:
    """Yield the keywords in a schema that mean nothing to messages, but something to people."""
    yield from (keyword for keyword in _MEANINGLESS if schema.get(keyword) not in (None, *_EMPTY))
    for _, inner in subschemas(schema):
        yield from annotation_keywords(inner)


def _section(name: str, inner: Any) -> Any:
    is_section = name in _SECTIONS and isinstance(inner, dict)
    if not is_section or "object" not in inner.get("type", "object"):
        return inner
    return {keyword: value for keyword, value in inner.items() if keyword != "type"}


def _essence(value: Any, *, is_schema: bool = True) -> Any:
    if isinstance(value, list):
        return [_essence(item) for item in value]
    if not isinstance(value, dict):
        return value
    if not is_schema:
        return {name: _essence(inner) for name, inner in value.items()}
    found = {}
    for keyword, inner in value.items():
        kept = inner if keyword in _DATA else _essence(inner, is_schema=keyword not in _NAMED)
        if keyword == "required" and isinstance(kept, list):
            kept = sorted(kept, key=str)
        is_nothing = keyword in _MEANINGLESS or (keyword in _OPTIONAL and kept in _EMPTY)
        if not is_nothing:
            found[keyword] = kept
    return found


_DATA = frozenset({"enum", "const", "default", "examples", "x-seen"})
_NAMED = frozenset({"properties", "patternProperties", "dependentSchemas", "dependencies", "definitions", "$defs"})
_OPTIONAL = frozenset({"description", "required", "properties", "definitions", "$defs", "examples"})
