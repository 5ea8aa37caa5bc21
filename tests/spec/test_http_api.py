"""The rules of https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/, one class for each."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from strategies import CALLS
from support import (
    DESTINATIONS,
    RECEIVED_TEXT,
    accept,
    json_bytes,
    make_collector,
    read_payload,
    reject,
    stored,
    take_in,
    warned,
)

from trackcore import (
    Call,
    Destination,
    Endpoint,
    InvalidRequest,
    JSONObject,
    MemorySink,
    Origin,
    Outcome,
    Reason,
    WriteKey,
    parse_timestamp,
)

EXAMPLES = json.loads((Path(__file__).parents[1] / "vectors" / "api-page-examples.json").read_text(encoding="utf-8"))
PAGE: JSONObject = {"type": "page", "userId": "u"}


def example(section: str) -> JSONObject:
    """Return the example request of a section of the API page."""
    (body,) = [found["body"] for found in EXAMPLES if found["section"] == section]
    assert isinstance(body, dict)
    return body


def padded(size: int, **fields: Any) -> bytes:
    """Return a page message of exactly so many bytes."""
    message = json_bytes(PAGE | fields | {"name": ""})
    return message.replace(b'"name":""', b'"name":"' + b"x" * (size - len(message)) + b'"')


class TestExamplesOfTheApiPage:
    """The eight example requests of the page are valid requests."""

    def test_there_are_eight(self) -> None:
        assert len(EXAMPLES) == 8

    @pytest.mark.parametrize("given", EXAMPLES, ids=lambda given: given["section"])
    def test_each_is_accepted_whole(self, given: JSONObject) -> None:
        intake = take_in(given["body"], endpoint=given["call"])
        items: list[JSONObject] = given["body"].get("batch", [given["body"]])
        assert intake.rejections == []
        assert [warned(envelope) for envelope in intake.envelopes] == [[]] * len(items)

    @pytest.mark.parametrize("given", EXAMPLES, ids=lambda given: given["section"])
    def test_each_message_is_stored_as_it_was_sent(self, given: JSONObject) -> None:
        """The server adds an id and times; a batch adds its context."""
        body = given["body"]
        shared = {"context": body["context"]} if "batch" in body else {}
        items: list[JSONObject] = body.get("batch", [body])
        for number, envelope in enumerate(take_in(body, endpoint=given["call"]).envelopes):
            item = items[number]
            message = read_payload(envelope)
            added = {"type", "messageId", "originalTimestamp", "receivedAt", "context"}
            assert message.keys() == item.keys() | (added if shared or "context" in item else added - {"context"})
            assert message | shared | item == message | {"timestamp": item["timestamp"]}
            assert message["type"] == item.get("type", given["call"])
            assert message["messageId"] == f"server-{number + 1}"
            assert message["originalTimestamp"] == item["timestamp"]
            assert parse_timestamp(message["timestamp"]) == parse_timestamp(item["timestamp"])
            assert message["receivedAt"] == RECEIVED_TEXT

    def test_the_batch_has_dates_with_one_digit_months(self) -> None:
        """`2015-2-02T00:30:08.276Z` is in the batch example twice, and must be parsed."""
        messages = [read_payload(envelope) for envelope in take_in(example("Batch")).envelopes]
        assert [(message["originalTimestamp"], message["timestamp"]) for message in messages[2:]] == [
            ("2015-2-02T00:30:08.276Z", "2015-02-02T00:30:08.276Z"),
            ("2015-2-02T00:30:12.984Z", "2015-02-02T00:30:12.984Z"),
        ]

    def test_selecting_destinations(self) -> None:
        envelope = accept({"type": "identify", **example("Selecting Destinations")}, destinations=DESTINATIONS)
        assert envelope.destinations == ("Mixpanel", "KISSmetrics")


class TestPartialAcceptance:
    """The page: "Only messages without errors were published", where one or more in a batch had an error.

    https://segment.com/docs/connections/delivery-overview/#discarded-events (`multi_user_error`)
    """

    def test_one_bad_item_never_fails_its_neighbours(self) -> None:
        items: list[Any] = [PAGE, None, PAGE, 1, "x", [], {}, PAGE, {"type": "Page", "userId": "u"}]
        intake = take_in({"batch": items})
        assert len(intake.envelopes) == 3
        assert [(rejection.index, rejection.error.reason) for rejection in intake.rejections] == [
            (1, Reason.MESSAGE_NOT_OBJECT),
            (3, Reason.MESSAGE_NOT_OBJECT),
            (4, Reason.MESSAGE_NOT_OBJECT),
            (5, Reason.MESSAGE_NOT_OBJECT),
            (6, Reason.NO_TYPE),
            (8, Reason.UNKNOWN_TYPE),
        ]

    def test_an_oversized_item_is_one_of_them(self) -> None:
        body = b'{"batch":[' + padded(32_769) + b"," + json_bytes(PAGE) + b"]}"
        intake = take_in(body)
        assert [rejection.error.reason for rejection in intake.rejections] == [Reason.MESSAGE_TOO_LARGE]
        assert len(intake.envelopes) == 1

    def test_an_empty_batch_is_fine(self) -> None:
        intake = take_in(b'{"batch":[]}')
        assert (list(intake.envelopes), list(intake.rejections)) == ([], [])


class TestMaximumRequestSize:
    """The page: "There is a maximum of 500KB per batch request, and 32KB per call."

    Counted in bytes, of the text as sent, and a size equal to its limit is allowed.
    .../http-api/#max-request-size
    """

    def test_a_request_of_512_kib(self) -> None:
        body = json_bytes({"batch": [], "x": "y" * 524_288})
        body = body.replace(b"y" * (len(body) - 524_288), b"", 1)
        assert len(body) == 524_288
        assert take_in(body).source is not None
        with pytest.raises(InvalidRequest) as caught:
            take_in(body + b" ")
        assert caught.value.reason is Reason.BODY_TOO_LARGE
        assert (caught.value.limit, caught.value.actual) == (524_288, 524_289)

    def test_an_item_of_32_kib(self) -> None:
        assert accept(padded(32_768))
        error = reject(padded(32_769)).error
        assert error.reason is Reason.MESSAGE_TOO_LARGE
        assert (error.limit, error.actual) == (32_768, 32_769)

    def test_a_single_call_of_32_kib(self) -> None:
        """Here the message is the request, so the request is rejected."""
        assert take_in(padded(32_768), endpoint="page").envelopes
        with pytest.raises(InvalidRequest) as caught:
            take_in(padded(32_769), endpoint="page")
        assert caught.value.reason is Reason.MESSAGE_TOO_LARGE
        assert (caught.value.limit, caught.value.actual) == (32_768, 32_769)

    def test_space_around_a_message_does_not_count(self) -> None:
        assert accept(b"  " + padded(32_768) + b"  ")
        assert take_in(b"  " + padded(32_768) + b"  ", endpoint="page").envelopes

    def test_bytes_count_and_not_characters(self) -> None:
        text = padded(32_768)
        assert accept(text.replace(b"xx", "é".encode()))
        assert reject(text.replace(b"x", "é".encode(), 1)).error.actual == 32_769

    def test_what_the_server_adds_does_not_count(self) -> None:
        assert accept(padded(32_768), context={"a": "x" * 1000}, sentAt=RECEIVED_TEXT)


class TestBatchCount:
    """A batch may hold 2,500 events; the API answers 200, "but rejects the event" that exceeds the limit."""

    def test_2500_messages_are_accepted(self) -> None:
        intake = take_in({"batch": [PAGE] * 2500})
        assert (len(intake.envelopes), len(intake.rejections)) == (2500, 0)

    def test_the_2501st_is_rejected_and_the_rest_accepted(self) -> None:
        intake = take_in({"batch": [PAGE] * 2501})
        assert len(intake.envelopes) == 2500
        assert [(rejection.index, rejection.error.reason) for rejection in intake.rejections] == [
            (2500, Reason.TOO_MANY_MESSAGES)
        ]


class TestMessageIdLength:
    """The page: a messageId is "limited to 100 characters". https://segment.com/docs/connections/spec/common/"""

    @pytest.mark.parametrize("char", ["x", "é", "\U0001f600"])
    def test_100_characters_are_allowed_and_101_are_not(self, char: str) -> None:
        assert accept(PAGE | {"messageId": char * 100}).message_id == char * 100
        error = reject(PAGE | {"messageId": char * 101}).error
        assert error.reason is Reason.MESSAGE_ID_TOO_LONG
        assert (error.path, error.limit, error.actual) == ("messageId", 100, 101)


