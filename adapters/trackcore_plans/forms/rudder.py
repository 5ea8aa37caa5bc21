"""The YAML of rudder-cli: a tracking plan that refers to events, properties and custom types of a catalog.

There are two versions: `rudder/v0.1` (`kind: tp`, references like `#/properties/GROUP/ID`) and `rudder/v1` (`kind:
tracking-plan`, references like `#property:ID`).  The definitions are documents of the same file, or of the other YAML
files in its folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from trackcore import JSONObject
from trackcore.plans import DRAFT_07, PlanDocument, Rule, RuleType
from trackcore_plans.parts import Part

PLAN_KINDS = frozenset({"tp", "tracking-plan"})
_CATALOG = {"events": "events", "properties": "properties", "custom-types": "types"}  # the kind, and its list in `spec`
_URNS = {"event": "events", "property": "properties", "custom-type": "custom-types"}
SAME = ("enum", "format", "maximum", "minimum", "pattern", "const", "default")
CAMEL = {
    "exclusive_maximum": "exclusiveMaximum",
    "exclusive_minimum": "exclusiveMinimum",
    "max_items": "maxItems",
    "max_length": "maxLength",
    "min_items": "minItems",
    "min_length": "minLength",
    "multiple_of": "multipleOf",
    "unique_items": "uniqueItems",
}
"""The settings of a property in the newer version, and the keywords of JSON Schema that they are."""

KEYWORDS: Mapping[str, str] = {name: name for name in (*SAME, *CAMEL.values())} | CAMEL
"""The settings of a property in both versions, and their keywords."""


def is_rudder(document: Any) -> bool:
    """Return whether a document is one of rudder-cli."""
    return isinstance(document, dict) and str(document.get("version", "")).startswith("rudder/") and "kind" in document


def read_rudder(documents: Sequence[Part]) -> PlanDocument:
    """Read the only plan among some documents, with the definitions in the others."""
    plans = [part for part in documents if part.field("kind").text() in PLAN_KINDS]
    first = documents[0]
    if len(plans) != 1:
        first.mistake(f"expected one tracking plan in the files, found {len(plans)}")
        return PlanDocument()
    spec = plans[0].field("spec")
    catalog = _Catalog.of(documents)
    rules = spec.field("rules").items() if spec.has("rules") else ()
    return PlanDocument(
        name=spec.field("display_name").text() or plans[0].field("metadata").field("name").text(),
        description=spec.field("description").text(),
        rules=tuple(rule for part in rules for rule in _rule(part, catalog)),
        extra={"id": spec.value["id"]} if spec.has("id") else {},
    )


@attrs.frozen
class _Catalog:
    """The definitions, by kind and id."""

    _parts: dict[tuple[str, str], Part]
    types: dict[str, JSONObject] = attrs.field(init=False, factory=dict)
    """The schemas of custom types, which others share: types that contain others twice would double with each."""

    @classmethod
    def of(cls, documents: Iterable[Part]) -> _Catalog:
        """Collect the definitions in some documents."""
        parts: dict[tuple[str, str], Part] = {}
        for document in documents:
            kind = document.field("kind").text()
            if kind in _CATALOG:
                for part in document.field("spec").field(_CATALOG[kind]).items():
                    parts[kind, part.field("id").text()] = part
        return cls(parts)

    def find(self, reference: Part) -> Part | None:
        """Return the definition that a reference is about, None with a mistake if there is none."""
        text = reference.text()
        found = self._parts.get(_target(text))
        if found is None:
            reference.mistake(f"no file defines {text!r}")
        return found


def _target(reference: str) -> tuple[str, str]:
    """Return the kind and the id in a reference: `#/properties/GROUP/ID`, or `#property:ID`."""
    if reference.startswith("#/"):
        steps = reference.split("/")
        return steps[1], steps[-1]
    kind, _, name = reference.removeprefix("#").partition(":")
    return _URNS.get(kind, kind), name


def _rule(part: Part, catalog: _Catalog) -> Iterator[Rule]:
    event = part.field("event")
    settings = event if isinstance(event.value, dict) else part
    definition = catalog.find(event.field("$ref") if isinstance(event.value, dict) else event)
    if definition is None:
        return
    name = definition.field("event_type").text("track").upper()
    if name not in set(RuleType):
        definition.field("event_type").mistake(f"expected one of {', '.join(RuleType).lower()}, found {name.lower()!r}")
        return
    rule_type = RuleType(name)
    if rule_type is RuleType.TRACK and not definition.field("name").text():
        definition.field("name").mistake("an event needs its name")
    is_open = settings.field("additional_properties" if settings is part else "allow_unplanned").flag(default=False)
    section = _object(part, catalog)
    if is_open or not (section["properties"] or "allOf" in section):
        section["additionalProperties"] = is_open
    place = settings.field("identity_section").text(rule_type.section)
    yield Rule(
        type=rule_type,
        key=definition.field("name").text() if rule_type is RuleType.TRACK else None,
        schema=_whole(place.split("."), section, definition.field("description").text()),
        extra={"id": part.value["id"]} if part.has("id") else {},
    )


def _whole(place: Sequence[str], section: JSONObject, description: str) -> JSONObject:
    schema = section
    for name in reversed(place):
        schema = {"type": "object", "properties": {name: schema}}
    described = {"description": description} if description else {}
    return {"$schema": DRAFT_07, **described, **schema}


def _object(part: Part, catalog: _Catalog) -> JSONObject:
    """Return the schema of an object from its references to properties, and from its variants."""
    schema: JSONObject = {"type": "object", "properties": {}}
    for item in part.field("properties").items() if part.has("properties") else ():
        _add(schema, item, catalog)
    conditions = [
        condition
        for variant in (part.field("variants").items() if part.has("variants") else ())
        for condition in _conditions(variant, catalog)
    ]
    return {**schema, "allOf": conditions} if conditions else schema


def _add(schema: JSONObject, item: Part, catalog: _Catalog) -> None:
    reference = item.field("property" if item.has("property") else "$ref")
    definition = catalog.find(reference)
    if definition is None:
        return
    name = definition.field("name").text()
    inner = _property(definition, catalog)
    if item.has("properties"):
        inner = {**inner, **_object(item, catalog), "type": inner.get("type", "object")}
    if item.has("additional_properties"):
        inner["additionalProperties"] = item.field("additional_properties").flag(default=False)
    schema["properties"][name] = inner
    if item.field("required").flag(default=False):
        schema.setdefault("required", []).append(name)


def _property(definition: Part, catalog: _Catalog) -> JSONObject:
    """Return the schema of a property, or of a custom type."""
    schema = _types(definition.field("types" if definition.has("types") else "type"), catalog)
    if definition.field("description").text():
        schema["description"] = definition.field("description").text()
    config = definition.field("config" if definition.has("config") else "propConfig")
    for name, part in config.fields() if config.value is not None else ():
        if name in {"itemTypes", "item_types"}:
            schema["items"] = _types(part, catalog)
        elif name in KEYWORDS:
            schema[KEYWORDS[name]] = part.value
        else:
            part.mistake("unknown")
    for name in ("item_type", "item_types"):
        if definition.has(name):
            schema["items"] = _types(definition.field(name), catalog)
    if definition.has("properties") or definition.has("variants"):
        schema |= _object(definition, catalog)
    return schema


def _types(part: Part, catalog: _Catalog) -> JSONObject:
    """Return the schema of some types: names, separated by commas or in a list, or one custom type."""
    names = [item.text() for item in part.items()] if isinstance(part.value, list) else part.text().split(",")
    names = [name.strip() for name in names if name.strip()]
    custom = [name for name in names if name.startswith("#")]
    if custom:
        if custom[0] not in catalog.types:
            definition = catalog.find(Part(custom[0], part.location, part.mistakes))
            catalog.types[custom[0]] = {} if definition is None else _property(definition, catalog)
        return {**catalog.types[custom[0]]}
    return {} if not names else {"type": names[0] if len(names) == 1 else names}


def _conditions(variant: Part, catalog: _Catalog) -> Iterator[JSONObject]:
    discriminator = variant.field("discriminator")
    name = discriminator.text()
    if name.startswith("#"):
        definition = catalog.find(discriminator)
        name = "" if definition is None else definition.field("name").text()
    matched: list[Any] = []
    for case in variant.field("cases").items():
        values = [item.value for item in case.field("match").items()]
        matched += values
        yield {"if": _is_one_of(name, values), "then": _object(case, catalog)}
    if variant.has("default"):
        default = variant.field("default")
        if isinstance(default.value, list):  # version 0.1
            default = Part({"properties": default.value}, default.location, default.mistakes)
        yield {"if": _is_one_of(name, matched), "else": _object(default, catalog)}


def _is_one_of(name: str, values: list[Any]) -> JSONObject:
    return {"properties": {name: {"enum": values}}, "required": [name]}
