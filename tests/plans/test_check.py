"""A plan checks messages: the kinds of violations, the choice of a rule, and the sentences."""

from __future__ import annotations

import json
import random

import pytest
from plan_helpers import ORDER, any_message, any_properties, any_schema, common, found, plan, rule, track

from trackcore import JSONObject
from trackcore.plans import MAX_RULES, MAX_VIOLATIONS, InvalidPlan, PlanMistake, Rule, RuleType

GOOD = track(order_id="o-1", revenue=9.5, currency="EUR", products=[{"sku": "s", "price": 1}])


class TestKinds:
    """Kinds: unplanned event, unplanned property or trait, required missing, wrong type, value, common rule."""

    def test_a_message_as_planned_has_no_violation(self) -> None:
        assert found(plan(), GOOD) == []

    def test_an_unplanned_event(self) -> None:
        assert found(plan(), track("Cart Viewed")) == [("unplanned_event", "event")]

    def test_an_unplanned_property(self) -> None:
        assert found(plan(), track(order_id="o", revenue=1, colour="red")) == [
            ("unplanned_property", "properties.colour")
        ]

    def test_an_unplanned_property_inside_an_array(self) -> None:
        message = track(order_id="o", revenue=1, products=[{"sku": "s"}, {"sku": "s", "size": 1}])
        assert found(plan(), message) == [("unplanned_property", "properties.products[1].size")]

    def test_an_unplanned_trait(self) -> None:
        checked = plan(rule(None, {"type": "object", "properties": {"email": {}}}, RuleType.IDENTIFY))
        message = {"type": "identify", "userId": "u1", "traits": {"email": "a@b", "phone": "1"}}
        assert found(checked, message) == [("unplanned_property", "traits.phone")]

    def test_a_required_property_is_missing(self) -> None:
        assert found(plan(), track(revenue=1)) == [("required_missing", "properties.order_id")]

    def test_absent_properties_are_empty_ones(self) -> None:
        missing = [("required_missing", f"properties.{name}") for name in ("order_id", "revenue")]
        assert found(plan(), {"type": "track", "event": "Order Completed"}) == missing

    def test_a_wrong_type(self) -> None:
        assert found(plan(), track(order_id="o", revenue="9.5")) == [("wrong_type", "properties.revenue")]

    @pytest.mark.parametrize(
        ("schema", "value"),
        [
            ({"enum": ["a", "b"]}, "c"),
            ({"const": 1}, 2),
            ({"pattern": "^a$"}, "b"),
            ({"format": "date-time"}, "yesterday"),
            ({"minimum": 1}, 0),
            ({"maxLength": 1}, "ab"),
            ({"anyOf": [{"type": "string"}, {"type": "null"}]}, 1),
            ({"not": {"type": "string"}}, "a"),
        ],
    )
    def test_a_wrong_value(self, schema: JSONObject, value: object) -> None:
        checked = plan(rule("E", {"type": "object", "properties": {"x": schema}}))
        assert found(checked, track("E", x=value)) == [("wrong_value", "properties.x")]

    def test_a_common_rule(self) -> None:
        checked = plan(rule("E", {}), common({"properties": {"context": {"required": ["app"]}}}))
        assert found(checked, {**track("E"), "context": {}}) == [("common_rule", "context.app")]

    def test_a_common_rule_applies_to_every_call_and_to_unplanned_events(self) -> None:
        checked = plan(common({"required": ["channel"]}))
        calls = ("identify", "page", "screen", "group", "alias")
        assert all(found(checked, {"type": call, "userId": "u"}) == [("common_rule", "channel")] for call in calls)
        assert found(checked, track("E")) == [("unplanned_event", "event"), ("common_rule", "channel")]


