"""A plan from messages accepts them all."""

from __future__ import annotations

import random

import pytest
from plan_helpers import any_properties, track
from trackcore_plans import Form, Inference, compile_schema, parse_plan, write_plan

from trackcore import JSONObject
from trackcore.plans import MAX_RULES, Plan


def inferred(*messages: JSONObject) -> Inference:
    inference = Inference()
    for message in messages:
        inference.add(message)
    return inference


def properties_of(*messages: JSONObject) -> JSONObject:
    (rule,) = inferred(*messages).document("Log").rules
    section: JSONObject = rule.schema["properties"]["properties"]
    return section


@pytest.mark.parametrize("seed", range(30))
def test_it_accepts_the_messages_that_it_was_made_from(seed: int) -> None:
    rng = random.Random(seed)
    messages = [
        *(track(rng.choice("ABC"), **any_properties(rng, 3)) for _ in range(60)),
        *({"type": rng.choice(["identify", "group"]), "traits": any_properties(rng, 3)} for _ in range(20)),
        *({"type": rng.choice(["page", "screen"]), "properties": any_properties(rng, 3)} for _ in range(20)),
        {"type": "alias", "userId": "u", "previousId": "v"},
        {"type": "track", "event": "Empty"},
    ]
    document = inferred(*messages).document("Log")
    plan = Plan.compile(document, compile_schema)
    assert [plan.check(message) for message in messages] == [()] * len(messages)
    text, _ = write_plan(document, Form.YAML)
    written = Plan.compile(parse_plan(text, "plan.yaml").document, compile_schema)
    assert [written.check(message) for message in messages] == [()] * len(messages)


def test_counts_and_types() -> None:
    section = properties_of(track("E", x=1), track("E", x=1.5), track("E", x=None), track("E"))
    assert section["properties"] == {
        "x": {"x-seen": {"count": 3, "types": {"integer": 1, "number": 1, "null": 1}}, "type": ["null", "number"]}
    }


def test_all_of_ten_messages_make_a_property_required() -> None:
    assert properties_of(*[track("E", x=1)] * 10)["required"] == ["x"]
    assert "required" not in properties_of(*[track("E", x=1)] * 9)
    assert "required" not in properties_of(*[track("E", x=1)] * 10, track("E"))


def test_no_value_is_kept() -> None:
    document = inferred(*[track("E", mail="jo@example.com", nested=[{"name": "Jo"}])] * 20).document("Log")
    assert "jo@example.com" not in write_plan(document, Form.YAML)[0]
    assert "'Jo'" not in repr(document)


def test_an_object_with_very_many_names_is_open() -> None:
    messages = [track("E", by_id={f"id-{number}": 1}) for number in range(300)]
    assert "properties" not in properties_of(*messages)["properties"]["by_id"]


def test_an_only_null_property_may_become_anything() -> None:
    assert "type" not in properties_of(track("E", x=None))["properties"]["x"]


def test_no_more_events_than_a_plan_may_have() -> None:
    inference = inferred(*(track(f"Event {number}") for number in range(MAX_RULES + 5)))
    assert (len(inference.document("Log").rules), inference.dropped) == (MAX_RULES, 5)
