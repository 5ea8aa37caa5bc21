"""Free-form parts of a message are stored as the client wrote them, and read as before."""

from __future__ import annotations

import re

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from strategies import object_texts
from support import accept, stored, take_in

from trackcore import Reason
from trackcore.text.jsontext import raw_fields

PARTS = ("properties", "traits", "context", "integrations")
OUT_OF_RANGE = ("1e999", "-1E400", "1e0309", "9" * 310 + ".0", "9" * 5000)

_STRING_OR_NUMBER = re.compile(r'"(?:[^"\\]|\\.)*"|(-?[0-9][0-9.eE+-]*)', re.DOTALL)


def message(*, unknown: bool, **parts: str) -> bytes:
    """Return the text of a message with these parts; with an unknown field it does not fit the struct."""
    fields = {"type": '"track"', "userId": '"u"', "event": '"e"', **parts} | ({"unknown": "1"} if unknown else {})
    return "{{{}}}".format(",".join(f'"{name}":{text}' for name, text in fields.items())).encode()


def stored_texts(item: bytes, body: bytes = b'{"batch":[%s]}') -> dict[str, str]:
    """Receive a message in a batch, and return the texts of its parts as they are stored."""
    (envelope,) = take_in(body.replace(b"%s", item)).envelopes
    assert not re.search(rb"[\r\n]", envelope.payload), "a stored message is one line"
    return {name: bytes(text).decode() for name, text in raw_fields.decode(envelope.payload).items()}


def numbers(text: str) -> list[str]:
    """Return the numbers of a JSON text, as they are spelled."""
    return [match[1] for match in _STRING_OR_NUMBER.finditer(text) if match[1]]


def both_paths() -> SearchStrategy[bool]:
    """Return whether the message has an unknown field, with which it does not fit the struct."""
    return st.booleans()


class TestTheText:
    @given(object_texts(plain=True), both_paths())
    @example(text='{"price":1.10,"e":1E+05,"digits":0.30000000000000001,"zero":-0,"twice":1,"twice":2}', unknown=False)
    def test_without_spaces_and_escapes_it_is_stored_as_it_is(self, text: str, unknown: bool) -> None:
        found = stored_texts(message(unknown=unknown, **dict.fromkeys(PARTS, text)))
        assert [found[name] for name in PARTS] == [text] * len(PARTS)

    @given(object_texts(), both_paths())
    @example(text='{"a": "\\u00e9", "a": 1.0}', unknown=False)
    @example(text="{ }", unknown=True)
    def test_any_text_means_the_same_as_before(self, text: str, unknown: bool) -> None:
        found = stored_texts(message(unknown=unknown, **dict.fromkeys(PARTS, text)))
        for name in PARTS:
            assert msgspec.json.decode(found[name]) == msgspec.json.decode(text)

    @given(object_texts(unique=True), both_paths())
    def test_numbers_keep_their_digits(self, text: str, unknown: bool) -> None:
        """An escape in the same part makes `0` of `-0`, which are the same number."""
        found = stored_texts(message(unknown=unknown, properties=text))
        assert [number.replace("-0", "0") for number in numbers(found["properties"])] == [
            number.replace("-0", "0") for number in numbers(text)
        ]

    @pytest.mark.parametrize("unknown", [False, True])
    def test_spaces_and_escapes_are_removed(self, unknown: bool) -> None:
        """Text is searched for in stored messages as it is, so it has one spelling."""
        text = '{"city": "Z\\u00fcrich", "url": "https:\\/\\/x.y",\n "price": 1.10}'
        found = stored_texts(message(unknown=unknown, properties=text, context=text))
        assert found["properties"] == found["context"] == '{"city":"Zürich","url":"https://x.y","price":1.10}'

    @given(object_texts())
    def test_a_batch_on_several_lines_has_messages_of_one_line(self, text: str) -> None:
        found = stored_texts(message(unknown=False, properties=text), b'{\n "batch": [\r\n%s\n]\n}\n')
        assert msgspec.json.decode(found["properties"]) == msgspec.json.decode(text)


