"""Controls: which messages pass, which lose values, and which are blocked."""

from __future__ import annotations

import random
from copy import deepcopy
from typing import Any, ClassVar

import pytest
from plan_helpers import any_properties, any_schema, common, plan, rule, track

from trackcore import JSONObject
from trackcore.plans import (
    Action,
    Controls,
    InvalidPlan,
    OnCommonViolation,
    RuleType,
    TrackControls,
    TraitControls,
    location_text,
)

WRONG = track(order_id="o", revenue="9.5", colour="red")


def controls(**track_controls: Any) -> Controls:
    return Controls(track=TrackControls(**track_controls))


class TestTrack:
    """The four controls of track: of unplanned events and properties, and of events and properties on violations."""

    def test_by_default_everything_passes_with_its_violations(self) -> None:
        treatment = plan().apply(WRONG, Controls())
        assert (treatment.action, treatment.message, treatment.omitted) == (Action.PASS, WRONG, ())
        assert len(treatment.violations) == 2

    def test_unplanned_events_are_blocked(self) -> None:
        message = track("Other", x=1)
        treatment = plan().apply(message, controls(allow_unplanned_events=False))
        assert (treatment.action, treatment.message) == (Action.BLOCK, message)

    def test_unplanned_properties_are_omitted(self) -> None:
        treatment = plan().apply(WRONG, controls(allow_unplanned_event_properties=False))
        assert treatment.action is Action.OMIT
        assert treatment.omitted == (("properties", "colour"),)
        assert treatment.message["properties"] == {"order_id": "o", "revenue": "9.5"}

    def test_events_with_violations_are_blocked(self) -> None:
        assert plan().apply(WRONG, controls(allow_event_on_violations=False)).action is Action.BLOCK

    def test_an_unplanned_property_alone_does_not_block(self) -> None:
        message = track(order_id="o", revenue=1, colour="red")
        assert plan().apply(message, controls(allow_event_on_violations=False)).action is Action.PASS

    def test_wrong_properties_are_omitted(self) -> None:
        treatment = plan().apply(WRONG, controls(allow_properties_on_violations=False))
        assert treatment.message["properties"] == {"order_id": "o", "colour": "red"}

    def test_a_wrong_value_in_an_array_takes_the_array_with_it(self) -> None:
        checked = plan(rule("E", {"properties": {"tags": {"type": "array", "items": {"type": "string"}}}}))
        treatment = checked.apply(track("E", tags=["a", 1]), controls(allow_properties_on_violations=False))
        assert treatment.message["properties"] == {}

    def test_a_wrong_field_of_an_object_in_an_array(self) -> None:
        message = track(order_id="o", revenue=1, products=[{"sku": "s", "price": "1"}, {"sku": "t"}])
        treatment = plan().apply(message, controls(allow_properties_on_violations=False))
        assert treatment.message["properties"]["products"] == [{"sku": "s"}, {"sku": "t"}]

    def test_wrong_values_anywhere_in_a_long_array(self) -> None:
        products = [{"sku": "s", "price": 1}] * 3_000 + [{"sku": "s", "price": "1"}]
        message = track(order_id="o", revenue=1, products=products)
        treatment = plan().apply(message, controls(allow_properties_on_violations=False))
        assert treatment.message["properties"] == {"order_id": "o", "revenue": 1}

    @pytest.mark.parametrize(
        ("section", "properties", "left"),
        [
            ({"properties": {"x": {"additionalProperties": {"type": "string"}}}}, {"x": "MANY", "y": {}}, {"y": {}}),
            ({"additionalProperties": {"type": "string"}}, "MANY", {}),
        ],
    )
    def test_of_too_many_wrong_values_all_that_is_around_them_is_omitted(
        self, section: JSONObject, properties: Any, left: JSONObject
    ) -> None:
        many = {f"x{number}": 1 for number in range(1_000)}
        section = {"properties": {"y": {}}, **section}
        sent = many if properties == "MANY" else {**properties, "x": many}
        treatment = plan(rule("E", section)).apply(track("E", **sent), controls(allow_properties_on_violations=False))
        assert (treatment.action, treatment.message.get("properties", {})) == (Action.OMIT, left)

    def test_ids_and_events_are_never_omitted(self) -> None:
        shared = common({"properties": {"userId": {"type": "number"}, "event": {"maxLength": 1}}})
        message = track("Order Completed", order_id="o", revenue=1)
        omitting = controls(common_event_on_violations=OnCommonViolation.OMIT_PROPERTIES)
        treatment = plan(rule("Order Completed", {}), shared).apply(message, omitting)
        assert (treatment.action, treatment.message, len(treatment.violations)) == (Action.PASS, message, 2)


