"""JSON Schema of what is accepted on the wire, for validators in other languages and for the OpenAPI description.

Theory.  A schema is made from the fields of a message class (`trackcore.messages`).  It describes what is *accepted*,
lenient forms included: null for an absent field, a number for an id, the empty array that PHP writes for an empty
object.  A required text must hold a character that shows: see `trackcore.text.blanks`.  A property test checks that
schema and codec agree, both ways.

JSON Schema cannot express three limits; they are in the descriptions only: bytes, levels of nesting, and digits of a
number, including those of a fraction that is an id.  One rule of the schema is narrower than the server's: the schema
refuses an id that is a whole number of more than 38 digits, but the server accepts it when it is written in full.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from trackcore.fields import Field, Kind
from trackcore.limits import DEFAULT_LIMITS, Limits
from trackcore.messages import BATCH_FIELDS, FIELDS, MESSAGE_TYPES
from trackcore.text.blanks import BLANKS
from trackcore.typing import Call, JSONObject
from trackcore.wire.rules import MAX_ID_CHARS

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def message_schema(call: Call, *, limits: Limits = DEFAULT_LIMITS, with_type: bool = True) -> JSONObject:
    """Return the schema of a message of one call.

    With `with_type` the message must have a `type`, as in a batch.  Without it `type` is ignored, since the path names
    the call.
    """
    fields = FIELDS[call]
    properties = _properties(fields, limits)
    required = [field.wire_name for field in fields if field.missing]
    if with_type:
        properties = {"type": {"const": call, "description": "The call of this message."}, **properties}
        required = ["type", *required]
    return {
        "title": call.capitalize(),
        "description": _description(call, limits),
        "type": "object",
        "properties": properties,
        "required": required,
        "anyOf": [_has(field) for field in fields if field.kind is Kind.USER_ID],
    }


def any_message_schema(limits: Limits = DEFAULT_LIMITS) -> JSONObject:
    """Return the schema of a message of any call, which its `type` names."""
    return {"title": "Message", "anyOf": [message_schema(call, limits=limits) for call in MESSAGE_TYPES]}


def batch_schema(limits: Limits = DEFAULT_LIMITS, message: JSONObject | None = None) -> JSONObject:
    """Return the schema of a batch of which no message is rejected; `message` replaces the schema of one message."""
    return {
        "title": "Batch",
        "description": f"Many messages, and what they share; at most {limits.request_bytes} bytes after decompression.",
        "type": "object",
        "properties": {
            "batch": {
                "type": "array",
                "items": any_message_schema(limits) if message is None else message,
                "maxItems": limits.batch_messages,
                "description": "The messages. Each is validated separately; a bad one does not affect the rest.",
            },
            **_properties(BATCH_FIELDS, limits),
        },
        "required": ["batch"],
    }


def with_dialect(schema: JSONObject) -> JSONObject:
    """Return a schema that is complete in itself: it names the version of JSON Schema that it is written in."""
    return {"$schema": DIALECT, **schema}


def _description(call: Call, limits: Limits) -> str:
    meaning = (MESSAGE_TYPES[call].__doc__ or "").partition(">>>")[0].strip()
    return (
        f"{meaning} At most {limits.message_bytes} bytes, and {limits.depth} levels of objects and arrays below it. "
        "Fields that are not listed are kept unchanged."
    )


def _properties(fields: Iterable[Field], limits: Limits) -> JSONObject:
    return {field.wire_name: {**_accepted(field, limits), "description": field.sentence} for field in fields}


def _accepted(field: Field, limits: Limits) -> JSONObject:
    if field.missing:
        return _PRESENT_TEXT if field.kind is Kind.TEXT else _PRESENT_ID
    if field.kind is Kind.MESSAGE_ID:
        bound = min(10 ** (limits.message_id_chars - 1) - 1, _LARGEST_ID)
        return {**_ANY_ID, "maxLength": limits.message_id_chars, "minimum": -bound, "maximum": bound}
    return _ACCEPTED.get(field.kind, {})


def _has(field: Field) -> JSONObject:
    present = {**_PRESENT_ID, "description": field.sentence}
    return {"properties": {field.wire_name: present}, "required": [field.wire_name]}


_LARGEST_ID = 10 ** (MAX_ID_CHARS - 2)
"""As a number; with a sign it has as many characters as an id may have that was sent as a number."""

_ID_BOUNDS: JSONObject = {"minimum": -_LARGEST_ID, "maximum": _LARGEST_ID}
_ANY_ID: JSONObject = {"type": ["string", "number", "null"], **_ID_BOUNDS}
_SHOWN: JSONObject = {"minLength": 1, "pattern": f"[^{BLANKS}]"}
_PRESENT_ID: JSONObject = {"type": ["string", "number"], **_ID_BOUNDS, **_SHOWN}
_PRESENT_TEXT: JSONObject = {"type": "string", **_SHOWN}
_FREE_FORM: JSONObject = {"type": ["object", "null", "array"], "maxItems": 0}
"""An object with any content; null and the empty array of PHP are accepted as an absent one."""

_ACCEPTED: Mapping[Kind, JSONObject] = {
    Kind.USER_ID: _ANY_ID,
    Kind.ID: _ANY_ID,
    Kind.TEXT: {"type": ["string", "null"]},
    Kind.PROPERTIES: _FREE_FORM,
    Kind.TRAITS: _FREE_FORM,
    Kind.CONTEXT: _FREE_FORM,
    Kind.INTEGRATIONS: _FREE_FORM,
}
"""Any value is accepted for other kinds: a time that cannot be parsed is a warning, never a rejection."""
