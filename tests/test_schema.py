"""The schema and the code agree, both ways: each accepts what the other accepts, with documented exceptions."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from jsonschema import Draft202012Validator
from strategies import CALLS, batches, json_objects, json_values, messages, odd_wire_messages, wire_messages
from support import json_bytes, take_in

from trackcore import (
    Call,
    JSONObject,
    Limits,
    any_message_schema,
    batch_schema,
    decode_message,
    encode_batch,
    encode_message,
    message_schema,
)
from trackcore.fields import wire_name
from trackcore.messages import MESSAGE_TYPES
from trackcore.wire.schema import with_dialect

VALUES: tuple[Any, ...] = (None, True, False, 0, 1, -1.5, 2**70, "", "x", "x" * 101, [], [1], [[]], {}, {"a": None})
ANY_MESSAGE = Draft202012Validator(any_message_schema())
BATCH = Draft202012Validator(batch_schema())


def drawn_from(schema: JSONObject) -> SearchStrategy[Any]:
    """Return instances of a message schema.  It knows the keywords that these schemas use, and fails on any other."""
    unknown = schema.keys() - {"title", "description", "type", "const", "properties", "required", "anyOf"}
    unknown -= {"pattern", "minLength", "maxLength", "minimum", "maximum", "maxItems"}
    assert not unknown, unknown
    if "const" in schema:
        return st.just(schema["const"])
    if "properties" in schema:
        return _objects(schema)
    if "type" not in schema:
        return json_values()
    kinds = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
    return st.one_of([_KINDS[kind](schema) for kind in kinds])


def _objects(schema: JSONObject) -> SearchStrategy[Any]:
    properties = schema["properties"]
    alternatives = schema["anyOf"]

    def of(alternative: JSONObject) -> SearchStrategy[Any]:
        narrowed = properties | alternative["properties"]
        required = {*schema["required"], *alternative["required"]}
        known = st.fixed_dictionaries(
            {name: drawn_from(narrowed[name]) for name in sorted(required)},
            optional={name: drawn_from(narrowed[name]) for name in narrowed.keys() - required},
        )
        return st.builds(lambda extra, known: extra | known, json_objects(), known)

    return st.one_of(list(map(of, alternatives)))


def _numbers(schema: JSONObject) -> SearchStrategy[Any]:
    """Return whole numbers within the bounds, and floats that have few digits when they are written out."""
    floats = st.floats(-1e38, 1e38).filter(lambda number: not number or abs(number) > 1e-19)
    return st.integers(schema["minimum"], schema["maximum"]) | floats


_KINDS: dict[str, Callable[[JSONObject], SearchStrategy[Any]]] = {
    "string": lambda schema: st.text(min_size=schema.get("minLength", 0), max_size=schema.get("maxLength")).filter(
        lambda text: re.search(schema.get("pattern", ""), text) is not None
    ),
    "number": _numbers,
    "null": lambda _: st.none(),
    "object": lambda _: json_objects(),
    "array": lambda schema: st.lists(json_values(), max_size=schema["maxItems"]),
}


def accepts(item: Any) -> bool:
    """Return whether the server accepts an item of a batch."""
    return not take_in(b'{"batch":[' + json_bytes(item) + b"]}").rejections


def long_number(item: Any) -> bool:
    """Return whether a message has an id on which schema and server differ: a number of many digits."""
    ids = [value for name, value in item.items() if name.endswith("Id")] if isinstance(item, dict) else []
    return any(isinstance(value, int | float) and (abs(value) > 10**37 or 0 < abs(value) < 1e-19) for value in ids)


class TestAgreement:
    @pytest.mark.parametrize("call", CALLS)
    def test_what_is_drawn_from_the_schema_is_decoded_and_accepted(self, call: Call) -> None:
        @given(drawn_from(message_schema(call)))
        def check(item: JSONObject) -> None:
            assert isinstance(decode_message(json_bytes(item)), MESSAGE_TYPES[call])
            assert accepts(item)

        check()

    @pytest.mark.parametrize("call", CALLS)
    def test_on_its_own_path_a_message_needs_no_type(self, call: Call) -> None:
        @given(drawn_from(message_schema(call, with_type=False)))
        def check(item: JSONObject) -> None:
            assert isinstance(decode_message(json_bytes(item), call), MESSAGE_TYPES[call])

        check()

    @given(messages())
    def test_what_the_codec_writes_is_valid(self, message: Any) -> None:
        assert ANY_MESSAGE.is_valid(json.loads(encode_message(message)))

    @given(batches())
    def test_a_batch_that_the_codec_writes_is_valid(self, batch: Any) -> None:
        assert BATCH.is_valid(json.loads(encode_batch(batch)))

    @given(wire_messages().filter(lambda item: not long_number(item)))
    @example({"type": "identify", "event": "0", "groupId": "0", "previousId": "0", "userId": 10**37})
    def test_what_clients_send_is_valid(self, item: JSONObject) -> None:
        assert ANY_MESSAGE.is_valid(item)

    @given(odd_wire_messages().filter(lambda item: not long_number(item)))
    def test_both_accept_and_both_refuse_the_same(self, item: Any) -> None:
        assert ANY_MESSAGE.is_valid(item) == accepts(item)

    @pytest.mark.parametrize("call", CALLS)
    def test_any_kind_of_value_in_any_field_gets_the_same_verdict(self, call: Call) -> None:
        good = {"type": call, "userId": "u", "event": "E", "groupId": "g", "previousId": "p"}
        for name in (*message_schema(call)["properties"], "writeKey", "other"):
            for value in VALUES:
                item = {**good, name: value}
                assert ANY_MESSAGE.is_valid(item) == accepts(item), item
                assert ANY_MESSAGE.is_valid(item | {"userId": None}) == accepts(item | {"userId": None}), item

    @given(
        st.fixed_dictionaries(
            {"batch": st.lists(odd_wire_messages().filter(lambda item: not long_number(item)), min_size=1, max_size=3)},
            optional=dict.fromkeys(("context", "integrations", "sentAt"), json_values()),
        )
    )
    def test_a_batch_is_valid_when_none_of_its_messages_is_rejected(self, batch: JSONObject) -> None:
        assert BATCH.is_valid(batch) == (not take_in(json_bytes(batch)).rejections)


class TestDocumentedDifferences:
    def test_size_depth_and_digits_have_no_words_in_the_schema(self) -> None:
        """JSON Schema cannot express three limits: bytes, levels of nesting, and digits of a number."""
        deep: Any = 0
        for _ in range(70):
            deep = [deep]
        good = {"type": "identify", "userId": "u"}
        for traits in ({"x": "y" * 40_000}, {"x": deep}):
            assert ANY_MESSAGE.is_valid({**good, "traits": traits})
            assert not accepts({**good, "traits": traits})
        many_digits = b'{"type":"identify","userId":"u","traits":{"x":' + b"9" * 5_000 + b"}}"
        assert take_in(b'{"batch":[' + many_digits + b"]}").rejections

    def test_a_batch_without_messages_may_share_what_it_likes(self) -> None:
        """The fields of a batch are validated in its messages: an empty batch has nothing to reject."""
        assert not take_in(b'{"batch":[],"context":false}').rejections
        assert not BATCH.is_valid({"batch": [], "context": False})

    @pytest.mark.parametrize("name", ["userId", "messageId"])
    def test_an_id_that_is_a_huge_whole_number_is_told_more_narrowly(self, name: str) -> None:
        item = {"type": "identify", "userId": "u", name: 10**50}
        assert accepts(item)
        assert not ANY_MESSAGE.is_valid(item)

    def test_the_digits_of_a_fraction_that_is_an_id_have_no_words(self) -> None:
        item = {"type": "identify", "userId": 1e-200}
        assert not accepts(item)
        assert ANY_MESSAGE.is_valid(item)


class TestContents:
    @pytest.mark.parametrize("call", CALLS)
    def test_every_field_of_the_message_type_is_described(self, call: Call) -> None:
        fields = {wire_name(field.name) for field in attrs.fields(MESSAGE_TYPES[call])} - {"extra"}
        properties = message_schema(call)["properties"]
        assert properties.keys() == fields | {"type"}
        assert all(schema["description"] for schema in properties.values())

    @pytest.mark.parametrize("schema", [any_message_schema(), batch_schema(), *map(message_schema, CALLS)])
    def test_it_is_a_schema(self, schema: JSONObject) -> None:
        Draft202012Validator.check_schema(with_dialect(schema))

    def test_limits_are_those_in_force(self) -> None:
        limits = Limits(message_id_chars=7, batch_messages=3, message_bytes=1_234, request_bytes=5_678, depth=9)
        message = message_schema("page", limits=limits)
        assert message["properties"]["messageId"]["maxLength"] == 7
        assert message["properties"]["messageId"]["maximum"] == 999_999
        assert "1234 bytes" in message["description"]
        assert "9 levels" in message["description"]
        batch = batch_schema(limits)
        assert batch["properties"]["batch"]["maxItems"] == 3
        assert "5678 bytes" in batch["description"]

    def test_a_bound_stays_within_what_a_float_can_hold(self) -> None:
        schema = message_schema("page", limits=Limits(message_id_chars=10_000))
        assert float(schema["properties"]["messageId"]["maximum"]) < float("inf")
