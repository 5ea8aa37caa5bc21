from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import CALLS, any_bytes, contexts, integrations, odd_wire_messages, time_values, times, wire_messages
from support import (
    DESTINATIONS,
    KEY,
    RECEIVED_AT,
    RECEIVED_TEXT,
    SOURCE,
    accept,
    json_bytes,
    outcome,
    read_payload,
    reject,
    stored,
    strict_json,
    take_in,
    warned,
)

from trackcore import (
    Destination,
    Endpoint,
    IntakeResult,
    InvalidRequest,
    JSONObject,
    Limits,
    Origin,
    Reason,
    Source,
    WriteKey,
    correct_clock_skew,
    format_timestamp,
    merge_objects,
    parse_timestamp,
    structure_message,
    unstructure_message,
)
from trackcore.text.blanks import is_blank
from trackcore.timestamps import truncate_to_milliseconds

ENDPOINTS: tuple[Endpoint, ...] = (*CALLS, "batch")
PAGE = {"type": "page", "userId": "u"}
SERVER_FIELDS = {
    "type",
    "messageId",
    "timestamp",
    "originalTimestamp",
    "sentAt",
    "receivedAt",
    "context",
    "integrations",
}


def batches_of_anything() -> st.SearchStrategy[JSONObject]:
    """Return batches of good, odd and spoiled messages, with or without shared parts."""
    return st.fixed_dictionaries(
        {"batch": st.lists(odd_wire_messages(), max_size=5)},
        optional={
            "context": contexts(),
            "integrations": integrations(),
            "sentAt": time_values(),
            "writeKey": st.text(max_size=5),
            "messageId": st.text(),
            "timestamp": time_values(),
        },
    )


class TestContract:
    @given(any_bytes(), st.sampled_from(ENDPOINTS))
    def test_any_bytes_give_an_intake_or_invalid_request(self, body: bytes, endpoint: Endpoint) -> None:
        assert isinstance(outcome(lambda: take_in(body, endpoint=endpoint)), IntakeResult | InvalidRequest)

    @given(any_bytes(), st.sampled_from(ENDPOINTS))
    def test_what_is_stored_is_strict_json_without_a_write_key(self, body: bytes, endpoint: Endpoint) -> None:
        found = outcome(lambda: take_in(body, endpoint=endpoint, destinations=DESTINATIONS))
        if isinstance(found, IntakeResult):
            for envelope in found.envelopes:
                assert "writeKey" not in read_payload(envelope)

    @given(batches_of_anything())
    def test_accepted_and_rejected_add_up(self, body: JSONObject) -> None:
        intake = take_in(body)
        assert len(intake.envelopes) + len(intake.rejections) == len(body["batch"])

    @given(batches_of_anything())
    def test_a_rejection_holds_the_source_text_of_its_item(self, body: JSONObject) -> None:
        for rejection in take_in(body).rejections:
            assert strict_json(rejection.payload) == body["batch"][rejection.index]

    @given(batches_of_anything())
    def test_a_message_is_treated_the_same_among_others_as_alone(self, body: JSONObject) -> None:
        """One bad item never spoils its neighbours."""
        together = take_in(body)
        rejected = {rejection.index: rejection.error for rejection in together.rejections}
        accepted = iter(together.envelopes)
        for index, item in enumerate(body["batch"]):
            alone = take_in(body | {"batch": [item]})
            if index in rejected:
                assert [rejection.error for rejection in alone.rejections] == [rejected[index]]
            else:
                found, expected = read_payload(alone.envelopes[0]), read_payload(next(accepted))
                if str(expected["messageId"]).startswith("server-"):
                    del found["messageId"], expected["messageId"]
                assert found == expected

    @given(batches_of_anything())
    def test_the_envelope_says_what_the_message_says(self, body: JSONObject) -> None:
        for envelope in take_in(body, destinations=DESTINATIONS).envelopes:
            message = read_payload(envelope)
            assert envelope.source == SOURCE.name
            assert envelope.message_id == message["messageId"]
            assert envelope.call == message["type"]
            assert envelope.user_id == message.get("userId")
            assert envelope.anonymous_id == message.get("anonymousId")
            assert format_timestamp(envelope.received_at) == message["receivedAt"]

    @given(batches_of_anything())
    def test_what_is_stored_can_be_read_as_a_typed_message(self, body: JSONObject) -> None:
        for envelope in take_in(body).envelopes:
            message = read_payload(envelope)
            assert unstructure_message(structure_message(json.loads(envelope.payload))) == message

    @given(wire_messages())
    def test_receiving_what_was_stored_changes_only_times(self, item: JSONObject) -> None:
        once = stored(item)
        again = stored(dict(once))
        for name in ("timestamp", "originalTimestamp"):
            once.pop(name, None)
            again.pop(name, None)
        assert again == once

    @given(wire_messages())
    def test_everything_else_is_kept_as_it_was_sent(self, item: JSONObject) -> None:
        message = stored(item)
        for name, value in item.items():
            if name in ("context", "integrations", "properties", "traits") and not value:
                assert not message.get(name)
            elif name == "userId":
                assert message[name] == str(value)
            elif name == "anonymousId":
                assert message.get(name) == (None if value is None or is_blank(value) else value)
            elif name not in SERVER_FIELDS | {"writeKey"}:
                assert message[name] == value
        assert message.keys() <= item.keys() | SERVER_FIELDS

    @given(wire_messages(), contexts())
    def test_what_is_stored_is_no_longer_than_what_was_sent_and_the_added_fields(
        self, item: JSONObject, context: JSONObject
    ) -> None:
        """Added are the server's own times and id, the times of the envelope, and the shared context."""
        payload = accept(item, context=context, sentAt=RECEIVED_TEXT).payload
        sent = json_bytes(item)
        message = strict_json(payload)
        added = {name: message[name] for name in SERVER_FIELDS & message.keys()}
        assert len(payload) <= len(sent) + len(json_bytes(added)) + len(json_bytes(context)) + len('"context":,""')


