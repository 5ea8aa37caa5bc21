"""A plan as JSON Schema (2020-12), for validators and generators of code in other languages.

Theory.  A rule becomes a definition: its schema, and that of its names, since JSON Schema allows names that are not
listed and a plan does not.  Conditions on the event and its version choose the rule.  Rules of older
drafts are translated.  A message is as planned where these conditions hold, with one exception: intake takes a section
that is null, or the empty array of PHP, as absent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, count
from typing import Any

import attrs

from trackcore.plans.documents import DRAFT_07, PlanDocument, Rule, RuleType, subschemas
from trackcore.plans.plan import VERSION
from trackcore.plans.planned import planned_names
from trackcore.typing import Call, JSONObject

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")
_SECTIONS = ("context", "properties", "traits")
_WITHOUT_SIBLINGS = re.compile("draft-0[467]")
_IDENTITY = frozenset({"$schema", "$id", "id"})


@attrs.frozen
class PlanSchemas:
    """The schemas of a plan.  `root` is the place of its definitions in the document: `#/$defs/`."""

    document: PlanDocument
    root: str = "#/$defs/"
    _names: Mapping[int, str] = attrs.field(init=False)

    @_names.default
    def _(self) -> Mapping[int, str]:
        rules: dict[str, Rule] = {}
        for at, rule in enumerate(self.document.rules):
            name = f"plan.{_NOT_IN_NAMES.sub('_', rule.label).strip('_')}"
            others = (f"{name}_{number}" for number in count(at))
            rules[next(free for free in chain([name], others) if free not in rules)] = rule
        return {id(rule): name for name, rule in rules.items()}

    def definitions(self) -> dict[str, JSONObject]:
        """Return the schemas of all rules, by names that can be part of an address."""
        common = self.document.by_messages().get((RuleType.COMMON, None), (None,))[0]
        return {self._names[id(rule)]: self._definition(rule, common) for rule in self.document.rules}

    def conditions(self, call: Call) -> list[JSONObject]:
        """Return what holds for messages of a call that are as planned."""
        found = self.document.by_messages()
        conditions = [self._choice(found[RuleType.COMMON, None])] if (RuleType.COMMON, None) in found else []
        if call == "track":
            events = {key: rules for (kind, key), rules in found.items() if kind is RuleType.TRACK}
            conditions.append({"properties": {"event": {"enum": list(events)}}})
            return conditions + [
                {"if": _has(("event",), event), "then": self._choice(rules)} for event, rules in events.items()
            ]
        own = [rules for (kind, _), rules in found.items() if kind.lower() == call]
        return conditions + [self._choice(rules) for rules in own]

    def _choice(self, rules: Sequence[Rule]) -> JSONObject:
        """Return the schema of the version that a message names, else the oldest."""
        oldest, *others = rules
        choice: JSONObject = {"$ref": f"{self.root}{self._names[id(oldest)]}"}
        for rule in others:
            named = {"$ref": f"{self.root}{self._names[id(rule)]}"}
            choice = {"if": _has(VERSION, rule.version), "then": named, "else": choice}
        return choice

    def _definition(self, rule: Rule, common: Rule | None) -> JSONObject:
        is_common = rule.type is RuleType.COMMON
        names = {} if is_common else planned_names(rule, common)
        place = f"{self.root}{self._names[id(rule)]}/allOf/0"
        described = {"description": rule.description} if rule.description else {}
        parts = [_translated(rule.schema, place), names, *_sections_needed(rule.schema)]
        return {"title": rule.label, **described, "allOf": [part for part in parts if part]}


def _has(location: Sequence[str | int], value: Any) -> JSONObject:
    """Return the schema of a message that has a value at a location."""
    schema: JSONObject = {"const": value}
    for name in reversed(location):
        schema = {"type": "object", "properties": {name: schema}, "required": [name]}
    return schema


def _sections_needed(schema: JSONObject) -> Iterator[JSONObject]:
    """Yield the requirement of the sections that may not be empty: an absent one counts as empty."""
    sections = schema.get("properties", {})
    needed = [
        name
        for name in _SECTIONS
        if isinstance(sections.get(name), dict) and {"required", "minProperties"} & sections[name].keys()
    ]
    if needed:
        yield {"required": needed}


def _translated(schema: JSONObject, place: str) -> JSONObject:
    """Return a schema of any draft as one of 2020-12 that is at a place in its document."""
    dialect = str(schema.get("$schema", DRAFT_07))
    return _part(schema, place, is_old=_WITHOUT_SIBLINGS.search(dialect) is not None)


def _part(schema: JSONObject, place: str, *, is_old: bool) -> JSONObject:
    if "$ref" in schema:
        reference = {"$ref": f"{place}{str(schema['$ref']).removeprefix('#')}"}
        if is_old:
            return reference
        schema = {**schema, **reference}
    translated = {name: value for name, value in schema.items() if name not in _IDENTITY}
    for steps, inner in subschemas(schema):
        _put(translated, schema, steps, _part(inner, place, is_old=is_old))
    for keyword, translate in _TRANSLATIONS.items():
        if keyword in translated:
            translated.update(translate(translated.pop(keyword), translated))
    return translated


def _put(translated: JSONObject, schema: JSONObject, steps: tuple[str, ...], inner: JSONObject) -> None:
    keyword, *rest = steps
    if not rest:
        translated[keyword] = inner
        return
    if translated[keyword] is schema[keyword]:
        translated[keyword] = schema[keyword].copy()
    within = translated[keyword]
    within[int(rest[0]) if isinstance(within, list) else rest[0]] = inner


def _items(value: Any, schema: JSONObject) -> JSONObject:
    others = schema.pop("additionalItems", None)
    if not isinstance(value, list):
        return {"items": value}
    return {"prefixItems": value, **({} if others is None else {"items": others})}


def _dependencies(value: Any, _: JSONObject) -> JSONObject:
    needed = {name: names for name, names in value.items() if isinstance(names, list)}
    schemas = {name: inner for name, inner in value.items() if not isinstance(inner, list)}
    return {
        **({"dependentRequired": needed} if needed else {}),
        **({"dependentSchemas": schemas} if schemas else {}),
    }


def _exclusive(bound: str, exclusive: str) -> Callable[[Any, JSONObject], JSONObject]:
    """Return the translation of draft-04, in which a flag says that a bound is exclusive."""

    def translate(value: Any, schema: JSONObject) -> JSONObject:
        if not isinstance(value, bool):
            return {exclusive: value}
        return {exclusive: schema.pop(bound)} if value and bound in schema else {}

    return translate


_TRANSLATIONS: Mapping[str, Callable[[Any, JSONObject], JSONObject]] = {
    "items": _items,
    "dependencies": _dependencies,
    "exclusiveMinimum": _exclusive("minimum", "exclusiveMinimum"),
    "exclusiveMaximum": _exclusive("maximum", "exclusiveMaximum"),
}