class TestDepth:
    """Objects and arrays nest at most 64 levels below a message (a rule of trackcore: the documentation has none)."""

    @pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}"), (b'[{"a":', b"}]")])
    def test_64_levels_are_allowed_and_65_are_not(self, opening: bytes, closing: bytes) -> None:
        levels = 64 // len(closing)
        inside = opening * levels + b"1" + closing * levels
        assert accept(b'{"type":"page","userId":"u","x":' + inside + b"}")
        rejection = reject(b'{"type":"page","userId":"u","x":[' + inside + b"]}")
        assert (rejection.error.reason, rejection.error.limit) == (Reason.TOO_DEEP, 64)

    @pytest.mark.parametrize("field", ["properties", "context", "integrations", "_metadata"])
    @pytest.mark.parametrize("levels", [5, 6, 7, 8, 63])
    def test_so_it_is_in_every_field(self, field: str, levels: int) -> None:
        message = b'{"type":"page","userId":"u","%s":{"Mixpanel":%s}}'
        inside = b'{"a":' * levels + b"1" + b"}" * levels
        envelope = accept(message % (field.encode(), inside))
        assert msgspec.json.encode(read_payload(envelope)[field]["Mixpanel"]) == inside
        too_deep = b"[" * 64 + b"]" * 64
        rejection = reject(message % (field.encode(), too_deep))
        assert (rejection.error.reason, rejection.error.limit) == (Reason.TOO_DEEP, 64)

    def test_a_single_call_that_is_too_deep_is_a_bad_message_and_not_a_bad_request(self) -> None:
        body = b'{"userId":"u","x":' + b"[" * 5000 + b"]" * 5000 + b"}"
        intake = take_in(body, endpoint="page")
        assert [rejection.error.reason for rejection in intake.rejections] == [Reason.TOO_DEEP]

    def test_the_neighbours_of_a_message_that_is_too_deep_are_accepted(self) -> None:
        deep = b'{"type":"page","userId":"u","x":' + b"[" * 5000 + b"]" * 5000 + b"}"
        intake = take_in(b'{"batch":[' + json_bytes(PAGE) + b"," + deep + b"," + json_bytes(PAGE) + b"]}")
        assert len(intake.envelopes) == 2
        assert [rejection.index for rejection in intake.rejections] == [1]


