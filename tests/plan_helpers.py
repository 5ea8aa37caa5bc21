"""Plans and messages for the tests of tracking plans."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from trackcore_plans import compile_schema

from trackcore import JSONObject
from trackcore.plans import Plan, PlanDocument, Rule, RuleType, whole_message

ORDER: JSONObject = {
    "description": "An order was paid.",
    "type": "object",
    "properties": {
        "order_id": {"type": "string"},
        "revenue": {"type": "number", "minimum": 0},
        "currency": {"type": ["string", "null"], "pattern": "^[A-Z]{3}$"},
        "products": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"sku": {"type": "string"}, "price": {"type": "number"}},
                "required": ["sku"],
            },
        },
    },
    "required": ["order_id", "revenue"],
}


def rule(key: str | None, section: JSONObject, rule_type: RuleType = RuleType.TRACK, version: int = 1) -> Rule:
    """Return a rule from the schema of its properties or traits."""
    return Rule(type=rule_type, key=key, version=version, schema=whole_message(rule_type, section))


def common(schema: JSONObject) -> Rule:
    """Return a rule for all messages."""
    return Rule(type=RuleType.COMMON, schema=schema)


def plan(*rules: Rule) -> Plan:
    """Return a plan of some rules, by default one for `Order Completed`."""
    document = PlanDocument(name="Shop", rules=rules or (rule("Order Completed", ORDER),))
    return Plan.compile(document, compile_schema)


def track(event: str = "Order Completed", /, **properties: Any) -> JSONObject:
    """Return a message of `track`."""
    return {"type": "track", "userId": "u1", "event": event, "properties": properties}


def found(checked: Plan, message: JSONObject) -> list[tuple[str, str]]:
    """Return the kind and the path of each violation."""
    return [(violation.kind.removeprefix("plan_"), violation.path) for violation in checked.check(message)]


# Random schemas and values, for laws that need many


_NAMES = ("id", "name", "total", "a b", "Ünï")
_PATTERNS = ("^[A-Z]{3}$", "a|b", "^\\d+$", "[^x]", "^.{1,3}$", "o")
_TEXTS = ("", "a", "EUR", "12", "x", "foo", "ooo", "ÄÖ", "2020-01-31", "a\nb")


def any_schema(rng: random.Random, depth: int = 2) -> JSONObject:
    """Return a random schema, of the keywords that plans have."""
    schema: JSONObject = {}
    if rng.random() < 0.8:
        types = ["string", "number", "integer", "boolean", "null", *(["array", "object"] if depth else [])]
        chosen = rng.sample(types, rng.choice((1, 1, 1, 2)))
        schema["type"] = chosen if len(chosen) > 1 else chosen[0]
    for keyword, make in _KEYWORDS.items():
        if rng.random() < 0.12:
            schema[keyword] = make(rng)
    if depth and rng.random() < 0.6:
        names = rng.sample(_NAMES, rng.randint(0, 3))
        schema["properties"] = {name: any_schema(rng, depth - 1) for name in names}
        schema["required"] = rng.sample(_NAMES, rng.randint(0, 2))
        if rng.random() < 0.2:
            schema["patternProperties"] = {rng.choice(["^i", "a", "ü"]): any_schema(rng, 0)}
    if depth and rng.random() < 0.3:
        schema["additionalProperties"] = rng.choice([False, True, any_schema(rng, 0)])
    if depth and rng.random() < 0.3:
        schema["items"] = any_schema(rng, depth - 1)
    if depth and rng.random() < 0.15:
        schema[rng.choice(["anyOf", "oneOf", "allOf"])] = [any_schema(rng, 0), any_schema(rng, 0)]
    return schema


_KEYWORDS: dict[str, Callable[[random.Random], Any]] = {
    "enum": lambda rng: [rng.choice(_TEXTS), rng.randint(0, 3), None][: rng.randint(1, 3)],
    "const": lambda rng: rng.choice([1, "a", None, True]),
    "pattern": lambda rng: rng.choice(_PATTERNS),
    "minLength": lambda rng: rng.randint(0, 3),
    "maxLength": lambda rng: rng.randint(0, 3),
    "minimum": lambda rng: rng.randint(-2, 3),
    "maximum": lambda rng: rng.randint(-2, 3),
    "exclusiveMinimum": lambda rng: rng.randint(-2, 3),
    "multipleOf": lambda rng: rng.randint(1, 3),
    "minItems": lambda rng: rng.randint(0, 2),
    "maxItems": lambda rng: rng.randint(0, 2),
    "uniqueItems": lambda _: True,
    "minProperties": lambda rng: rng.randint(0, 2),
}


def any_value(rng: random.Random, depth: int = 3) -> Any:
    """Return a random JSON value."""
    if depth and rng.random() < 0.3:
        items = [any_value(rng, depth - 1) for _ in range(rng.randrange(4))]
        return items if rng.random() < 0.5 else any_properties(rng, depth - 1)
    return rng.choice([None, True, False, rng.randint(-3, 5), 0.5, 1.0, -2.25, 1e20, *_TEXTS])


def any_properties(rng: random.Random, depth: int = 2) -> JSONObject:
    """Return a random JSON object."""
    return {name: any_value(rng, depth) for name in rng.sample((*_NAMES, "other"), rng.randrange(5))}


def any_message(rng: random.Random) -> JSONObject:
    """Return a random message, of which any field may be absent but its type and event."""
    call = rng.choice(["track", "track", "page", "identify", "alias"])
    fields: JSONObject = {
        "userId": rng.choice(["u", "u123"]),
        "anonymousId": "a",
        "properties": any_properties(rng),
        "traits": any_properties(rng),
        "context": {"app": rng.choice(["x", 1]), "protocols": {"event_version": rng.choice([1, 2, "2"])}},
    }
    chosen = rng.sample(sorted(fields), rng.randint(0, len(fields)))
    named = {"event": rng.choice("AEFG")} if call == "track" else {}
    return {"type": call, **named, **{name: fields[name] for name in chosen}}
