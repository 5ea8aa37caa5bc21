"""The codec: bytes to typed messages and back, by cattrs on msgspec.

Its contract: for *any* bytes, decoding returns a message or raises `InvalidRequest` or `InvalidMessage`; anything
else is a bug.  For every message that keeps the rules, `decode_message(encode_message(message)) == message`.

The rules are those of `trackcore.wire.rules`.  A wire object has passed them before cattrs structures it, so cattrs
only maps names and never coerces a value: `user_id` is `userId` on the wire, an absent field is `None`, and an unknown
one is in `extra`.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import attrs
import msgspec
from cattrs import Converter
from cattrs.fns import identity
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from trackcore.errors import InvalidMessage, MessageWarning, Reason, WarningCode
from trackcore.fields import Kind
from trackcore.limits import DEFAULT_LIMITS, Limits
from trackcore.messages import FIELDS, MESSAGE_TYPES, Batch, Message
from trackcore.text.jsontext import encode_json, replace_surrogates
from trackcore.timestamps import time_text
from trackcore.typing import Call, JSONObject
from trackcore.wire.plainjson import plain_object
from trackcore.wire.request import Request, parse_request
from trackcore.wire.rules import CALLS, check_message, check_message_id, decode_item, is_write_key, too_many_messages

_MESSAGE_TYPES = frozenset(MESSAGE_TYPES.values())


def decode_message(body: bytes, call: Call | None = None, limits: Limits = DEFAULT_LIMITS) -> Message:
    """Decode one message.  Without `call` the message needs a `type`; with it, `type` is ignored.

    Raises:
        InvalidRequest: the bytes are not one JSON object within the limits.
        InvalidMessage: the message breaks a rule of its call.
        ValueError: the call does not exist.
    """
    if call is not None and call not in CALLS:
        raise ValueError(f"{call!r} is not a call; expected one of {', '.join(sorted(CALLS))}")
    request = parse_request(body, call or "track", limits)
    return _decode_item(request.items[0], call, limits)


def decode_batch(body: bytes, limits: Limits = DEFAULT_LIMITS) -> Batch:
    """Decode a batch, not yet merged.

    Raises:
        InvalidRequest: the bytes are not a batch within the limits.
        InvalidMessage: a message breaks a rule (its path starts with `batch[index]`), or there are too many.
    """
    request = parse_request(body, "batch", limits)
    if request.invalid is not None:
        raise request.invalid
    if len(request.items) > limits.batch_messages:
        raise too_many_messages(limits.batch_messages, len(request.items))
    return Batch(
        messages=[_decode_nth(request, index, limits) for index in range(len(request.items))],
        context=request.context,
        integrations=request.integrations,
        sent_at=request.sent_at,
        write_key=request.write_key,
    )


def encode_message(message: Message) -> bytes:
    """Encode one message for the wire, including its `type`.

    As in JavaScript, NaN and infinity become null; an unpaired surrogate becomes U+FFFD, written as an escape.  The
    JSON forms of other Python values are listed in `trackcore.wire.plainjson`.

    Raises:
        InvalidMessage: a free-form part holds a value that has no JSON form.
        TypeError: it is not a message.
    """
    return replace_surrogates(encode_as_given(message)[0])


def encode_as_given(message: Message) -> tuple[bytes, tuple[MessageWarning, ...]]:
    """Encode one message as SDKs do, with unpaired surrogates as escapes, and return warnings about replaced values.

    Raises as `encode_message` does.
    """
    not_finite: list[str] = []
    text = _encode(_as_plain(message, not_finite))
    if not not_finite:
        return text, ()
    places = f", in {len(not_finite)} places" if len(not_finite) > 1 else ""
    detail = f"null was written for a number that is not finite{places}"
    return text, (MessageWarning(code=WarningCode.NUMBER_NOT_FINITE, message=detail, path=not_finite[0]),)


def encode_batch(batch: Batch) -> bytes:
    """Encode a batch as one request body.  Raises `InvalidMessage` as `encode_message` does."""
    envelope: JSONObject = {
        "batch": [_as_plain(message, []) for message in batch.messages],
        "context": batch.context and plain_object(batch.context, []),
        "integrations": batch.integrations and plain_object(batch.integrations, []),
        "sentAt": batch.sent_at,
        "writeKey": batch.write_key,
    }
    return replace_surrogates(_encode({name: value for name, value in envelope.items() if value is not None}))


def structure_message(message: JSONObject) -> Message:
    """Build a typed message from a wire object that keeps the rules, such as a stored one.

    Fields that the documentation does not know are kept in `extra`.  A `writeKey`, or a near miss of that name, is
    dropped: it belongs to its request, and is the credential of the source.
    """
    return _converter().structure(message, MESSAGE_TYPES[message["type"]])


def unstructure_message(message: Message) -> JSONObject:
    """Build a wire object from a typed message.  Raises `TypeError` for any other value."""
    if message.__class__ not in _MESSAGE_TYPES:
        _check_subclass(type(message))
    wire_object: JSONObject = _converter().unstructure(message)
    return wire_object


def _check_subclass(kind: type) -> None:
    """Accept a subclass of a message if it adds no fields.  Raises `TypeError`."""
    base = next((known for known in kind.__mro__ if known in _MESSAGE_TYPES), None)
    if base is None:
        raise TypeError(f"{kind.__name__} is not a message; expected one of {_MESSAGE_LIST}")
    known = {field.name for field in attrs.fields(base)}
    more = [field.name for field in attrs.fields(kind) if field.name not in known]
    if more:
        raise TypeError(f"{kind.__name__} adds fields to {base.__name__}, which would be lost: {', '.join(more)}")


_MESSAGE_LIST = ", ".join(message_type.__name__ for message_type in MESSAGE_TYPES.values())


def _as_plain(message: Message, not_finite: list[str]) -> JSONObject:
    """Build a wire object of plain JSON.  Bytes become base64 in free-form parts, and are refused in text fields."""
    wire_object = unstructure_message(message)
    for name, value in wire_object.items():
        if isinstance(value, bytes | bytearray | memoryview) and name not in message.extra:
            detail = f"`{name}` is text, not {type(value).__name__}: decode it first"
            raise InvalidMessage(reason=Reason.VALUE_NOT_JSON, detail=detail, path=name)
    return plain_object(wire_object, not_finite)


@cache
def _converter() -> Converter:
    """Make the converter when it is first used: its code is generated, and intake needs none of it."""
    converter = Converter(detailed_validation=False)
    for call, message_type in MESSAGE_TYPES.items():
        _configure(converter, call, message_type)
    return converter


def _configure(converter: Converter, call: Call, message_type: type[Message]) -> None:
    """Register the wire names of one message type; other fields go to `extra` and come from it.

    The values have passed the rules: cattrs must not coerce them.
    """
    as_checked = converter.get_structure_hook(Any)
    names = frozenset(field.wire_name for field in FIELDS[call])
    times = frozenset(field.wire_name for field in FIELDS[call] if field.kind is Kind.TIME)
    overrides: dict[str, Any] = {
        field.name: override(
            rename=field.wire_name, omit_if_default=True, struct_hook=as_checked, unstruct_hook=identity
        )
        for field in FIELDS[call]
    }
    structure = make_dict_structure_fn(message_type, converter, **overrides, extra=override(struct_hook=as_checked))
    unstructure = make_dict_unstructure_fn(message_type, converter, **overrides, extra=override(omit=True))

    def structure_all(message: JSONObject, _: Any) -> Message:
        extra: JSONObject = {}
        known: JSONObject = {"extra": extra}
        for name, value in message.items():
            if name in names:
                known[name] = time_text(value) if name in times else value
            elif name != "type" and not is_write_key(name):
                extra[name] = value
        return structure(known, message_type)

    def unstructure_all(message: Message) -> JSONObject:
        extra = {name: value for name, value in message.extra.items() if not is_write_key(name)}
        return {"type": call} | extra | unstructure(message) | {"type": call}

    converter.register_structure_hook(message_type, structure_all)
    converter.register_unstructure_hook(message_type, unstructure_all)


def _decode_nth(request: Request, index: int, limits: Limits) -> Message:
    try:
        return _decode_item(request.items[index], None, limits)
    except InvalidMessage as error:
        path = f"batch[{index}].{error.path}" if error.path else f"batch[{index}]"
        raise attrs.evolve(error, path=path) from None


def _decode_item(item: bytes | msgspec.Raw, call: Call | None, limits: Limits) -> Message:
    message = decode_item(item, limits)
    check_message(message, call, [])
    check_message_id(message.get("messageId", ""), limits)
    return structure_message(message)


def _encode(wire_object: JSONObject) -> bytes:
    try:
        try:
            return encode_json(wire_object)
        except UnicodeEncodeError:
            return json.dumps(wire_object).encode()  # UTF-8 has no unpaired surrogate, but ASCII text has its escape
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidMessage(reason=Reason.VALUE_NOT_JSON, detail=str(error)) from error