class TestType:
    """In a batch "each call must have an `type` property with a valid method name"; else the path names the call."""

    @pytest.mark.parametrize("call", CALLS)
    @pytest.mark.parametrize("said", [None, "track", "Track", "batch", 5, {}])
    def test_the_path_decides_on_single_calls(self, call: Call, said: Any) -> None:
        body = {"type": said, "userId": "u", "event": "e", "groupId": "g", "previousId": "p"}
        (envelope,) = take_in(body, endpoint=call).envelopes
        assert (envelope.call, read_payload(envelope)["type"]) == (call, call)

    @pytest.mark.parametrize("call", CALLS)
    def test_every_call_may_stand_in_a_batch(self, call: Call) -> None:
        """The page forgets alias; every SDK sends it."""
        assert accept({"type": call, "userId": "u", "event": "e", "groupId": "g", "previousId": "p"}).call == call

    @pytest.mark.parametrize("item", [{}, {"type": None}])
    def test_in_a_batch_it_is_required(self, item: JSONObject) -> None:
        error = reject(item | {"userId": "u"}).error
        assert (error.reason, error.path) == (Reason.NO_TYPE, "type")

    @pytest.mark.parametrize("said", ["", "Track", "TRACK", " track", "batch", "event", "merge", 5, True, [], {}])
    def test_it_is_one_of_six_names(self, said: Any) -> None:
        error = reject({"type": said, "userId": "u", "event": "e"}).error
        assert (error.reason, error.path) == (Reason.UNKNOWN_TYPE, "type")


