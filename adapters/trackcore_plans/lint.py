"""Faults of a plan that do not keep it from working: names, near-duplicates, examples, and rules without effect."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal

import attrs

from trackcore import JSONObject
from trackcore.plans import (
    DRAFT_07,
    InvalidSchema,
    NameIndex,
    PlanDocument,
    Rule,
    RuleType,
    folded,
    location_text,
    planned_names,
)
from trackcore_plans.essence import essence
from trackcore_plans.validator import compile_schema

_STYLES: Mapping[str, re.Pattern[str]] = {
    "Title Case": re.compile(r"[A-Z0-9][^\s_]*( [A-Z0-9][^\s_]*)*"),
    "snake_case": re.compile(r"[a-z0-9]+(_[a-z0-9]+)*"),
    "camelCase": re.compile(r"[a-z][a-zA-Z0-9]*"),
    "kebab-case": re.compile(r"[a-z0-9]+(-[a-z0-9]+)*"),
    "lower case": re.compile(r"[a-z0-9]+( [a-z0-9]+)*"),
}
_ENOUGH_NAMES = 3
"""How many names show in which style the others should be."""

_NOT_DEPRECATED = "0001-01-01T00:00:00.000Z"
_LISTED_NAMES = 5


@attrs.frozen(kw_only=True)
class Remark:
    """A fault of a plan.  An error is a rule that cannot work, a warning a matter of style or of care."""

    code: str
    rule: str = ""
    path: str = ""
    sentence: str
    severity: Literal["error", "warning"] = "warning"


def lint(document: PlanDocument) -> tuple[Remark, ...]:
    """Return the remarks on a plan."""
    remarks = [*_names_of_events(document), *_names_of_properties(document), *_versions(document)]
    common = next(iter(document.by_messages().get((RuleType.COMMON, None), ())), None)
    for rule in document.rules:
        planned = planned_names(rule, common)
        remarks += [*_wrong_examples(rule), *_without_examples(rule), *_impossible(rule, planned)]
    return tuple(remarks)


# Names


def _names_of_events(document: PlanDocument) -> Iterator[Remark]:
    names = list(dict.fromkeys(rule.key for rule in document.rules if rule.key is not None))
    yield from (_casing(name, style, f'track "{name}"') for name, style in _in_other_styles(names))
    for name in names:
        if len(re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+", name)) == 1 and name.isascii():
            sentence = f"`{name}` is one word; the name of an event has an object and an action: `Order Completed`"
            yield Remark(code="event_name", rule=f'track "{name}"', sentence=sentence)
    index = NameIndex(())
    for name in names:
        if (near := index.nearest(name)) is not None:
            sentence = f"`{name}` is nearly the name of `{near}`"
            yield Remark(code="near_duplicate", rule=f'track "{name}"', sentence=sentence)
        index.add(name)


def _names_of_properties(document: PlanDocument) -> Iterator[Remark]:
    places: dict[str, tuple[str, str]] = {}
    for rule in document.rules:
        for steps, _ in _properties(rule):
            places.setdefault(steps[-1], (rule.label, location_text(steps)))
    for name, style in _in_other_styles(list(places)):
        yield _casing(name, style, *places[name])
    first: dict[str, str] = {}
    for name, (label, path) in places.items():
        other = first.setdefault(folded(name), name)
        if other != name:
            sentence = f"`{name}` is nearly the name of `{other}`, in {places[other][0]}"
            yield Remark(code="near_duplicate", rule=label, path=path, sentence=sentence)


def _in_other_styles(names: list[str]) -> Iterator[tuple[str, str]]:
    """Yield the names that are not in the style of most names, with that style."""
    counts = Counter(style for name in names for style, pattern in _STYLES.items() if pattern.fullmatch(name))
    if not counts:
        return
    ((style, count),) = counts.most_common(1)
    if count >= _ENOUGH_NAMES and count > len(names) / 2:
        yield from ((name, style) for name in names if not _STYLES[style].fullmatch(name))


def _casing(name: str, style: str, rule: str, path: str = "") -> Remark:
    return Remark(code="casing", rule=rule, path=path, sentence=f"`{name}` is not in {style}, as most names are")


# Versions


def _versions(document: PlanDocument) -> Iterator[Remark]:
    for versions in document.by_messages().values():
        oldest, *newer = versions
        if newer and oldest.extra.get("deprecatedAt", _NOT_DEPRECATED) != _NOT_DEPRECATED:
            sentence = "is deprecated, but it applies to every message that names no version"
            yield Remark(code="version", rule=oldest.label, sentence=sentence)
        for rule in newer:
            if essence(rule.schema) == essence(oldest.schema):
                sentence = "has no effect: it is the same as the oldest version"
                yield Remark(code="version", rule=rule.label, sentence=sentence)
            if rule.type is RuleType.COMMON:
                sentence = "is reached only by messages that name this version, for their own rule too"
                yield Remark(code="version", rule=rule.label, sentence=sentence)


# Examples


def _wrong_examples(rule: Rule) -> Iterator[Remark]:
    for steps, schema in _properties(rule):
        examples = schema.get("examples")
        if not isinstance(examples, list):
            continue
        fits = _fitting(schema)
        for example in examples:
            if not fits(example):
                path, sentence = location_text(steps), f"the example {example!r} violates the rule"
                yield Remark(code="example", rule=rule.label, path=path, sentence=sentence, severity="error")


def _without_examples(rule: Rule) -> Iterator[Remark]:
    missing = [location_text(steps) for steps, schema in _properties(rule) if _needs_example(schema)]
    if missing:
        more = f" and {len(missing) - _LISTED_NAMES} more" if len(missing) > _LISTED_NAMES else ""
        names = ", ".join(f"`{name}`" for name in missing[:_LISTED_NAMES])
        yield Remark(code="no_example", rule=rule.label, sentence=f"without an example: {names}{more}")


def _needs_example(schema: JSONObject) -> bool:
    return not (_EXPLAINED & schema.keys()) and schema.get("type") not in ("boolean", "null", "object", "array", None)


_EXPLAINED = frozenset({"examples", "enum", "const", "properties", "items", "x-seen"})


# Rules that no message can follow


def _impossible(rule: Rule, planned: JSONObject) -> Iterator[Remark]:
    """Yield what no message can follow; `planned` is the schema of the names that are planned for the rule."""
    for steps, schema in _objects(rule):
        for name in schema.get("required", []):
            if _refuses(schema, name) or _refuses(_at(planned, steps), name):
                sentence = "is required but not planned, so every message violates one or the other"
                path = location_text((*steps, name))
                yield Remark(code="impossible", rule=rule.label, path=path, sentence=sentence, severity="error")
        allowed = schema.get("enum", [])
        fits = _fitting({name: inner for name, inner in schema.items() if name != "enum"}) if allowed else None
        for value in allowed:
            if fits is not None and not fits(value):
                path, sentence = location_text(steps), f"the value {value!r} of its enum is excluded by its other rules"
                yield Remark(code="impossible", rule=rule.label, path=path, sentence=sentence, severity="error")


def _refuses(schema: JSONObject, name: str) -> bool:
    """Return whether the schema of an object refuses a field of a name, whatever its value."""
    is_closed = schema.get("additionalProperties") is False and not schema.get("patternProperties")
    return is_closed and name not in schema.get("properties", {})


def _at(planned: JSONObject, steps: Iterable[str]) -> JSONObject:
    """Return the schema of names at a place; the steps have none for the values of an array."""
    for step in steps:
        inside = planned if "properties" in planned else planned.get("items", {})
        planned = inside.get("properties", {}).get(step, {})
    return planned


def _fitting(schema: JSONObject) -> Callable[[Any], bool]:
    """Return what tells whether a value is one that a schema allows."""
    try:
        validate = compile_schema({"$schema": DRAFT_07, "properties": {"value": schema}})
    except InvalidSchema:  # it refers to definitions elsewhere
        return lambda _: True
    return lambda value: validate.is_valid({"value": value})


def _properties(rule: Rule) -> Iterator[tuple[tuple[str, ...], JSONObject]]:
    """Yield each property and trait of a rule, with the steps to it."""
    yield from ((steps, schema) for steps, schema in _objects(rule) if len(steps) > 1)


def _objects(rule: Rule) -> Iterator[tuple[tuple[str, ...], JSONObject]]:
    """Yield the sections of a rule, and each property and trait, with the steps to it."""
    for name, section in _fields(rule.schema):
        if name in {"properties", "traits", "context"}:
            yield from _inside(section, (name,))


def _inside(schema: JSONObject, steps: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], JSONObject]]:
    yield steps, schema
    items = schema.get("items")
    for part in (schema, items) if isinstance(items, dict) else (schema,):
        for name, inner in _fields(part):
            yield from _inside(inner, (*steps, name))


def _fields(schema: JSONObject) -> Iterable[tuple[str, JSONObject]]:
    names = schema.get("properties", {})
    return ((name, inner) for name, inner in names.items() if isinstance(inner, dict))
