"""JSON Schema of what is accepted on the wire, for validators in other languages and for the OpenAPI description.

Theory.  A schema is made from the attrs class of a message, so there is no second list of fields: a field without a
default is required, one of type `str` is an id if its name ends so and a time if the codec says so, a free-form one is
an object.  It describes what is *accepted*, lenient forms included: null for what is absent, a number for an id, the
empty array that PHP writes for an empty object.  A required text must show something: see `trackcore.text.blanks`.  A
property test holds that schema and codec agree, both ways.

Three limits have no words in JSON Schema and are told in the description only: bytes, levels of nesting, and digits of
a number, those of a fraction that is an id among them.  One rule is told a little more narrowly than it is applied: an
id that is a whole number of more than 38 digits is refused, though the server takes it when it is written in full.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from trackcore.limits import DEFAULT_LIMITS, Limits
from trackcore.messages import Message
from trackcore.text.blanks import BLANKS
from trackcore.typing import Call, JSONObject
from trackcore.wire.codec import MESSAGE_TYPES, TIMES, wire_name
from trackcore.wire.rules import MAX_ID_CHARS

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def message_schema(call: Call, *, limits: Limits = DEFAULT_LIMITS, with_type: bool = True) -> JSONObject:
    """Give the schema of a message of one call.

    With `with_type` the message must say its `type`, as in a batch; without, the path says it and `type` is ignored.
    """
    message_type = MESSAGE_TYPES[call]
    fields = [field for field in attrs.fields(message_type) if field.name != "extra"]
    properties = {wire_name(field.name): _field_schema(field, limits) for field in fields}
    required = [wire_name(field.name) for field in fields if field.default is attrs.NOTHING]
    if with_type:
        properties = {"type": {"const": call, "description": "The call that this message is."}, **properties}
        required = ["type", *required]
    return {
        "title": call.capitalize(),
        "description": _description(message_type, limits),
        "type": "object",
        "properties": properties,
        "required": required,
        "anyOf": [_has(name, properties[name]["description"]) for name in ("userId", "anonymousId")],
    }


def any_message_schema(limits: Limits = DEFAULT_LIMITS) -> JSONObject:
    """Give the schema of a message of any call, which its `type` names."""
    return {"title": "Message", "anyOf": [message_schema(call, limits=limits) for call in MESSAGE_TYPES]}


def batch_schema(limits: Limits = DEFAULT_LIMITS, message: JSONObject | None = None) -> JSONObject:
    """Give the schema of a batch of which no message is rejected; `message` stands for that of one message."""
    return {
        "title": "Batch",
        "description": f"Many messages, and what they share; at most {limits.request_bytes} bytes after decompression.",
        "type": "object",
        "properties": {
            "batch": {
                "type": "array",
                "items": any_message_schema(limits) if message is None else message,
                "maxItems": limits.batch_messages,
                "description": "The messages. Each gets its own verdict: a bad one costs none of its neighbours.",
            },
            "context": _free_form("Lies under the `context` of each message; what the message says wins."),
            "integrations": _free_form("Lies under the `integrations` of each message, likewise."),
            "sentAt": {"description": "The client's time of sending, for each message that does not have its own."},
            "writeKey": {"description": "The write key, where it is not in the Authorization header."},
        },
        "required": ["batch"],
    }


def with_dialect(schema: JSONObject) -> JSONObject:
    """Give a schema that stands for itself, and says which JSON Schema it is written in."""
    return {"$schema": DIALECT, **schema}


def _description(message_type: type[Message], limits: Limits) -> str:
    meaning = (message_type.__doc__ or "").strip()
    return (
        f"{meaning} At most {limits.message_bytes} bytes, and {limits.depth} levels of objects and arrays below it. "
        "Fields that are not listed are kept as they are."
    )


def _field_schema(field: attrs.Attribute[Any], limits: Limits) -> JSONObject:
    described = {"description": _DESCRIPTIONS[field.name]}
    if field.name in TIMES:
        return described  # a time that cannot be read is a warning, never a rejection
    if field.name.endswith("_id"):
        return {**_id(field, limits), **described}
    if field.type in _TEXTS:
        return {
            **(
                {"type": "string", "minLength": 1, "pattern": _SHOWS}
                if _is_required(field)
                else {"type": ["string", "null"]}
            ),
            **described,
        }
    return _free_form(_DESCRIPTIONS[field.name])


def _id(field: attrs.Attribute[Any], limits: Limits) -> JSONObject:
    if _is_required(field):
        return _PRESENT_ID
    if field.name == "message_id":
        bound = min(10 ** (limits.message_id_chars - 1) - 1, _LARGEST_ID)
        return {**_ANY_ID, "maxLength": limits.message_id_chars, "minimum": -bound, "maximum": bound}
    return _ANY_ID


def _is_required(field: attrs.Attribute[Any]) -> bool:
    return field.default is attrs.NOTHING


def _free_form(description: str) -> JSONObject:
    """Give the schema of an object with any content, for which null and the empty array of PHP stand when absent."""
    return {"type": ["object", "null", "array"], "maxItems": 0, "description": description}


def _has(name: str, description: str) -> JSONObject:
    return {"properties": {name: {**_PRESENT_ID, "description": description}}, "required": [name]}


_LARGEST_ID = 10 ** (MAX_ID_CHARS - 2)
"""As a number; with a sign it has as many characters as an id may have that came as one."""

_TEXTS: tuple[Any, ...] = (str, str | None)
_ID_BOUNDS: JSONObject = {"minimum": -_LARGEST_ID, "maximum": _LARGEST_ID}
_ANY_ID: JSONObject = {"type": ["string", "number", "null"], **_ID_BOUNDS}
_SHOWS = f"[^{BLANKS}]"
_PRESENT_ID: JSONObject = {"type": ["string", "number"], **_ID_BOUNDS, "minLength": 1, "pattern": _SHOWS}
_DESCRIPTIONS: Mapping[str, str] = {
    "user_id": "The user's id in your own database; it or an anonymousId is needed. A number is kept as text.",
    "anonymous_id": "Stands for a user whose id is not known. A number is kept as text.",
    "message_id": "By which duplicates are found; made by the server when absent.",
    "timestamp": "When it happened, ISO 8601; the time of arrival when absent.",
    "original_timestamp": "What `timestamp` was before the server corrected it; taken where there is no `timestamp`.",
    "sent_at": "The client's time of sending, ISO 8601, by which clock skew is corrected.",
    "received_at": "Always set by the server: what a client says is overwritten.",
    "context": "What surrounds the message: ip, locale, library and so on.",
    "integrations": "Which destinations get the message: names, and `All` for those not named, case sensitive.",
    "traits": "Facts about the user or the group.",
    "properties": "Facts about the action, the page or the screen.",
    "event": "The name of the action.",
    "name": "The name of the page or screen.",
    "category": "The category of the page or screen.",
    "group_id": "The id of the company or account. A number is kept as text.",
    "previous_id": "The user's earlier id. A number is kept as text.",
}