class TestCommonRule:
    """`commonEventOnViolations` is ALLOW, BLOCK or OMIT_PROPERTIES."""

    CHECKED = plan(rule("E", {}), common({"properties": {"properties": {"properties": {"site": {"type": "string"}}}}}))

    @pytest.mark.parametrize(
        ("setting", "action", "properties"),
        [
            (OnCommonViolation.ALLOW, Action.PASS, {"site": 1, "x": 1}),
            (OnCommonViolation.OMIT_PROPERTIES, Action.OMIT, {"x": 1}),
            (OnCommonViolation.BLOCK, Action.BLOCK, {"site": 1, "x": 1}),
        ],
    )
    def test_settings(self, setting: OnCommonViolation, action: Action, properties: JSONObject) -> None:
        treatment = self.CHECKED.apply(track("E", site=1, x=1), controls(common_event_on_violations=setting))
        assert (treatment.action, treatment.message["properties"]) == (action, properties)

    def test_the_other_controls_are_not_about_it(self) -> None:
        strict = controls(allow_event_on_violations=False, allow_properties_on_violations=False)
        assert self.CHECKED.apply(track("E", site=1), strict).action is Action.PASS


class TestTraits:
    """`identify` and `group` have controls of their own."""

    CHECKED = plan(
        rule(None, {"properties": {"age": {"type": "number"}}}, RuleType.IDENTIFY),
        rule(None, {"properties": {"size": {"type": "number"}}}, RuleType.GROUP),
    )
    IDENTIFY: ClassVar[JSONObject] = {"type": "identify", "userId": "u", "traits": {"age": "9", "other": 1}}

    def test_unplanned_traits(self) -> None:
        treatment = self.CHECKED.apply(self.IDENTIFY, Controls(identify=TraitControls(allow_unplanned_traits=False)))
        assert treatment.message["traits"] == {"age": "9"}

    def test_wrong_traits(self) -> None:
        chosen = Controls(identify=TraitControls(allow_traits_on_violations=False))
        assert self.CHECKED.apply(self.IDENTIFY, chosen).message["traits"] == {"other": 1}

    def test_those_of_group_are_not_for_identify(self) -> None:
        chosen = Controls(group=TraitControls(allow_traits_on_violations=False, allow_unplanned_traits=False))
        assert self.CHECKED.apply(self.IDENTIFY, chosen).action is Action.PASS
        group = {"type": "group", "groupId": "g", "traits": {"size": "9", "other": 1}}
        assert self.CHECKED.apply(group, chosen).message["traits"] == {}


def _contains(whole: Any, part: Any) -> bool:
    """Return whether a value is another one without some fields."""
    if isinstance(whole, dict) and isinstance(part, dict):
        return all(name in whole and _contains(whole[name], value) for name, value in part.items())
    if isinstance(whole, list) and isinstance(part, list):
        return len(whole) == len(part) and all(map(_contains, whole, part))
    return type(whole) is type(part) and bool(whole == part)


@pytest.mark.parametrize("seed", range(40))
def test_omitting_never_adds_and_leaves_nothing_that_is_omitted(seed: int) -> None:
    rng = random.Random(seed)
    try:
        checked = plan(rule("E", {**any_schema(rng), "type": "object"}))
    except InvalidPlan:
        pytest.skip("the schema that was drawn is invalid")
    omitting = controls(allow_unplanned_event_properties=False, allow_properties_on_violations=False)
    for _ in range(50):
        message = track("E", **any_properties(rng))
        before = deepcopy(message)
        treatment = checked.apply(message, omitting)
        assert message == before
        assert _contains(message, treatment.message)
        assert (treatment.action is Action.OMIT) == bool(treatment.omitted) == (treatment.message != message)
        again = checked.apply(treatment.message, omitting)
        assert again.action is Action.PASS, location_text(again.omitted[0])