class TestBatchMerging:
    """The page: the `context` and `integrations` of a batch "will be merged with" those inside each of its items."""

    def test_the_example_of_the_page(self) -> None:
        """A device in the batch and an ip in the item both survive."""
        message = stored(PAGE | {"context": {"ip": "24.5.68.47"}}, context=example("Batch")["context"])
        assert message["context"] == {"device": {"type": "phone", "name": "Apple iPhone 6"}, "ip": "24.5.68.47"}

    @pytest.mark.parametrize(
        ("shared", "own", "merged"),
        [
            ({"device": {"type": "phone"}}, {"device": {"name": "x"}}, {"device": {"type": "phone", "name": "x"}}),
            ({"ip": "1.1.1.1"}, {"ip": "2.2.2.2"}, {"ip": "2.2.2.2"}),
            ({"ip": "1.1.1.1"}, {"ip": None}, {"ip": None}),
            ({"tags": [1, 2]}, {"tags": [3]}, {"tags": [3]}),
            ({"ip": "1.1.1.1"}, None, {"ip": "1.1.1.1"}),
            ({"ip": "1.1.1.1"}, [], {"ip": "1.1.1.1"}),
            (None, {"ip": "2.2.2.2"}, {"ip": "2.2.2.2"}),
            ([], {"ip": "2.2.2.2"}, {"ip": "2.2.2.2"}),
        ],
    )
    def test_objects_are_merged_and_the_item_wins(self, shared: Any, own: Any, merged: JSONObject) -> None:
        assert stored(PAGE | {"context": own}, context=shared)["context"] == merged

    def test_integrations_are_merged_by_name(self) -> None:
        envelope = accept(
            PAGE | {"integrations": {"Mixpanel": True, "KISSmetrics": {"a": 1}}},
            integrations={"All": False, "Mixpanel": False, "KISSmetrics": {"b": 2}},
            destinations=DESTINATIONS,
        )
        assert read_payload(envelope)["integrations"] == {
            "All": False,
            "Mixpanel": True,
            "KISSmetrics": {"a": 1, "b": 2},
        }
        assert envelope.destinations == ("Mixpanel", "KISSmetrics")

    def test_the_id_and_the_time_of_the_envelope_are_not_the_items(self) -> None:
        """Go and .NET send an envelope `messageId`: as the id of each item it would make them duplicates."""
        intake = take_in({"batch": [PAGE, PAGE], "messageId": "m", "timestamp": "2012-12-02T00:00:00Z"})
        messages = [read_payload(envelope) for envelope in intake.envelopes]
        assert [message["messageId"] for message in messages] == ["server-1", "server-2"]
        assert [message["timestamp"] for message in messages] == [RECEIVED_TEXT] * 2

    def test_the_time_of_sending_is_unless_an_item_has_its_own(self) -> None:
        intake = take_in({"batch": [PAGE, PAGE | {"sentAt": "own"}, PAGE | {"sentAt": None}], "sentAt": "shared"})
        sent = [read_payload(envelope)["sentAt"] for envelope in intake.envelopes]
        assert sent == ["shared", "own", "shared"]


