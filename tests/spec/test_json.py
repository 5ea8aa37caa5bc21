"""The rules of JSON text: https://www.rfc-editor.org/rfc/rfc8259, and the texts of real clients."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support import accept, read_payload, reject, take_in, warned

from trackcore import Endpoint, InvalidRequest, Reason

ENDPOINTS: tuple[Endpoint, ...] = ("batch", "page")
HEAD = b'{"type":"page","userId":"u","x":'


def refused(body: bytes, endpoint: Endpoint = "batch") -> InvalidRequest:
    """Receive a body that must be rejected as a whole, and return the error."""
    with pytest.raises(InvalidRequest) as caught:
        take_in(body, endpoint=endpoint)
    return caught.value


class TestStrictJson:
    """Invalid JSON is answered with `400` (the API page, "Errors"), and the byte of the fault."""

    @pytest.mark.parametrize(
        ("body", "position"),
        [
            (b"", 0),
            (b"{", 1),
            (b'{"batch":[NaN]}', 10),
            (b'{"batch":[Infinity]}', 10),
            (b'{"batch":[-Infinity]}', 11),
            (b'{"batch":[]} x', 13),
            (b'{"batch":[]}{}', 12),
            (b'{"batch":[{"a":"\xc3\xa9","b":"\xff"}]}', 25),
            (b"{'batch':[]}", 1),
            (b'{"batch":[, ,]}', 10),
        ],
    )
    def test_the_position_is_told(self, body: bytes, position: int) -> None:
        error = refused(body)
        assert (error.reason, error.position) == (Reason.INVALID_JSON, position)

    @pytest.mark.parametrize("endpoint", ENDPOINTS)
    @pytest.mark.parametrize("literal", [b"NaN", b"Infinity", b"-Infinity", b"nan", b"01", b".5", b"1.", b"+1", b"'a'"])
    def test_what_python_or_javascript_might_take_is_not_json(self, literal: bytes, endpoint: Endpoint) -> None:
        assert refused(HEAD + literal + b',"batch":[]}', endpoint).reason is Reason.INVALID_JSON

    @pytest.mark.parametrize("endpoint", ENDPOINTS)
    @pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "latin-1"])
    def test_text_is_utf8_and_nothing_else(self, encoding: str, endpoint: Endpoint) -> None:
        body = '{"type":"page","userId":"é","batch":[]}'.encode(encoding)
        assert refused(body, endpoint).reason is Reason.INVALID_JSON

    def test_bad_utf8_is_found_in_text_that_nobody_reads(self) -> None:
        assert refused(b'{"batch":[],"unknown":["\xff"]}').reason is Reason.INVALID_JSON

    @pytest.mark.parametrize("text", [b"[NaN]", b'"a" "b"', b"{]"])
    def test_deep_text_is_no_hiding_place(self, text: bytes) -> None:
        """Nesting beyond any stack cannot be parsed, but it must not hide text that is not JSON at all."""
        body = b'{"batch":[],"unknown":' + b"[" * 190 + text + b"]" * 190 + b"}"
        assert refused(body).reason is Reason.INVALID_JSON


class TestByteOrderMark:
    """Implementations "MAY ignore the presence of a byte order mark rather than treating it as an error".

    https://www.rfc-editor.org/rfc/rfc8259#section-8.1
    """

    @pytest.mark.parametrize("endpoint", ENDPOINTS)
    def test_one_is_ignored(self, endpoint: Endpoint) -> None:
        body = b'\xef\xbb\xbf{"type":"page","userId":"u","batch":[{"type":"page","userId":"u"}]}'
        assert len(take_in(body, endpoint=endpoint).envelopes) == 1

    def test_two_are_not(self) -> None:
        assert refused(b'\xef\xbb\xbf\xef\xbb\xbf{"batch":[]}').reason is Reason.INVALID_JSON

    def test_positions_count_it(self) -> None:
        assert refused(b"\xef\xbb\xbf{NaN}").position == 4


class TestLoneSurrogates:
    """An unpaired surrogate "does not encode a Unicode character" (RFC 8259, section 8.2), but SDKs send it."""

    @pytest.mark.parametrize("endpoint", ENDPOINTS)
    def test_it_is_replaced_with_a_warning(self, endpoint: Endpoint) -> None:
        item = rb'{"type":"page","userId":"u","name":"a\ud800b"}'
        body = item if endpoint == "page" else b'{"batch":[%s]}' % item
        (envelope,) = take_in(body, endpoint=endpoint).envelopes
        assert read_payload(envelope)["name"] == "a\ufffdb"
        assert warned(envelope) == ["surrogate_replaced"]

    def test_only_the_message_that_has_one_is_warned_about(self) -> None:
        items = rb'{"type":"page","userId":"u"},{"type":"page","userId":"\udfff"},{"type":"page","userId":"\ufffd"}'
        envelopes = take_in(b'{"batch":[' + items + b"]}").envelopes
        assert [warned(envelope) for envelope in envelopes] == [[], ["surrogate_replaced"], []]

    def test_one_in_the_shared_context_is_a_warning_for_each_message(self) -> None:
        items = b'{"type":"page","userId":"u"},{"type":"page","userId":"v"}'
        envelopes = take_in(rb'{"context":{"locale":"\ud800"},"batch":[' + items + b"]}").envelopes
        assert [read_payload(envelope)["context"] for envelope in envelopes] == [{"locale": "\ufffd"}] * 2
        assert [warned(envelope) for envelope in envelopes] == [["surrogate_replaced"]] * 2

    def test_pairs_are_characters(self) -> None:
        envelope = accept(HEAD + rb'"\ud83d\ude00"}')
        assert read_payload(envelope)["x"] == "\U0001f600"
        assert warned(envelope) == []

    def test_in_a_name_too(self) -> None:
        assert read_payload(accept(HEAD + rb'{"\ud800":1}}'))["x"] == {"\ufffd": 1}


class TestNumbers:
    """Implementations may "set limits on the range and precision of numbers accepted".

    https://www.rfc-editor.org/rfc/rfc8259#section-6
    """

    @pytest.mark.parametrize(
        ("text", "value"),
        [
            (b"9223372036854775808", 2**63),
            (b"-1180591620717411303424", -(2**70)),
            (b"7" * 4300, int("7" * 4300)),
            (b"0.1", 0.1),
            (b"1.7976931348623157e308", 1.7976931348623157e308),
            (b"5e-324", 5e-324),
        ],
    )
    def test_numbers_survive(self, text: bytes, value: float) -> None:
        assert read_payload(accept(HEAD + text + b"}"))["x"] == value

    @pytest.mark.parametrize("text", [b"1e999", b"-1e999", b"7" * 4301, b"[[1e400]]"])
    def test_numbers_beyond_reason_reject_their_message_only(self, text: bytes) -> None:
        intake = take_in(b'{"batch":[{"type":"page","userId":"u"},' + HEAD + text + b"}]}")
        assert len(intake.envelopes) == 1
        assert [(r.index, r.error.reason) for r in intake.rejections] == [(1, Reason.NUMBER_OUT_OF_RANGE)]


class TestNesting:
    """An implementation "may set limits on the maximum depth of nesting" (RFC 8259, section 9)."""

    @pytest.mark.parametrize("levels", [65, 200, 201, 1000, 5000, 16000])
    def test_any_depth_is_a_rejection_and_never_a_crash(self, levels: int) -> None:
        assert reject(HEAD + b"[" * levels + b"]" * levels + b"}").error.reason is Reason.TOO_DEEP

    @pytest.mark.parametrize("body", [b"[" * 100_000, b'{"batch":' + b"[" * 100_000, b'{"a":' * 50_000])
    def test_nesting_that_never_ends_is_not_json(self, body: bytes) -> None:
        assert refused(body).reason is Reason.INVALID_JSON

    def test_a_deep_rejection_keeps_the_text_as_received(self) -> None:
        item = HEAD + b"[" * 5000 + b'"here"' + b"]" * 5000 + b"}"
        assert reject(item).payload == item

    def test_the_rejected_text_of_a_message_with_a_surrogate_is_as_received(self) -> None:
        item = rb'{"type":"page","name":"\ud800"}'
        assert reject(item).payload == item


class TestOtherText:
    """Names in an object "SHOULD be unique" (section 4), and strings may hold any character (section 7)."""

    def test_the_last_of_two_equal_names_wins(self) -> None:
        assert accept(b'{"type":"page","userId":"first","userId":"last"}').user_id == "last"

    @pytest.mark.parametrize("value", [r'"\u0000"', r'"\/"', r'"\b\f\n\r\t"', '"\x7f"', '"\u2028"', '"é"'])
    def test_any_string_survives(self, value: str) -> None:
        expected: Any = json.loads(value)
        assert read_payload(accept(HEAD + value.encode() + b"}"))["x"] == expected

    @pytest.mark.parametrize("name", ["", "$set", "a.b", "__proto__", "constructor", "é"])
    def test_names_are_never_interpreted(self, name: str) -> None:
        assert read_payload(accept(HEAD + b'{"%s":1}}' % name.encode()))["x"] == {name: 1}