class TestOrderOfSteps:
    def test_the_smallest_message(self) -> None:
        assert stored(PAGE) == {
            "type": "page",
            "userId": "u",
            "messageId": "server-1",
            "timestamp": RECEIVED_TEXT,
            "receivedAt": RECEIVED_TEXT,
        }

    def test_everything_at_once(self) -> None:
        envelope = accept(
            {
                "type": "track",
                "userId": 12345,
                "event": "Paid",
                "messageId": "m",
                "timestamp": "2020-01-01T10:59:58.000Z",
                "context": {"device": {"name": "iPhone"}},
                "integrations": {"Mixpanel": {"a": 1}},
                "writeKey": "other",
                "receivedAt": "1999-01-01T00:00:00Z",
            },
            destinations=DESTINATIONS,
            context={"device": {"type": "phone"}, "direct": True},
            integrations={"All": False},
            sentAt="2020-01-01T11:00:00.000Z",
        )
        assert read_payload(envelope) == {
            "type": "track",
            "userId": "12345",
            "event": "Paid",
            "messageId": "m",
            "timestamp": "2020-01-01T11:59:58.500Z",
            "originalTimestamp": "2020-01-01T10:59:58.000Z",
            "sentAt": "2020-01-01T11:00:00.000Z",
            "receivedAt": RECEIVED_TEXT,
            "context": {"device": {"name": "iPhone", "type": "phone"}, "direct": True},
            "integrations": {"All": False, "Mixpanel": {"a": 1}},
        }
        assert envelope.destinations == ("Mixpanel",)
        assert warned(envelope) == ["id_from_number", "write_key_mismatch"]

    def test_the_age_that_decides_is_that_of_the_corrected_time(self) -> None:
        """The client's clock is ten days behind; the message is a second old."""
        destination = Destination(name="Mixpanel", max_age=timedelta(days=5))
        times = {"timestamp": "2019-12-22T12:00:00Z", "sentAt": "2019-12-22T12:00:01Z"}
        assert accept(PAGE | times, destinations=[destination]).destinations == ("Mixpanel",)
        del times["sentAt"]
        assert accept(PAGE | times, destinations=[destination]).destinations == ()

    def test_reception_is_reported_in_utc_and_cut_to_milliseconds(self) -> None:
        local = datetime(2020, 1, 1, 13, 0, 0, 500_999, tzinfo=timezone(timedelta(hours=1)))
        intake = take_in({"batch": [PAGE]}, received_at=local)
        assert intake.received_at == RECEIVED_AT
        assert intake.received_at.tzinfo is UTC
        assert intake.envelopes[0].received_at == RECEIVED_AT
        assert read_payload(intake.envelopes[0])["receivedAt"] == RECEIVED_TEXT

    def test_ids_are_made_only_where_they_are_needed(self) -> None:
        bodies = [PAGE, PAGE | {"messageId": "own"}, 5, PAGE | {"messageId": ""}, PAGE | {"messageId": None}]
        ids = [envelope.message_id for envelope in take_in({"batch": bodies}).envelopes]
        assert ids == ["server-1", "own", "server-2", "server-3"]

    @given(st.lists(time_values(), min_size=2, max_size=4))
    def test_one_message_s_time_of_sending_is_not_another_s(self, values: list[Any]) -> None:
        """The last time read is remembered, which must not be seen."""
        items = [PAGE | {"sentAt": value, "timestamp": "2020-01-01T00:00:00Z"} for value in values]
        together = [read_payload(envelope)["timestamp"] for envelope in take_in({"batch": items}).envelopes]
        assert together == [stored(item)["timestamp"] for item in items]


