"""A plan in force at intake: the answer to the client, the stored messages, and those kept as they were received."""

from __future__ import annotations

import json
import random

import pytest
from plan_helpers import ORDER, any_properties, any_schema, common, plan, rule, track
from support import KEY, RECEIVED_AT, RECEIVED_TEXT

from trackcore import Collector, JSONObject, MemorySink, Origin, Outcome, Receipt, Source, Track
from trackcore.plans import Controls, InvalidPlan, Plan, PlanInForce, TrackControls

STRICT = TrackControls(allow_unplanned_events=False, allow_unplanned_event_properties=False)
GOOD = track(order_id="o", revenue=1)
EXTRA = track(order_id="o", revenue=1, colour="red")
OTHER = track("Order completed")


def collector(checked: Plan, controls: Controls | None = None) -> tuple[Collector, MemorySink]:
    sink = MemorySink()
    ids = iter(range(100_000))
    return Collector(
        sources=[Source(name="website", write_keys=[KEY])],
        sink=sink,
        clock=lambda: RECEIVED_AT,
        new_message_id=lambda: f"id-{next(ids)}",
        plans={"website": PlanInForce(plan=checked, controls=controls or Controls())},
    ), sink


def received(controls: Controls | None, *messages: JSONObject) -> tuple[Receipt, MemorySink]:
    receiver, sink = collector(plan(), controls)
    return receiver.receive(json.dumps({"batch": messages, "writeKey": KEY}).encode()), sink


def stored(sink: MemorySink) -> list[JSONObject]:
    return [json.loads(envelope.payload) for envelope in sink.envelopes]


class TestByDefault:
    """Violations are warnings on the message, and are listed in `context.protocols`."""

    def test_a_message_as_planned_is_as_it_would_be_without_a_plan(self) -> None:
        _, sink = received(None, GOOD)
        plain = MemorySink()
        Collector(
            sources=[Source(name="website", write_keys=[KEY])],
            sink=plain,
            clock=lambda: RECEIVED_AT,
            new_message_id=lambda: "id-0",
        ).receive(json.dumps({"batch": [GOOD], "writeKey": KEY}).encode())
        assert sink.envelopes == plain.envelopes

    def test_a_violation_is_a_warning_and_in_the_context(self) -> None:
        receipt, sink = received(None, {**EXTRA, "context": {"ip": "::1", "protocols": {"event_version": 1}}})
        assert (receipt.accepted, receipt.rejections) == (1, [])
        (warning,) = sink.envelopes[0].warnings
        assert (warning.code, warning.path) == ("plan_unplanned_property", "properties.colour")
        (message,) = stored(sink)
        assert message["properties"] == EXTRA["properties"]
        assert message["context"] == {
            "ip": "::1",
            "protocols": {
                "event_version": 1,
                "violations": [
                    {
                        "type": "plan_unplanned_property",
                        "field": "properties.colour",
                        "description": "`colour` is not planned",
                        "rule": 'track "Order Completed"',
                    }
                ],
            },
        }

    def test_what_is_stored_with_a_message_is_bounded(self) -> None:
        _, sink = received(None, track(order_id="o", revenue=1, **{f"x{number}": 1 for number in range(500)}))
        assert len(sink.envelopes[0].warnings) == 10
        assert len(stored(sink)[0]["context"]["protocols"]["violations"]) == 10


