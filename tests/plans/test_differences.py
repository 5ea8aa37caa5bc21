"""The differences of two plans, and the law that holds for them."""

from __future__ import annotations

import random
from typing import Any

import pytest
from plan_helpers import ORDER, any_properties, any_schema, common, plan, rule, track
from trackcore_plans import differences

from trackcore import JSONObject
from trackcore.plans import InvalidPlan, PlanDocument, Rule, RuleType


def compared(old: JSONObject, new: JSONObject) -> list[tuple[str, str, bool]]:
    found = differences(PlanDocument(rules=(rule("E", old),)), PlanDocument(rules=(rule("E", new),)))
    return [
        (difference.path.removeprefix("properties."), difference.sentence, difference.breaks) for difference in found
    ]


def of(**properties: Any) -> JSONObject:
    return {"properties": properties}


class TestRules:
    """Which rules there are."""

    def test_an_event_is_removed_or_new(self) -> None:
        old, new = PlanDocument(rules=(rule("A", {}),)), PlanDocument(rules=(rule("B", {}),))
        assert [(d.rule, d.sentence, d.breaks) for d in differences(old, new)] == [
            ('track "A"', "this event is no longer planned", True),
            ('track "B"', "is new", False),
        ]

    def test_a_version_is_removed(self) -> None:
        old, new = PlanDocument(rules=(rule("A", {}), rule("A", {}, version=2))), PlanDocument(rules=(rule("A", {}),))
        (difference,) = differences(old, new)
        assert (difference.rule, difference.breaks) == ('track "A" version 2', True)

    @pytest.mark.parametrize(("section", "breaks"), [({"required": ["x"]}, True), ({}, False)])
    def test_a_new_version_is_the_oldest(self, section: JSONObject, *, breaks: bool) -> None:
        old = PlanDocument(rules=(rule("A", {}, version=2),))
        (difference,) = differences(old, PlanDocument(rules=(*old.rules, rule("A", section))))
        assert (difference.rule, difference.breaks) == ('track "A"', breaks)
        assert difference.sentence.startswith("is new, and the oldest")

    @pytest.mark.parametrize("left", [[], [common({})], [common({"required": ["userId"]})]])
    def test_names_of_the_common_rule_are_those_of_every_event(self, left: list[Rule]) -> None:
        shared = common({"properties": {"properties": {"properties": {"site": {}}}}})
        event = rule("A", {"properties": {"x": {}}})
        message = track("A", x=1, site="shop")
        assert plan(event, shared).accepts(message)
        assert not plan(event, *left).accepts(message)
        found = differences(PlanDocument(rules=(event, shared)), PlanDocument(rules=(event, *left)))
        assert any(difference.breaks for difference in found)

    def test_a_common_rule_without_names_is_no_loss(self) -> None:
        old = PlanDocument(rules=(common({"properties": {"context": {"required": ["app"]}}}),))
        assert [difference.breaks for difference in differences(old, PlanDocument())] == [False]

    def test_a_new_rule_for_pages_asks_for_something(self) -> None:
        new = PlanDocument(rules=(rule(None, {"required": ["path"]}, RuleType.PAGE),))
        found = differences(PlanDocument(), new)
        assert [(d.path, d.sentence) for d in found if d.breaks] == [("properties.path", "is now required")]