class TestMerge:
    @given(st.lists(contexts(), max_size=3), contexts(), st.lists(integrations(), max_size=3), integrations())
    def test_shared_parts_lie_under_those_of_each_message(
        self, own: list[JSONObject], shared: JSONObject, flags: list[JSONObject], shared_flags: JSONObject
    ) -> None:
        items = [PAGE | {"context": context, "integrations": flag} for context, flag in zip(own, flags, strict=False)]
        intake = take_in({"batch": items, "context": shared, "integrations": shared_flags})
        for item, envelope in zip(items, intake.envelopes, strict=True):
            message = read_payload(envelope)
            assert message["context"] == merge_objects(shared, item["context"])  # type: ignore[arg-type]
            assert message["integrations"] == merge_objects(shared_flags, item["integrations"])  # type: ignore[arg-type]

    def test_one_message_never_sees_the_context_of_another(self) -> None:
        items = [PAGE | {"context": {"app": {"name": "a"}}}, PAGE, PAGE | {"context": {"app": {"build": 1}}}]
        intake = take_in({"batch": items, "context": {"app": {"version": 1}, "direct": True}}, origin=DEVICE)
        assert [read_payload(envelope)["context"]["app"] for envelope in intake.envelopes] == [
            {"version": 1, "name": "a"},
            {"version": 1},
            {"version": 1, "build": 1},
        ]


DEVICE = Origin(header_key=KEY, client_ip="203.0.113.7", client_side=True)


class TestWriteKey:
    APP = Source(name="app", write_keys=["in-body"])
    SOURCES = (SOURCE, APP)

    def source_of(self, body: JSONObject, origin: Origin, endpoint: Endpoint = "batch") -> str | None:
        intake = take_in(body, origin=origin, sources=self.SOURCES, endpoint=endpoint)
        return intake.source.name if intake.source else None

    def test_the_header_wins(self) -> None:
        assert self.source_of({"batch": [], "writeKey": "in-body"}, Origin(header_key=KEY)) == "website"

    def test_then_the_body(self) -> None:
        assert self.source_of({"batch": [], "writeKey": "in-body"}, Origin(query_key=KEY)) == "app"

    def test_then_the_first_item_that_has_one(self) -> None:
        items = [5, {"writeKey": ""}, {"writeKey": "in-body"}, {"writeKey": KEY}]
        assert self.source_of({"batch": items}, Origin(query_key=KEY)) == "app"

    def test_the_envelope_comes_before_the_items(self) -> None:
        assert self.source_of({"writeKey": "in-body", "batch": [{"writeKey": KEY}]}, Origin()) == "app"

    def test_then_the_query(self) -> None:
        assert self.source_of({"batch": [PAGE]}, Origin(query_key=KEY)) == "website"

    def test_a_single_message_may_carry_it(self) -> None:
        assert self.source_of(PAGE | {"writeKey": "in-body"}, Origin(), "page") == "app"

    def test_a_key_of_nobody_hides_no_key_behind_it(self) -> None:
        """A header may be meant for somebody else: the first key that belongs to a source counts."""
        foreign = WriteKey("staging")
        for body, origin in (
            ({"batch": [], "writeKey": "in-body"}, Origin(header_key=foreign)),
            ({"batch": [], "writeKey": "wrong"}, Origin(header_key=foreign, other_header_key=WriteKey("in-body"))),
            ({"batch": [{"writeKey": "old"}, {"writeKey": "in-body"}], "writeKey": "wrong"}, Origin()),
            ({"batch": [{"writeKey": "old"}]}, Origin(header_key=foreign, query_key=WriteKey("in-body"))),
        ):
            assert self.source_of(body, origin) == "app"

    @given(
        st.lists(st.none() | st.sampled_from(["wrong", "old", KEY, "in-body"]).map(WriteKey), min_size=6, max_size=6)
    )
    def test_the_first_known_key_counts_or_else_one_is_kept(self, keys: list[WriteKey | None]) -> None:
        """For any keys in any places: the source of the first known one; without one, one from a place for write keys
        alone is kept, and of these one that is not kept with the body; and each message warns of it when the keys
        before its place differ.
        """
        first, second, envelope, one, other, query = keys
        body = {"batch": [PAGE | {"writeKey": one}, PAGE | {"writeKey": other}], "writeKey": envelope}
        origin = Origin(
            header_key=first,
            other_header_key=second,
            query_key=query,
        )
        intake = take_in(body, origin=origin, sources=self.SOURCES)
        named = [key for key in keys if key is not None]
        known = [key for key in named if key in (KEY, "in-body")]
        to_keep = [key for key in (second, query, envelope, one, other, first) if key is not None]
        assert intake.write_key == next(iter(known or to_keep), None)
        assert (intake.source and intake.source.write_keys[0]) == next(iter(known), None)
        for envelope_of, own in zip(intake.envelopes, (one, other), strict=False):
            outside = {first, second, envelope, query, own} - {None}
            assert warned(envelope_of) == (["write_key_mismatch"] if outside - {known[0]} else [])

    def test_without_a_source_nothing_is_looked_at_but_the_key(self) -> None:
        intake = take_in({"batch": [PAGE, 5], "writeKey": "wrong"}, origin=Origin())
        assert intake == IntakeResult(source=None, write_key=WriteKey("wrong"), received_at=RECEIVED_AT)

    @pytest.mark.parametrize(
        ("item_key", "envelope_key", "expected"),
        [
            (KEY, KEY, []),
            ("other", KEY, ["write_key_mismatch"]),
            (KEY, "other", ["write_key_mismatch"]),
            ("other", "other", ["write_key_mismatch"]),
            (None, None, []),
            ("", "", []),
        ],
    )
    def test_another_key_in_the_body_is_a_warning(
        self, item_key: str | None, envelope_key: str | None, expected: list[str]
    ) -> None:
        """Null and the empty text name no key at all."""
        envelope = accept(PAGE | {"writeKey": item_key}, writeKey=envelope_key)
        assert warned(envelope) == expected
        assert "writeKey" not in read_payload(envelope)


