"""The hot path for reading messages: a typed struct into which only a message that keeps the rules can be decoded.

Theory.  Decoding into the struct *is* the check: msgspec refuses a field of the wrong type, an empty id, and an unknown
field; blank ids are checked separately.  Nearly all messages fit, and are then read, changed and written without a
dict; those of a batch are decoded in one call.  Any other message is decoded by itself by `trackcore.wire.rules`, field
by field, and either normalized or rejected with a reason.  So there are two code paths with one result: a property test
checks that they agree.

Free-form parts stay the text that the client wrote, digit for digit.  They are decoded too, since msgspec does not
check the range of numbers in the text that it skips; but they are not written again, unless they hold escapes
(`trackcore.text.jsontext.without_escapes`).  Of two values of one name, the last counts, and the other is skipped.

(An attrs object for each message would cost more than half of its parsing; a dict, as much again.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import msgspec

from trackcore.errors import MessageWarning
from trackcore.fields import Kind
from trackcore.limits import Limits
from trackcore.messages import FIELDS
from trackcore.text.blanks import is_blank
from trackcore.text.jsontext import compacted, encode_json, has_escape, raw_fields, without_escapes
from trackcore.timestamps import time_text
from trackcore.typing import Call, JSONObject
from trackcore.wire.rules import check_message, check_size, decode_object, is_write_key, near_misses


def _nested(levels: int) -> Any:
    """Return the type of a JSON value with at most so many levels of arrays and objects."""
    value: Any = bool | int | float | str | None
    for _ in range(levels):
        value = bool | int | float | str | list[value] | dict[str, value] | None
    return value


LEVELS = 8
"""How deep a message may nest on this path: deeper than real messages, and not deep enough to do harm."""

if TYPE_CHECKING:
    Value: TypeAlias = Any
else:
    Value = _nested(LEVELS - 2)  # the message, and the object that the value is in, are levels too

Text: TypeAlias = Annotated[str, msgspec.Meta(min_length=1)] | None

ABSENT = msgspec.Raw()

_TYPES: Mapping[Kind, tuple[Any, Any]] = dict.fromkeys(Kind, (Text, None)) | dict.fromkeys(
    (Kind.PROPERTIES, Kind.TRAITS, Kind.CONTEXT, Kind.INTEGRATIONS), (msgspec.Raw, ABSENT)
)
"""The type of a field in the struct, and its default, which is what an absent field is."""

_BY_NAME = {field.name: field for fields in FIELDS.values() for field in fields}

if TYPE_CHECKING:

    class MessageStruct(msgspec.Struct):
        """A message of any call on its way from the wire to an envelope: all fields of all calls.

        Type checkers see only those that are accessed by name.  `type` and `message_id` may be None at first.
        """

        type: Any
        event: str | None
        message_id: Any
        user_id: str | None
        anonymous_id: str | None
        properties: msgspec.Raw
        traits: msgspec.Raw
        context: msgspec.Raw
        integrations: msgspec.Raw
        timestamp: str | None
        original_timestamp: str | None
        sent_at: str | None
        received_at: str | None
        write_key: str | None

        def __init__(self, **fields: Any) -> None: ...

else:
    MessageStruct = msgspec.defstruct(
        "MessageStruct",
        [
            ("type", Call | None, None),
            *((field.name, *_TYPES[field.kind]) for field in sorted(_BY_NAME.values(), key=lambda field: field.kind)),
            ("write_key", Text, None),
            # Many SDKs send these four; they are not interpreted.
            ("metadata", Value, msgspec.field(name="_metadata", default=msgspec.UNSET)),
            *((name, Value, msgspec.UNSET) for name in ("channel", "version", "project_id")),
        ],
        rename="camel",
        omit_defaults=True,
        forbid_unknown_fields=True,
        gc=False,
    )


decode_struct = msgspec.json.Decoder(MessageStruct).decode
"""Decode the text of one message.  Raises `msgspec.ValidationError` if it does not fit."""


def checked(messages: Sequence[MessageStruct], call: Call | None) -> list[JSONObject | None]:
    """Check what the types of the struct do not express, and return the contexts, decoded; None for an absent one.

    `call` is the one that the path names, None in a batch.  Raises `msgspec.ValidationError` if a message does not fit.
    (A loop for each part, of which none keeps what it decodes longer than needed, is faster than one for all.)
    """
    if call is not None:
        for message in messages:
            message.type = call
    _check_texts(messages)
    for message in messages:
        if message.properties is not ABSENT:
            _decode_part(message.properties)
        if message.traits is not ABSENT:
            _decode_part(message.traits)
    return [None if message.context is ABSENT else _decode_part(message.context) for message in messages]


def _check_texts(messages: Iterable[MessageStruct]) -> None:
    """Check that what each message must have is there, and that no id is blank.

    Text that begins with an ASCII letter, digit or sign is not blank, so only other texts are scanned.
    """
    for message in messages:
        required = getattr(message, _REQUIRED.get(message.type, "type"))
        user_id, anonymous_id, message_id = message.user_id, message.anonymous_id, message.message_id
        if (
            required is None
            or (required[0] not in _SHOWN and is_blank(required))
            or (anonymous_id is None if user_id is None else user_id[0] not in _SHOWN and is_blank(user_id))
            or (anonymous_id is not None and anonymous_id[0] not in _SHOWN and is_blank(anonymous_id))
            or (message_id is not None and message_id[0] not in _SHOWN and is_blank(message_id))
        ):
            raise msgspec.ValidationError("a text is missing or blank")


def remove_escapes(messages: Iterable[MessageStruct]) -> None:
    """Remove the escapes of free-form parts, where there are any."""
    for message in messages:
        if has_escape(b"".join((message.properties, message.traits, message.context, message.integrations))):
            for name in _PARTS:
                part = getattr(message, name)
                if part is not ABSENT:
                    setattr(message, name, msgspec.Raw(without_escapes(bytes(part))))


Reading: TypeAlias = tuple[MessageStruct, JSONObject | None, JSONObject | None]
"""The message, its context (None: it has none), and the fields that the struct does not have (None: none)."""


def read_alone(text: bytes, call: Call | None, limits: Limits, warnings: list[MessageWarning]) -> Reading:
    """Read the source text of one message.

    `call` is the one that the path names, None in a batch.  Warnings about lossy normalizations are appended to
    `warnings`.  Raises `InvalidMessage`.
    """
    if len(text) > limits.message_bytes or limits.depth < LEVELS:
        check_size(text, limits)
    compact = compacted(text)
    try:
        message = decode_struct(compact)
        (context,) = checked([message], call)
    except msgspec.ValidationError:
        check_size(text, limits)
        return _read_lenient(compact, call, warnings)
    if has_escape(text):
        remove_escapes([message])
    return message, context, None


def _read_lenient(text: bytes, call: Call | None, warnings: list[MessageWarning]) -> Reading:
    """Read a message by the rules of `trackcore.wire.rules`.  Raises `InvalidMessage`."""
    wire_object = decode_object(text)
    call = check_message(wire_object, call, warnings)
    texts = raw_fields.decode(text)
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
        elif kind is dict and value.__class__ is dict:
            known[attribute] = msgspec.Raw(without_escapes(bytes(texts[name])))
        elif kind is None or (kind is str and value.__class__ is str and value != ""):
            known[attribute] = value
        elif value is not None and name != "writeKey":
            extra[name] = value
    if near := near_misses(extra, call):
        warnings.extend(near)
        extra = {name: value for name, value in extra.items() if not is_write_key(name)}
    context = wire_object.get("context")
    return MessageStruct(**known), context, extra


def write_message(message: MessageStruct, extra: JSONObject | None) -> bytes:
    """Return a message as JSON text, with its other fields behind those of the struct."""
    payload = encode_json(message)
    return payload[:-1] + b"," + encode_json(extra)[1:] if extra else payload


_REQUIRED: Mapping[Call, str] = {
    call: field.name for call, fields in FIELDS.items() for field in fields if field.missing
}
"""The attribute that a message of a call must have; of other messages it is `type`."""

_SHOWN = frozenset(map(chr, range(ord("!"), ord("~") + 1)))
_decode_part = msgspec.json.Decoder(dict[str, Value]).decode

_TIMES = frozenset(field.wire_name for field in _BY_NAME.values() if field.kind is Kind.TIME)
_PARTS = tuple(field.name for field in msgspec.structs.fields(MessageStruct) if field.type is msgspec.Raw)
_KINDS: Mapping[Any, type | None] = {Text: str, Call | None: str, msgspec.Raw: dict, Value: None}
_FIELDS: Mapping[str, tuple[str, type | None]] = {
    field.encode_name: (field.name, _KINDS[field.type]) for field in msgspec.structs.fields(MessageStruct)
}
"""By the wire name of a field: its attribute, and the type that its value has there (None: any)."""
