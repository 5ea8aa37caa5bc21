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
