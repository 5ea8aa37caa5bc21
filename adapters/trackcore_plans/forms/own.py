"""Our own form, in YAML, TOML or JSON: short, to be written by hand.

    name: Shop
    events:
      - event: Order Completed
        description: An order was paid.
        properties:
          order_id: {type: string, required: true, example: o-1}
          revenue: number
          tags: string[]
    identify:
      traits:
        email: {type: string, format: email}

A property is a type, a list of types, or an object of a type and of keywords of JSON Schema.  Beside the keywords there
are `required`, `example`, and `open` or `closed` for objects.  A rule that needs more has a `schema`: a JSON Schema of
the whole message; a property that needs more has a `schema` of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from trackcore import JSONObject
from trackcore.plans import DRAFT_07, PlanDocument, Rule, RuleType
from trackcore_plans.essence import essence
from trackcore_plans.forms.notes import lost, lost_annotations, lost_fields
from trackcore_plans.parts import Part

_SINGLE = {rule_type.lower(): rule_type for rule_type in RuleType if rule_type is not RuleType.TRACK}
RULES = frozenset({"events", *_SINGLE})
"""The fields of a plan that have rules."""

_SECTIONS = ("properties", "traits", "context")
_OF_A_RULE = ("event", "description", "version", "schema", "open", "closed", *_SECTIONS)
_TYPES = frozenset({"string", "number", "integer", "boolean", "object", "array", "null"})
_KEYWORDS = frozenset(
    {"const", "default", "description", "enum", "examples", "exclusiveMaximum", "exclusiveMinimum", "format"}
    | {"maxItems", "maxLength", "maxProperties", "maximum", "minItems", "minLength", "minProperties", "minimum"}
    | {"multipleOf", "pattern", "uniqueItems", "x-seen"}
)
_OF_A_PROPERTY = _KEYWORDS | {"type", "required", "example", "properties", "items", "open", "closed", "schema"}


def read_own(root: Part) -> PlanDocument:
    """Read a plan."""
    root.allow({"name", "description", *RULES})
    events = root.field("events").items() if root.has("events") else ()
    single = (_rule(root.field(name), rule_type) for name, rule_type in _SINGLE.items() if root.has(name))
    return PlanDocument(
        name=root.field("name").text(),
        description=root.field("description").text(),
        rules=(*(_rule(part, RuleType.TRACK) for part in events), *single),
    )


def write_own(document: PlanDocument) -> tuple[JSONObject, list[str]]:
    """Return a plan, and notes on the fields that are lost."""
    plan: JSONObject = {"name": document.name, "description": document.description}
    written_rules = {id(rule): _written(rule) for rule in document.rules}
    events = [written_rules[id(rule)] for rule in document.rules if rule.type is RuleType.TRACK]
    notes = []
    for (rule_type, _), versions in document.by_messages().items():
        if rule_type is not RuleType.TRACK:
            plan[rule_type.lower()] = written_rules[id(versions[0])]
            notes += [lost(rule.label, "the rule, as only events have versions") for rule in versions[1:]]
    notes += lost_fields(document)
    notes += lost_annotations(rule for rule in document.rules if "schema" not in written_rules[id(rule)])
    written = {name: value for name, value in plan.items() if value}
    return written | ({"events": events} if events or not document.rules else {}), notes


# Reading


def _rule(part: Part, rule_type: RuleType) -> Rule:
    part.allow(set(_OF_A_RULE) - ({"event"} if rule_type is not RuleType.TRACK else set()))
    key = part.field("event").text() if rule_type is RuleType.TRACK else None
    if key == "":
        part.field("event").mistake("an event needs its name")
    schema = _whole(part) if part.has("schema") else _schema(part, rule_type.section)
    described = {"description": part.field("description").text()} if part.has("description") else {}
    return Rule(type=rule_type, key=key, version=part.field("version").number(1), schema={**schema, **described})


def _whole(part: Part) -> JSONObject:
    """Return the schema of the whole message that a rule gives in place of anything else."""
    for name in (*_SECTIONS, "open", "closed"):
        if part.has(name):
            part.field(name).mistake("has no effect beside `schema`, which is about the whole message")
    return part.field("schema").object()


def _schema(part: Part, section: str) -> JSONObject:
    """Return the schema of a whole message; `open` and `closed` are about its properties or traits."""
    sections = {name: _object(part.field(name), part) for name in ("properties", "traits") if part.has(name)}
    if not sections and (openness := _openness(part)):
        sections[section] = {"type": "object", **openness}
    if part.has("context"):
        sections["context"] = _object(part.field("context"), _NO_SETTINGS)
    return {"$schema": DRAFT_07, "type": "object", "properties": sections}


_NO_SETTINGS = Part({})


def _object(names: Part, settings: Part) -> JSONObject:
    """Return the schema of an object from its names, and from `open` or `closed` beside them."""
    required = [
        name for name, part in names.fields() if part.has("required") and part.field("required").flag(default=False)
    ]
    schema: JSONObject = {"type": "object", "properties": {name: _property(part) for name, part in names.fields()}}
    if required:
        schema["required"] = required
    return {**schema, **_openness(settings)}


def _openness(settings: Part) -> JSONObject:
    if settings.has("open") and settings.field("open").flag(default=False):
        return {"additionalProperties": True}
    if settings.has("closed") and settings.field("closed").flag(default=False):
        return {"additionalProperties": False}
    return {}


def _property(part: Part) -> JSONObject:
    if isinstance(part.value, str | list):
        return _type(part)
    if not isinstance(part.value, dict):
        part.mistake("expected a type, a list of types, or an object")
        return {}
    part.allow(_OF_A_PROPERTY)
    schema = {name: part.value[name] for name in _KEYWORDS if name in part.object()}
    if part.has("type"):
        schema |= _type(part.field("type"))
    if "example" in part.object():
        more = part.field("examples").items() if part.has("examples") else ()
        schema["examples"] = [part.value["example"], *(item.value for item in more)]
    if part.has("properties"):
        schema |= {**_object(part.field("properties"), part), "type": schema.get("type", "object")}
    else:
        schema |= _openness(part)
    if part.has("items"):
        schema |= {"type": schema.get("type", "array"), "items": _property(part.field("items"))}
    return {**schema, **(part.field("schema").object() if part.has("schema") else {})}


def _type(part: Part) -> JSONObject:
    if isinstance(part.value, list):
        names = [(item, item.text()) for item in part.items()]
        return {"type": [_known(item, name, _JSON_TYPES) for item, name in names if name]}
    text = part.text()
    if text == "any" or not isinstance(part.value, str):
        return {}
    if text == "datetime":
        return {"type": "string", "format": "date-time"}
    if text.endswith("[]"):
        return {"type": "array", "items": _type(Part(text[:-2], part.location, part.mistakes))}
    return {"type": _known(part, text, f"any, datetime, {_JSON_TYPES}, and X[] for arrays")}


def _known(part: Part, name: str, known: str) -> str:
    if name not in _TYPES:
        part.mistake(f"there is no type {name!r} here; there are {known}")
    return name


_JSON_TYPES = ", ".join(sorted(_TYPES))


# Writing


def _written(rule: Rule) -> JSONObject:
    named: JSONObject = {} if rule.key is None else {"event": rule.key}
    versioned: JSONObject = {} if rule.version == 1 else {"version": rule.version}
    short = {**named, **versioned, **_short(rule.schema)}
    mistakes = Part(short)
    if essence(_rule(mistakes, rule.type).schema) == essence(rule.schema) and not mistakes.mistakes:
        return short
    return {**named, **versioned, "schema": rule.schema}


def _short(schema: JSONObject) -> JSONObject:
    """Return a rule in short, as far as it has words for its schema."""
    short: JSONObject = {"description": schema["description"]} if schema.get("description") else {}
    sections = schema.get("properties")
    for name in _SECTIONS:
        section = sections.get(name) if isinstance(sections, dict) else None
        if isinstance(section, dict) and (section.get("properties") or "additionalProperties" in section):
            short |= {name: _short_names(section), **_short_openness(section)}
    return short


def _short_names(schema: JSONObject) -> JSONObject:
    required = schema.get("required", ())
    names = schema.get("properties", {})
    return {name: _short_property(inner, is_required=name in required) for name, inner in names.items()}


def _short_openness(schema: JSONObject) -> JSONObject:
    return {_OPENNESS[value]: True for value in (schema.get("additionalProperties"),) if isinstance(value, bool)}


_OPENNESS = {True: "open", False: "closed"}


def _short_property(schema: Any, *, is_required: bool) -> Any:
    if not isinstance(schema, dict):
        return {"schema": schema}
    written = {name: value for name, value in schema.items() if name in _KEYWORDS and value != ""}
    if (examples := written.get("examples")) and isinstance(examples, list) and len(examples) == 1:
        written |= {"example": examples[0]}
        del written["examples"]
    if "type" in schema:
        written["type"] = schema["type"]
    if schema.get("properties"):
        written |= {"properties": _short_names(schema)}
    written |= _short_openness(schema)
    if isinstance(schema.get("items"), dict):
        written["items"] = _short_property(schema["items"], is_required=False)
    if is_required:
        written["required"] = True
    return _shortest(written)


def _shortest(written: JSONObject) -> Any:
    if written == {}:
        return "any"
    if written.keys() == {"type"}:
        return written["type"]
    if written.keys() == {"type", "items"} and written["type"] == "array" and isinstance(written["items"], str):
        return f"{written['items']}[]"
    return {name: written[name] for name in sorted(written, key=_position)}


_ORDER = ("type", "required", "description", "example")


def _position(name: str) -> int:
    return _ORDER.index(name) if name in _ORDER else len(_ORDER)


def rules_in(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield the fields of a document that would be rules in this form."""
    yield from (name for name in document if name in RULES)
