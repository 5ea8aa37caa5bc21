"""Control: what came, and the faults, over HTTP, and its OpenAPI description."""

from __future__ import annotations

from typing import Any

import pytest
from adapter_helpers import Workers
from hypothesis import settings
from jsonschema import Draft202012Validator
from kit_client import Client
from schemathesis import Case
from schemathesis.openapi import from_dict
from schemathesis.specs.openapi.checks import positive_data_acceptance
from trackcore_testing import Tracking, TrackingServer
from trackcore_testing.control_openapi import control_document

from trackcore import JSONObject


@pytest.fixture(autouse=True)
def _some_messages(client: Client) -> None:
    client.track("Paid", properties={"total": 9.5}, messageId="m1")
    client.track("Paid", user="u2", key="app-key")
    client.post("/v1/page", {"anonymousId": "a1", "name": "Home"})
    client.post("/v1/track", {"userId": "u1"})
    client.track("Paid", key="nobody's-write-key")


def answer_fits(method: str, path: str, status: int, body: JSONObject) -> bool:
    """Return whether a response is described."""
    document = control_document()
    described = document["paths"][path][method]["responses"][str(status)]
    schema = {**described["content"]["application/json"]["schema"], "components": document["components"]}
    return bool(Draft202012Validator(schema).is_valid(body))


class TestReading:
    @pytest.mark.parametrize(
        ("query", "seqs"),
        [
            ("", [1, 2, 3]),
            ("?type=track", [1, 2]),
            ("?event=Paid&userId=u2", [2]),
            ("?since=1", [2, 3]),
            ("?type=page&since=3", []),
            ("?event=paid", []),
        ],
    )
    def test_messages(self, client: Client, query: str, seqs: list[int]) -> None:
        answer = client.send("GET", f"/test/messages{query}")
        assert [found["seq"] for found in answer.json["messages"]] == seqs
        assert answer_fits("get", "/test/messages", answer.status, answer.json)

    def test_a_message_is_a_line_of_trackcore_events(self, client: Client) -> None:
        first = client.send("GET", "/test/messages").json["messages"][0]
        assert first.keys() == {"seq", "source", "destinations", "warnings", "message"}
        assert (first["source"], first["destinations"]) == ("website", ["Mixpanel"])
        assert first["message"]["properties"] == {"total": 9.5}

    @pytest.mark.parametrize("query", ["?evnt=Paid", "?since=soon"])
    def test_a_filter_that_does_not_exist_is_an_error(self, client: Client, query: str) -> None:
        answer = client.send("GET", f"/test/messages{query}")
        assert (answer.status, answer.json["code"]) == (400, "invalid_request")

    def test_rejected(self, client: Client) -> None:
        answer = client.send("GET", "/test/rejected")
        assert [(found["code"], found["payload"]) for found in answer.json["rejected"]] == [
            ("event_not_defined", '{"userId": "u1"}')
        ]
        assert [found["writeKey"] for found in answer.json["quarantined"]] == ["nobo…"]
        assert answer_fits("get", "/test/rejected", answer.status, answer.json)

    def test_summary(self, client: Client) -> None:
        answer = client.send("GET", "/test/summary")
        assert answer.json == {
            "success": True,
            "messages": 3,
            "types": {"track": 2, "page": 1},
            "events": {"Paid": 2},
            "rejected": 1,
            "quarantined": 1,
            "requests": 5,
        }
        assert answer_fits("get", "/test/summary", answer.status, answer.json)

    def test_clearing(self, tracked: Tracking, client: Client) -> None:
        assert client.send("DELETE", "/test/messages").json == {"success": True}
        assert client.send("GET", "/test/summary").json["messages"] == 0
        assert tracked.messages == []

    def test_control_is_not_among_the_requests(self, tracked: Tracking, client: Client) -> None:
        client.send("GET", "/test/summary")
        assert len(tracked.requests) == 5


