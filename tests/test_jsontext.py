from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import any_bytes, hostile_texts, json_values, object_texts
from support import json_bytes, outcome

from trackcore import Invalid, InvalidMessage, InvalidRequest, Reason
from trackcore.text.jsontext import (
    Text,
    any_value,
    clean_text,
    compacted,
    is_deeper,
    kind_of,
    parse,
    parse_value,
    raw_value,
    replace_surrogates,
    without_escapes,
)

T = TypeVar("T")

ANY: msgspec.json.Decoder[Any] = msgspec.json.Decoder()


def depth_of(value: Any) -> int:
    """Count the levels of objects and arrays in the simplest way."""
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth_of, value), default=0)
    return 0


class TestCleanText:
    def test_ascii_passes(self) -> None:
        assert clean_text(b"{}") == b"{}"

    def test_utf8_passes(self) -> None:
        assert clean_text("é".encode()) == "é".encode()

    def test_one_byte_order_mark_is_blanked_so_that_positions_stay(self) -> None:
        assert clean_text(b"\xef\xbb\xbf{}") == b"   {}"

    def test_a_second_byte_order_mark_stays(self) -> None:
        assert clean_text(b"\xef\xbb\xbf" * 2) == b"   \xef\xbb\xbf"

    def test_a_byte_order_mark_inside_stays(self) -> None:
        assert clean_text(b'"\xef\xbb\xbf"') == b'"\xef\xbb\xbf"'

    @pytest.mark.parametrize(
        ("text", "position"),
        [(b"\xff", 0), (b'{"a":"\xc3"}', 6), ("é".encode() + b"\xed\xa0\x80", 2)],
    )
    def test_what_is_not_utf8_is_refused_at_its_position(self, text: bytes, position: int) -> None:
        with pytest.raises(InvalidRequest) as caught:
            clean_text(text)
        assert caught.value == InvalidRequest(
            reason=Reason.INVALID_JSON, detail=f"the text is not UTF-8, at byte {position}", position=position
        )

    def test_another_unicode_encoding_is_named(self) -> None:
        with pytest.raises(InvalidRequest, match="it looks like UTF-16; send UTF-8, at byte 0"):
            clean_text("{}".encode("utf-16"))

    @given(st.text(min_size=1, max_size=4), st.binary(max_size=3), st.integers(4_085, 4_100), st.sampled_from([1, 2]))
    def test_long_text_is_read_like_a_short_one(self, inside: str, broken: bytes, before: int, times: int) -> None:
        text = (b"a" * before + inside.encode()) * times + broken
        try:
            text.decode()
            position = None
        except UnicodeDecodeError as error:
            position = error.start
        found = outcome(lambda: clean_text(text))
        assert (found.position if isinstance(found, InvalidRequest) else None) == position


def _below(frames: int, call: Callable[[], T]) -> T:
    """Call with so many more frames on the stack."""
    return call() if frames == 0 else _below(frames - 1, call)


def is_deep_when_parsed(text: bytes) -> bool:
    """Return whether a text nests too deeply.  Raises as `parse` does."""
    return is_deeper(parse(raw_value, text)[1].repaired, 128)


class TestParse:
    @given(json_values())
    def test_well_formed_text_gives_its_value(self, value: Any) -> None:
        assert parse(any_value, json_bytes(value)) == (value, Text(json_bytes(value), json_bytes(value)))

    @pytest.mark.parametrize(
        ("text", "position"),
        [
            (b"", 0),
            (b"{", 1),
            (b"[NaN]", 1),
            (b"[-Infinity]", 2),
            (b"[1]x", 3),
            (b"[1] [2]", 4),
            (b"[1,]", 3),
            (b"{'a':1}", 1),
            (b'["\n"]', 2),
            (b"[01]", 2),
        ],
    )
    def test_text_that_is_not_json_is_refused_at_its_position(self, text: bytes, position: int) -> None:
        with pytest.raises(InvalidRequest) as caught:
            parse(any_value, text)
        assert (caught.value.reason, caught.value.position) == (Reason.INVALID_JSON, position)
        assert caught.value.detail.endswith(f", at byte {position}")

    @pytest.mark.parametrize(
        ("text", "value"),
        [
            (rb'"\ud800"', "\ufffd"),
            (rb'"\uDFFF"', "\ufffd"),
            (rb'"a\ud800\ud800b"', "a\ufffd\ufffdb"),
            (rb'"\udc00\ud800"', "\ufffd\ufffd"),
            (rb'"\ud800\ud83d\ude00"', "\ufffd\U0001f600"),
            (rb'"\ud83d\ude00\udc00"', "\U0001f600\ufffd"),
            (rb'"\\\ud800"', "\\\ufffd"),
            (rb'"\ud800\\udc00"', "\ufffd\\udc00"),
        ],
    )
    def test_lone_surrogates_are_replaced_in_text_of_the_same_length(self, text: bytes, value: str) -> None:
        found, parsed = parse(any_value, text)
        assert found == json.loads(parsed.repaired) == value
        assert parsed.original == text
        assert parsed.repaired != text
        assert len(parsed.repaired) == len(text)

    @pytest.mark.parametrize("text", [rb'"\ud83d\ude00"', rb'"\uD83D\uDE00"', rb'"\\ud800"', rb'"\ufffd"'])
    def test_what_is_no_lone_surrogate_is_left_alone(self, text: bytes) -> None:
        assert parse(any_value, text) == (json.loads(text), Text(text, text))

    def test_what_nests_beyond_any_stack_is_blanked(self) -> None:
        text = b'{"a":' * 5000 + b"1" + b"}" * 5000
        value, parsed = parse(raw_value, text)
        assert bytes(value) == parsed.repaired
        assert len(parsed.repaired) == len(text)
        assert is_deeper(parsed.repaired, 128)

    def test_deep_text_that_never_closes_is_refused(self) -> None:
        with pytest.raises(InvalidRequest):
            parse(any_value, b"[" * 5000)

    @given(
        levels=st.integers(100, 3000),
        rest=st.sampled_from([b"", b"N", b"1]x", rb'"\ud800', b"1"]),
        is_closed=st.booleans(),
        frames=st.integers(0, 900),
    )
    def test_the_result_does_not_depend_on_the_stack_of_the_caller(
        self, levels: int, rest: bytes, is_closed: bool, frames: int
    ) -> None:
        text = b"[" * levels + rest + b"]" * (levels * is_closed)
        here = outcome(lambda: is_deep_when_parsed(text))
        assert outcome(lambda: _below(frames, lambda: is_deep_when_parsed(text))) == here

    @given(any_bytes())
    def test_any_text_gives_a_value_or_our_error(self, body: bytes) -> None:
        found = outcome(lambda: parse(raw_value, clean_text(body)))
        if isinstance(found, Invalid):
            assert found.reason is Reason.INVALID_JSON
            assert found.position is not None
            assert 0 <= found.position <= len(body)
        else:
            assert len(bytes(found[0])) <= len(body)

    def test_what_the_decoder_does_not_expect_is_left_to_the_caller(self) -> None:
        with pytest.raises(msgspec.ValidationError):
            parse(msgspec.json.Decoder(int), b'"x"')
        with pytest.raises(msgspec.ValidationError):
            parse(msgspec.json.Decoder(int), rb'"\ud800"')


