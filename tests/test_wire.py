from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import CALLS, any_bytes, json_values, odd_wire_messages
from support import json_bytes, outcome

from trackcore import (
    DEFAULT_LIMITS,
    Call,
    Endpoint,
    Invalid,
    InvalidMessage,
    InvalidRequest,
    Limits,
    MessageWarning,
    Reason,
)
from trackcore.wire.request import Request, parse_request, peek
from trackcore.wire.rules import MAX_ID_CHARS, check_message, decimal_text, decode_item


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**50), 10**50))
def test_a_numeric_id_is_its_decimal_expansion(number: float) -> None:
    """R12: a JSON number becomes its decimal text, which is the same number without an exponent, and bounded."""
    text = decimal_text(number)
    if text is None:
        assert isinstance(number, float)
        assert not 1e-15 < abs(number) < 1e38
        return
    assert text.strip("-0123456789.") == ""
    assert type(number)(text) == number
    assert isinstance(number, int) or len(text) <= MAX_ID_CHARS
    assert "." not in text or not number.is_integer()
    assert number != 0 or text == "0"


ENDPOINTS: tuple[Endpoint, ...] = (*CALLS, "batch")


def full(call: Call) -> dict[str, Any]:
    """Return a message with every field that some call needs."""
    return {"type": call, "userId": "u", "event": "e", "groupId": "g", "previousId": "p"}


def check(message: dict[str, Any], call: Call | None = None) -> tuple[dict[str, Any], list[MessageWarning]]:
    """Check a message and return it normalized, with the warnings."""
    warnings: list[MessageWarning] = []
    check_message(message, call, warnings)
    return message, warnings


def refused(message: dict[str, Any], call: Call | None = None) -> tuple[Reason, str]:
    """Check a message that must be rejected, and return the reason and the path."""
    with pytest.raises(InvalidMessage) as caught:
        check_message(message, call, [])
    return caught.value.reason, caught.value.path


class TestParseRequest:
    @given(any_bytes(), st.sampled_from(ENDPOINTS))
    def test_any_bytes_give_a_request_or_invalid_request(self, body: bytes, endpoint: Endpoint) -> None:
        found = outcome(lambda: parse_request(body, endpoint, DEFAULT_LIMITS))
        assert isinstance(found, Request | InvalidRequest)
        if isinstance(found, Request):
            assert found.call == (None if endpoint == "batch" else endpoint)
            assert sum(map(len, map(bytes, found.items))) <= len(body)

    @pytest.mark.parametrize("endpoint", ENDPOINTS)
    @pytest.mark.parametrize("body", [b"[]", b"null", b"1", b'"x"', b"true", b"[{}]", b" [] "])
    def test_json_that_is_no_object(self, body: bytes, endpoint: Endpoint) -> None:
        with pytest.raises(InvalidRequest) as caught:
            parse_request(body, endpoint, DEFAULT_LIMITS)
        assert caught.value.reason is Reason.BODY_NOT_OBJECT

    @pytest.mark.parametrize(
        ("body", "kind"), [(b"[]", "an array"), (b"null", "null"), (b"7", "a number"), (b'"x"', "a string")]
    )
    def test_the_kind_of_json_is_named(self, body: bytes, kind: str) -> None:
        with pytest.raises(InvalidRequest, match=f"not {kind}$"):
            parse_request(body, "track", DEFAULT_LIMITS)

    @pytest.mark.parametrize("body", [b"{}", b'{"batch":{}}', b'{"batch":null}', b'{"batch":"x"}', b'{"batch":1}'])
    def test_a_batch_without_an_array(self, body: bytes) -> None:
        with pytest.raises(InvalidRequest) as caught:
            parse_request(body, "batch", DEFAULT_LIMITS)
        assert (caught.value.reason, caught.value.path) == (Reason.BATCH_NOT_ARRAY, "batch")

    @pytest.mark.parametrize(
        ("body", "found"), [(b"{}", "nothing"), (b'{"batch":{}}', "an object"), (b'{"batch":null}', "null")]
    )
    def test_what_stands_for_the_array_is_named(self, body: bytes, found: str) -> None:
        with pytest.raises(InvalidRequest, match=f"not {found}$"):
            parse_request(body, "batch", DEFAULT_LIMITS)

    def test_each_item_is_its_own_source_text(self) -> None:
        request = parse_request(b'{"batch":[ {"a" : 1.0}, [2] ,null]}', "batch", DEFAULT_LIMITS)
        assert [bytes(item) for item in request.items] == [b'{"a" : 1.0}', b"[2]", b"null"]

    def test_space_around_a_single_message_is_not_part_of_it(self) -> None:
        request = parse_request(b' \r\n{"a":1}\t', "track", DEFAULT_LIMITS)
        assert request.items == (b'{"a":1}',)

    @pytest.mark.parametrize("value", ["null", "5", '""', "{}", "[]", '"k"'])
    def test_the_key_of_a_batch_is_text_or_absent(self, value: str) -> None:
        request = parse_request(b'{"batch":[],"writeKey":%s}' % value.encode(), "batch", DEFAULT_LIMITS)
        assert request.write_key == ("k" if value == '"k"' else None)

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            (b'"x"', Reason.CONTEXT_NOT_OBJECT),
            (b"[1]", Reason.CONTEXT_NOT_OBJECT),
            (b"false", Reason.CONTEXT_NOT_OBJECT),
            (b'{"a":' * 64 + b"[]" + b"}" * 64, Reason.TOO_DEEP),
            (b'{"a":1e999}', Reason.NUMBER_OUT_OF_RANGE),
        ],
    )
    def test_a_bad_context_of_a_batch_is_told_with_each_message(self, text: bytes, reason: Reason) -> None:
        request = parse_request(b'{"batch":[1],"context":%s}' % text, "batch", DEFAULT_LIMITS)
        assert request.invalid is not None
        assert request.invalid.reason is reason
        assert len(request.items) == 1


