"""The wire: a request body taken apart into messages, and the rules that one message must keep.

Theory.  A body becomes a `Request`: the source text of each message, plus what a batch says for all of them.  Each
message's text is then decoded by itself, so that its size is measured on its own bytes and its faults stay its own.
The result is a *wire object*, a dict that nobody else holds, and `check_message` mends it in place.  (Building an
attrs object for each message costs more than half of what parsing it does, and intake would throw it away;
`trackcore.codec` makes one where somebody wants one.)

What is mended and what is refused follows what SDKs really send:

- ids: the Ruby and PHP SDKs send numbers, the Node SDK empty strings, the Python and browser SDKs null;
- objects: PHP writes an empty one as `[]`, the Rust SDK an absent one as null;
- `name`: the Ruby SDK sends `""` for a page without a name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, get_args

import attrs
import msgspec

from trackcore.credentials import write_key
from trackcore.errors import Caution, InvalidMessage, InvalidRequest, Reason, Warned
from trackcore.jsontext import clean_text, is_deeper, kind_of, parse, parse_value
from trackcore.limits import Limits
from trackcore.typing import Call, Endpoint, JSONObject, WriteKey

CALLS: frozenset[Call] = frozenset(get_args(Call))


@attrs.frozen(kw_only=True)
class Request:
    """A body taken apart.

    `items` are the source texts of the messages.  `context`, `integrations`, `sent_at` and `write_key` are those of a
    batch; `invalid` is what is wrong with the first two, and then holds for each of its messages.  `call` is None in a
    batch, where each message says its own.  `replaced` is the escape that stands where lone surrogates were.
    """

    call: Call | None
    items: tuple[bytes | msgspec.Raw, ...]
    context: JSONObject | None = None
    integrations: JSONObject | None = None
    sent_at: Any = None
    write_key: WriteKey | None = None
    replaced: bytes | None = None
    invalid: InvalidMessage | None = None


def parse_request(body: bytes, endpoint: Endpoint, limits: Limits) -> Request:
    """Take a body apart.  Raises `InvalidRequest` when it is of no use as a whole."""
    if len(body) > limits.request_bytes:
        raise body_too_large(limits.request_bytes, len(body))
    text = clean_text(body)
    return _parse_batch(text, limits) if endpoint == "batch" else _parse_single(text, endpoint, limits)


def body_too_large(limit: int, actual: int | None) -> InvalidRequest:
    """Say that a body is too large; `actual` is None where reading stopped before its end."""
    return InvalidRequest(
        reason=Reason.BODY_TOO_LARGE,
        detail=f"the request is larger than {limit} bytes",
        limit=limit,
        actual=actual,
    )


def decode_item(item: bytes | msgspec.Raw, limits: Limits) -> JSONObject:
    """Decode the source text of one message.  Raises `InvalidMessage` when it is too large, too deep or no object."""
    text = bytes(item)
    if len(text) > limits.message_bytes:
        raise _message_too_large(limits.message_bytes, len(text))
    if is_deeper(text, limits.depth + 1):
        raise _too_deep("the message", limits.depth)
    value = parse_value(text)
    if value.__class__ is not dict:
        detail = f"a message is an object, not {kind_of(value)}"
        raise InvalidMessage(reason=Reason.MESSAGE_NOT_OBJECT, detail=detail)
    message: JSONObject = value
    return message


def check_message(message: JSONObject, call: Call | None, cautions: list[Caution]) -> Call:
    """Check a wire object against the rules of its call and mend it in place; return the call.

    Raises `InvalidMessage` for the first rule that is broken.  What was mended with a loss is added to `cautions`.
    """
    if call is None:
        call = _call_of(message)
    else:
        message["type"] = call
    for name, kind, mend in _FIELDS[call]:
        if name in message:
            value = message[name]
            if not value or value.__class__ is not kind:
                mend(message, name, value, cautions)
    if "userId" not in message and "anonymousId" not in message:
        raise InvalidMessage(reason=Reason.NO_USER_ANON_ID, detail="a message needs a userId or an anonymousId")
    required = _REQUIRED.get(call)
    if required is not None and required[0] not in message:
        name, reason = required
        raise InvalidMessage(reason=reason, detail=f"a {call} message needs {name!r}", path=name)
    return call


def peek(item: bytes | msgspec.Raw, field: str) -> Any:
    """Read one field of a message that may be bad in any way; None when that is not possible."""
    try:
        return msgspec.json.decode(_raw_fields.decode(item)[field])
    except (msgspec.MsgspecError, ValueError, RecursionError, KeyError):
        return None


# Taking a body apart


class _BatchEnvelope(msgspec.Struct, rename="camel"):
    """What matters of a batch.  Everything is left as text until it is known to be within its limits."""

    batch: list[msgspec.Raw]
    context: msgspec.Raw = msgspec.Raw(b"null")
    integrations: msgspec.Raw = msgspec.Raw(b"null")
    sent_at: msgspec.Raw = msgspec.Raw(b"null")
    write_key: msgspec.Raw = msgspec.Raw(b"null")


_envelope = msgspec.json.Decoder(_BatchEnvelope)
_raw_value = msgspec.json.Decoder(msgspec.Raw)
_raw_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


def _parse_single(text: bytes, call: Call, limits: Limits) -> Request:
    item, replaced = parse(_raw_value, text)
    source = bytes(item)
    if not source.startswith(b"{"):
        raise _body_not_object(source)
    if len(source) > limits.message_bytes:
        error = _message_too_large(limits.message_bytes, len(source))
        raise InvalidRequest(reason=error.reason, detail=error.detail, limit=error.limit, actual=error.actual)
    return Request(call=call, items=(source,), replaced=replaced)


def _parse_batch(text: bytes, limits: Limits) -> Request:
    try:
        envelope, replaced = parse(_envelope, text)
    except msgspec.ValidationError:
        raise _not_a_batch(text) from None
    context = integrations = invalid = None
    try:
        context = _shared_object("context", Reason.CONTEXT_NOT_OBJECT, envelope.context, limits)
        integrations = _shared_object("integrations", Reason.INTEGRATIONS_NOT_OBJECT, envelope.integrations, limits)
    except InvalidMessage as error:
        invalid = error
    return Request(
        call=None,
        items=tuple(envelope.batch),
        context=context,
        integrations=integrations,
        sent_at=_lenient_value(envelope.sent_at),
        write_key=write_key(_lenient_value(envelope.write_key)),
        replaced=replaced,
        invalid=invalid,
    )


def _not_a_batch(text: bytes) -> InvalidRequest:
    source = bytes(parse(_raw_value, text)[0])
    if not source.startswith(b"{"):
        return _body_not_object(source)
    found = kind_of(peek(source, "batch")) if b'"batch"' in source else "nothing"
    return InvalidRequest(reason=Reason.BATCH_NOT_ARRAY, detail=f"`batch` is an array, not {found}", path="batch")


def _body_not_object(source: bytes) -> InvalidRequest:
    kind = "an array" if source.startswith(b"[") else kind_of(_lenient_value(source))
    return InvalidRequest(reason=Reason.BODY_NOT_OBJECT, detail=f"a request is a JSON object, not {kind}")


def _shared_object(name: str, reason: Reason, raw: msgspec.Raw, limits: Limits) -> JSONObject | None:
    text = bytes(raw)
    if is_deeper(text, limits.depth):
        raise _too_deep(f"`{name}` of the batch", limits.depth)
    value = parse_value(text)
    if value.__class__ is dict:
        shared: JSONObject = value
        return shared
    if value is None or value == []:
        return None
    raise InvalidMessage(reason=reason, detail=f"`{name}` of the batch is an object, not {kind_of(value)}", path=name)


def _lenient_value(raw: bytes | msgspec.Raw) -> Any:
    try:
        return msgspec.json.decode(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _message_too_large(limit: int, actual: int) -> InvalidMessage:
    return InvalidMessage(
        reason=Reason.MESSAGE_TOO_LARGE,
        detail=f"a message may have {limit} bytes, this one has {actual}",
        limit=limit,
        actual=actual,
    )


def _too_deep(what: str, limit: int) -> InvalidMessage:
    return InvalidMessage(reason=Reason.TOO_DEEP, detail=f"{what} nests more than {limit} levels", limit=limit)


def _call_of(message: JSONObject) -> Call:
    value = message.get("type")
    if value.__class__ is str and value in CALLS:
        call: Call = value
        return call
    if value is None:
        raise InvalidMessage(reason=Reason.NO_TYPE, detail="each message of a batch needs a `type`", path="type")
    found = repr(value[:40]) if isinstance(value, str) else kind_of(value)
    raise InvalidMessage(reason=Reason.UNKNOWN_TYPE, detail=f"`type` is {found}; expected {_CALL_LIST}", path="type")


_CALL_LIST = ", ".join(get_args(Call))


# The rules of one field: what stands there in the good case, and what happens in any other.

Mend: TypeAlias = Callable[[JSONObject, str, Any, list[Caution]], None]


def _mend_id(message: JSONObject, name: str, value: Any, cautions: list[Caution]) -> None:
    if value is None or value == "":
        del message[name]
    elif value.__class__ in (int, float):
        message[name] = text = _decimal_text(value)
        cautions.append(Caution(code=Warned.ID_FROM_NUMBER, message=f"the number was kept as {text!r}", path=name))
    else:
        raise InvalidMessage(reason=Reason.ID_NOT_STRING, detail=f"an id is a string, not {kind_of(value)}", path=name)


def _decimal_text(number: float) -> str:
    """Write a number as a client would write the same id as text: 12345, and 12345.0 and 1.2345e4 too."""
    is_whole = isinstance(number, int) or (number.is_integer() and abs(number) < 2**53)
    return str(int(number)) if is_whole else repr(number)


def _mend_object(reason: Reason) -> Mend:
    def mend(message: JSONObject, name: str, value: Any, _: list[Caution]) -> None:
        if value is None or value == []:
            del message[name]
        elif value.__class__ is not dict:
            raise InvalidMessage(reason=reason, detail=f"`{name}` is an object, not {kind_of(value)}", path=name)

    return mend


def _mend_text(reason: Reason) -> Mend:
    def mend(message: JSONObject, name: str, value: Any, _: list[Caution]) -> None:
        if value is None or value == "":
            del message[name]
        else:
            raise InvalidMessage(reason=reason, detail=f"`{name}` is a string, not {kind_of(value)}", path=name)

    return mend


_Field: TypeAlias = tuple[str, type, Mend]

_COMMON: tuple[_Field, ...] = (
    ("userId", str, _mend_id),
    ("anonymousId", str, _mend_id),
    ("messageId", str, _mend_id),
    ("context", dict, _mend_object(Reason.CONTEXT_NOT_OBJECT)),
    ("integrations", dict, _mend_object(Reason.INTEGRATIONS_NOT_OBJECT)),
)
_TRAITS: _Field = ("traits", dict, _mend_object(Reason.TRAITS_NOT_OBJECT))
_PROPERTIES: _Field = ("properties", dict, _mend_object(Reason.PROPERTIES_NOT_OBJECT))
_EVENT: _Field = ("event", str, _mend_text(Reason.EVENT_NOT_STRING))
_NAMES: tuple[_Field, ...] = (
    ("name", str, _mend_text(Reason.NAME_NOT_STRING)),
    ("category", str, _mend_text(Reason.CATEGORY_NOT_STRING)),
)

_FIELDS: Mapping[Call, tuple[_Field, ...]] = {
    "identify": (*_COMMON, _TRAITS),
    "track": (*_COMMON, _EVENT, _PROPERTIES),
    "page": (*_COMMON, *_NAMES, _PROPERTIES),
    "screen": (*_COMMON, *_NAMES, _PROPERTIES),
    "group": (*_COMMON, ("groupId", str, _mend_id), _TRAITS),
    "alias": (*_COMMON, ("previousId", str, _mend_id)),
}

_REQUIRED: Mapping[Call, tuple[str, Reason]] = {
    "track": ("event", Reason.EVENT_NOT_DEFINED),
    "group": ("groupId", Reason.NO_GROUP_ID),
    "alias": ("previousId", Reason.NO_PREVIOUS_ID),
}
