"""The OpenAPI description: served, well-formed, and complete compared with its tables."""

from __future__ import annotations

from typing import Any

import pytest
from adapter_helpers import (
    KEY,
    STRICT_KEY,
    UNKNOWN_KEY,
    FailingSink,
    Server,
    call_app,
    serve,
    sized,
    track,
    unavailable,
)
from jsonschema import Draft202012Validator
from trackcore_http.openapi import openapi_document
from trackcore_http.routes import ROUTES, ROUTES_WITH_KEY
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from trackcore import Cause, JSONObject, Limits, MemorySink, Reason
from trackcore.plans import PLAN_WARNINGS
from trackcore.wire.schema import DIALECT

DOCUMENT = openapi_document(Limits(), "")


@pytest.fixture
def memory() -> Server:
    """A server that stores in memory."""
    return serve(MemorySink())


def resolved(part: JSONObject) -> JSONObject:
    """Follow a reference inside the document."""
    while "$ref" in part:
        found: Any = DOCUMENT
        for name in part["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        part = found
    return part


def validator_of(answer: JSONObject) -> Draft202012Validator:
    """Return the validator for the body of a response."""
    (content,) = resolved(answer)["content"].values()
    return Draft202012Validator({"$schema": DIALECT, **content["schema"], "components": DOCUMENT["components"]})


def references(part: Any) -> list[str]:
    """Yield every reference in a part of the document."""
    if isinstance(part, dict):
        own = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
        return own + [found for value in part.values() for found in references(value)]
    return [found for value in part for found in references(value)] if isinstance(part, list) else []


class TestServed:
    def test_it_is_served_as_json(self, memory: Server) -> None:
        answer = memory.get("/openapi.json")
        assert answer.status == 200
        assert answer.json["openapi"] == "3.1.0"

    def test_it_says_where_the_app_is_mounted(self, memory: Server) -> None:
        assert memory.get("/openapi.json").json["servers"] == [{"url": "/"}]
        mounted = DispatcherMiddleware(memory.app, {"/tracking": memory.app})
        answer = call_app(mounted, "/tracking/openapi.json", method="GET")
        assert answer.json["servers"] == [{"url": "/tracking"}]

    def test_its_limits_are_those_of_the_app(self) -> None:
        answer = serve(MemorySink(), limits=Limits(batch_messages=3)).get("/openapi.json")
        assert answer.json["components"]["schemas"]["Batch"]["properties"]["batch"]["maxItems"] == 3


class TestComplete:
    def test_every_route_and_each_of_its_methods_is_there(self) -> None:
        described = {path: set(item) for path, item in DOCUMENT["paths"].items()}
        routes = ROUTES | ROUTES_WITH_KEY
        assert described == {path: {method.lower() for method in route.methods} for path, route in routes.items()}

    def test_every_reference_leads_somewhere(self) -> None:
        found = references(DOCUMENT)
        assert found
        assert all(resolved({"$ref": reference}) for reference in found)

    def test_every_reason_and_failure_has_its_code_and_sentence(self) -> None:
        code = DOCUMENT["components"]["schemas"]["Failure"]["properties"]["code"]
        others = {"not_found", "method_not_allowed", "unknown_source", "internal_error"}
        others |= {"disk_full", "overloaded", "unavailable", "input_not_terminated", "unsupported_transfer_coding"}
        assert set(code["enum"]) == {str(reason) for reason in Reason} | set(PLAN_WARNINGS) | others
        assert all(reason.sentence in code["description"] for reason in Reason)

    def test_its_schemas_are_schemas(self) -> None:
        for schema in DOCUMENT["components"]["schemas"].values():
            Draft202012Validator.check_schema(schema)


class TestAgreesWithTheAnswers:
    @pytest.mark.parametrize(
        ("body", "headers"),
        [
            ({"batch": []}, KEY),
            ({"batch": [track(), {}, 5, track(userId=["x"]), track(messageId="x" * 101)]}, KEY),
            ({"batch": [track(), {}]}, STRICT_KEY),
            ({"batch": [track()]}, UNKNOWN_KEY),
            ({"batch": [track()]}, UNKNOWN_KEY | {"X-Strict-Mode": "1"}),
            ({"batch": 5}, KEY),
            ([], KEY),
            (b"{", KEY),
            (b"x" * 600_000, KEY),
            (b"x", KEY | {"Content-Encoding": "br"}),
        ],
    )
    def test_an_answer_to_a_batch(self, memory: Server, body: Any, headers: dict[str, str]) -> None:
        answer = memory.post("/v1/batch", body, headers=headers)
        described = DOCUMENT["paths"]["/v1/batch"]["post"]["responses"][str(answer.status)]
        validator_of(described).validate(answer.json)

    def test_a_single_message_that_is_too_large(self, memory: Server) -> None:
        answer = memory.post("/v1/track", sized(40_000))
        assert answer.status == 400
        validator_of(DOCUMENT["paths"]["/v1/track"]["post"]["responses"]["400"]).validate(answer.json)

    @pytest.mark.parametrize("error", [*(unavailable(cause=cause) for cause in Cause), ZeroDivisionError()])
    def test_an_answer_when_nothing_can_be_stored(self, error: Exception) -> None:
        answer = serve(FailingSink(error)).post("/v1/batch", {"batch": [track()]})
        described = resolved(DOCUMENT["paths"]["/v1/batch"]["post"]["responses"][str(answer.status)])
        validator_of(described).validate(answer.json)
        assert ("retry-after" in answer.headers) == ("Retry-After" in described.get("headers", {}))