class TestUnplannedNames:
    """An object whose names are listed has no others; one without a list is open."""

    @pytest.mark.parametrize(
        "section",
        [
            {},
            {"type": "object"},
            {"type": "object", "properties": {}},
            {"type": "object", "properties": {"a": {}}, "additionalProperties": True},
            {"type": "object", "properties": {"a": {}}, "additionalProperties": {"type": "number"}},
            {"type": "object", "properties": {"a": {}}, "patternProperties": {"^x": {}}},
            {"type": "object", "properties": {"a": {}}, "allOf": [{"properties": {"x": {}}}]},
            {"type": "object", "properties": {"a": {}}, "if": {"required": ["a"]}, "then": {"properties": {"x": {}}}},
            {"type": "object", "properties": {"a": {}}, "dependencies": {"a": {"properties": {"x": {}}}}},
        ],
    )
    def test_allowed(self, section: JSONObject) -> None:
        assert found(plan(rule("E", section)), track("E", x=1)) == []

    def test_names_behind_a_reference_are_planned(self) -> None:
        section = {
            "$defs": {"all": {"properties": {"x": {}}}},
            "properties": {"a": {}},
            "allOf": [{"$ref": "#/$defs/all"}],
        }
        checked = plan(rule("E", section))
        assert found(checked, track("E", x=1)) == []
        assert found(checked, track("E", y=1)) == [("unplanned_property", "properties.y")]

    def test_names_of_the_common_rule_are_planned(self) -> None:
        shared = common({"properties": {"properties": {"properties": {"site": {"type": "string"}}}}})
        checked = plan(rule("E", {"properties": {"a": {}}}), shared)
        assert found(checked, track("E", a=1, site="shop")) == []
        assert found(checked, track("E", a=1, site=1)) == [("common_rule", "properties.site")]

    def test_a_rule_that_refuses_other_names_itself_reports_each_once(self) -> None:
        checked = plan(rule("E", {"properties": {"a": {}}, "additionalProperties": False}))
        assert found(checked, track("E", b=1, c=1)) == [
            ("unplanned_property", "properties.b"),
            ("unplanned_property", "properties.c"),
        ]

    def test_a_property_whose_schema_is_false(self) -> None:
        checked = plan(rule("E", {"properties": {"gone": False}}))
        assert found(checked, track("E", gone=1)) == [("unplanned_property", "properties.gone")]


class TestChoiceOfTheRule:
    """Event names match exactly; the version is an integer in `context.protocols.event_version`, else the oldest."""

    CHECKED = plan(
        rule("E", {"properties": {"x": {"type": "string"}}}, version=2),
        rule("E", {"properties": {"x": {"type": "number"}}}, version=1),
    )

    @pytest.mark.parametrize(
        ("version", "wanted"),
        [
            (1, "number"),
            (2, "string"),
            (3, "number"),
            ("2", "number"),
            (True, "number"),
            (2.0, "number"),
            (None, "number"),
        ],
    )
    def test_versions(self, version: object, wanted: str) -> None:
        values: dict[str, object] = {"number": 1, "string": "a"}
        other = {"number": "string", "string": "number"}[wanted]
        context = {"protocols": {"event_version": version}}
        assert found(self.CHECKED, {**track("E", x=values[wanted]), "context": context}) == []
        assert found(self.CHECKED, {**track("E", x=values[other]), "context": context}) == [
            ("wrong_type", "properties.x")
        ]

    def test_rules_that_ask_for_nothing(self) -> None:
        checked = plan(Rule(type=RuleType.COMMON, schema={}), Rule(type=RuleType.TRACK, key="E", schema={}))
        assert found(checked, track("E", x=1)) == []

    def test_versions_of_the_common_rule(self) -> None:
        newer = Rule(type=RuleType.COMMON, version=2, schema={})
        checked = plan(rule("E", {}), common({"required": ["channel"]}), newer)
        assert found(checked, track("E")) == [("common_rule", "channel")]
        of_the_newer = {**track("E"), "context": {"protocols": {"event_version": 2}}}
        assert found(checked, of_the_newer) == []
        assert checked.accepts(of_the_newer)

    def test_without_a_version_the_oldest_counts(self) -> None:
        assert found(self.CHECKED, track("E", x=1)) == []

    def test_pages_without_a_rule_are_not_checked(self) -> None:
        assert found(plan(), {"type": "page", "name": "Home", "properties": {"x": 1}}) == []

    def test_pages_and_screens_have_rules_of_their_own(self) -> None:
        checked = plan(rule(None, {"required": ["path"]}, RuleType.PAGE))
        assert found(checked, {"type": "page", "properties": {}}) == [("required_missing", "properties.path")]
        assert found(checked, {"type": "screen", "properties": {}}) == []