class TestDecodeItem:
    @given(odd_wire_messages())
    def test_an_object_is_decoded_and_anything_else_is_our_error(self, value: Any) -> None:
        found = outcome(lambda: decode_item(json_bytes(value), DEFAULT_LIMITS))
        if isinstance(value, dict):
            assert found == value
        else:
            assert isinstance(found, InvalidMessage)
            assert found.reason is Reason.MESSAGE_NOT_OBJECT

    def test_depth_counts_below_the_message(self) -> None:
        limits = Limits(depth=3)
        assert decode_item(b'{"a":{"b":[[]]}}', limits)
        with pytest.raises(InvalidMessage) as caught:
            decode_item(b'{"a":{"b":[[[]]]}}', limits)
        assert (caught.value.reason, caught.value.limit) == (Reason.TOO_DEEP, 3)

    def test_a_size_equal_to_the_limit_is_allowed(self) -> None:
        assert decode_item(b'{"a":12}', Limits(message_bytes=8)) == {"a": 12}
        with pytest.raises(InvalidMessage) as caught:
            decode_item(b'{"a":123}', Limits(message_bytes=8))
        assert (caught.value.limit, caught.value.actual) == (8, 9)


class TestCheckMessage:
    @given(odd_wire_messages().filter(lambda value: isinstance(value, dict)), st.sampled_from([None, *CALLS]))
    def test_any_object_is_normalized_or_refused(self, message: dict[str, Any], call: Call | None) -> None:
        found = outcome(lambda: check_message(message, call, []))
        if isinstance(found, Invalid):
            assert isinstance(found, InvalidMessage)
            return
        assert message["type"] == found
        assert call in (None, found)
        for name in ("userId", "anonymousId", "messageId"):
            assert isinstance(message.get(name, "x"), str)
            assert message.get(name, "x") != ""
        assert "userId" in message or "anonymousId" in message
        for name in ("context", "integrations"):
            assert isinstance(message.get(name, {}), dict)

    @given(odd_wire_messages().filter(lambda value: isinstance(value, dict)))
    def test_normalizing_twice_changes_nothing(self, message: dict[str, Any]) -> None:
        if isinstance(outcome(lambda: check_message(message, None, [])), Invalid):
            return
        before = json_bytes(message)
        assert check(message)[1] == []
        assert json_bytes(message) == before

    @pytest.mark.parametrize("call", CALLS)
    def test_a_good_message_is_not_touched(self, call: Call) -> None:
        assert check(full(call)) == (full(call), [])

    @given(json_values())
    def test_fields_of_other_calls_are_free(self, value: Any) -> None:
        message = full("page") | {"event": value, "traits": value, "groupId": value, "previousId": value}
        assert check(dict(message)) == (message, [])

    def test_the_first_rule_that_is_broken_is_told(self) -> None:
        assert refused({"type": "track", "userId": []}) == (Reason.ID_NOT_STRING, "userId")

    def test_a_hostile_type_is_not_repeated_at_length(self) -> None:
        with pytest.raises(InvalidMessage) as caught:
            check_message({"type": "x" * 1000, "userId": "u"}, None, [])
        assert len(caught.value.detail) < 200


class TestPeek:
    @pytest.mark.parametrize(
        ("item", "found"),
        [
            (b'{"messageId":"m"}', "m"),
            (b'{"messageId":5}', 5),
            (
                b'{"a":' + b"[" * 300_000 + b"]" * 300_000 + b',"messageId":"m"}',
                None,
            ),  # too deep for every version of Python
            (b"{}", None),
            (b"[]", None),
            (b"", None),
            (b'{"messageId":"m"', None),
            (b'{"messageId":1e999}', None),
        ],
    )
    def test_it_reads_what_it_can(self, item: bytes, found: Any) -> None:
        assert peek(item, "messageId") == found

    @given(any_bytes())
    def test_it_never_raises(self, item: bytes) -> None:
        peek(item, "messageId")

    @pytest.mark.parametrize("item", [b'{"messageId":"\xff"}', b'{"\xff":1}'])
    def test_text_that_is_not_utf8_gives_nothing(self, item: bytes) -> None:
        assert peek(item, "messageId") is None
