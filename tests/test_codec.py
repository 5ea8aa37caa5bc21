from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from strategies import CALLS, any_bytes, batches, json_values, messages, odd_wire_messages, wire_messages
from support import json_bytes, outcome, strict_json

from trackcore import (
    Alias,
    Batch,
    Call,
    Group,
    Identify,
    Invalid,
    InvalidMessage,
    InvalidRequest,
    Limits,
    Message,
    Page,
    Reason,
    Screen,
    Track,
    WriteKey,
    decode_batch,
    decode_message,
    encode_batch,
    encode_message,
    structure_message,
    unstructure_message,
)
from trackcore.fields import wire_name

# (message, its wire object): tests decoding from right to left, and encoding from left to right.
BOTH_WAYS: list[tuple[Message, dict[str, Any]]] = [
    (Identify(user_id="u", traits={"age": 26}), {"type": "identify", "userId": "u", "traits": {"age": 26}}),
    (Track(anonymous_id="a", event="Paid"), {"type": "track", "anonymousId": "a", "event": "Paid"}),
    (
        Page(user_id="u", name="Home", category="Docs", properties={"url": "/"}),
        {"type": "page", "userId": "u", "name": "Home", "category": "Docs", "properties": {"url": "/"}},
    ),
    (Screen(user_id="u", name="Home"), {"type": "screen", "userId": "u", "name": "Home"}),
    (Group(user_id="u", group_id="g"), {"type": "group", "userId": "u", "groupId": "g"}),
    (Alias(user_id="u", previous_id="p"), {"type": "alias", "userId": "u", "previousId": "p"}),
    (
        Page(user_id="u", message_id="m", timestamp="t", original_timestamp="o", sent_at="s", received_at="r"),
        {
            "type": "page",
            "userId": "u",
            "messageId": "m",
            "timestamp": "t",
            "originalTimestamp": "o",
            "sentAt": "s",
            "receivedAt": "r",
        },
    ),
    (
        Page(user_id="u", context={}, integrations={"All": False}, extra={"version": 2, "nothing": None}),
        {
            "type": "page",
            "userId": "u",
            "context": {},
            "integrations": {"All": False},
            "version": 2,
            "nothing": None,
        },
    ),
]


class TestRoundTrip:
    @given(messages())
    def test_decoding_what_was_encoded_gives_the_same_message(self, message: Message) -> None:
        assert decode_message(encode_message(message)) == message

    @given(batches())
    def test_decoding_what_was_encoded_gives_the_same_batch(self, batch: Batch) -> None:
        assert decode_batch(encode_batch(batch)) == batch

    @given(messages())
    def test_structuring_what_was_unstructured_gives_the_same_message(self, message: Message) -> None:
        assert structure_message(unstructure_message(message)) == message

    @given(wire_messages())
    def test_decoding_is_stable(self, wire: dict[str, Any]) -> None:
        """Encoding and decoding a decoded message does not change it."""
        message = decode_message(json_bytes(wire))
        assert decode_message(encode_message(message)) == message

    @given(messages())
    def test_encoded_messages_are_strict_json(self, message: Message) -> None:
        assert strict_json(encode_message(message)) == unstructure_message(message)

    @pytest.mark.parametrize(("message", "wire"), BOTH_WAYS)
    def test_wire_form(self, message: Message, wire: dict[str, Any]) -> None:
        assert decode_message(json_bytes(wire)) == message
        assert strict_json(encode_message(message)) == wire


class TestGarbage:
    """For any bytes, decoding returns a message or raises `Invalid`; any other error is a bug."""

    @given(any_bytes())
    def test_decode_message(self, body: bytes) -> None:
        assert isinstance(outcome(lambda: decode_message(body)), Message | InvalidRequest | InvalidMessage)

    @given(any_bytes())
    def test_decode_message_of_a_known_call(self, body: bytes) -> None:
        found = outcome(lambda: decode_message(body, "identify"))
        assert isinstance(found, Identify | InvalidRequest | InvalidMessage)

    @given(any_bytes())
    def test_decode_batch(self, body: bytes) -> None:
        assert isinstance(outcome(lambda: decode_batch(body)), Batch | InvalidRequest | InvalidMessage)

    @given(odd_wire_messages())
    def test_what_was_decoded_can_be_encoded(self, wire: Any) -> None:
        found = outcome(lambda: decode_message(json_bytes(wire)))
        assert isinstance(found, Invalid) or decode_message(encode_message(found)) == found