class TestSelectingDestinations:
    """`All` is the default for destinations that are not named, and "destination flags are case sensitive".

    .../http-api/#selecting-destinations
    """

    @pytest.mark.parametrize(
        ("flags", "selected", "warnings"),
        [
            (None, "Mixpanel KISSmetrics", []),
            ({}, "Mixpanel KISSmetrics", []),
            ({"All": True}, "Mixpanel KISSmetrics", []),
            ({"All": False}, "", []),
            ({"All": False, "Mixpanel": True}, "Mixpanel", []),
            ({"Mixpanel": False}, "KISSmetrics", []),
            ({"All": False, "Mixpanel": {"id": 1}}, "Mixpanel", []),
            ({"All": False, "Mixpanel": {}}, "Mixpanel", []),
            ({"All": True, "Salesforce": False}, "Mixpanel KISSmetrics", []),
            ({"All": None}, "Mixpanel KISSmetrics", ["integration_ignored"]),
            ({"All": False, "Mixpanel": None}, "", ["integration_ignored"]),
            ({"All": False, "Mixpanel": "true"}, "", ["integration_ignored"]),
            ({"Mixpanel": 0}, "Mixpanel KISSmetrics", ["integration_ignored"]),
            ({"all": False}, "Mixpanel KISSmetrics", ["integration_case"]),
            ({"All": False, "Kissmetrics": True}, "", ["integration_case"]),
        ],
    )
    def test_what_is_selected(self, flags: Any, selected: str, warnings: list[str]) -> None:
        destinations = [Destination(name="Mixpanel"), Destination(name="KISSmetrics")]
        envelope = accept(PAGE | {"integrations": flags}, destinations=destinations)
        assert envelope.destinations == tuple(selected.split())
        assert warned(envelope) == warnings

    def test_the_object_is_stored_as_it_was_sent(self) -> None:
        flags = {"All": None, "mixpanel": 5, "Mixpanel": {"a": [1]}}
        assert stored(PAGE | {"integrations": flags})["integrations"] == flags

    def test_a_destination_may_refuse_old_messages(self) -> None:
        """Historical import: not every destination accepts events of the past."""
        picky = Destination(name="Mixpanel", max_age=timedelta(days=5))
        old, new = "2019-12-27T12:00:00.499Z", "2019-12-27T12:00:00.500Z"
        assert accept(PAGE | {"timestamp": old}, destinations=[picky]).destinations == ()
        assert accept(PAGE | {"timestamp": new}, destinations=[picky]).destinations == ("Mixpanel",)


class TestAuthentication:
    """With the `writeKey` in the payload "you do not need to set any authentication header".

    The header wins over the body, and the stored message never contains a write key.
    """

    def test_the_stored_message_never_contains_a_write_key(self) -> None:
        body = json_bytes({"writeKey": "abc123", "batch": [PAGE | {"writeKey": "abc123"}]})
        (envelope,) = take_in(body, origin=Origin()).envelopes
        assert b"abc123" not in envelope.payload
        assert b"writeKey" not in envelope.payload

    def test_the_header_wins_and_a_mismatch_is_a_warning(self) -> None:
        envelope = accept(PAGE, writeKey="other")
        assert envelope.source == "website"
        assert warned(envelope) == ["write_key_mismatch"]

    @pytest.mark.parametrize("endpoint", ["batch", "page"])
    def test_an_unknown_key_stores_no_message_and_is_kept_in_quarantine(self, endpoint: Endpoint) -> None:
        sink = MemorySink()
        body = json_bytes(PAGE | {"batch": [PAGE]})
        receipt = make_collector(sink).receive(body, endpoint=endpoint, origin=Origin(header_key=WriteKey("no")))
        assert (receipt.source, sink.envelopes) == (None, [])
        assert [(request.endpoint, request.payload) for request in sink.quarantined] == [(endpoint, body)]


class TestDuplicates:
    """The page: de-duplication goes by the `messageId`, "not on the contents" of an event.

    https://segment.com/docs/guides/duplicate-data/ (ours: within a source)
    """

    def test_the_same_batch_again_is_a_success_and_stores_nothing(self) -> None:
        sink = MemorySink()
        collector = make_collector(sink)
        body = json_bytes({"writeKey": "abc123", "batch": [PAGE | {"messageId": "a"}, PAGE | {"messageId": "b"}]})
        assert collector.receive(body).outcomes == [Outcome.STORED] * 2
        assert collector.receive(body).outcomes == [Outcome.DUPLICATE] * 2
        assert len(sink.envelopes) == 2

    def test_the_same_id_twice_in_a_batch_is_stored_once(self) -> None:
        item = PAGE | {"messageId": "a"}
        receipt = make_collector().receive(json_bytes({"writeKey": "abc123", "batch": [item, item]}))
        assert receipt.outcomes == [Outcome.STORED, Outcome.DUPLICATE]

    def test_the_same_contents_under_other_ids_are_stored_twice(self) -> None:
        receipt = make_collector().receive(json_bytes({"writeKey": "abc123", "batch": [PAGE, PAGE]}))
        assert receipt.outcomes == [Outcome.STORED, Outcome.STORED]
