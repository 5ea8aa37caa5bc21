"""The fast way to read a message: into a typed struct, which only a message that keeps the rules fits into.

Theory.  Decoding into the struct *is* the check: msgspec refuses a field of the wrong type, an empty id, a field that
is not known; ids of blanks alone are looked for beside.  Nearly all messages fit, and are then read, changed and
written again without a dict between.  What does not fit is read once more by the rules of `trackcore.wire.rules`, field
by field, and either normalized or rejected with a reason.  So there are two code paths with one result: a property test
holds that a message that passes the fast one would come out of the other one just the same.

(An attrs object for each message would cost more than half of what parsing it does; a dict, as much again.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import msgspec

from trackcore.errors import MessageWarning
from trackcore.limits import Limits
from trackcore.text.blanks import is_blank
from trackcore.text.jsontext import encode_json
from trackcore.timestamps import time_text
from trackcore.typing import Call, JSONObject
from trackcore.wire.rules import check_message, check_size, decode_object, is_write_key, near_misses


def _nested(levels: int) -> Any:
    """Make the type of a JSON value that has at most so many levels of arrays and objects."""
    value: Any = bool | int | float | str | None
    for _ in range(levels):
        value = bool | int | float | str | list[value] | dict[str, value] | None
    return value


LEVELS = 8
"""How deep a message may nest to be read the fast way: deeper than messages do, and not deep enough to do harm."""

if TYPE_CHECKING:
    Value: TypeAlias = Any
else:
    Value = _nested(LEVELS - 2)  # the message itself, and the object that the value lies in, are levels too

Text: TypeAlias = Annotated[str, msgspec.Meta(min_length=1)] | None
Object: TypeAlias = dict[str, Value] | None

ABSENT = msgspec.Raw()


class MessageStruct(msgspec.Struct, rename="camel", omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """A message of any call on its way from the wire to an envelope.

    None is absent.  `integrations` is still JSON text, since the messages of a request mostly share it to the letter.
    The last four fields are no business of ours; they are here because many SDKs send them.
    """

    type: Call | None = None
    message_id: Text = None
    user_id: Text = None
    anonymous_id: Text = None
    event: Text = None
    name: Text = None
    category: Text = None
    group_id: Text = None
    previous_id: Text = None
    properties: Object = None
    traits: Object = None
    context: Object = None
    integrations: msgspec.Raw = ABSENT
    timestamp: Text = None
    original_timestamp: Text = None
    sent_at: Text = None
    received_at: Text = None
    write_key: Text = None
    metadata: Value = msgspec.field(name="_metadata", default=msgspec.UNSET)
    channel: Value = msgspec.UNSET
    version: Value = msgspec.UNSET
    project_id: Value = msgspec.UNSET


Reading: TypeAlias = tuple[Call, MessageStruct, JSONObject | None]
"""A message that was read: its call, the message, and those of its fields that the struct does not have."""


def read_message(text: bytes, call: Call | None, limits: Limits, warnings: list[MessageWarning]) -> Reading:
    """Read the source text of one message.

    `call` is the one that the path names, None in a batch.  What was mended with a loss is added to `warnings`.  Raises
    `InvalidMessage`.
    """
    if len(text) > limits.message_bytes or limits.depth < LEVELS:
        check_size(text, limits)
    try:
        message = _decode(text)
    except msgspec.ValidationError:
        check_size(text, limits)
        return decode_lenient(text, call, warnings)
    if call is None:
        call = message.type
    else:
        message.type = call
    user_id, anonymous_id, message_id = message.user_id, message.anonymous_id, message.message_id
    if call is None or (user_id is None and anonymous_id is None):
        return decode_lenient(text, call, warnings)
    required = getattr(message, _REQUIRED.get(call, "type"))
    # A text that begins with a letter, a digit or a sign of ASCII is not blank; only of others is each character read.
    if (
        required is None
        or not ("!" <= required < "\x7f" or not is_blank(required))
        or not (user_id is None or "!" <= user_id < "\x7f" or not is_blank(user_id))
        or not (anonymous_id is None or "!" <= anonymous_id < "\x7f" or not is_blank(anonymous_id))
        or not (message_id is None or "!" <= message_id < "\x7f" or not is_blank(message_id))
    ):
        return decode_lenient(text, call, warnings)
    return call, message, None


def decode_lenient(text: bytes, call: Call | None, warnings: list[MessageWarning]) -> Reading:
    """Read a message by the rules of `trackcore.wire.rules`.  Raises `InvalidMessage`."""
    wire_object = decode_object(text)
    call = check_message(wire_object, call, warnings)
    known: dict[str, Any] = {}
    extra: JSONObject = {}
    for name, value in wire_object.items():
        field = _FIELDS.get(name)
        if field is None:
            extra[name] = value
            continue
        attribute, kind = field
        if name in _TIMES:
            known[attribute] = time_text(value)
        elif kind is msgspec.Raw:
            known[attribute] = msgspec.Raw(encode_json(value))
        elif kind is None or (value.__class__ is kind and value != ""):
            known[attribute] = value
        elif value is not None and name != "writeKey":
            extra[name] = value
    if near := near_misses(extra, call):
        warnings.extend(near)
        extra = {name: value for name, value in extra.items() if not is_write_key(name)}
    return call, MessageStruct(**known), extra


def write_message(message: MessageStruct, extra: JSONObject | None) -> bytes:
    """Write a message as JSON text, its other fields behind those of the struct."""
    payload = encode_json(message)
    return payload[:-1] + b"," + encode_json(extra)[1:] if extra else payload


_REQUIRED: Mapping[Call, str] = {"track": "event", "group": "group_id", "alias": "previous_id"}
"""What a message of a call must have; of any other it is its `type`, which is there already."""

_decode = msgspec.json.Decoder(MessageStruct).decode

_TIMES = frozenset({"timestamp", "originalTimestamp", "sentAt", "receivedAt"})
_KINDS: Mapping[Any, type | None] = {Text: str, Call | None: str, Object: dict, msgspec.Raw: msgspec.Raw, Value: None}
_FIELDS: Mapping[str, tuple[str, type | None]] = {
    field.encode_name: (field.name, _KINDS[field.type]) for field in msgspec.structs.fields(MessageStruct)
}
"""Of each field on the wire: the attribute it is, and the type it has there (None: any)."""
