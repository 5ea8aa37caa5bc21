from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import (
    CALLS,
    any_bytes,
    contexts,
    integrations,
    json_objects,
    messages,
    object_texts,
    odd_wire_messages,
    times,
    wire_messages,
)
from support import KEY, RECEIVED_AT, SOURCE, CountingIds, outcome, take_in

from trackcore import (
    DEFAULT_LIMITS,
    Call,
    Endpoint,
    JSONObject,
    Limits,
    Message,
    Origin,
    Pipelines,
    Reception,
    SourceRegistry,
    unstructure_message,
)
from trackcore.limits import MAX_MESSAGE_BYTES
from trackcore.wire.request import parse_request

DEVICE = Origin(header_key=KEY, client_ip="203.0.113.7", client_side=True)


def received(message: Any, endpoint: Endpoint) -> Any:
    """Receive a message and return its envelope and its payload, or the error."""
    intake = take_in(message if endpoint != "batch" else {"batch": [message]}, endpoint=endpoint)
    if intake.rejections:
        return intake.rejections[0].error
    (envelope,) = intake.envelopes
    payload = msgspec.json.decode(envelope.payload)
    payload.pop("unknown", None)
    return msgspec.structs.replace(envelope, payload=b"", received=b""), payload


class TestTheTwoPathsAgree:
    """The hot path and the lenient path return the same result for every message.

    An unknown field does not fit the struct, so it forces the lenient path.
    """

    @given(messages())
    def test_for_messages_as_we_write_them(self, message: Message) -> None:
        wire_object = unstructure_message(message)
        assert received(wire_object | {"unknown": 1}, "batch") == received(wire_object, "batch")

    @given(wire_messages(), st.sampled_from(["batch", *CALLS]))
    def test_for_messages_as_clients_write_them(self, message: JSONObject, endpoint: Endpoint) -> None:
        assert received(message | {"unknown": 1}, endpoint) == received(message, endpoint)

    @given(odd_wire_messages().filter(lambda message: isinstance(message, dict)), st.sampled_from(["batch", *CALLS]))
    def test_for_odd_ones(self, message: JSONObject, endpoint: Endpoint) -> None:
        assert received(message | {"unknown": 1}, endpoint) == received(message, endpoint)

    @given(json_objects(), st.sampled_from(CALLS))
    def test_for_fields_that_the_struct_knows_and_the_call_does_not(self, extra: JSONObject, call: Call) -> None:
        message: JSONObject = {"userId": "u", "event": "e", "groupId": "g", "previousId": "p", "name": "n"}
        message |= {"traits": extra, "properties": extra, "_metadata": extra, "channel": None, "version": 2}
        assert received(message | {"unknown": 1}, call) == received(message, call)


def outcomes(body: bytes, endpoint: Endpoint, limits: Limits, *, decode: bool) -> Any:
    """Receive a body whose messages are decoded in one call, or each by itself; return everything that comes of it."""
    pipelines = Pipelines(sources=SourceRegistry([SOURCE]), new_message_id=CountingIds(), limits=limits)
    request = parse_request(body, endpoint, limits, decode=decode)
    result = pipelines.of(SOURCE.name).run(request, Reception(received_at=RECEIVED_AT, origin=DEVICE))
    texts = [(envelope.payload, bytes(envelope.received)) for envelope in result.envelopes]
    return texts, result, request.shared


class TestInOneCall:
    """Messages that are decoded in one call become what they become when each is decoded by itself."""

    @given(
        st.lists(wire_messages(), max_size=4),
        st.fixed_dictionaries({}, optional={"context": contexts(), "integrations": integrations(), "sentAt": times()}),
        st.sampled_from([None, 1]),
        st.booleans(),
    )
    def test_for_batches(self, items: list[JSONObject], shared: JSONObject, indent: int | None, ascii_: bool) -> None:
        body = json.dumps({"batch": items} | shared, indent=indent, ensure_ascii=ascii_, default=str).encode()
        self.check(body, "batch")

    @given(any_bytes(), st.sampled_from(["batch", *CALLS]))
    def test_for_hostile_text(self, body: bytes, endpoint: Endpoint) -> None:
        self.check(body, endpoint)

    @given(st.lists(st.tuples(object_texts(), st.integers(0, 90)), min_size=1, max_size=8))
    def test_for_messages_of_about_the_limit(self, parts: list[tuple[str, int]]) -> None:
        """R8: a message is measured on its own source bytes, white space included, and the limit itself is allowed."""
        items = [f'{{"type":"page","userId":"u","properties":{text}{" " * spaces}}}' for text, spaces in parts]
        self.check(f'{{"batch":[{",".join(items)}]}}'.encode(), "batch", Limits(message_bytes=120))

    def check(self, body: bytes, endpoint: Endpoint, limits: Limits = DEFAULT_LIMITS) -> None:
        together = outcome(lambda: outcomes(body, endpoint, limits, decode=True))
        assert together == outcome(lambda: outcomes(body, endpoint, limits, decode=False))

    @pytest.mark.parametrize(("more", "rejected"), [(0, []), (1, [1])])
    @pytest.mark.parametrize("count", [3, 200])
    def test_a_large_one_among_many_is_measured_exactly(self, more: int, rejected: list[int], count: int) -> None:
        small = b'{"type":"page","userId":"u","properties":{"a":"%s"}}' % (b"x" * 100)
        large = small[:-1].ljust(MAX_MESSAGE_BYTES + more - 1) + b"}"
        intake = take_in(b'{"batch":[%s]}' % b",".join([small, large, *[small] * count]))
        assert [rejection.index for rejection in intake.rejections] == rejected

    def test_it_is_the_usual_way(self) -> None:
        body = b'{"batch":[{"type":"page","userId":"u"}],"sentAt":"now"}'
        assert parse_request(body, "batch", DEFAULT_LIMITS, decode=True).decoded is not None
        assert parse_request(b'{"userId":"u"}', "page", DEFAULT_LIMITS, decode=True).decoded is not None
        assert parse_request(body.replace(b'"u"', b"5"), "batch", DEFAULT_LIMITS, decode=True).decoded is None


def test_a_stored_message_has_its_fields_in_one_order() -> None:
    """The same on both paths, and for every call: readers of the log may compare texts."""
    names = "type messageId userId anonymousId event name category groupId previousId properties traits context"
    names += " integrations timestamp originalTimestamp sentAt receivedAt _metadata channel version projectId"
    objects = {name: {"a": True} for name in ("properties", "traits", "context", "integrations", "_metadata")}
    times = dict.fromkeys(("timestamp", "sentAt"), "2026-01-31T12:00:00.000Z")
    message = {name: "track" if name == "type" else "x" for name in reversed(names.split())} | objects | times
    for extra in ({}, {"unknown": 1}):
        (envelope,) = take_in({"batch": [message | extra]}).envelopes
        assert list(msgspec.json.decode(envelope.payload)) == [*names.split(), *extra]
