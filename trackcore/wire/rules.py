"""The rules for one message: checks on the wire object, and normalization in place.

The rules follow the messages that SDKs really send:

- ids: the Ruby and PHP SDKs send numbers, the Node SDK empty strings, the Python and browser SDKs null; a blank id
  (`trackcore.text.blanks`) is absent, and so is a blank name of an event;
- objects: PHP encodes an empty one as `[]`, the Rust SDK an absent one as null;
- `name`: the Ruby SDK sends `""` for a page without a name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any, TypeAlias, get_args

import msgspec

from trackcore.errors import InvalidMessage, MessageWarning, Reason, WarningCode
from trackcore.fields import Kind
from trackcore.limits import Limits
from trackcore.messages import BATCH_FIELDS, FIELDS
from trackcore.text.blanks import is_blank
from trackcore.text.jsontext import is_deeper, kind_of, parse_value
from trackcore.typing import Call, JSONObject

CALLS: frozenset[Call] = frozenset(get_args(Call))


def decode_item(item: bytes | msgspec.Raw, limits: Limits) -> JSONObject:
    """Decode the source text of one message.  Raises `InvalidMessage` if it is too large, too deep or not an object."""
    text = bytes(item)
    check_size(text, limits)
    return decode_object(text)


def check_size(text: bytes, limits: Limits) -> None:
    """Check the size and depth of a message before it is decoded.  Raises `InvalidMessage`."""
    if len(text) > limits.message_bytes:
        raise message_too_large(limits.message_bytes, len(text))
    if is_deeper(text, limits.depth + 1):
        raise too_deep("the message", limits.depth)


def decode_object(text: bytes) -> JSONObject:
    """Decode the source text of one message.  Raises `InvalidMessage` if it is not an object."""
    value = parse_value(text)
    if value.__class__ is not dict:
        detail = f"a message is an object, not {kind_of(value)}"
        raise InvalidMessage(reason=Reason.MESSAGE_NOT_OBJECT, detail=detail)
    message: JSONObject = value
    return message


def check_message(message: JSONObject, call: Call | None, warnings: list[MessageWarning]) -> Call:
    """Check a wire object against the rules of its call, normalize it in place, and return the call.

    Raises `InvalidMessage` for the first broken rule.  Warnings about lossy normalizations are appended to `warnings`.
    """
    if call is None:
        call = _call_of(message)
    else:
        message["type"] = call
    for name, usual_type, normalize in _FIELDS[call]:
        if name in message:
            value = message[name]
            if not value or value.__class__ is not usual_type:
                normalize(message, name, value, warnings)
            elif name in _NEVER_BLANK and is_blank(message[name]):
                del message[name]
    if "userId" not in message and "anonymousId" not in message:
        detail = f"a message needs a userId or an anonymousId{_did_you_mean(message, 'userId', 'anonymousId')}"
        raise InvalidMessage(reason=Reason.NO_USER_ANON_ID, detail=detail)
    required = _REQUIRED.get(call)
    if required is not None and required[0] not in message:
        name, reason = required
        article = "an" if call == "alias" else "a"
        detail = f"{article} {call} message needs {name!r}{_did_you_mean(message, name)}"
        raise InvalidMessage(reason=reason, detail=detail, path=name)
    return call


def object_or_absent(name: str, value: Any) -> JSONObject | None:
    """Return the value as an object, or None if absent: null, or the empty array of PHP.  Raises `InvalidMessage`."""
    if value.__class__ is dict:
        found: JSONObject = value
        return found
    if value is None or value == []:
        return None
    raise InvalidMessage(reason=_WRONG_TYPE[name], detail=f"`{name}` is an object, not {kind_of(value)}", path=name)


def message_too_large(limit: int, actual: int) -> InvalidMessage:
    """Build the error for an oversized message (sizes in bytes)."""
    detail = f"a message may have {limit} bytes, this one has {actual}"
    return InvalidMessage(reason=Reason.MESSAGE_TOO_LARGE, detail=detail, limit=limit, actual=actual)


def too_many_messages(limit: int, actual: int) -> InvalidMessage:
    """Build the error for a message in excess of the batch limit."""
    detail = f"a batch may have {limit} messages, this one has {actual}"
    return InvalidMessage(reason=Reason.TOO_MANY_MESSAGES, detail=detail, limit=limit, actual=actual)


def source_disabled(source: str) -> InvalidMessage:
    """Build the error for each message of a source that is disabled."""
    return InvalidMessage(reason=Reason.SOURCE_DISABLED, detail=f"the source {source!r} is disabled")


def check_message_id(message_id: str, limits: Limits) -> None:
    """Check the length of a messageId, in characters.  Raises `InvalidMessage`."""
    if len(message_id) > limits.message_id_chars:
        raise message_id_too_long(message_id, limits)


def message_id_too_long(message_id: str, limits: Limits) -> InvalidMessage:
    """Build the error for a messageId that is too long."""
    limit, actual = limits.message_id_chars, len(message_id)
    detail = f"a messageId may have {limit} characters, this one has {actual}"
    reason = Reason.MESSAGE_ID_TOO_LONG
    return InvalidMessage(reason=reason, detail=detail, path="messageId", limit=limit, actual=actual)


def checked_id(made: object, limits: Limits) -> str:
    """Check and return a message id that the embedding program made.

    Raises `TypeError` unless it is a string; `ValueError` if it is blank, too long or not Unicode text.
    """
    if not isinstance(made, str):
        raise TypeError(f"new_message_id returned {type(made).__name__}, not str; return str(...) of it")
    made = str.__str__(made)
    if is_blank(made):
        raise ValueError("new_message_id returned a blank string; return a unique one, such as str(uuid4())")
    if len(made) > (limit := limits.message_id_chars):
        raise ValueError(f"new_message_id returned {len(made)} characters; a messageId may have {limit}")
    if not made.isascii():
        made.encode()  # an unpaired surrogate is a UnicodeEncodeError, which is a ValueError
    return made


def too_deep(what: str, limit: int) -> InvalidMessage:
    """Build the error for a value that nests deeper than `limit` levels."""
    return InvalidMessage(reason=Reason.TOO_DEEP, detail=f"{what} nests more than {limit} levels", limit=limit)


def _call_of(message: JSONObject) -> Call:
    value = message.get("type")
    if value.__class__ is str and value in CALLS:
        call: Call = value
        return call
    if value is None:
        detail = f"each message of a batch needs a `type`{_did_you_mean(message, 'type')}"
        raise InvalidMessage(reason=Reason.NO_TYPE, detail=detail, path="type")
    found = repr(value[:40]) if isinstance(value, str) else kind_of(value)
    raise InvalidMessage(reason=Reason.UNKNOWN_TYPE, detail=f"`type` is {found}; expected {_CALL_LIST}", path="type")


_CALL_LIST = ", ".join(get_args(Call))


# The rules of one field: the type that a value usually has, and the normalization of any other value.

_Normalize: TypeAlias = Callable[[JSONObject, str, Any, list[MessageWarning]], None]


def _normalize_id(message: JSONObject, name: str, value: Any, warnings: list[MessageWarning]) -> None:
    if value is None or value == "":
        del message[name]
    elif value.__class__ in (int, float):
        text = decimal_text(value)
        if text is None:
            detail = f"{value!r} cannot be an id: written as a decimal, it has more than {MAX_ID_CHARS} characters"
            raise InvalidMessage(reason=_WRONG_TYPE[name], detail=detail, path=name)
        message[name] = text
        detail = f"the number was kept as {text!r}"
        warnings.append(MessageWarning(code=WarningCode.ID_FROM_NUMBER, message=detail, path=name))
    else:
        raise InvalidMessage(reason=_WRONG_TYPE[name], detail=f"an id is a string, not {kind_of(value)}", path=name)


MAX_ID_CHARS = 40
"""How long an id may become that was sent as a number with a fraction or an exponent.  128 bits have 39 digits; without
a bound `1e300` of five bytes would become 301."""


def decimal_text(number: float) -> str | None:
    """Return a number as a client would write the same id as text: 12345 for 12345, 12345.0 and 1.2345e4.

    A float is written out from the shortest decimal that it is read from: 1e23 is "1" and 23 zeros.  None when that has
    more than `MAX_ID_CHARS` characters.
    """
    if isinstance(number, int):
        return str(number)
    text = f"{Decimal(repr(number)):f}"
    if number.is_integer():
        text = text.removesuffix(".0") if number else "0"
    return text if len(text) <= MAX_ID_CHARS else None


def _normalize_object(message: JSONObject, name: str, value: Any, _: list[MessageWarning]) -> None:
    if object_or_absent(name, value) is None:
        del message[name]


def _normalize_text(message: JSONObject, name: str, value: Any, _: list[MessageWarning]) -> None:
    if value is not None and value != "":
        detail = f"`{name}` is a string, not {kind_of(value)}"
        raise InvalidMessage(reason=_WRONG_TYPE[name], detail=detail, path=name)
    del message[name]


_RULES: Mapping[Kind, tuple[type, _Normalize]] = {
    Kind.MESSAGE_ID: (str, _normalize_id),
    Kind.USER_ID: (str, _normalize_id),
    Kind.ID: (str, _normalize_id),
    Kind.TEXT: (str, _normalize_text),
    Kind.PROPERTIES: (dict, _normalize_object),
    Kind.TRAITS: (dict, _normalize_object),
    Kind.CONTEXT: (dict, _normalize_object),
    Kind.INTEGRATIONS: (dict, _normalize_object),
}  # times have no rule: one that cannot be parsed is a warning

_ALL_FIELDS = {field.wire_name: field for fields in FIELDS.values() for field in fields}
_WRONG_TYPE = {name: field.wrong_type for name, field in _ALL_FIELDS.items() if field.wrong_type}
_NEVER_BLANK = frozenset(
    name for name, field in _ALL_FIELDS.items() if field.missing or field.wrong_type is Reason.ID_NOT_STRING
)
_FIELDS: Mapping[Call, tuple[tuple[str, type, _Normalize], ...]] = {
    call: tuple((field.wire_name, *_RULES[field.kind]) for field in fields if field.kind in _RULES)
    for call, fields in FIELDS.items()
}
_REQUIRED: Mapping[Call, tuple[str, Reason]] = {
    call: (field.wire_name, field.missing) for call, fields in FIELDS.items() for field in fields if field.missing
}


# Near misses: names that are easily confused with a known one.


def near_misses(names: Iterable[str], call: Call | None) -> list[MessageWarning]:
    """Return the warnings about near misses of the fields of a call, or of a batch where `call` is None.

    A near miss differs from a known name only in upper and lower case, `_`, `-` and spaces.  Each field causes one
    warning at most: warnings are stored with every message, and a small body has room for a thousand such names.
    """
    by_folded = _BY_FOLDED_OF_BATCH if call is None else _BY_FOLDED[call]
    found: dict[str, MessageWarning] = {}
    for name in names:
        known = _near_miss(name, by_folded)
        if known is not None and known not in found:
            message = f"found {name!r}; did you mean `{known}`?"
            found[known] = MessageWarning(code=WarningCode.FIELD_NEAR_MISS, message=message, path=name)
    return list(found.values())


def is_near_miss(name: str, known: str) -> bool:
    """Return whether a name is a near miss of a known one."""
    return _near_miss(name, {_folded(known): known}) is not None


def is_write_key(name: str) -> bool:
    """Return whether a field is `writeKey` or a near miss of it: its value is a secret, never stored with a message."""
    return name == "writeKey" or is_near_miss(name, "writeKey")


def hint(names: Iterable[str], *wanted: str) -> str:
    """Return a hint for an error about the first near miss of a wanted name; empty where there is none."""
    by_folded = {_folded(name): name for name in wanted}
    near = ((name, _near_miss(name, by_folded)) for name in names)
    return next((f"; found {name!r}; did you mean `{known}`?" for name, known in near if known is not None), "")


def _did_you_mean(message: JSONObject, *wanted: str) -> str:
    return hint((name for name, value in message.items() if value), *wanted)


def _near_miss(name: str, by_folded: Mapping[str, str]) -> str | None:
    if len(name) > _MAX_NEAR_CHARS:
        return None
    known = by_folded.get(_folded(name))
    return None if known == name else known


def _folded(name: str) -> str:
    return "".join(name.lower().split()).replace("_", "").replace("-", "")


_MAX_NEAR_CHARS = 40
_BY_FOLDED: Mapping[Call, Mapping[str, str]] = {
    call: {_folded(name): name for name in ("type", "writeKey", *(field.wire_name for field in fields))}
    for call, fields in FIELDS.items()
}
_BY_FOLDED_OF_BATCH: Mapping[str, str] = {
    _folded(name): name for name in ("batch", *(field.wire_name for field in BATCH_FIELDS))
}