class TestWaiting:
    """`POST /test/wait` blocks until a match, or 408 with what came."""

    @pytest.mark.parametrize(
        ("wanted", "seqs"),
        [
            ({"event": "Paid"}, [1, 2]),
            ({"event": "Paid", "userId": "u1", "properties": {"total": 9.5}}, [1]),
            ({"type": "page", "userId": None, "name": "Home"}, [3]),
            ({"event": "Paid", "count": 2}, [1, 2]),
            ({}, [1, 2, 3]),
        ],
    )
    def test_what_is_there_is_returned_at_once(self, client: Client, wanted: JSONObject, seqs: list[int]) -> None:
        answer = client.post("/test/wait", {**wanted, "timeout": 0})
        assert [found["seq"] for found in answer.json["messages"]] == seqs
        assert answer_fits("post", "/test/wait", answer.status, answer.json)

    @pytest.mark.parametrize(
        ("wanted", "text"),
        [
            ({"event": "Payed"}, '  - event  "Payed"\n  + event  "Paid"'),
            ({"event": "Paid", "count": 1}, 'message "Paid" was received twice, not once'),
            ({"type": "track", "properties": {}, "exactly": True}, "  + properties.total  9.5"),
        ],
    )
    def test_what_does_not_come_is_a_408(self, client: Client, wanted: JSONObject, text: str) -> None:
        answer = client.post("/test/wait", {**wanted, "timeout": 0})
        assert (answer.status, answer.json["code"]) == (408, "not_received")
        assert text in answer.json["message"]
        assert len(answer.json["messages"]) == 3
        assert answer_fits("post", "/test/wait", answer.status, answer.json)

    def test_it_blocks_until_the_message_comes(self, client: Client) -> None:
        waiting = Workers([lambda: client.post("/test/wait", {"event": "Late", "timeout": 60}).json["messages"]])
        client.track("Late")
        ((found,),) = waiting.finish()
        assert found["message"]["event"] == "Late"

    @pytest.mark.parametrize(
        "body",
        [{"evnt": "Paid"}, {"type": "buy"}, {"timeout": -1}, {"timeout": 10_000}, {"count": 0}, [], 5, {"user_id": 1}],
    )
    def test_a_body_that_is_not_valid(self, client: Client, body: Any) -> None:
        answer = client.post("/test/wait", body)
        assert (answer.status, answer.json["code"]) == (400, "invalid_request")
        assert answer_fits("post", "/test/wait", answer.status, answer.json)


class TestFaults:
    @pytest.mark.parametrize(
        ("fault", "status"),
        [
            ({"fault": "fail_next", "status": 429, "retryAfter": 7}, 429),
            ({"fault": "refuse", "source": "website"}, 401),
            ({"fault": "delay", "seconds": 0.001}, 200),
            ({"fault": "fail_next", "source": "app"}, 200),
        ],
    )
    def test_they_are_those_of_tracking(self, client: Client, fault: JSONObject, status: int) -> None:
        assert client.post("/test/faults", fault).json == {"success": True}
        answer = client.track("Paid")
        assert answer.status == status
        assert answer.headers.get("Retry-After") == ("7" if status == 429 else None)

    @pytest.mark.parametrize("fault", ["drop_connection", "truncate_answer"])
    def test_the_connection(self, tracked: Tracking, client: Client, fault: str) -> None:
        assert client.post("/test/faults", {"fault": fault}).status == 200
        with pytest.raises(Exception, match=r".*") as caught:
            client.track("Paid")
        assert caught.type.__module__ == "http.client"
        assert tracked.requests[-1].fault == fault

    def test_all_can_be_ended(self, client: Client) -> None:
        client.post("/test/faults", {"fault": "refuse"})
        client.post("/test/faults", {"fault": "fail_next"})
        assert client.send("DELETE", "/test/faults").json == {"success": True}
        assert client.track("Paid").status == 200

    @pytest.mark.parametrize(
        "body",
        [
            {"fault": "fail"},
            {"fault": "delay"},
            {"fault": "fail_next", "status": 200},
            {"fault": "fail_next", "status": 599},
            {"fault": "fail_next", "times": 0},
            {"fault": "refuse", "source": "nobody"},
            {"fault": "refuse", "times": 1},
            {},
        ],
    )
    def test_a_body_that_is_not_valid(self, client: Client, body: JSONObject) -> None:
        answer = client.post("/test/faults", body)
        assert (answer.status, answer.json["code"]) == (400, "invalid_request")


class TestRoutes:
    def test_unknown_paths_and_methods(self, client: Client) -> None:
        assert client.send("GET", "/test/nothing").status == 404
        assert client.send("PUT", "/test/messages").status == 405

    def test_a_page_of_another_origin_may_use_them(self, client: Client) -> None:
        answer = client.send("OPTIONS", "/test/messages", headers={"Origin": "http://x"})
        assert answer.status == 200
        assert {"GET", "DELETE"} <= set(answer.headers["Access-Control-Allow-Methods"].split(", "))

    def test_the_description_is_served_and_is_openapi(self, client: Client) -> None:
        assert client.send("GET", "/test/openapi.json").json == control_document()


SCHEMA = from_dict(control_document())


@pytest.fixture(scope="module", name="fuzzed")
def _fuzzed() -> Any:
    with TrackingServer(timeout=0) as server:
        yield server


@SCHEMA.parametrize()
@settings(max_examples=20)
def test_it_does_what_its_description_says(case: Case[Any], fuzzed: TrackingServer) -> None:
    """Any request by the description gets a response by the description, from the real server.

    No schema can name the sources that exist, or that a message will come.
    """
    wait = case.body if case.path == "/test/wait" and isinstance(case.body, dict) else {}
    timeout = wait.setdefault("timeout", 0)
    if isinstance(timeout, int | float) and 0 < timeout <= 600:
        wait["timeout"] = 0
    case.call_and_validate(base_url=fuzzed.url, excluded_checks=[positive_data_acceptance])