class TestIp:
    DIRECT = PAGE | {"context": {"direct": True}}
    SERVER = Origin(header_key=KEY, client_ip="203.0.113.7")

    @pytest.mark.parametrize(
        ("item", "origin", "ip"),
        [
            (PAGE, DEVICE, "203.0.113.7"),
            (PAGE, SERVER, None),
            (DIRECT, SERVER, "203.0.113.7"),
            (PAGE | {"context": {"direct": False}}, SERVER, None),
            (PAGE | {"context": {"direct": "true"}}, SERVER, None),
            (PAGE | {"context": {"direct": 1}}, SERVER, None),
            (PAGE | {"context": {"ip": "0.0.0.0"}}, DEVICE, "0.0.0.0"),
            (PAGE | {"context": {"ip": None}}, DEVICE, None),
            (PAGE | {"context": {"ip": "198.51.100.1", "direct": True}}, SERVER, "198.51.100.1"),
            (DIRECT, Origin(header_key=KEY), None),
            (PAGE, Origin(header_key=KEY, client_side=True), None),
        ],
    )
    def test_when_it_is_filled(self, item: JSONObject, origin: Origin, ip: str | None) -> None:
        assert stored(item, origin=origin).get("context", {}).get("ip") == ip

    def test_the_rest_of_the_context_stays(self) -> None:
        assert stored(self.DIRECT, origin=self.SERVER, context={"app": 1})["context"] == {
            "app": 1,
            "direct": True,
            "ip": "203.0.113.7",
        }


