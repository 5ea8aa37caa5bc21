"""Plans as YAML of rudder-cli: a document of properties, one of events, and the tracking plan that refers to them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import attrs

from trackcore import JSONObject
from trackcore.plans import PlanDocument, Rule, RuleType, section_of
from trackcore_plans.essence import essence, section_essence
from trackcore_plans.forms.notes import lost, lost_fields, lost_names
from trackcore_plans.forms.rudder import CAMEL, KEYWORDS


@attrs.frozen
class _Dialect:
    """The names in which two versions differ."""

    version: str
    plan_kind: str
    camel: bool

    def reference(self, kind: str, name: str) -> str:
        """Return a reference to a definition."""
        plural = {"property": "properties", "event": "events"}[kind]
        return f"#{kind}:{name}" if self is V1 else f"#/{plural}/{_GROUP}/{name}"

    def of_property(self, name: str, *, required: bool, inner: JSONObject) -> JSONObject:
        """Return the use of a property in a rule."""
        return {"property" if self is V1 else "$ref": self.reference("property", name), "required": required, **inner}

    def of_event(self, name: str, *, is_open: bool, place: str | None) -> JSONObject:
        """Return the fields of a rule that name its event."""
        section = {} if place is None else {"identity_section": place}
        reference = self.reference("event", name)
        if self is V1:
            return {"event": reference, "additional_properties": is_open, **section}
        return {"event": {"$ref": reference, "allow_unplanned": is_open, **section}}

    def config(self, schema: JSONObject) -> JSONObject:
        """Return the settings of a property."""
        names = {keyword: keyword for keyword in KEYWORDS.values()}
        names |= {} if self.camel else {keyword: name for name, keyword in CAMEL.items()}
        found = {names[keyword]: value for keyword, value in schema.items() if keyword in names}
        items = _types(schema.get("items", {}))
        if self.camel:
            found |= {"itemTypes": items} if items else {}
            return {"propConfig": found} if found else {}
        return {**({"config": found} if found else {}), **({"item_types": items} if items else {})}

    def types(self, schema: JSONObject) -> JSONObject:
        """Return the type of a property, or its types."""
        names = _types(schema)
        if len(names) > 1:
            return {"types": names} if self is V1 else {"type": ", ".join(names)}
        return {"type": names[0]} if names else {}


_GROUP = "plan"
V0_1 = _Dialect("rudder/v0.1", "tp", camel=True)
V1 = _Dialect("rudder/v1", "tracking-plan", camel=False)


def write_rudder(document: PlanDocument, dialect: _Dialect) -> tuple[list[JSONObject], list[str]]:
    """Return the documents of a plan, and notes on what is lost."""
    writer = _Writer(dialect)
    rules = [writer.rule(versions[0]) for versions in document.by_messages().values() if _has_words(versions[0])]
    for versions in document.by_messages().values():
        lost_rules = versions[1:] if _has_words(versions[0]) else versions
        writer.notes += [
            lost(rule.label, "the rule, as there are no versions and no common rules") for rule in lost_rules
        ]
    spec = {
        "id": str(document.extra.get("id") or _slug(document.name)),
        "display_name": document.name,
        "description": document.description,
        "rules": rules,
    }
    writer.notes += lost_fields(document, "id")
    documents = [
        writer.document("properties", {"properties": list(writer.properties.values())}),
        writer.document("events", {"events": list(writer.events.values())}),
        writer.document(dialect.plan_kind, spec),
    ]
    return documents, writer.notes


@attrs.define
class _Writer:
    """Collects the definitions that rules refer to, and what is lost."""

    _dialect: _Dialect
    properties: dict[str, JSONObject] = attrs.field(init=False, factory=dict)
    events: dict[str, JSONObject] = attrs.field(init=False, factory=dict)
    notes: list[str] = attrs.field(init=False, factory=list)

    def document(self, kind: str, spec: JSONObject) -> JSONObject:
        """Return a document of a kind."""
        return {"version": self._dialect.version, "kind": kind, "metadata": {"name": _GROUP}, "spec": spec}

    def rule(self, rule: Rule) -> JSONObject:
        """Return a rule, and define its event."""
        event: JSONObject = {"name": rule.key or "", "event_type": rule.type.lower()}
        if rule.description:
            event["description"] = rule.description
        return self._described(rule, _defined(self.events, _slug(rule.key or rule.type.lower()), event))

    def _described(self, rule: Rule, name: str) -> JSONObject:
        place, section = _placed(rule)
        self._note_lost(rule.schema, _OF_THE_MESSAGE, rule.label)
        if place is None and essence(rule.schema) != section_essence(rule.schema, rule.type):
            self.notes.append(lost(rule.label, f"what it says outside of `{rule.type.section}`"))
        is_open = section.get("additionalProperties", not section.get("properties")) is not False
        self._note_lost(section, {"properties", "required", "type", "description", "additionalProperties"}, rule.label)
        own_place = place or (rule.type.section if rule.type.section == "traits" else None)
        fields = self._dialect.of_event(name, is_open=is_open, place=own_place)
        described: JSONObject = {"type": "event_rule", "id": str(rule.extra.get("id") or f"{name}_rule"), **fields}
        uses = list(self._uses(section, rule.label))
        return {**described, "properties": uses} if uses else described

    def _uses(self, schema: JSONObject, where: str) -> Iterator[JSONObject]:
        required = schema.get("required", ())
        for name, inner in schema.get("properties", {}).items():
            described = inner if isinstance(inner, dict) else {}
            if described is not inner:
                self.notes.append(lost(f"{where}.{name}", f"its schema `{str(inner).lower()}`"))
            nested = list(self._uses(described, f"{where}.{name}"))
            more: JSONObject = {"properties": nested} if nested else {}
            if isinstance(described.get("additionalProperties"), bool) and self._dialect is V1:
                more["additional_properties"] = described["additionalProperties"]
            yield self._dialect.of_property(
                self._define(name, described, f"{where}.{name}"), required=name in required, inner=more
            )

    def _define(self, name: str, schema: JSONObject, where: str) -> str:
        """Define a property, or find its equal; return its id."""
        self._note_lost(schema, _WRITTEN, where)
        items = schema.get("items", {})
        if items and (not isinstance(items, dict) or set(items) - {"type"}):
            self.notes.append(lost(where, "what it says of its items, except their types"))
        definition: JSONObject = {"name": name, **self._dialect.types(schema)}
        if schema.get("description"):
            definition["description"] = schema["description"]
        definition |= self._dialect.config(schema)
        return _defined(self.properties, _slug(name), definition)

    def _note_lost(self, schema: JSONObject, known: set[str], where: str) -> None:
        keywords = (name for name in schema if name not in known and schema[name] not in ({}, [], ""))
        self.notes += lost_names(where, "keywords", keywords)


_OF_THE_MESSAGE = {"$schema", "description", "type", "properties", "required", "definitions", "$defs"}


def _has_words(rule: Rule) -> bool:
    return rule.type is not RuleType.COMMON


def _defined(definitions: dict[str, JSONObject], slug: str, definition: JSONObject) -> str:
    """Put a definition among others, or find its equal; return its id."""
    identities = (slug, *(f"{slug}_{number}" for number in range(2, len(definitions) + 3)))
    free = (
        name for name in identities if definitions.get(name, definition | {"id": name}) == definition | {"id": name}
    )
    identity = next(free)
    definitions[identity] = {"id": identity, **definition}
    return identity


_WRITTEN = {*KEYWORDS.values(), "type", "description", "properties", "required", "items", "additionalProperties", "id"}


def _placed(rule: Rule) -> tuple[str | None, JSONObject]:
    """Return the place of the section of a rule if it is not the usual one, and the section."""
    context = (
        section_of({"properties": {"traits": rule.schema}}, RuleType.IDENTIFY).get("properties", {}).get("context")
    )
    if rule.type.section == "traits" and isinstance(context, dict) and context.get("properties"):
        traits = context["properties"].get("traits")
        if (
            set(context["properties"]) == {"traits"}
            and isinstance(traits, dict)
            and not section_of(rule.schema, rule.type)
        ):
            return "context.traits", traits
    return None, section_of(rule.schema, rule.type)


def _types(schema: Any) -> list[str]:
    names = schema.get("type", []) if isinstance(schema, dict) else []
    return [names] if isinstance(names, str) else list(names)


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.casefold()).strip("_") or "unnamed"
