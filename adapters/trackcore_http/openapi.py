"""The OpenAPI description of the API, derived from the code that serves it.

Paths come from the table of routes, bodies from the message classes (`trackcore.wire.schema`), codes and statuses from
the tables of errors, so the description follows their changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache

from trackcore import JSONObject, Limits, Reason, batch_schema, message_schema
from trackcore.plans import PLAN_WARNINGS, PlanDocument, PlanSchemas
from trackcore.support import MESSAGE_TYPES
from trackcore_http import responses
from trackcore_http.responses import Failure
from trackcore_http.routes import ROUTES, ROUTES_WITH_KEY, Action, Route

_ABOUT = """\
A Segment-compatible tracking API. Every request that can be parsed gets a 200, once all of it is on disk; the \
response lists each message that breaks a rule. With the header `X-Strict-Mode: 1`, or for a strict source, such \
messages make it a 400. A body may be compressed with gzip; its Content-Type is ignored. OPTIONS on any path is \
handled as a CORS preflight.
"""


def openapi_document(limits: Limits, root: str, plan: PlanDocument | None = None) -> JSONObject:
    """Return the description of the API for an app that is mounted at `root`; messages follow a plan, if one is given.

    A server does not publish its plans: they name what a company measures.
    """
    document = _document(limits) if plan is None else _with_plan(_document(limits), plan)
    return {**document, "servers": [{"url": root or "/"}]}


def _with_plan(document: JSONObject, plan: PlanDocument) -> JSONObject:
    components = document["components"]
    plans = PlanSchemas(plan, "#/components/schemas/")
    schemas = {**components["schemas"], **plans.definitions()}
    for call in MESSAGE_TYPES:
        if conditions := plans.conditions(call):
            for name in (call.capitalize(), f"{call.capitalize()}InBatch"):
                schemas[name] = {**schemas[name], "allOf": conditions}
    return {**document, "components": {**components, "schemas": schemas}}


@lru_cache(maxsize=1)
def _document(limits: Limits) -> JSONObject:
    messages = {f"{call.capitalize()}InBatch": message_schema(call, limits=limits) for call in MESSAGE_TYPES}
    calls = {call.capitalize(): message_schema(call, limits=limits, with_type=False) for call in MESSAGE_TYPES}
    one_of_them: JSONObject = {"anyOf": [_schema_ref(name) for name in messages]}
    return {
        "openapi": "3.1.0",
        "info": {"title": "trackcore", "version": "1", "description": _ABOUT},
        "paths": {
            path: {method.lower(): _operation(path, route, method) for method in route.methods}
            for path, route in (ROUTES | ROUTES_WITH_KEY).items()
        },
        "components": {
            "schemas": {
                **calls,
                **messages,
                "Batch": batch_schema(limits, one_of_them),
                "Stored": _STORED,
                "Failure": _failure_schema(),
            },
            "responses": dict(_responses()),
            "securitySchemes": {
                "writeKey": {
                    "type": "http",
                    "scheme": "basic",
                    "description": "The write key of a source as user name, without a password. It may be in the "
                    "body instead, as `writeKey`.",
                }
            },
        },
    }


def _operation(path: str, route: Route, method: str) -> JSONObject:
    operation: JSONObject = {
        "summary": _SUMMARIES[route.action].format(endpoint=route.endpoint),
        "responses": _responses_of(route),
    }
    parameters = [*_parameters(route), *([_WRITE_KEY_IN_PATH] if "{" in path else [])]
    if parameters:
        operation["parameters"] = parameters
    if method == "POST":
        operation["requestBody"] = _request_body(route)
    if route.action is Action.TRACK:
        operation["security"] = [{"writeKey": []}, {}]
    return operation


def _parameters(route: Route) -> Iterator[JSONObject]:
    if route.action is Action.TRACK:
        strict = "`1`: 400 when a message is rejected, and 401 for an unknown write key. For tests."
        yield _parameter("X-Strict-Mode", "header", strict)
    if route.key_in_query:
        yield _parameter("writeKey", "query", "The write key.")
    if route.action is Action.PIXEL:
        data = "The message, as base64 of JSON or as JSON; without it, the message is in dotted keys."
        yield _parameter("data", "query", data)


def _parameter(name: str, place: str, description: str) -> JSONObject:
    return {"name": name, "in": place, "schema": {"type": "string"}, "description": description}


def _request_body(route: Route) -> JSONObject:
    if route.action is Action.DROP:
        schema: JSONObject = {"description": "The metrics of SDKs about themselves. Accepted and dropped."}
    else:
        schema = _schema_ref(route.endpoint.capitalize())
    return {"required": route.action is not Action.DROP, "content": {"application/json": {"schema": schema}}}


def _responses_of(route: Route) -> JSONObject:
    found: JSONObject = {"200": {"$ref": f"#/components/responses/{_SUCCESSES.get(route.action, 'document')}"}}
    for failure in _FAILURES.get(route.action, ()):
        found[str(failure.status.value)] = {"$ref": f"#/components/responses/{failure.code}"}
    if route.action is Action.TRACK:
        found["400"] = {"$ref": "#/components/responses/bad_request"}
    return found


def _responses() -> Iterator[tuple[str, JSONObject]]:
    yield "stored", _json("Everything is stored, or the rejected messages are listed.", _schema_ref("Stored"))
    yield "dropped", _json("Received and dropped.", _schema_ref("Stored"))
    yield "document", _json("A JSON document.", {"type": "object"})
    yield (
        "script",
        {
            "description": "The browser SDK; 304 if the client has it.",
            "content": {"text/javascript": {}},
        },
    )
    yield "image", {"description": "An image of one pixel, even after an error.", "content": {"image/gif": {}}}
    yield (
        "bad_request",
        _json("The body is unusable as a whole; or a message was rejected, in strict mode.", _schema_ref("Failure")),
    )
    for failure in {failure.code: failure for failures in _FAILURES.values() for failure in failures}.values():
        response = _json(failure.message, _schema_ref("Failure"))
        if failure in responses.UNAVAILABLE.values():
            seconds = {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1, "maximum": 300}}
            response["headers"] = {"Retry-After": seconds, "X-RateLimit-Reset": seconds}
        yield failure.code, response


def _failure_schema() -> JSONObject:
    codes = {str(reason): reason.sentence for reason in Reason} | {
        failure.code: failure.message for failure in _ALL_FAILURES
    }
    codes |= {str(code): code.sentence for code in sorted(PLAN_WARNINGS)}
    return {
        "title": "Failure",
        "type": "object",
        "properties": {
            "success": {"const": False},
            "code": {"enum": list(codes), "description": "\n".join(f"- `{code}`: {codes[code]}" for code in codes)},
            "message": {"type": "string"},
            "path": {"type": "string", "description": "The path in the body, in wire names."},
            "limit": {"type": "integer", "description": "The limit that was broken, in its own unit."},
            "actual": {"type": "integer", "description": "The actual value, in the same unit."},
            "position": {"type": "integer", "description": "The byte at which the text stopped being JSON."},
            "reason": {"type": "string", "description": "Why nothing can be stored, in one word; only from /ready."},
            "accepted": _STORED["properties"]["accepted"],
            "rejected": _STORED["properties"]["rejected"],
            "violations": _VIOLATIONS,
        },
        "required": ["success", "code", "message"],
    }


def _json(description: str, schema: JSONObject) -> JSONObject:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _schema_ref(name: str) -> JSONObject:
    return {"$ref": f"#/components/schemas/{name}"}


_SUMMARIES: Mapping[Action, str] = {
    Action.TRACK: "Receive: {endpoint}",
    Action.PIXEL: "Receive by an image: {endpoint}",
    Action.DROP: "Receive and drop the SDKs' own metrics",
    Action.SETTINGS: "The settings that SDKs fetch before they send messages",
    Action.SCRIPT: "The browser SDK, for pages that load it by a snippet",
    Action.SOURCE_CONFIG: "The settings that RudderStack's SDKs fetch before they send messages",
    Action.HEALTH: "Whether the process runs",
    Action.READY: "Whether a message could be stored now",
    Action.OPENAPI: "This description",
}
_SUCCESSES = {Action.TRACK: "stored", Action.PIXEL: "image", Action.DROP: "dropped", Action.SCRIPT: "script"}
_SINK_FAILURES = (*responses.UNAVAILABLE.values(), responses.INTERNAL_ERROR)
_FAILURES: Mapping[Action, tuple[Failure, ...]] = {
    Action.TRACK: (responses.UNKNOWN_SOURCE, responses.UNSUPPORTED_TRANSFER_CODING, *_SINK_FAILURES),
    Action.READY: _SINK_FAILURES,
    Action.SCRIPT: (responses.NOT_FOUND,),
}
_ALL_FAILURES = (
    responses.NOT_FOUND,
    responses.METHOD_NOT_ALLOWED,
    responses.UNKNOWN_SOURCE,
    responses.UNSUPPORTED_TRANSFER_CODING,
    responses.INPUT_NOT_TERMINATED,
    *_SINK_FAILURES,
)
_WRITE_KEY_IN_PATH: JSONObject = {
    "name": "writeKey",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "minLength": 1},
    "description": "Any write key. An unknown one gets a document too.",
}
_VIOLATIONS: JSONObject = {
    "type": "array",
    "description": "Violations of the source's tracking plan in messages that are stored; only in strict mode.",
    "items": {
        "type": "object",
        "properties": {
            "index": {"type": "integer", "minimum": 0, "description": "The index in the batch."},
            "messageId": {"type": "string"},
            "code": {"enum": sorted(map(str, PLAN_WARNINGS))},
            "message": {"type": "string"},
            "path": {"type": "string", "description": "The path in the message, in wire names."},
        },
        "required": ["index", "messageId", "code", "message", "path"],
    },
}
_STORED: JSONObject = {
    "title": "Stored",
    "type": "object",
    "properties": {
        "success": {"const": True},
        "code": {"const": "partial", "description": "Present only if a message was rejected."},
        "message": {"type": "string"},
        "accepted": {"type": "integer", "minimum": 0, "description": "Messages stored, including duplicates."},
        "rejected": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "index": {"type": "integer", "minimum": 0, "description": "The index in the batch."},
                    "messageId": {"type": ["string", "null"]},
                    "code": {"enum": [str(reason) for reason in Reason]},
                    "message": {"type": "string"},
                    "path": {"type": "string", "description": "The path in the message, in wire names."},
                    "limit": {"type": "integer"},
                    "actual": {"type": "integer"},
                },
                "required": ["index", "messageId", "code", "message", "path"],
            },
        },
    },
    "required": ["success"],
}