class TestDecodeMessage:
    @pytest.mark.parametrize("call", CALLS)
    def test_the_call_decides_over_the_type(self, call: Call) -> None:
        wire = {"type": "nonsense", "userId": "u", "event": "e", "groupId": "g", "previousId": "p"}
        assert unstructure_message(decode_message(json_bytes(wire), call))["type"] == call

    def test_without_a_call_the_type_is_needed(self) -> None:
        with pytest.raises(InvalidMessage) as caught:
            decode_message(b'{"userId":"u"}')
        assert caught.value.reason is Reason.NO_TYPE

    def test_nothing_is_coerced(self) -> None:
        """Cattrs would convert these to 'None' and '5'."""
        message = decode_message(b'{"type":"page","userId":"u","name":null,"version":5,"traits":{"a":[1,null,true]}}')
        assert message == Page(user_id="u", extra={"version": 5, "traits": {"a": [1, None, True]}})

    def test_a_time_that_is_no_text_is_kept_as_its_json_text(self) -> None:
        message = decode_message(
            b'{"type":"page","userId":"u","timestamp":1330648208,"sentAt":{"a":1},"receivedAt":""}'
        )
        assert (message.timestamp, message.sent_at, message.received_at) == ("1330648208", '{"a":1}', None)

    def test_integers_beyond_64_bits_survive(self) -> None:
        text = b'{"type":"page","userId":"u","properties":{"n":%d}}' % 2**70
        message = decode_message(text)
        assert isinstance(message, Page)
        assert message.properties == {"n": 2**70}
        assert b"%d" % 2**70 in encode_message(message)

    def test_limits_can_be_given(self) -> None:
        with pytest.raises(InvalidRequest) as caught:
            decode_message(b'{"type":"page","userId":"u"}', limits=Limits(message_bytes=10))
        assert caught.value == InvalidRequest(
            reason=Reason.MESSAGE_TOO_LARGE, detail="a message may have 10 bytes, this one has 28", limit=10, actual=28
        )


class TestDecodeBatch:
    def test_everything_of_the_envelope_is_kept(self) -> None:
        batch = decode_batch(
            b'{"context":{"ip":"1.2.3.4"},"integrations":{"All":false},"sentAt":"now","writeKey":"k","messageId":"no",'
            b'"batch":[{"type":"page","userId":"u"}]}'
        )
        assert batch == Batch(
            messages=[Page(user_id="u")],
            context={"ip": "1.2.3.4"},
            integrations={"All": False},
            sent_at="now",
            write_key=WriteKey("k"),
        )

    @pytest.mark.parametrize("absent", [b"null", b"[]"])
    def test_null_and_the_empty_array_of_php_are_absent(self, absent: bytes) -> None:
        body = b'{"batch":[],"context":%s,"integrations":%s,"sentAt":null,"writeKey":null}' % (absent, absent)
        assert decode_batch(body) == Batch(messages=[])

    @pytest.mark.parametrize(
        ("item", "reason", "path"),
        [
            (b'{"type":"page","userId":true}', Reason.ID_NOT_STRING, "batch[1].userId"),
            (b"7", Reason.MESSAGE_NOT_OBJECT, "batch[1]"),
        ],
    )
    def test_an_error_names_the_place_in_the_batch(self, item: bytes, reason: Reason, path: str) -> None:
        with pytest.raises(InvalidMessage) as caught:
            decode_batch(b'{"batch":[{"type":"page","userId":"u"},%s]}' % item)
        assert (caught.value.reason, caught.value.path) == (reason, path)

    @pytest.mark.parametrize("name", ["context", "integrations"])
    def test_a_shared_part_of_another_type_is_an_error(self, name: str) -> None:
        with pytest.raises(InvalidMessage) as caught:
            decode_batch(b'{"%s":"x","batch":[]}' % name.encode())
        assert caught.value.path == name