class TestSchemas:
    """A difference breaks if a message of the old plan may violate the new one."""

    @pytest.mark.parametrize(
        ("old", "new", "path", "breaks"),
        [
            (of(x={"type": "string"}), of(x={"type": "number"}), "x", True),
            (of(x={"type": "string"}), of(x={"type": ["string", "null"]}), "x", False),
            (of(x={"type": "integer"}), of(x={"type": "number"}), "x", False),
            (of(x={"type": "number"}), of(x={"type": "integer"}), "x", True),
            (of(x={}), of(x={"type": "integer"}), "x", True),
            (of(x={}, y={}), of(x={}), "y", True),
            (of(x={}), of(x={}, y={}), "y", False),
            (of(x={}), {**of(x={}), "required": ["x"]}, "x", True),
            ({**of(x={}), "required": ["x"]}, of(x={}), "x", False),
            (of(x={"enum": ["a", "b"]}), of(x={"enum": ["a"]}), "x", True),
            (of(x={"enum": ["a"]}), of(x={"enum": ["a", "b"]}), "x", False),
            (of(x={}), of(x={"enum": ["a"]}), "x", True),
            (of(x={"enum": [1]}), of(x={"enum": [1.0, 2]}), "x", False),
            (of(x={"minimum": 1}), of(x={"minimum": 2}), "x", True),
            (of(x={"minimum": 1}), of(x={"minimum": 0}), "x", False),
            (of(x={"maximum": 1}), of(x={"maximum": 0}), "x", True),
            (of(x={"maximum": 1}), of(x={}), "x", False),
            (of(x={"pattern": "a"}), of(x={"pattern": "b"}), "x", True),
            (of(x={"pattern": "a"}), of(x={}), "x", False),
            (of(x={"items": {"type": "string"}}), of(x={"items": {"type": "null"}}), "x[]", True),
            (of(x={}), of(x={"anyOf": [{"type": "string"}]}), "x", True),
        ],
    )
    def test_one(self, old: JSONObject, new: JSONObject, path: str, *, breaks: bool) -> None:
        assert [(found[0], found[2]) for found in compared(old, new)] == [(path, breaks)]

    def test_the_sentences(self) -> None:
        assert compared(of(x={"type": "string"}), of(x={"type": ["number", "null"]})) == [
            ("x", "its type was string and is null or number", True)
        ]

    def test_names_become_a_list(self) -> None:
        assert compared(of(), of(x={"type": "string"}))[-3:] == [
            ("properties", "only the names that are listed are planned now", True),
            ("x", "is new", False),
            ("x", "its type was any and is string", True),
        ]

    def test_descriptions_and_examples_do_not_count(self) -> None:
        assert compared(of(x={"description": "a"}), of(x={"examples": ["a"]})) == []


class TestLaws:
    """`diff(a, a)` is empty; without a breaking difference, what the old plan accepts the new one accepts."""

    def test_a_plan_does_not_differ_from_itself(self) -> None:
        for seed in range(200):
            schema = any_schema(random.Random(seed), 3)
            assert compared(schema, dict(reversed(schema.items()))) == []

    @pytest.mark.parametrize("seed", range(60))
    def test_a_message_that_was_planned_still_is(self, seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(40):
            old = {**any_schema(rng), "type": "object"}
            new = _changed(old, rng)
            try:
                before, after = plan(rule("E", old)), plan(rule("E", new))
            except InvalidPlan:
                continue
            if any(breaks for *_, breaks in compared(old, new)):
                continue
            for _ in range(30):
                message = track("E", **any_properties(rng))
                if not before.check(message):
                    assert not after.check(message), (old, new, message)


def _changed(schema: Any, rng: random.Random) -> Any:
    """Return a schema that differs at one place or at a few."""
    if not isinstance(schema, dict) or rng.random() < 0.1:
        return any_schema(rng, 1)
    changed = dict(schema)
    for name, inner in changed.get("properties", {}).items():
        if rng.random() < 0.4:
            changed["properties"] = {**changed["properties"], name: _changed(inner, rng)}
    if changed and rng.random() < 0.3:
        changed.pop(rng.choice(list(changed)), None)
    if rng.random() < 0.3:
        changed |= any_schema(rng, 0)
    return changed


def test_a_common_rule_is_compared() -> None:
    old = PlanDocument(rules=(common({"required": ["channel"]}),))
    new = PlanDocument(rules=(Rule(type=RuleType.COMMON, schema={"required": ["channel", "anonymousId"]}),))
    assert [(d.rule, d.path, d.breaks) for d in differences(old, new)] == [("common", "anonymousId", True)]
    assert differences(PlanDocument(rules=(rule("E", ORDER),)), PlanDocument(rules=(rule("E", ORDER),))) == ()
