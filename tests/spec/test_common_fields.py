"""The rules of https://segment.com/docs/connections/spec/common/, one class for each."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from support import KEY, RECEIVED_TEXT, accept, read_payload, reject, stored, take_in, warned

from trackcore import JSONObject, Origin, Reason

PAGE: JSONObject = {"type": "page", "userId": "u"}
FULL: dict[str, JSONObject] = {
    "identify": {"type": "identify", "userId": "u"},
    "track": {"type": "track", "userId": "u", "event": "e"},
    "page": {"type": "page", "userId": "u"},
    "screen": {"type": "screen", "userId": "u"},
    "group": {"type": "group", "userId": "u", "groupId": "g"},
    "alias": {"type": "alias", "userId": "u", "previousId": "p"},
}
IDS = [
    ("page", "userId"),
    ("page", "anonymousId"),
    ("page", "messageId"),
    ("group", "groupId"),
    ("alias", "previousId"),
]


class TestUserIdOrAnonymousId:
    """The page: "A userId or an anonymousId is required" (`no_user_anon_id`)."""

    @pytest.mark.parametrize("call", FULL)
    @pytest.mark.parametrize("ids", [{"userId": "u"}, {"anonymousId": "a"}, {"userId": "u", "anonymousId": "a"}])
    def test_one_is_enough(self, call: str, ids: JSONObject) -> None:
        message = dict(FULL[call])
        del message["userId"]
        envelope = accept(message | ids)
        assert (envelope.user_id, envelope.anonymous_id) == (ids.get("userId"), ids.get("anonymousId"))

    @pytest.mark.parametrize("call", FULL)
    @pytest.mark.parametrize("absent", [None, ""])
    def test_none_is_not(self, call: str, absent: Any) -> None:
        error = reject(FULL[call] | {"userId": absent, "anonymousId": absent}).error
        assert error.reason is Reason.NO_USER_ANON_ID

    def test_an_id_in_traits_or_context_does_not_help(self) -> None:
        item = {"type": "identify", "traits": {"userId": "u"}, "context": {"anonymousId": "a"}}
        assert reject(item).error.reason is Reason.NO_USER_ANON_ID


class TestIdsAreStrings:
    """`id_not_string`: "userId or anonymousId [...] was [...] not a string"; real SDKs send numbers."""

    @pytest.mark.parametrize(("call", "name"), IDS)
    @pytest.mark.parametrize(
        ("number", "text"),
        [
            ("12345", "12345"),
            ("0", "0"),
            ("-7", "-7"),
            ("1.0", "1"),
            ("1e3", "1000"),
            ("1.5", "1.5"),
            ("1180591620717411303424", "1180591620717411303424"),
            ("1e16", "10000000000000000"),
            ("9007199254740992.0", "9007199254740992"),
            ("1e23", "100000000000000000000000"),
            ("1e39", "1" + "0" * 39),
            ("-0.0", "0"),
            ("1e-7", "0.0000001"),
        ],
    )
    def test_a_number_is_taken_as_its_decimal_text_with_a_warning(
        self, call: str, name: str, number: str, text: str
    ) -> None:
        members = {**FULL[call], name: "?"}
        body = str(members).replace("'", '"').replace('"?"', number).encode()
        envelope = accept(body)
        assert read_payload(envelope)[name] == text
        assert [(warning.code, warning.path) for warning in envelope.warnings] == [("id_from_number", name)]

    @pytest.mark.parametrize("name", ["userId", "messageId", "groupId"])
    @pytest.mark.parametrize("number", [1.5e300, 1e40, -1e39, 5e-324, 1.7976931348623157e308])
    def test_a_number_that_would_be_too_long_is_refused(self, name: str, number: float) -> None:
        """Five bytes would become 301 in each message of a batch."""
        error = reject(FULL["group"] | {"anonymousId": "a"} | {name: number}).error
        assert (error.reason, error.path) == (Reason.ID_NOT_STRING, name)
        assert "more than 40 characters" in error.detail

    @pytest.mark.parametrize(("call", "name"), IDS)
    @pytest.mark.parametrize("value", [True, False, [], ["u"], {}, {"id": "u"}])
    def test_any_other_type_is_refused(self, call: str, name: str, value: Any) -> None:
        error = reject(FULL[call] | {"anonymousId": "a"} | {name: value}).error
        assert (error.reason, error.path) == (Reason.ID_NOT_STRING, name)

    @pytest.mark.parametrize("text", [" a", "0", "null", "é", "\x00.", "x" * 1000])
    def test_any_text_that_shows_something_is_an_id(self, text: str) -> None:
        assert accept(PAGE | {"userId": text}).user_id == text

    @pytest.mark.parametrize("absent", [None, "", " ", "\x00"])
    @pytest.mark.parametrize("name", ["userId", "anonymousId"])
    def test_null_and_text_that_shows_nothing_are_absent(self, name: str, absent: Any) -> None:
        assert name not in stored({"type": "page", "userId": "u", "anonymousId": "a"} | {name: absent})

    @pytest.mark.parametrize("absent", [None, ""])
    def test_without_a_message_id_the_server_makes_one(self, absent: Any) -> None:
        assert accept(PAGE).message_id == "server-1"
        assert accept(PAGE | {"messageId": absent}).message_id == "server-1"


class TestRequiredFields:
    """`event` is required in track, `groupId` in group, `previousId` in alias (each "required" in its table)."""

    @pytest.mark.parametrize(
        ("call", "name", "reason"),
        [
            ("track", "event", Reason.EVENT_NOT_DEFINED),
            ("group", "groupId", Reason.NO_GROUP_ID),
            ("alias", "previousId", Reason.NO_PREVIOUS_ID),
        ],
    )
    @pytest.mark.parametrize("absent", [None, ""])
    def test_it_is_required(self, call: str, name: str, reason: Reason, absent: Any) -> None:
        message = FULL[call] | {name: absent}
        assert (reject(message).error.reason, reject(message).error.path) == (reason, name)
        del message[name]
        assert (reject(message).error.reason, reject(message).error.path) == (reason, name)

    def test_the_sentence_has_the_right_article(self) -> None:
        del (message := dict(FULL["alias"]))["previousId"]
        assert reject(message).error.detail == "an alias message needs 'previousId'"

    @pytest.mark.parametrize("value", [5, 0, 1.5, True, False, [], {}, ["e"]])
    def test_event_is_a_string(self, value: Any) -> None:
        error = reject(FULL["track"] | {"event": value}).error
        assert (error.reason, error.path) == (Reason.EVENT_NOT_STRING, "event")

    @pytest.mark.parametrize("call", ["identify", "page", "screen"])
    def test_the_other_calls_require_nothing_more(self, call: str) -> None:
        assert accept(FULL[call])


OBJECTS = [
    ("page", "context", Reason.CONTEXT_NOT_OBJECT),
    ("page", "integrations", Reason.INTEGRATIONS_NOT_OBJECT),
    ("track", "properties", Reason.PROPERTIES_NOT_OBJECT),
    ("page", "properties", Reason.PROPERTIES_NOT_OBJECT),
    ("screen", "properties", Reason.PROPERTIES_NOT_OBJECT),
    ("identify", "traits", Reason.TRAITS_NOT_OBJECT),
    ("group", "traits", Reason.TRAITS_NOT_OBJECT),
]


class TestObjects:
    """`properties_not_object`, `traits_not_object`: free-form parts are objects."""

    @pytest.mark.parametrize(("call", "name", "_"), OBJECTS)
    @pytest.mark.parametrize("absent", [None, []])
    def test_null_and_the_empty_array_of_php_are_absent(self, call: str, name: str, _: Reason, absent: Any) -> None:
        assert name not in stored(FULL[call] | {name: absent})

    @pytest.mark.parametrize(("call", "name", "reason"), OBJECTS)
    @pytest.mark.parametrize("value", ["", "x", 0, 1, False, True, [1], [{}]])
    def test_any_other_type_is_refused(self, call: str, name: str, reason: Reason, value: Any) -> None:
        error = reject(FULL[call] | {name: value}).error
        assert (error.reason, error.path) == (reason, name)

    @pytest.mark.parametrize(("call", "name", "_"), OBJECTS)
    def test_an_empty_object_stays(self, call: str, name: str, _: Reason) -> None:
        assert stored(FULL[call] | {name: {}})[name] == {}


class TestNameAndCategory:
    """`name_not_string`, `category_not_string`; the Ruby SDK sends `""` for an absent name."""

    @pytest.mark.parametrize("call", ["page", "screen"])
    @pytest.mark.parametrize("name", ["name", "category"])
    @pytest.mark.parametrize("absent", [None, ""])
    def test_null_and_the_empty_text_are_absent(self, call: str, name: str, absent: Any) -> None:
        assert name not in stored(FULL[call] | {name: absent})

    @pytest.mark.parametrize("call", ["page", "screen"])
    @pytest.mark.parametrize(
        ("name", "reason"), [("name", Reason.NAME_NOT_STRING), ("category", Reason.CATEGORY_NOT_STRING)]
    )
    @pytest.mark.parametrize("value", [0, 5, False, True, [], {}])
    def test_any_other_type_is_refused(self, call: str, name: str, reason: Reason, value: Any) -> None:
        error = reject(FULL[call] | {name: value}).error
        assert (error.reason, error.path) == (reason, name)


class TestTimestamps:
    """The page: "timestamp = receivedAt - (sentAt - originalTimestamp)"

    https://segment.com/docs/connections/spec/common/#timestamps
    """

    @pytest.mark.parametrize(
        ("received", "sent", "original", "timestamp"),
        [
            # https://segment.com/docs/connections/spec/track/
            (
                "2015-12-12T19:11:01.266Z",
                "2015-12-12T19:11:01.169Z",
                "2015-12-12T19:11:01.152Z",
                "2015-12-12T19:11:01.249Z",
            ),
            # https://segment.com/docs/partners/spec/
            (
                "2019-06-21T16:33:26.158Z",
                "2019-06-21T16:33:26.060Z",
                "2019-06-21T16:33:26.060Z",
                "2019-06-21T16:33:26.158Z",
            ),
            # https://segment.com/docs/connections/spec/common/ (its original time is implied)
            (
                "2015-12-10T04:08:31.909Z",
                "2015-12-10T04:08:31.581Z",
                "2015-12-10T04:08:31.577Z",
                "2015-12-10T04:08:31.905Z",
            ),
        ],
    )
    def test_the_published_examples_to_the_millisecond(
        self, received: str, sent: str, original: str, timestamp: str
    ) -> None:
        item = PAGE | {"timestamp": original}
        intake = take_in({"batch": [item], "sentAt": sent}, received_at=datetime.fromisoformat(received))
        message = read_payload(intake.envelopes[0])
        assert message["timestamp"] == timestamp
        assert (message["receivedAt"], message["sentAt"], message["originalTimestamp"]) == (received, sent, original)

    def test_without_a_timestamp_it_is_the_time_of_reception(self) -> None:
        """The page: "If not provided, the API uses its own time"."""
        message = stored(PAGE, sentAt="1999-01-01T00:00:00Z")
        assert message["timestamp"] == RECEIVED_TEXT
        assert "originalTimestamp" not in message

    def test_without_sent_at_the_client_s_time_stands(self) -> None:
        message = stored(PAGE | {"timestamp": "2012-12-02T01:30:08.276+01:00"})
        assert message["timestamp"] == "2012-12-02T00:30:08.276Z"
        assert message["originalTimestamp"] == "2012-12-02T01:30:08.276+01:00"
        assert "sentAt" not in message

    @pytest.mark.parametrize("text", ["yesterday", "2015-02-30T00:00:00Z", "{}", " "])
    def test_a_time_that_cannot_be_read_is_a_warning(self, text: str) -> None:
        envelope = accept(PAGE | {"timestamp": text}, sentAt=RECEIVED_TEXT)
        message = read_payload(envelope)
        assert (message["originalTimestamp"], message["timestamp"]) == (text, RECEIVED_TEXT)
        assert warned(envelope) == ["timestamp_unparsable"]

    def test_a_time_of_sending_that_cannot_be_read_is_a_warning(self) -> None:
        envelope = accept(PAGE | {"timestamp": "2012-12-02T00:30:08.276Z"}, sentAt="just now")
        message = read_payload(envelope)
        assert (message["sentAt"], message["timestamp"]) == ("just now", "2012-12-02T00:30:08.276Z")
        assert warned(envelope) == ["sent_at_unparsable"]

    def test_a_result_outside_the_years_1_to_9999_is_a_warning(self) -> None:
        """The zero time of Go, sent by a correct clock."""
        envelope = accept(PAGE | {"timestamp": "0001-01-01T00:00:00Z"}, sentAt="2020-01-01T13:00:00Z")
        assert read_payload(envelope)["timestamp"] == "0001-01-01T00:00:00.000Z"
        assert warned(envelope) == ["timestamp_out_of_range"]

    @pytest.mark.parametrize("value", [1_330_648_208, 1_330_648_208_000, "1330648208", "1330648208000"])
    def test_a_count_since_1970_is_a_time(self, value: Any) -> None:
        envelope = accept(PAGE | {"timestamp": value})
        message = read_payload(envelope)
        assert (message["timestamp"], message["originalTimestamp"]) == ("2012-03-02T00:30:08.000Z", str(value))
        assert warned(envelope) == []

    @pytest.mark.parametrize("value", [1_712_010_142_359, "1712010142359"])
    def test_a_count_that_could_be_a_date_without_dashes_is_still_a_count(self, value: Any) -> None:
        """Not 1712-01-01 at 23:59."""
        assert stored(PAGE | {"timestamp": value})["timestamp"] == "2024-04-01T22:22:22.359Z"

    def test_received_at_is_the_server_s(self) -> None:
        assert stored(PAGE | {"receivedAt": "1999-01-01T00:00:00Z"})["receivedAt"] == RECEIVED_TEXT

    def test_one_received_at_for_all_messages_of_a_request(self) -> None:
        intake = take_in({"batch": [PAGE] * 5})
        assert {read_payload(envelope)["receivedAt"] for envelope in intake.envelopes} == {RECEIVED_TEXT}

    def test_microseconds_of_the_client_are_kept_in_the_original_and_cut_in_the_result(self) -> None:
        message = stored(PAGE | {"timestamp": "2012-12-02T00:30:08.276999999Z"})
        assert message["originalTimestamp"] == "2012-12-02T00:30:08.276999999Z"
        assert message["timestamp"] == "2012-12-02T00:30:08.276Z"


class TestCollectingTheIpAddress:
    """`context.ip` is filled by the server "for client side events only"; elsewhere `context.direct: true` asks for it.

    https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/#collecting-ip-address
    """

    def test_a_device_s_address_is_collected(self) -> None:
        device = Origin(header_key=KEY, client_ip="203.0.113.7", client_side=True)
        assert stored(PAGE, origin=device)["context"] == {"ip": "203.0.113.7"}

    def test_a_server_s_is_not(self) -> None:
        assert "context" not in stored(PAGE, origin=Origin(header_key=KEY, client_ip="203.0.113.7"))

    @pytest.mark.parametrize("ip", ["0.0.0.0", "192.168.0.1, 192.168.0.44", "::1", "", None])
    def test_what_the_client_says_stands(self, ip: str | None) -> None:
        """Clients send `0.0.0.0` to stay anonymous."""
        device = Origin(header_key=KEY, client_ip="203.0.113.7", client_side=True)
        assert stored(PAGE | {"context": {"ip": ip}}, origin=device)["context"] == {"ip": ip}