class TestSentences:
    """Near misses are named: "`Order completed` is not planned; did you mean `Order Completed`?"."""

    @pytest.mark.parametrize(
        ("message", "sentence"),
        [
            (track("Order completed"), "`Order completed` is not planned; did you mean `Order Completed`?"),
            (track("order_completed"), "`order_completed` is not planned; did you mean `Order Completed`?"),
            (track("Order Compelted"), "`Order Compelted` is not planned; did you mean `Order Completed`?"),
            (track("Cart Viewed"), "`Cart Viewed` is not planned"),
            (
                track(order_id="o", revenue="9.5"),
                '`properties.revenue` must be a number, found a string: "9.5"',
            ),
            (track(order_id="o", revenue=None), "`properties.revenue` must be a number, found null"),
            (
                track(order_id="o", revenue=1, currency="eur"),
                '`properties.currency` must be a text that matches ^[A-Z]{3}$, found "eur"',
            ),
            (track(order_id="o", revenue=-1), "`properties.revenue` must be 0 or more, found -1"),
        ],
    )
    def test_one(self, message: JSONObject, sentence: str) -> None:
        assert [violation.sentence for violation in plan().check(message)] == [sentence]

    @pytest.mark.parametrize(
        ("schema", "value", "sentence"),
        [
            ({"items": False}, [1], "`properties.x[0]` must be absent, found 1"),
            (
                {"items": [{}], "additionalItems": False},
                [1, 2],
                "`properties.x` must be an array without further values, found [1,2]",
            ),
            (
                {"propertyNames": {"maxLength": 1}},
                {"ab": 1},
                '`properties.x` must be an object whose names are as planned, found {"ab":1}',
            ),
        ],
    )
    def test_of_rare_keywords(self, schema: JSONObject, value: object, sentence: str) -> None:
        checked = plan(rule("E", {"properties": {"x": schema}}))
        assert [violation.sentence for violation in checked.check(track("E", x=value))] == [sentence]

    def test_a_name_in_another_case_is_shown_from_both_sides(self) -> None:
        assert [violation.sentence for violation in plan().check(track(order_id="o", Revenue=1))] == [
            "`properties.revenue` is required and missing; found `Revenue`",
            "`Revenue` is not planned; `revenue` is",
        ]

    def test_the_rule_is_named(self) -> None:
        checked = plan(rule("E", ORDER, version=2), common({"required": ["channel"]}))
        labels = [violation.rule for violation in checked.check(track("E", revenue=1))]
        assert labels == ['track "E" version 2', "common"]

    def test_long_values_are_cut(self) -> None:
        (violation,) = plan().check(track(order_id="o", revenue="9" * 30_000))
        assert len(violation.sentence) < 200

    def test_names_with_dots_are_quoted_in_paths(self) -> None:
        checked = plan(rule("E", {"properties": {"a.b": {"type": "string"}}}))
        assert found(checked, track("E", **{"a.b": 1})) == [("wrong_type", 'properties["a.b"]')]

    def test_a_name_that_is_a_number(self) -> None:
        checked = plan(rule("E", {"properties": {"007": {"type": "string"}}}))
        assert found(checked, track("E", **{"007": 1})) == [("wrong_type", "properties.007")]