class TestEncode:
    def test_absent_fields_are_left_out(self) -> None:
        assert encode_message(Page(user_id="u")) == b'{"type":"page","userId":"u"}'
        assert encode_batch(Batch(messages=[])) == b'{"batch":[]}'

    def test_the_class_decides_the_type(self) -> None:
        assert strict_json(encode_message(Page(user_id="u", extra={"type": "track"})))["type"] == "page"

    @pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
    def test_what_is_no_number_becomes_null(self, number: float) -> None:
        """As in JavaScript."""
        assert b'"x":null' in encode_message(Page(user_id="u", properties={"x": number}))

    def test_a_lone_surrogate_becomes_the_replacement_character(self) -> None:
        text = encode_message(Page(user_id="u", name="a\ud800b", properties={"\udc00": "\U0001f600"}))
        assert strict_json(text) == {
            "type": "page",
            "userId": "u",
            "name": "a\ufffdb",
            "properties": {"\ufffd": "\U0001f600"},
        }

    @pytest.mark.parametrize("number", [math.nan, math.inf])
    def test_a_message_may_need_both_repairs(self, number: float) -> None:
        text = encode_message(Page(user_id="u", name="\ud800", properties={"x": number}))
        assert strict_json(text)["properties"] == {"x": None}

    @pytest.mark.parametrize("name", ["Home", "\ud800"])
    def test_a_value_without_json_form_is_our_error(self, name: str) -> None:
        with pytest.raises(InvalidMessage) as caught:
            encode_message(Page(user_id="u", name=name, properties={"x": object()}))
        assert caught.value.reason is Reason.VALUE_NOT_JSON

    @pytest.mark.parametrize("name", ["Home", "\ud800"])
    def test_a_value_that_holds_itself_is_our_error(self, name: str) -> None:
        endless: dict[str, Any] = {}
        endless["again"] = endless
        with pytest.raises(InvalidMessage) as caught:
            encode_message(Page(user_id="u", name=name, properties=endless))
        assert caught.value.reason is Reason.VALUE_NOT_JSON

    @given(json_values())
    def test_encoding_leaves_the_message_alone(self, value: Any) -> None:
        before = json_bytes(value)
        encode_message(Page(user_id="u", properties={"x": value}))
        assert json_bytes(value) == before


@pytest.mark.parametrize(
    ("attribute", "wire"),
    [("event", "event"), ("user_id", "userId"), ("original_timestamp", "originalTimestamp"), ("sent_at", "sentAt")],
)
def test_wire_name(attribute: str, wire: str) -> None:
    assert wire_name(attribute) == wire


class _SafeText(str):
    """Like Django's SafeString and Markup, whose `__str__` returns the object itself."""

    __slots__ = ()

    def __str__(self) -> str:
        return self


class _Number(float):
    """Like numpy's float64."""


class _Count(int):
    pass


class TestSubclasses:
    """Subclasses of strings and numbers have a JSON form."""

    @pytest.mark.parametrize("beside", ["", "\ud800"], ids=["text", "with a surrogate"])
    def test_they_are_encoded_as_what_they_are(self, beside: str) -> None:
        given = {
            "text": _SafeText("é"),
            "number": _Number(1.5),
            "count": _Count(2),
            "none": _Number("nan"),
            "x": beside,
        }
        message = Track(user_id=_SafeText("u"), event=_SafeText("e"), properties={"list": [given]})
        found = decode_message(encode_message(message))
        plain = {"text": "é", "number": 1.5, "count": 2, "none": None, "x": beside.replace("\ud800", "\ufffd")}
        assert found == Track(user_id="u", event="e", properties={"list": [plain]})


class TestLimits:
    """Decoding enforces the same limits as receiving."""

    def test_a_batch_with_too_many_messages_is_refused(self) -> None:
        body = json_bytes({"batch": [{"type": "page", "userId": "u"}] * 3})
        assert len(decode_batch(body, Limits(batch_messages=3)).messages) == 3
        with pytest.raises(InvalidMessage) as caught:
            decode_batch(body, Limits(batch_messages=2))
        assert (caught.value.reason, caught.value.limit, caught.value.actual) == (Reason.TOO_MANY_MESSAGES, 2, 3)

    def test_a_message_id_that_is_too_long_is_refused(self) -> None:
        body = json_bytes({"type": "page", "userId": "u", "messageId": "é" * 101})
        with pytest.raises(InvalidMessage) as caught:
            decode_message(body)
        assert (caught.value.reason, caught.value.path) == (Reason.MESSAGE_ID_TOO_LONG, "messageId")
