from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from strategies import CALLS, json_objects, messages, odd_wire_messages, wire_messages
from support import take_in

from trackcore import Call, Endpoint, JSONObject, Message, unstructure_message


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