class TestMerging:
    @given(object_texts(), object_texts(), both_paths())
    def test_numbers_of_both_keep_their_digits(self, shared: str, own: str, unknown: bool) -> None:
        body = f'{{"batch":[%s],"context":{shared},"integrations":{shared}}}'.encode()
        found = stored_texts(message(unknown=unknown, context=own, integrations=own), body)
        known = {number.replace("-0", "0") for number in numbers(shared) + numbers(own)}
        for name in ("context", "integrations"):
            assert {number.replace("-0", "0") for number in numbers(found[name])} <= known

    def test_an_object_in_both(self) -> None:
        body = b'{"batch":[%s],"context":{"app":{"version":1.10,"build":2.0},"device":{"scale":3.00}}}'
        found = stored_texts(message(unknown=False, context='{"app":{"build":2.50},"scale":1E1}'), body)
        assert found["context"] == '{"app":{"version":1.10,"build":2.50},"device":{"scale":3.00},"scale":1E1}'

    def test_the_address_of_a_device(self) -> None:
        assert stored(b'{"type":"page","userId":"u","context":{ }}', context={"a": 1})["context"] == {"a": 1}


class TestNumbersOutOfRange:
    """R19: "Too deep, too many digits: our error, never a crash"."""

    @pytest.mark.parametrize("number", OUT_OF_RANGE, ids=lambda text: text[:8])
    @pytest.mark.parametrize("name", PARTS)
    @pytest.mark.parametrize("unknown", [False, True])
    def test_a_part_that_has_one_rejects_its_message_only(self, name: str, number: str, unknown: bool) -> None:
        bad = message(unknown=unknown, **{name: f'{{"a":[{{"b":{number}}}]}}'})
        good = message(unknown=False)
        intake = take_in(b'{"batch":[%s,%s,%s]}' % (good, bad, good))
        assert [rejection.error.reason for rejection in intake.rejections] == [Reason.NUMBER_OUT_OF_RANGE]
        assert len(intake.envelopes) == 2

    @pytest.mark.parametrize("number", ["1e308", "1e-999", "0e999", "9" * 4300, "0." + "9" * 5000], ids=lambda t: t[:8])
    def test_the_largest_are_stored_as_they_are(self, number: str) -> None:
        assert stored_texts(message(unknown=False, properties=f'{{"a":{number}}}'))["properties"] == f'{{"a":{number}}}'


class TestRepeatedNames:
    """RFC 8259: "The names within an object SHOULD be unique", and what receivers do with others differs.

    https://www.rfc-editor.org/rfc/rfc8259#section-4
    """

    def test_in_a_message_the_last_counts(self) -> None:
        assert stored(b'{"type":"page","userId":"a","properties":{"a":1},"userId":"b","properties":{}}') == stored(
            b'{"type":"page","userId":"b","properties":{}}'
        )

    def test_in_a_part_both_are_stored_and_readers_take_the_last(self) -> None:
        item = message(unknown=False, properties='{"a":1,"a":2}')
        assert stored_texts(item)["properties"] == '{"a":1,"a":2}'
        assert stored(item)["properties"] == {"a": 2}


class TestDepth:
    @pytest.mark.parametrize(("levels", "reason"), [(64, None), (65, Reason.TOO_DEEP)])
    @pytest.mark.parametrize("name", PARTS)
    @pytest.mark.parametrize("opening", ["[", '{"a":'])
    def test_the_limit_holds_in_each_part(self, name: str, opening: str, levels: int, reason: Reason | None) -> None:
        closing = "]" if opening == "[" else "}"
        value = '{"a":' + opening * (levels - 1) + "1" + closing * (levels - 1) + "}"
        rejections = take_in(b'{"batch":[%s]}' % message(unknown=False, **{name: value})).rejections
        assert [rejection.error.reason for rejection in rejections] == ([] if reason is None else [reason])


class TestReceived:
    @pytest.mark.parametrize("space", ["", " ", "\n"])
    def test_the_source_text_is_that_of_the_request(self, space: str) -> None:
        item = message(unknown=False, properties=f'{{"a":{space}1.0}}')
        for received in (accept(item).received, take_in(item, endpoint="track").envelopes[0].received):
            assert bytes(received) == item