class TestControls:
    """Omitted and blocked messages are kept as received."""

    def test_blocked(self) -> None:
        receipt, sink = received(Controls(track=STRICT), GOOD, OTHER, GOOD)
        assert [rejection.index for rejection in receipt.rejections] == [1]
        assert receipt.outcomes == [Outcome.STORED, Outcome.STORED]
        (record,) = sink.rejected
        assert (record.code, record.path, json.loads(record.payload)) == ("plan_blocked", "event", OTHER)
        assert record.message == "`Order completed` is not planned; did you mean `Order Completed`?"

    def test_omitted(self) -> None:
        receipt, sink = received(Controls(track=STRICT), EXTRA)
        assert (receipt.accepted, receipt.rejections) == (1, [])
        (message,) = stored(sink)
        assert message["properties"] == GOOD["properties"]
        assert message["context"]["protocols"]["omitted"] == ["properties.colour"]
        (record,) = sink.rejected
        assert (record.code, record.path, json.loads(record.payload)) == ("plan_omitted", "properties.colour", EXTRA)

    def test_of_too_many_wrong_properties_all_are_omitted(self) -> None:
        receiver, sink = collector(
            plan(rule("E", {"additionalProperties": {"type": "string"}})),
            Controls(track=TrackControls(allow_properties_on_violations=False)),
        )
        message = track("E", **{f"x{number}": number for number in range(1_000)})
        receipt = receiver.receive(json.dumps({"batch": [message], "writeKey": KEY}).encode())
        assert (receipt.accepted, receipt.rejections) == (1, [])
        (omitted,) = stored(sink)
        assert "properties" not in omitted
        assert omitted["context"]["protocols"]["omitted"] == ["properties"]
        assert json.loads(sink.rejected[0].payload) == message

    def test_the_record_of_an_omission_names_what_was_omitted(self) -> None:
        _, sink = received(Controls(track=STRICT), track(order_id="o", revenue="1", colour="red"))
        assert (sink.rejected[0].path, sink.rejected[0].message) == ("properties.colour", "`colour` is not planned")

    def test_numbers_keep_their_digits_when_another_value_is_omitted(self) -> None:
        receiver, sink = collector(plan(), Controls(track=STRICT))
        properties = b'{"order_id":"o","revenue":1.10,"x":1}'
        text = b'{"type":"track","userId":"u","event":"Order Completed","properties":%b}' % properties
        receiver.receive(b'{"writeKey":"%b","batch":[%b]}' % (KEY.encode(), text))
        assert b'"revenue":1.10' in sink.envelopes[0].payload

    def test_the_fields_of_the_batch_are_kept_with_the_record(self) -> None:
        receiver, sink = collector(plan(), Controls(track=STRICT))
        receiver.receive(json.dumps({"batch": [OTHER], "writeKey": KEY, "context": {"app": 1}}).encode())
        assert json.loads(sink.rejected[0].batch or b"") == {"context": {"app": 1}}

    def test_a_blocked_message_is_stored_when_it_is_received_again_under_another_plan(self) -> None:
        receiver, sink = collector(plan(), Controls(track=STRICT))
        receiver.receive(json.dumps({"batch": [OTHER], "writeKey": KEY}).encode())
        changed, _ = collector(
            plan(rule("Order Completed", ORDER), rule("Order completed", {})), Controls(track=STRICT)
        )
        receipt = changed.reprocess(
            sink.rejected[0].payload,
            record="rejected:1",
            endpoint="track",
            origin=Origin(header_key=KEY),
            received_at=RECEIVED_AT,
        )
        assert receipt.accepted == 1

    def test_a_message_made_in_process_is_held_against_the_plan(self) -> None:
        receiver, _ = collector(plan(), Controls(track=STRICT))
        receipt = receiver.submit(Track(user_id="u", event="Other"), source="website")
        assert [str(rejection.error.reason) for rejection in receipt.rejections] == ["plan_blocked"]


class TestRudderStack:
    """By option, `context.violationErrors` in RudderStack's shape: `{type, message, property, meta}`."""

    def errors_of(self, message: JSONObject, checked: Plan | None = None) -> list[JSONObject]:
        receiver, sink = collector(checked or plan(), Controls(violation_errors=True))
        receiver.receive(json.dumps({"batch": [message], "writeKey": KEY}).encode())
        errors: list[JSONObject] = stored(sink)[0]["context"]["violationErrors"]
        return errors

    def test_an_unplanned_event(self) -> None:
        (error,) = self.errors_of(OTHER)
        assert error == {
            "type": "Unplanned-Event",
            "message": "`Order completed` is not planned; did you mean `Order Completed`?",
            "property": "",
            "meta": {},
        }

    @pytest.mark.parametrize(
        ("properties", "kind", "name", "schema"),
        [
            ({"revenue": 1}, "Required-Missing", "order_id", "required"),
            ({"order_id": 1, "revenue": 1}, "Datatype-Mismatch", "order_id", "properties/order_id/type"),
            ({"order_id": "o", "revenue": -1}, "Advance-Rules-Violation", "revenue", "properties/revenue/minimum"),
            ({"order_id": "o", "revenue": 1, "x": 1}, "Additional-Properties", "x", "additionalProperties"),
        ],
    )
    def test_a_property(self, properties: JSONObject, kind: str, name: str, schema: str) -> None:
        (error,) = self.errors_of(track(**properties))
        assert (error["type"], error["property"]) == (kind, f"properties.{name}")
        place = f"/properties/{name}" if "properties/" in schema else "/properties"
        assert error["meta"] == {
            "instancePath": place,
            "instacePath": place,
            "schemaPath": f"#/properties/properties/{schema}",
            **({"missingProperty": name} if schema == "required" else {}),
        }

    def test_a_rule_for_all_messages(self) -> None:
        shared = common({"properties": {"properties": {"not": {"required": ["secret"]}}}, "required": ["channel"]})
        errors = self.errors_of(track("E", secret=1), plan(rule("E", {}), shared))
        assert [error["type"] for error in errors] == ["Required-Missing", "Unknown-Violation"]

    def test_by_default_there_are_none(self) -> None:
        _, sink = received(Controls(), OTHER)
        assert "violationErrors" not in stored(sink)[0]["context"]


