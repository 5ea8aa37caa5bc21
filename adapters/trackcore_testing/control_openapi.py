"""The OpenAPI description of the control routes; the schemas of the bodies are derived from their structs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import msgspec

from trackcore import JSONObject
from trackcore_testing.control_bodies import FaultRequest, WaitRequest

_ABOUT = """\
Reads the messages that a test server has received, and makes it fail on request. Everything is in memory, and anybody \
who reaches the port may read and change it. The tracking API of the same server is described at /openapi.json.
"""


def control_document() -> JSONObject:
    """Return the description."""
    kinds = (WaitRequest, *get_args(FaultRequest))
    _, schemas = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    faults = [_ref(kind.__name__) for kind in get_args(FaultRequest)]
    return {
        "openapi": "3.1.0",
        "info": {"title": "trackcore test-server", "version": "1", "description": _ABOUT},
        "paths": {
            "/test/messages": {
                "get": {
                    "summary": "The messages, the oldest first",
                    "parameters": [_filter(name, about) for name, about in _FILTERS.items()],
                    "responses": {"200": _response("The messages.", "Messages"), "400": _FAILED},
                },
                "delete": {"summary": "Forget everything that was received", "responses": {"200": _DONE}},
            },
            "/test/rejected": {
                "get": {
                    "summary": "The rejected messages, and the requests with an unknown write key",
                    "responses": {"200": _response("Rejected messages and requests.", "Rejected")},
                }
            },
            "/test/summary": {
                "get": {
                    "summary": "How many messages there are, by type and by event",
                    "responses": {"200": _response("The numbers.", "Summary")},
                }
            },
            "/test/wait": {
                "post": {
                    "summary": "Wait until a message matches",
                    "requestBody": _body(_ref("WaitRequest")),
                    "responses": {
                        "200": _response("The messages that match.", "Messages"),
                        "400": _FAILED,
                        "408": _response("None matches: the reason, and all messages.", "NotReceived"),
                    },
                }
            },
            "/test/faults": {
                "post": {
                    "summary": "Add a fault, for the next requests with messages",
                    "requestBody": _body({"oneOf": faults, "discriminator": {"propertyName": "fault"}}),
                    "responses": {"200": _DONE, "400": _FAILED},
                },
                "delete": {"summary": "End all faults", "responses": {"200": _DONE}},
            },
            "/test/openapi.json": {
                "get": {"summary": "This description", "responses": {"200": _response("It.", "Document")}}
            },
        },
        "components": {"schemas": {**schemas, **_RESPONSES}},
    }


def _ref(name: str) -> JSONObject:
    return {"$ref": f"#/components/schemas/{name}"}


def _body(schema: JSONObject) -> JSONObject:
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _response(description: str, schema: str) -> JSONObject:
    return {"description": description, "content": {"application/json": {"schema": _ref(schema)}}}


def _filter(name: str, description: str) -> JSONObject:
    kind = "integer" if name == "since" else "string"
    return {"name": name, "in": "query", "schema": {"type": kind}, "description": description}


def _object(properties: JSONObject, required: Sequence[str] | None = None) -> JSONObject:
    return {"type": "object", "properties": properties, "required": list(properties if required is None else required)}


def _array(items: JSONObject) -> JSONObject:
    return {"type": "array", "items": items}


_FILTERS = {
    "type": "Their type, as `track`.",
    "event": "Their event.",
    "userId": "Their userId.",
    "since": "Only those after the message with this `seq`.",
}
_DONE = _response("Done.", "Success")
_FAILED = _response("The request is not valid.", "Failure")

_TEXT: JSONObject = {"type": "string"}
_NUMBER: JSONObject = {"type": "integer", "minimum": 0}
_NUMBERS: JSONObject = {"type": "object", "additionalProperties": _NUMBER}
_TRUE: JSONObject = {"const": True}
_MESSAGE = _object(
    {
        "seq": _NUMBER,
        "source": _TEXT,
        "destinations": _array(_TEXT),
        "warnings": _array({"type": "object"}),
        "message": {"type": "object", "description": "The message as it is stored."},
    }
)
_RECORD = {"seq": _NUMBER, "receivedAt": _TEXT, "payload": {**_TEXT, "description": "As received, keys masked."}}
_FAILURE: JSONObject = {"success": {"const": False}, "code": _TEXT, "message": _TEXT}
_RESPONSES: JSONObject = {
    "Success": _object({"success": _TRUE}),
    "Failure": _object(_FAILURE),
    "Messages": _object({"success": _TRUE, "messages": _array(_ref("Message"))}),
    "NotReceived": _object({**_FAILURE, "messages": _array(_ref("Message"))}),
    "Message": _MESSAGE,
    "Rejected": _object(
        {
            "success": _TRUE,
            "rejected": _array(_object({**_RECORD, "source": _TEXT, "code": _TEXT, "message": _TEXT, "path": _TEXT})),
            "quarantined": _array(_object({**_RECORD, "writeKey": {"type": ["string", "null"]}})),
        }
    ),
    "Summary": _object(
        {
            "success": _TRUE,
            "messages": _NUMBER,
            "types": _NUMBERS,
            "events": _NUMBERS,
            "rejected": _NUMBER,
            "quarantined": _NUMBER,
            "requests": _NUMBER,
        }
    ),
    "Document": {"type": "object"},
}