class TestParseValue:
    @pytest.mark.parametrize("text", [b"1e999", b"-1e999", b"[1e400]", b"1" * 4301])
    def test_a_number_beyond_what_can_be_read_is_our_error(self, text: bytes) -> None:
        with pytest.raises(InvalidMessage) as caught:
            parse_value(text)
        assert caught.value.reason is Reason.NUMBER_OUT_OF_RANGE

    @pytest.mark.parametrize("text", [b"1.7e308", b"1e-999", b"1" * 4300, b"-0.0", b"18446744073709551616"])
    def test_any_other_number_is_read(self, text: bytes) -> None:
        assert parse_value(text) == json.loads(text)


class TestIsDeeper:
    @given(json_values())
    def test_it_counts_levels(self, value: Any) -> None:
        text, depth = json_bytes(value), depth_of(value)
        assert not is_deeper(text, depth)
        assert depth == 0 or is_deeper(text, depth - 1)

    @given(
        st.recursive(
            st.just(']}\\"[{'),
            lambda inner: st.lists(inner, min_size=1, max_size=3) | st.dictionaries(st.just('{"'), inner, min_size=1),
            max_leaves=30,
        )
    )
    def test_brackets_inside_strings_do_not_count(self, value: Any) -> None:
        text, depth = json_bytes(value), depth_of(value)
        assert not is_deeper(text, depth)
        assert depth == 0 or is_deeper(text, depth - 1)

    @pytest.mark.parametrize("levels", [1, 64, 128])
    def test_the_limit_itself_is_allowed(self, levels: int) -> None:
        assert not is_deeper(b"[" * levels + b"]" * levels, levels)
        assert is_deeper(b"[" * (levels + 1) + b"]" * (levels + 1), levels)

    def test_many_brackets_side_by_side_are_not_deep(self) -> None:
        assert not is_deeper(b"[" + b"[],{}," * 1000 + b"0]", 2)

    def test_depth_after_much_breadth_is_found(self) -> None:
        assert is_deeper(b"[" + b"[]," * 1000 + b"[[[]]]]", 3)


class TestCompacted:
    @given(object_texts())
    def test_the_value_and_its_digits_stay_and_line_breaks_go(self, text: str) -> None:
        found = compacted(text.encode())
        assert not {*b"\r\n"} & {*found}
        assert ANY.decode(found) == ANY.decode(text)
        assert compacted(found) == found
        assert len(found) <= len(text.encode())

    @given(json_values())
    def test_no_space_is_left_by_writers_that_put_it_everywhere(self, value: Any) -> None:
        for indent in (None, 2, "\t"):
            text = json.dumps({"": value}, ensure_ascii=False, indent=indent).encode()
            assert compacted(text) == json_bytes({"": value})

    @given(object_texts())
    def test_escapes_go_where_json_does_not_require_them(self, text: str) -> None:
        found = without_escapes(text.encode())
        assert ANY.decode(found) == ANY.decode(text)
        assert not re.search(rb"\\(/|u(?!00[01]))", found.replace(b"\\\\", b"").replace(b"\\u007f", b""))


class TestReplaceSurrogates:
    @given(hostile_texts())
    def test_the_length_never_changes(self, text: bytes) -> None:
        assert len(replace_surrogates(text)) == len(text)

    @given(st.lists(st.sampled_from(["\\ud800", "\\udc00", "\\uD83D", "\\ude00", "\\\\", "\\n", "a", "u"])))
    def test_it_agrees_with_what_python_reads(self, pieces: list[str]) -> None:
        """Python keeps unpaired surrogates when it decodes JSON: exactly these are to be replaced."""
        text = ('"' + "".join(pieces) + '"').encode()
        expected = "".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in json.loads(text))
        assert json.loads(replace_surrogates(text)) == expected


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ({}, "an object"),
        ([], "an array"),
        ("", "a string"),
        (True, "a boolean"),
        (1, "a number"),
        (1.5, "a number"),
        (None, "null"),
        (object(), "something else"),
    ],
)
def test_kind_of(value: object, kind: str) -> None:
    assert kind_of(value) == kind