class TestForwarding:
    """`forwardingViolationsTo` and `forwardingBlockedEventsTo` name other sources."""

    CONTROLS = Controls(track=STRICT, forwarding_violations_to="violations", forwarding_blocked_events_to="blocked")

    def send(self, *messages: JSONObject) -> tuple[Receipt, MemorySink]:
        sink = MemorySink()
        ids = iter(range(100_000))
        receiver = Collector(
            sources=[Source(name="website", write_keys=[KEY]), Source(name="violations"), Source(name="blocked")],
            sink=sink,
            clock=lambda: RECEIVED_AT,
            new_message_id=lambda: f"id-{next(ids)}",
            plans={"website": PlanInForce(plan=plan(), controls=self.CONTROLS)},
        )
        return receiver.receive(json.dumps({"batch": messages, "writeKey": KEY}).encode()), sink

    def test_each_violation_is_a_message(self) -> None:
        wrong = {**track(order_id="o", revenue="1"), "messageId": "m1", "context": {"app": {"version": "2"}}}
        receipt, sink = self.send(GOOD, wrong)
        assert (receipt.accepted, len(receipt.outcomes)) == (2, 2)
        (forwarded,) = [json.loads(envelope.payload) for envelope in sink.envelopes if envelope.source == "violations"]
        assert (forwarded["event"], forwarded["userId"]) == ("Violation Generated", "schema-violations")
        assert (forwarded["messageId"][:4], len(forwarded["messageId"])) == ("sch-", 36)
        assert forwarded["forwardedFromProject"] == "website"
        assert forwarded["properties"] == {
            "appVersion": "2",
            "eventMessageID": "m1",
            "eventName": "Order Completed",
            "eventTimestamp": RECEIVED_TEXT,
            "eventType": "track",
            "sourceID": "website",
            "sourceName": "website",
            "sourceSlug": "website",
            "trackingPlanName": "Shop",
            "violationDescription": '`properties.revenue` must be a number, found a string: "1"',
            "violationField": "properties.revenue",
            "violationType": "Type",
        }

    def test_a_blocked_message_arrives_elsewhere_with_its_id_and_times(self) -> None:
        other = {**OTHER, "messageId": "m1", "timestamp": "2026-01-01T00:00:00.000Z"}
        receipt, sink = self.send(other)
        assert receipt.accepted == 0
        (forwarded,) = [json.loads(envelope.payload) for envelope in sink.envelopes if envelope.source == "blocked"]
        assert (forwarded["messageId"], forwarded["timestamp"]) == ("m1", "2026-01-01T00:00:00.000Z")
        assert forwarded["event"] == OTHER["event"]

    def test_the_same_message_again_makes_duplicates(self) -> None:
        other = {**OTHER, "messageId": "m1"}
        assert self.send(other)[1].envelopes[0].message_id == self.send(other)[1].envelopes[0].message_id

    def test_a_source_that_does_not_exist(self) -> None:
        with pytest.raises(ValueError, match="the plan of 'website' needs a source named 'violations'"):
            collector(plan(), self.CONTROLS)


@pytest.mark.parametrize("seed", range(20))
def test_blocking_stores_nothing_among_the_messages_and_loses_nothing(seed: int) -> None:
    rng = random.Random(seed)
    try:
        checked = plan(rule("E", {**any_schema(rng), "type": "object"}))
    except InvalidPlan:
        pytest.skip("the schema that was drawn is invalid")
    everything = TrackControls(
        allow_unplanned_events=False, allow_event_on_violations=False, allow_unplanned_event_properties=False
    )
    receiver, sink = collector(checked, Controls(track=everything))
    messages = [track(rng.choice(["E", "F"]), **any_properties(rng)) for _ in range(50)]
    receipt = receiver.receive(json.dumps({"batch": messages, "writeKey": KEY}).encode())
    blocked = [record for record in sink.rejected if record.code == "plan_blocked"]
    assert len(sink.envelopes) + len(blocked) == len(messages)
    assert len(receipt.rejections) == len(blocked)
    assert all(not checked.check(message) for message in stored(sink))
    kept = [json.loads(record.payload) for record in blocked]
    assert all(message in messages and checked.check(message) for message in kept)