class TestMistakes:
    """A plan that cannot be used is refused as a whole, with every mistake and its place."""

    def test_two_rules_of_the_same_version(self) -> None:
        with pytest.raises(InvalidPlan) as caught:
            plan(rule("E", {}), rule("E", {}))
        assert caught.value.mistakes == (
            PlanMistake(path="rules[1]", detail='track "E" is already rules[0]; give it another version'),
        )

    def test_too_many_rules(self) -> None:
        with pytest.raises(InvalidPlan, match=f"at most {MAX_RULES} rules, found {MAX_RULES + 1}"):
            plan(*(Rule(type=RuleType.TRACK, key=str(number), schema={}) for number in range(MAX_RULES + 1)))

    def test_several_wrong_schemas(self) -> None:
        with pytest.raises(InvalidPlan) as caught:
            plan(rule("A", {"properties": {"x": {"type": "text"}}}), rule("B", {"properties": {"x": {"pattern": "("}}}))
        assert [mistake.path for mistake in caught.value.mistakes] == [
            "rules[0].schema.properties.properties.properties.x.type",
            "rules[1].schema.properties.properties.properties.x.pattern",
        ]

    @pytest.mark.parametrize(
        "schema",
        [{"properties": [1]}, {"properties": {"properties": {"$ref": "#/properties/properties"}}}, {"type": "text"}],
    )
    def test_a_wrong_common_rule_is_one_mistake(self, schema: JSONObject) -> None:
        with pytest.raises(InvalidPlan) as caught:
            plan(rule("A", ORDER), common(schema), rule("B", {}))
        (mistake,) = caught.value.mistakes
        assert mistake.path.startswith("rules[1].schema.")

    def test_an_unknown_dialect(self) -> None:
        with pytest.raises(InvalidPlan, match=r"found 'http://example\.com/dialect'"):
            plan(Rule(type=RuleType.COMMON, schema={"$schema": "http://example.com/dialect"}))


def test_violations_of_one_message_are_bounded() -> None:
    assert len(plan().check(track(**{f"x{number}": 1 for number in range(1_000)}))) == MAX_VIOLATIONS


@pytest.mark.parametrize("seed", range(40))
def test_the_fast_way_to_accept_agrees_with_the_list_of_violations(seed: int) -> None:
    rng = random.Random(seed)
    shared = common(
        {"properties": {"properties": any_schema(rng, 1)}, "required": rng.sample(["channel", "userId"], 1)}
    )
    rules = [rule("E", {**any_schema(rng), "type": "object"}), *([shared] if seed % 2 else [])]
    try:
        checked = plan(*rules)
    except InvalidPlan:
        pytest.skip("the schema that was drawn is invalid")
    for _ in range(60):
        message = track(rng.choice("EF"), **any_properties(rng))
        if rng.random() < 0.3:
            del message["properties"]
        assert checked.accepts(message) == (not list(checked._violations(message)))


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"required": ["userId"]},
        {"properties": {"context": {"required": ["app"]}, "traits": {}}},
        {"required": ["context"], "properties": {"context": {"properties": {"app": {"type": "string"}}}}},
        {"properties": {"anonymousId": False}},
        {"properties": {"type": {"enum": ["track", "page"]}, "event": {"minLength": 2}}},
        {"maxProperties": 4},
        {"additionalProperties": False, "properties": {name: {} for name in ("type", "event", "properties")}},
        {"anyOf": [{"required": ["userId"]}, {"required": ["anonymousId"]}]},
        {"not": {"required": ["userId"]}},
        {"if": {"required": ["userId"]}, "then": {"required": ["context"]}},
        {"dependencies": {"anonymousId": ["userId"]}},
        {"patternProperties": {"Id$": {"minLength": 3}}},
        {"propertyNames": {"maxLength": 10}},
        {"$ref": "#/definitions/x", "definitions": {"x": {"required": ["userId"]}}},
    ],
    ids=str,
)
def test_the_text_of_a_message_is_judged_as_the_message_is(schema: JSONObject) -> None:
    """Of the text of a message only the fields that the rules read are decoded."""
    rng = random.Random(str(schema))
    page = [rule(None, ORDER, RuleType.PAGE)]
    versions = [rule("G", {}), rule("G", {"required": ["id"]}, version=2)]
    own = [rule(name, {**any_schema(rng, 1), "type": "object"}) for name in ("A", "E")]
    common_rule, track_rule = common(schema), Rule(type=RuleType.TRACK, key="F", schema=schema)
    for rules in ([*own, common_rule], [track_rule, *page], [*own, *versions, track_rule], [*page, *own, track_rule]):
        checked = plan(*rules)
        for _ in range(50):
            message = any_message(rng)
            assert checked.accepts_text(json.dumps(message).encode()) is (checked.check(message) == ()), message