class TestRejections:
    def test_it_has_index_id_and_reason(self) -> None:
        intake = take_in({"batch": [PAGE, {"type": "page", "messageId": "m"}, PAGE]})
        (rejection,) = intake.rejections
        assert (rejection.index, rejection.message_id) == (1, "m")
        assert rejection.error.reason is Reason.NO_USER_ANON_ID
        assert rejection.payload == b'{"type":"page","messageId":"m"}'

    def test_the_payload_is_the_text_as_received(self) -> None:
        body = b'{"batch":[ {"type" : "page",\r\n"n":1.0E1} ]}'
        assert take_in(body).rejections[0].payload == b'{"type" : "page",\r\n"n":1.0E1}'

    @pytest.mark.parametrize("value", [None, True, [], {}])
    def test_an_id_that_is_no_text_is_not_repeated(self, value: Any) -> None:
        assert reject({"type": "page", "messageId": value}).message_id is None

    @pytest.mark.parametrize(("value", "text"), [(5, "5"), (2**70, str(2**70)), (1.5, "1.5"), (10.0, "10")])
    def test_a_numeric_id_is_repeated_as_its_decimal_text(self, value: Any, text: str) -> None:
        assert reject({"type": "page", "messageId": value}).message_id == text

    @pytest.mark.parametrize("broken", [b'"\\ud800"', b"[" * 3_000 + b"]" * 3_000], ids=["a surrogate", "too deep"])
    def test_the_id_of_a_message_that_had_to_be_repaired(self, broken: bytes) -> None:
        """R3: `rejected: [{index, messageId, ...}]`, by which a client knows which of its messages is meant."""
        item = b'{"type":"track","messageId":"m","properties":{"a":%b}}' % broken
        for limits in (Limits(), Limits(batch_messages=1)):
            rejections = take_in(b'{"batch":[%b]}' % b",".join([item] * 2), limits=limits).rejections
            assert [(rejection.message_id, rejection.payload) for rejection in rejections] == [("m", item)] * 2

    def test_a_bad_shared_part_is_reported_with_each_message(self) -> None:
        intake = take_in({"batch": [PAGE, PAGE], "context": "x"})
        assert [rejection.error.path for rejection in intake.rejections] == ["context", "context"]
        assert [rejection.error.reason for rejection in intake.rejections] == [Reason.CONTEXT_NOT_OBJECT] * 2

    @pytest.mark.parametrize(("count", "expected"), [(2, []), (3, [2]), (4, [2, 3]), (5, [2, 3]), (9, [2, 3])])
    def test_the_excess_of_a_batch_is_reported_within_bounds(self, count: int, expected: list[int]) -> None:
        """As many again are listed one by one, and the last of them represents all the rest."""
        items = [PAGE | {"messageId": str(number)} for number in range(count)]
        intake = take_in({"batch": items}, limits=Limits(batch_messages=2))
        assert [envelope.message_id for envelope in intake.envelopes] == ["0", "1"]
        assert [rejection.index for rejection in intake.rejections] == expected
        kept: list[JSONObject] = []
        for rejection in intake.rejections:
            payload = strict_json(rejection.payload)
            kept += payload if isinstance(payload, list) else [payload]
            assert rejection.error.reason is Reason.TOO_MANY_MESSAGES
            assert (rejection.error.limit, rejection.error.actual) == (2, count)
        assert kept == items[2:]


class TestTimes:
    @given(time_values(), time_values(), time_values())
    def test_any_times_are_survived_and_the_results_are_times(
        self, timestamp: Any, sent_at: Any, original: Any
    ) -> None:
        message = stored(
            PAGE | {"timestamp": timestamp, "originalTimestamp": original, "receivedAt": 5}, sentAt=sent_at
        )
        for name in ("timestamp", "receivedAt"):
            time = parse_timestamp(message[name])
            assert time is not None
            assert format_timestamp(time) == message[name]
        assert message["receivedAt"] == RECEIVED_TEXT
        for name in ("originalTimestamp", "sentAt"):
            assert isinstance(message.get(name, "x"), str)

    @given(times(), times() | st.none(), times() | st.none())
    def test_the_rule_is_that_of_the_explanation(
        self, received: datetime, sent: datetime | None, original: datetime | None
    ) -> None:
        intake = take_in(
            {"batch": [PAGE | {"timestamp": original and original.isoformat()}], "sentAt": sent and sent.isoformat()},
            received_at=received,
        )
        received = truncate_to_milliseconds(received)
        expected = correct_clock_skew(received_at=received, sent_at=sent, original_timestamp=original).timestamp
        assert read_payload(intake.envelopes[0])["timestamp"] == format_timestamp(expected)

    def test_original_timestamp_stands_in_for_timestamp(self) -> None:
        """RudderStack's Node SDK sends it instead."""
        message = stored(PAGE | {"originalTimestamp": "2019-12-31T00:00:00+01:00"})
        assert message["originalTimestamp"] == "2019-12-31T00:00:00+01:00"
        assert message["timestamp"] == "2019-12-30T23:00:00.000Z"

    def test_timestamp_comes_before_original_timestamp(self) -> None:
        message = stored(PAGE | {"timestamp": "2019-12-31T00:00:00Z", "originalTimestamp": "2018-01-01T00:00:00Z"})
        assert message["originalTimestamp"] == "2019-12-31T00:00:00Z"
