"""Segment's Public API, and the flattened form of Typewriter 8: rules in a list, each with a JSON Schema.

A rule is `{type, key, version, jsonSchema, ...}`; Terraform's provider writes `json_schema`, an object or its JSON.
In the flattened form the schema is that of the properties or traits, with `eventMetadata`.  A plan of either form is
recognized by the names in its schemas: those of a whole message are fields of messages.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import attrs
import msgspec

from trackcore import JSONObject
from trackcore.plans import DRAFT_07, PlanDocument, Rule, RuleType, section_of, whole_message
from trackcore_plans.essence import essence, section_essence
from trackcore_plans.forms.notes import lost
from trackcore_plans.parts import Part

_OWN = ("type", "key", "version", "jsonSchema", "json_schema")
_FIELDS_OF_MESSAGES = frozenset(
    {"anonymousId", "category", "channel", "context", "event", "groupId", "integrations", "messageId", "name"}
    | {"originalTimestamp", "previousId", "properties", "receivedAt", "sentAt", "timestamp", "traits", "type"}
    | {"userId", "version"}
)


def read_segment(root: Part) -> PlanDocument:
    """Read a plan, a list of rules, or a response of the API with either."""
    if root.has("data"):
        answer = root.field("data")
        plan = answer.field("trackingPlan") if answer.has("trackingPlan") else answer
        if answer.field("pagination").has("next"):
            answer.field("pagination").mistake("there are further pages; put the rules of all of them into one list")
        rules = plan.field("rules") if plan.has("rules") else answer.field("rules")
    elif isinstance(root.value, list):
        plan, rules = Part({}, root.location, root.mistakes), root
    else:
        plan, rules = root, root.field("rules")
    parts = list(rules.items())
    read = _read_flattened if any(map(_is_flattened, parts)) else _read_whole
    known = ("name", "description", "rules", "pagination")
    return PlanDocument(
        name=plan.field("name").text(),
        description=plan.field("description").text(),
        rules=tuple(rule for part in parts for rule in _rule(part, flattened=read is _read_flattened)),
        extra={name: value for name, value in plan.object().items() if name not in known},
    )


def is_flattened(document: JSONObject) -> bool:
    """Return whether a plan has schemas of properties instead of whole messages."""
    return any(map(_is_flattened, Part(document).field("rules").items()))


def write_segment(document: PlanDocument) -> tuple[JSONObject, list[str]]:
    """Return a plan with schemas of whole messages; every plan has words for that."""
    return _plan(document, [_written(rule, rule.schema) for rule in document.rules]), []


def write_flattened(document: PlanDocument) -> tuple[JSONObject, list[str]]:
    """Return a plan with schemas of properties and traits, and notes on everything else, which is lost."""
    notes = [note for rule in document.rules for note in _lost(rule)]
    rules = [rule for rule in document.rules if rule.type is not RuleType.COMMON]
    return _plan(document, [_written(rule, _flattened(rule)) for rule in rules]), notes


def _is_flattened(rule: Part) -> bool:
    schema = _schema_of(rule).value
    if not isinstance(schema, dict):
        return False
    names = schema.get("properties")
    return "eventMetadata" in schema or (isinstance(names, dict) and not _FIELDS_OF_MESSAGES.issuperset(names))


def _rule(part: Part, *, flattened: bool) -> Iterator[Rule]:
    rule_type = _type_of(part.field("type"))
    schema = _schema_of(part).object()
    if rule_type is None:
        return
    key = part.field("key").text() or None
    if rule_type is RuleType.TRACK and key is None:
        part.field("key").mistake("a rule of the type TRACK needs the name of its event")
    read = _read_flattened if flattened else _read_whole
    yield Rule(
        type=rule_type,
        key=key if rule_type is RuleType.TRACK else None,
        version=part.field("version").number(1),
        schema=read(rule_type, schema),
        extra={name: value for name, value in part.object().items() if name not in _OWN},
    )


def _schema_of(rule: Part) -> Part:
    part = rule.field("json_schema" if rule.has("json_schema") else "jsonSchema")
    if not isinstance(part.value, str):
        return part
    try:
        return attrs.evolve(part, value=msgspec.json.decode(part.value))
    except (msgspec.MsgspecError, RecursionError):
        part.mistake("is not JSON")
        return attrs.evolve(part, value={})


def _type_of(part: Part) -> RuleType | None:
    text = part.text()
    if text in set(RuleType):
        return RuleType(text)
    if text:
        part.mistake(f"expected one of {', '.join(RuleType)}, found {text!r}")
    elif part.value is None:
        part.mistake("is missing")
    return None


def _read_whole(_: RuleType, schema: JSONObject) -> JSONObject:
    return schema


def _read_flattened(rule_type: RuleType, schema: JSONObject) -> JSONObject:
    return whole_message(rule_type, {name: value for name, value in schema.items() if name != "eventMetadata"})


def _plan(document: PlanDocument, rules: Iterable[JSONObject]) -> JSONObject:
    return {**document.extra, "name": document.name, "description": document.description, "rules": list(rules)}


def _written(rule: Rule, schema: JSONObject) -> JSONObject:
    key: JSONObject = {} if rule.key is None else {"key": rule.key}
    return {"type": rule.type, **key, "version": rule.version, **rule.extra, "jsonSchema": schema}


def _flattened(rule: Rule) -> JSONObject:
    outer = {name: value for name, value in rule.schema.items() if name not in {"type", "properties", "required"}}
    metadata = {"name": rule.key or rule.type.capitalize(), "type": rule.type}
    flattened = {"$schema": DRAFT_07, **outer, "eventMetadata": metadata, **section_of(rule.schema, rule.type)}
    return {"type": "object", "properties": {}, **flattened}


def _lost(rule: Rule) -> Iterator[str]:
    if rule.type is RuleType.COMMON:
        yield lost(rule.label, "the rule, as there is none for all messages")
    elif essence(rule.schema) != section_essence(rule.schema, rule.type):
        yield lost(rule.label, f"what it says outside of `{rule.type.section}`")
