"""A plan as JSON Schema accepts the messages that the plan accepts."""

from __future__ import annotations

import random
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from plan_helpers import ORDER, any_message, any_schema, common, plan, rule, track

from trackcore import JSONObject
from trackcore.plans import InvalidPlan, Plan, PlanSchemas, Rule, RuleType, whole_message


def validator(checked: Plan, call: Any = "track") -> Draft202012Validator:
    schemas = PlanSchemas(checked.document)
    schema = {"allOf": schemas.conditions(call) or [{}], "$defs": schemas.definitions()}
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


@pytest.mark.parametrize("seed", range(20))
def test_it_accepts_what_the_plan_accepts(seed: int) -> None:
    rng = random.Random(seed)
    shared = {"properties": {"context": {"properties": {"app": {"type": "string"}}}}, "required": ["anonymousId"]}
    rules = [
        *(rule(name, {**any_schema(rng, 1), "type": "object"}) for name in ("A", "E")),
        rule("A", {"properties": {"id": {}}}, version=2),
        rule(None, {**any_schema(rng, 1), "type": "object"}, RuleType.PAGE),
        rule(None, {**any_schema(rng, 1), "type": "object"}, RuleType.IDENTIFY),
        *([common(shared)] if seed % 2 else []),
    ]
    try:
        checked = plan(*rules)
    except InvalidPlan:
        pytest.skip("a schema that was drawn is invalid")
    validators = {call: validator(checked, call) for call in ("track", "page", "identify", "alias")}
    for _ in range(100):
        message = {"context": {}, "properties": {}, "traits": {}, **any_message(rng)}
        assert validators[message["type"]].is_valid(message) == checked.accepts(message), message


class TestTranslation:
    """Rules of older drafts are translated."""

    @pytest.mark.parametrize(
        ("draft", "section", "good", "bad"),
        [
            ("draft-04", {"properties": {"x": {"minimum": 1, "exclusiveMinimum": True}}}, {"x": 2}, {"x": 1}),
            ("draft-04", {"properties": {"x": {"maximum": 1, "exclusiveMaximum": False}}}, {"x": 1}, {"x": 2}),
            ("draft-07", {"properties": {"x": {"exclusiveMinimum": 1}}}, {"x": 2}, {"x": 1}),
            (
                "draft-07",
                {"properties": {"x": {"items": [{"type": "string"}], "additionalItems": {"type": "number"}}}},
                {"x": ["a", 1]},
                {"x": ["a", "b"]},
            ),
            ("draft-07", {"properties": {"x": {}, "y": {}}, "dependencies": {"x": ["y"]}}, {"x": 1, "y": 1}, {"x": 1}),
            (
                "draft-07",
                {"properties": {"x": {}, "y": {}}, "dependencies": {"x": {"required": ["y"]}}},
                {"y": 1},
                {"x": 1},
            ),
        ],
    )
    def test_keywords(self, draft: str, section: JSONObject, good: JSONObject, bad: JSONObject) -> None:
        schema = {**whole_message(RuleType.TRACK, section), "$schema": f"http://json-schema.org/{draft}/schema#"}
        checked = plan(Rule(type=RuleType.TRACK, key="E", schema=schema))
        assert [checked.accepts(track("E", **one)) for one in (good, bad)] == [True, False]
        assert [validator(checked).is_valid(track("E", **one)) for one in (good, bad)] == [True, False]

    def test_references(self) -> None:
        schema = {
            "$id": "https://example.com/order",
            "definitions": {"a/b": {"type": "string"}},
            "properties": {"properties": {"properties": {"x": {"$ref": "#/definitions/a~1b", "maxLength": 1}}}},
        }
        checked = plan(Rule(type=RuleType.TRACK, key="E", schema=schema))
        accepted = [track("E", x="long"), track("E", x=1)]
        assert [checked.accepts(message) for message in accepted] == [True, False]  # beside `$ref` nothing counts
        assert [validator(checked).is_valid(message) for message in accepted] == [True, False]


def test_names_of_definitions() -> None:
    rules = [rule("Order Completed", ORDER), rule("Order/Completed", ORDER), rule("注文", ORDER), common({})]
    names = list(PlanSchemas(plan(*rules).document).definitions())
    assert names == ["plan.track_Order_Completed", "plan.track_Order_Completed_1", "plan.track", "plan.common"]


def test_names_of_definitions_differ() -> None:
    rules = [rule(name, {}) for name in ("A!", "A_2", "A?")]
    assert len(PlanSchemas(plan(*rules).document).definitions()) == len(rules)
