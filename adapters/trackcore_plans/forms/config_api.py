"""Segment's Config API, which Typewriter 7 keeps, and RudderStack's form at run time: rules in an object.

`rules.events` lists the events; `rules.identify`, `rules.group`, `rules.page`, `rules.screen` and `rules.global` are
schemas of whole messages themselves.
"""

from __future__ import annotations

from collections.abc import Iterator

from trackcore import JSONObject
from trackcore.plans import PlanDocument, Rule, RuleType
from trackcore_plans.forms.notes import lost, lost_names
from trackcore_plans.parts import Part

_OF_EVENTS = ("name", "description", "rules", "version")
_BY_TYPE = {
    "identify": RuleType.IDENTIFY,
    "group": RuleType.GROUP,
    "page": RuleType.PAGE,
    "screen": RuleType.SCREEN,
    "global": RuleType.COMMON,
}
_OF_THE_PLAN = ("display_name", "name", "description", "rules")
_RESOURCE = "resource_name"  # `name` in this form: workspaces/SLUG/tracking-plans/ID
_OLD = ("identify_traits", "group_traits")


def read_config(root: Part) -> PlanDocument:
    """Read a plan."""
    rules = root.field("rules")
    rules.allow({"events", *_BY_TYPE, *_OLD})
    for name in _OLD:
        if rules.field(name).value:
            rules.field(name).mistake("lists of traits are not supported; write a schema as `identify` or `group`")
    events = rules.field("events").items() if rules.has("events") else ()
    titled = root.has("display_name")
    extra = {name: value for name, value in root.object().items() if name not in _OF_THE_PLAN}
    if titled and root.has("name"):
        extra[_RESOURCE] = root.value["name"]
    return PlanDocument(
        name=root.field("display_name" if titled else "name").text(),
        description=root.field("description").text(),
        rules=(*map(_event, events), *_others(rules)),
        extra=extra,
    )


def write_config(document: PlanDocument) -> tuple[JSONObject, list[str]]:
    """Return a plan, and notes on what is lost: fields of the rules that are not about an event."""
    names = {rule_type: name for name, rule_type in _BY_TYPE.items()}
    rules: JSONObject = {"events": [_written(rule) for rule in document.rules if rule.type is RuleType.TRACK]}
    notes = []
    for (rule_type, _), versions in document.by_messages().items():
        if rule_type is RuleType.TRACK:
            continue
        rules[names[rule_type]] = versions[0].schema
        notes += [lost(rule.label, "the rule, as only events have versions") for rule in versions[1:]]
        notes += lost_names(versions[0].label, "fields", versions[0].extra)
    named = {"name": document.extra[_RESOURCE]} if _RESOURCE in document.extra else {}
    extra = {name: value for name, value in document.extra.items() if name != _RESOURCE}
    plan = {**extra, **named, "display_name": document.name, "description": document.description, "rules": rules}
    return plan, notes


def _event(part: Part) -> Rule:
    schema = part.field("rules").object()
    description = part.field("description").text()
    if not part.field("name").text():
        part.field("name").mistake("an event needs a name")
    extra = {name: value for name, value in part.object().items() if name not in _OF_EVENTS}
    if description and "description" not in schema:
        schema = {**schema, "description": description}
    elif description and description != schema["description"]:
        extra["description"] = description
    return Rule(
        type=RuleType.TRACK,
        key=part.field("name").text(),
        version=part.field("version").number(1),
        schema=schema,
        extra=extra,
    )


def _others(rules: Part) -> Iterator[Rule]:
    for name, rule_type in _BY_TYPE.items():
        if rules.field(name).value:
            yield Rule(type=rule_type, schema=rules.field(name).object())


def _written(rule: Rule) -> JSONObject:
    description = rule.extra.get("description", rule.description)
    extra = {name: value for name, value in rule.extra.items() if name != "description"}
    written = {"name": rule.key, "description": description, "version": rule.version, "rules": rule.schema}
    return extra | written
