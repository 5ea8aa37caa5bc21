"""The wire: the rules that one message must keep, checked on the wire object and mended in place.

What is mended and what is refused follows what SDKs really send:

- ids: the Ruby and PHP SDKs send numbers, the Node SDK empty strings, the Python and browser SDKs null;
- objects: PHP writes an empty one as `[]`, the Rust SDK an absent one as null;
- `name`: the Ruby SDK sends `""` for a page without a name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, get_args

import msgspec

from trackcore.errors import Caution, InvalidMessage, Reason, Warned
from trackcore.jsontext import is_deeper, kind_of, parse_value
from trackcore.limits import Limits
from trackcore.typing import Call, JSONObject

CALLS: frozenset[Call] = frozenset(get_args(Call))


def decode_item(item: bytes | msgspec.Raw, limits: Limits) -> JSONObject:
    """Decode the source text of one message.  Raises `InvalidMessage` when it is too large, too deep or no object."""
    text = bytes(item)
    check_size(text, limits)
    return decode_object(text)


def check_size(text: bytes, limits: Limits) -> None:
    """Check what can be told of a message before it is decoded.  Raises `InvalidMessage`."""
    if len(text) > limits.message_bytes:
        raise message_too_large(limits.message_bytes, len(text))
    if is_deeper(text, limits.depth + 1):
        raise too_deep("the message", limits.depth)


def decode_object(text: bytes) -> JSONObject:
    """Decode the source text of one message.  Raises `InvalidMessage` when it is no object."""
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
        article = "an" if call == "alias" else "a"
        raise InvalidMessage(reason=reason, detail=f"{article} {call} message needs {name!r}", path=name)
    return call


def object_or_absent(name: str, value: Any) -> JSONObject | None:
    """Take a value where an object belongs.  None stands for absent, as do null and the empty array of PHP."""
    if value.__class__ is dict:
        found: JSONObject = value
        return found
    if value is None or value == []:
        return None
    raise InvalidMessage(reason=_NOT_OBJECT[name], detail=f"`{name}` is an object, not {kind_of(value)}", path=name)


def message_too_large(limit: int, actual: int) -> InvalidMessage:
    """Say that a message is too large; both sizes are in bytes."""
    return InvalidMessage(
        reason=Reason.MESSAGE_TOO_LARGE,
        detail=f"a message may have {limit} bytes, this one has {actual}",
        limit=limit,
        actual=actual,
    )


def too_many_messages(limit: int, actual: int) -> InvalidMessage:
    """Say that a batch has more messages than it may."""
    return InvalidMessage(
        reason=Reason.TOO_MANY_MESSAGES,
        detail=f"a batch may have {limit} messages, this one has {actual}",
        limit=limit,
        actual=actual,
    )


def check_message_id(message_id: str, limits: Limits) -> None:
    """Check the length of a messageId, in characters.  Raises `InvalidMessage`."""
    if len(message_id) > limits.message_id_chars:
        raise InvalidMessage(
            reason=Reason.MESSAGE_ID_TOO_LONG,
            detail=f"a messageId may have {limits.message_id_chars} characters, this one has {len(message_id)}",
            path="messageId",
            limit=limits.message_id_chars,
            actual=len(message_id),
        )


def too_deep(what: str, limit: int) -> InvalidMessage:
    """Say that something nests deeper than `limit` levels."""
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
        message[name] = text = decimal_text(value)
        cautions.append(Caution(code=Warned.ID_FROM_NUMBER, message=f"the number was kept as {text!r}", path=name))
    else:
        raise InvalidMessage(reason=Reason.ID_NOT_STRING, detail=f"an id is a string, not {kind_of(value)}", path=name)


def decimal_text(number: float) -> str:
    """Write a number as a client would write the same id as text: 12345, and 12345.0 and 1.2345e4 too."""
    is_whole = isinstance(number, int) or (number.is_integer() and abs(number) < 2**53)
    return str(int(number)) if is_whole else repr(number)


def _mend_object(message: JSONObject, name: str, value: Any, _: list[Caution]) -> None:
    if object_or_absent(name, value) is None:
        del message[name]


def _mend_text(message: JSONObject, name: str, value: Any, _: list[Caution]) -> None:
    if value is None or value == "":
        del message[name]
    else:
        detail = f"`{name}` is a string, not {kind_of(value)}"
        raise InvalidMessage(reason=_NOT_STRING[name], detail=detail, path=name)


_NOT_OBJECT: Mapping[str, Reason] = {
    "context": Reason.CONTEXT_NOT_OBJECT,
    "integrations": Reason.INTEGRATIONS_NOT_OBJECT,
    "properties": Reason.PROPERTIES_NOT_OBJECT,
    "traits": Reason.TRAITS_NOT_OBJECT,
}
_NOT_STRING: Mapping[str, Reason] = {
    "event": Reason.EVENT_NOT_STRING,
    "name": Reason.NAME_NOT_STRING,
    "category": Reason.CATEGORY_NOT_STRING,
}

_Field: TypeAlias = tuple[str, type, Mend]

_COMMON: tuple[_Field, ...] = (
    ("userId", str, _mend_id),
    ("anonymousId", str, _mend_id),
    ("messageId", str, _mend_id),
    ("context", dict, _mend_object),
    ("integrations", dict, _mend_object),
)
_TRAITS: _Field = ("traits", dict, _mend_object)
_PROPERTIES: _Field = ("properties", dict, _mend_object)
_EVENT: _Field = ("event", str, _mend_text)
_NAMES: tuple[_Field, ...] = (
    ("name", str, _mend_text),
    ("category", str, _mend_text),
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
