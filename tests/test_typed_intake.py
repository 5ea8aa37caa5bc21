"""The law that ties typed messages to the pipeline: both read the same messages from any batch.

`merge_batch(decode_batch(body))` and `receive(body)` share the parser and the rules, but not the code between: the
pipeline decodes into a struct, merges the batch's context as text, and makes no typed message.  By design the results
differ in the following fields only:

- `timestamp` (corrected for clock skew), `originalTimestamp` (the client's time), `receivedAt`, and the `messageId` of
  a message without one: the pipeline sets them, since it knows the time of reception; the codec does not;
- `context.ip`: the pipeline takes it from the connection of a user's own device; the codec has no connection;
- a field of another call with the value null, such as `traits` of a track message: the pipeline drops it, since the
  struct has the fields of all calls and None is absent there; the codec keeps it in `extra` as an unknown field.

An error about what the batch shares has no index: it holds for each message, and the codec raises it once.
"""

from __future__ import annotations

from typing import Any

import attrs
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from strategies import any_bytes, batches, contexts, integrations, odd_wire_messages, time_values, wire_messages
from support import RECEIVED_TEXT, WITH_KEY, json_bytes, outcome, read_payload, take_in

from trackcore import (
    IntakeResult,
    InvalidMessage,
    JSONObject,
    Message,
    decode_batch,
    encode_batch,
    merge_batch,
    unstructure_message,
)
from trackcore.messages import FIELDS
from trackcore.wire.rules import is_write_key

OF_SOME_CALL = {field.wire_name for fields in FIELDS.values() for field in fields}
SET_BY_THE_SERVER = ("timestamp", "originalTimestamp", "receivedAt")


def bodies() -> SearchStrategy[bytes]:
    """Return batches of good and odd messages that share a context, integrations and a time of sending, or not."""
    keyed = st.builds(
        lambda message, name: message | {name: "secret"},
        wire_messages(),
        st.sampled_from(["writeKey", "writekey", "write_key", "Write-Key"]),
    )
    shared: dict[str, SearchStrategy[Any]] = {
        "context": contexts() | st.none() | st.just([]),
        "integrations": integrations() | st.none() | st.just([]),
        "sentAt": time_values(),
    }
    some = st.lists(wire_messages() | keyed, min_size=1, max_size=3) | st.lists(odd_wire_messages(), max_size=3)
    return st.fixed_dictionaries({"batch": some}, optional=shared).map(json_bytes) | batches().map(encode_batch)


def as_received(message: Message, payload: JSONObject) -> JSONObject:
    """Return a typed message as the wire object that the server makes of it, with the server's own fields."""
    nulls = {name for name, value in message.extra.items() if value is None and name in OF_SOME_CALL}
    wire_object = {name: value for name, value in unstructure_message(message).items() if name not in nulls}
    original = message.timestamp or message.original_timestamp
    own: JSONObject = {"originalTimestamp": original} if original else {}
    own |= {"timestamp": payload["timestamp"], "receivedAt": RECEIVED_TEXT}
    own["messageId"] = message.message_id or payload["messageId"]
    return {name: value for name, value in wire_object.items() if name not in SET_BY_THE_SERVER} | own


class TestTheTwoWaysAgree:
    @given(bodies())
    @example(b'{"batch":[{"type":"page","userId":7,"writekey":"s","context":{"a":{"b":1}}}],"context":{"a":{"c":2}}}')
    @example(b'{"batch":[{"type":"page","userId":"u","sentAt":5,"context":{"a":1}}],"sentAt":6,"context":{"a":2}}')
    @example(b'{"batch":[{"type":"page","userId":"u"}],"sentAt":6,"integrations":{"All":false}}')
    def test_on_each_message(self, body: bytes) -> None:
        self.check(body)

    @given(any_bytes())
    def test_on_hostile_text(self, body: bytes) -> None:
        self.check(body)

    def check(self, body: bytes) -> None:
        typed = outcome(lambda: merge_batch(decode_batch(body)))
        received = outcome(lambda: take_in(body))
        if not isinstance(received, IntakeResult):
            assert typed == received
        elif received.rejections:
            first = received.rejections[0]
            assert isinstance(typed, InvalidMessage)
            path = f"batch[{first.index}].{first.error.path}".removesuffix(".")
            assert typed in (first.error, attrs.evolve(first.error, path=path))
        else:
            assert isinstance(typed, tuple)
            payloads = [read_payload(envelope) for envelope in received.envelopes]
            assert not any(is_write_key(name) for message in typed for name in message.extra)
            assert [as_received(message, sent) for message, sent in zip(typed, payloads, strict=True)] == payloads

    @given(bodies())
    def test_except_for_the_ip_of_a_device(self, body: bytes) -> None:
        origin = attrs.evolve(WITH_KEY, client_ip="192.0.2.1", client_side=True)
        for plain, from_device in zip(take_in(body).envelopes, take_in(body, origin=origin).envelopes, strict=True):
            with_ip = read_payload(plain)
            with_ip["context"] = {"ip": "192.0.2.1"} | with_ip.get("context", {})
            assert read_payload(from_device) == with_ip
