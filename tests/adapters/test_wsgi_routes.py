"""The paths, their calls and their methods, at any mount point of the app."""

from __future__ import annotations

import json
from typing import Any

import pytest
from adapter_helpers import (
    KEY,
    NOON_TEXT,
    UNKNOWN_KEY,
    VECTORS,
    Server,
    basic,
    call_app,
    serve,
    track,
)
from flask import Flask
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client
from werkzeug.wrappers import Response

from trackcore import MemorySink

CALLS = ("identify", "track", "page", "screen", "group", "alias")
SINGLE = {
    **{f"/v1/{call}": call for call in CALLS},
    **{f"/v1/{call[0]}": call for call in CALLS},
    # Jitsu
    **{f"/api/s/{call}": call for call in CALLS},
    **{f"/api/s/s2s/{call}": call for call in CALLS},
}
BATCH = (
    "/v1/batch",
    "/v1/import",
    "/v1/b",
    "/beacon/v1/batch",
    # paths that SDKs build from a custom base URL
    "/b",
    "/batch/b",
    "/v1/batch/b",
)
SPELLINGS = {
    "as documented": lambda path: path,
    "trailing slash": lambda path: f"{path}/",
    "two trailing slashes": lambda path: f"{path}//",
    "leading doubled": lambda path: f"/{path}",
    "all doubled": lambda path: path.replace("/", "//"),
    "tripled, and a slash": lambda path: path.replace("/", "///") + "/",
}
ALL_POST = (*SINGLE, *BATCH, "/v1/m")
ALL_GET = (
    *(f"/v1/pixel/{call}" for call in CALLS),
    "/v1/projects/abc123/settings",
    "/health",
    "/ready",
)
FIELDS = {"event": "E", "groupId": "g", "previousId": "p", "userId": "u", "messageId": "m"}


@pytest.fixture(name="spell", params=SPELLINGS)
def _spell(request: pytest.FixtureRequest) -> Any:
    return SPELLINGS[request.param]


class TestMessages:
    """`POST /v1/{identify,...,batch,import}`, short `/v1/{i,...,b}`, with or without a trailing slash, with doubled
    slashes.  On single-call endpoints the path decides `type` (R11).  Never a redirect, never 201, 202, 204 (R1).
    """

    @pytest.mark.parametrize("path", SINGLE)
    def test_single(self, server: Server, spell: Any, path: str) -> None:
        answer = server.post(spell(path), {**FIELDS, "type": "wrong"})
        assert (answer.status, answer.body) == (200, b'{"success": true}')
        assert server.only["type"] == SINGLE[path]
        assert [entry.call for entry in server.entries] == [SINGLE[path]]

    @pytest.mark.parametrize("path", BATCH)
    def test_batch(self, server: Server, spell: Any, path: str) -> None:
        answer = server.post(spell(path), {"batch": [{**FIELDS, "type": "page"}]})
        assert (answer.status, answer.body) == (200, b'{"success": true}')
        assert server.only["type"] == "page"

    @pytest.mark.parametrize("path", SINGLE)
    def test_the_path_decides_also_without_type(self, server: Server, path: str) -> None:
        """The Rust SDK sends none."""
        assert server.post(path, FIELDS).status == 200
        assert server.only["type"] == SINGLE[path]

    def test_alias_in_a_batch(self, server: Server) -> None:
        assert server.post("/v1/batch", {"batch": [{**FIELDS, "type": "alias"}]}).json == {"success": True}
        assert server.only["previousId"] == "p"


class TestTheOthers:
    def test_metrics_are_accepted_and_dropped(self, server: Server, spell: Any) -> None:
        """`/v1/m` (accepted and dropped)."""
        body = {"series": [{"type": "Counter", "metric": "analytics_js.invoke", "value": 1}]}
        for sent in (body, track(), b"no JSON", b""):
            answer = server.post(spell("/v1/m"), sent, headers={"Content-Encoding": "gzip"} if sent == b"" else {})
            assert (answer.status, answer.json) == (200, {"success": True})
        server.sink.check_ready()
        assert server.log.totals().messages + server.log.totals().rejected + server.log.totals().quarantined == 0

    def test_health(self, spell: Any) -> None:
        """`GET /health` (process)."""
        assert serve(MemorySink()).get(spell("/health")).json["status"] == "ok"

    def test_ready(self, server: Server, spell: Any) -> None:
        """`GET /ready` (can store)."""
        answer = server.get(spell("/ready"))
        assert (answer.status, answer.json["status"]) == (200, "ready")
        assert server.log.path.exists()

    @pytest.mark.parametrize("call", CALLS)
    def test_pixel(self, server: Server, spell: Any, call: str) -> None:
        """`GET /v1/pixel/<call>`."""
        answer = server.get(spell(f"/v1/pixel/{call}"), "writeKey=abc123&userId=u&event=E&groupId=g&previousId=p")
        assert (answer.status, answer.headers["content-type"]) == (200, "image/gif")
        assert server.only["type"] == call

    def test_settings(self, spell: Any) -> None:
        """`GET /v1/projects/<writeKey>/settings`."""
        answer = serve(MemorySink()).get(spell("/v1/projects/abc123/settings"))
        assert answer.json["integrations"]["Segment.io"]["apiKey"] == "abc123"


class TestNoRoute:
    """404 and 405 are JSON with `code` and `message` (R2)."""

    @pytest.mark.parametrize(
        "path",
        ["/", "", "//", "/v1", "/v1/", "/v1/x", "/v1/Track", "/v1/track/x", "/v2/track", "/v1/pixel", "/v1/pixel/x",
         "/v1/pixel/t", "/v1/projects/settings", "/v1/projects//settings", "/track", "/v1/../v1/track", "/v1\\track",
         "/v1/track;x", "/favicon.ico", "/\xff", "/v1/track\n", "/v1/tr%61ck"],
    )  # fmt: skip
    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_404(self, method: str, path: str) -> None:
        sink = MemorySink()
        answer = call_app(serve(sink).app, path, json.dumps(FIELDS).encode(), method=method, headers=KEY)
        assert answer.status == 404
        assert answer.json["success"] is False
        assert (answer.json["code"], bool(answer.json["message"])) == ("not_found", True)
        assert sink.envelopes == []

    @pytest.mark.parametrize("path", ALL_POST)
    @pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH"])
    def test_405_where_messages_are_posted(self, method: str, path: str) -> None:
        answer = call_app(serve(MemorySink()).app, path, method=method, validate=False)
        assert answer.status == 405
        assert answer.headers["allow"] == "POST, OPTIONS"
        if method == "HEAD":
            assert answer.body == b""
        else:
            assert answer.json["success"] is False
            assert (answer.json["code"], bool(answer.json["message"])) == ("method_not_allowed", True)

    @pytest.mark.parametrize("path", ALL_GET)
    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "BREW"])
    def test_405_where_something_is_fetched(self, method: str, path: str) -> None:
        answer = call_app(serve(MemorySink()).app, path, b"{}", method=method, validate=False)
        assert answer.status == 405
        assert answer.headers["allow"] == "GET, HEAD, OPTIONS"
        assert answer.json["code"] == "method_not_allowed"

    @pytest.mark.parametrize("path", ALL_GET)
    def test_head(self, path: str) -> None:
        answer = serve(MemorySink()).get(path, method="HEAD")
        assert (answer.status, answer.body) == (200, b"")


def _examples() -> list[dict[str, Any]]:
    examples: list[dict[str, Any]] = json.loads((VECTORS / "api-page-examples.json").read_text("utf-8"))
    return examples


class TestExamplesOfTheDocumentation:
    """Every example of the API page is answered exactly 200 `{"success": true}` and stored."""

    def test_all_of_them(self, server: Server) -> None:
        examples = _examples()
        assert len(examples) == 8
        for example in examples:
            answer = server.post(
                f"/v1/{example['call']}", example["body"], headers={"Authorization": "Basic YWJjMTIzOg=="}
            )
            assert (answer.status, answer.body) == (200, b'{"success": true}')
            assert answer.headers["content-type"] == "application/json"
        assert len(server.messages) == 11
        assert [entry.source for entry in server.entries] == ["website"] * 11
        assert server.log.totals().rejected == 0
        assert [message["originalTimestamp"] for message in server.messages].count("2015-2-02T00:30:08.276Z") == 1
        assert [message["timestamp"] for message in server.messages].count("2015-02-02T00:30:08.276Z") == 1

    def test_the_batch(self, server: Server) -> None:
        """Its context is merged into each of its messages."""
        example = next(example for example in _examples() if example["call"] == "batch")
        server.post("/v1/batch", example["body"])
        device = {"type": "phone", "name": "Apple iPhone 6"}
        assert [message["context"]["device"] for message in server.messages] == [device] * 4
        assert [message["type"] for message in server.messages] == ["identify", "track", "identify", "track"]
        assert {message["receivedAt"] for message in server.messages} == {NOON_TEXT}


class TestMounting:
    """It may be mounted under a prefix inside another app: any server, Flask or Django by a dispatcher."""

    def test_under_a_prefix(self, server: Server) -> None:
        client = Client(DispatcherMiddleware(_not_here, {"/analytics": server.app}))
        for path in ("/analytics/v1/track", "/analytics/v1/t/", "/analytics//v1//track"):
            answer = client.post(path, json=FIELDS | {"messageId": path}, headers=KEY)
            assert (answer.status_code, answer.data) == (200, b'{"success": true}')
        assert client.post("/v1/track", json=FIELDS, headers=KEY).status_code == 418
        assert client.get("/analytics/v1/nothing").get_json()["code"] == "not_found"
        assert client.get("/analytics").get_json()["code"] == "not_found"
        assert len(server.messages) == 3

    def test_the_settings_name_the_prefix(self, server: Server) -> None:
        client = Client(DispatcherMiddleware(_not_here, {"/analytics": server.app}))
        settings = client.get("/analytics/v1/projects/k/settings", base_url="http://track.example.com").get_json()
        assert settings["integrations"]["Segment.io"]["apiHost"] == "track.example.com/analytics/v1"

    def test_inside_flask(self, server: Server) -> None:
        flask = Flask("shop")
        flask.add_url_rule("/", view_func=lambda: "the shop")
        flask.wsgi_app = DispatcherMiddleware(flask.wsgi_app, {"/analytics": server.app})  # type: ignore[method-assign]
        client = flask.test_client()
        assert client.get("/").data == b"the shop"
        answer = client.post("/analytics/v1/batch", json={"batch": [track()]}, headers=KEY)
        assert (answer.status_code, answer.data) == (200, b'{"success": true}')
        assert server.only["event"] == "E"
        assert client.get("/analytics/v1/projects/k/settings").get_json()["integrations"]
        assert client.get("/nothing").status_code == 404

    def test_several_apps_on_one_collector(self, server: Server) -> None:
        app = DispatcherMiddleware(_not_here, {"/a": server.app, "/b": server.app})
        for mount in ("/a", "/b"):
            assert call_app(app, f"{mount}/v1/track", json.dumps(FIELDS).encode(), headers=KEY).status == 200
        assert len(server.messages) == 1, "the same message, sent twice"


def _not_here(environ: Any, start_response: Any) -> Any:
    return Response("a teapot", status=418)(environ, start_response)


class TestSettings:
    """`GET /v1/projects/<writeKey>/settings`: 200 with an `integrations` object, whatever the key, and `apiHost`
    leads back here.
    """

    def test_document(self) -> None:
        document = serve(MemorySink()).get("/v1/projects/abc123/settings", headers={"Host": "t.example.com"}).json
        segment = document["integrations"]["Segment.io"]
        assert segment["apiKey"] == "abc123"
        assert segment["apiHost"] == "t.example.com/v1"
        assert segment["protocol"] == "http"
        assert document["plan"]["track"]["__default"]["enabled"] is True
        assert document["metrics"]["sampleRate"] == 0

    def test_it_is_where_messages_go(self, server: Server) -> None:
        """React Native sends to `https://${apiHost}/b`."""
        segment = server.get("/v1/projects/abc123/settings", headers={"Host": "localhost"}).json["integrations"]
        path = segment["Segment.io"]["apiHost"].removeprefix("localhost") + "/b"
        assert server.post(path, {"batch": [track()]}).json == {"success": True}
        assert len(server.messages) == 1

    def test_a_host_with_a_port_and_https(self) -> None:
        answer = serve(MemorySink()).get(
            "/v1/projects/k/settings", headers={"Host": "t.example.com:8443"}, environ={"wsgi.url_scheme": "https"}
        )
        segment = answer.json["integrations"]["Segment.io"]
        assert (segment["apiHost"], segment["protocol"]) == ("t.example.com:8443/v1", "https")

    def test_behind_a_proxy(self) -> None:
        forwarded = {
            "Host": "10.0.0.1:8080",
            "X-Forwarded-Host": "t.example.com",
            "X-Forwarded-Proto": "https",
            "X-Forwarded-Prefix": "/in",
        }
        for hops, expected in ((1, ("t.example.com/in/v1", "https")), (0, ("10.0.0.1:8080/v1", "http"))):
            answer = serve(MemorySink(), proxy_hops=hops).get("/v1/projects/k/settings", headers=forwarded)
            segment = answer.json["integrations"]["Segment.io"]
            assert (segment["apiHost"], segment["protocol"]) == expected

    @pytest.mark.parametrize("key", ["nobody's", "é", "%", "a b", "settings", "projects"])
    def test_any_key_gets_it(self, key: str) -> None:
        """A wrong key must not silence an SDK: received requests can be seen and reprocessed."""
        path = f"/v1/projects/{key}/settings".encode().decode("latin-1")
        answer = serve(MemorySink()).get(path, headers=UNKNOWN_KEY)
        assert answer.json["integrations"]["Segment.io"]["apiKey"] == key

    def test_projects_repeated(self) -> None:
        """React Native appends `projects/` to a base URL that has it already."""
        answer = serve(MemorySink()).get("/v1/projects/projects/k/settings")
        assert answer.json["integrations"]["Segment.io"]["apiKey"] == "k"

    @pytest.mark.parametrize("host", ["", "a b", "x/y", "[::1", "ü", "<script>", "a" * 5000])
    def test_an_odd_host_is_no_crash(self, host: str) -> None:
        answer = serve(MemorySink()).get("/v1/projects/k/settings", headers={"Host": host})
        assert answer.status == 200
        assert answer.json["integrations"]


class TestCrossOrigin:
    """`OPTIONS` on every route is handled as a CORS preflight; CORS headers on errors too."""

    @pytest.mark.parametrize("path", [*ALL_POST, *ALL_GET])
    def test_preflight(self, path: str) -> None:
        """Without credentials; requested headers are echoed, since `*` does not cover Authorization."""
        asked = {
            "Origin": "https://shop.example.com",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type,x-retry-count,anonymousid",
        }
        answer = call_app(serve(MemorySink()).app, path, method="OPTIONS", headers=asked)
        assert answer.status in {200, 204}
        assert answer.headers["access-control-allow-origin"] == "https://shop.example.com"
        assert answer.headers["access-control-allow-headers"] == "authorization,content-type,x-retry-count,anonymousid"
        assert {"GET", "POST", "OPTIONS"} <= set(answer.headers["access-control-allow-methods"].split(", "))
        assert int(answer.headers["access-control-max-age"]) > 0
        assert answer.headers["access-control-allow-credentials"] == "true"
        assert "origin" in answer.headers["vary"].lower()

    def test_preflight_with_a_trailing_slash_is_no_redirect(self) -> None:
        assert call_app(serve(MemorySink()).app, "//v1//track//", method="OPTIONS").status == 200

    def test_preflight_without_anything_asked(self) -> None:
        headers = call_app(serve(MemorySink()).app, "/v1/t", method="OPTIONS").headers
        assert headers["access-control-allow-origin"] == "*"
        assert "Authorization" in headers["access-control-allow-headers"]
        assert "access-control-allow-credentials" not in headers

    def test_a_preflight_stores_nothing(self, server: Server) -> None:
        call_app(server.app, "/v1/t", json.dumps(FIELDS).encode(), method="OPTIONS", headers=KEY)
        server.sink.check_ready()
        assert server.messages == []

    @pytest.mark.parametrize(
        ("method", "path", "status", "headers"),
        [
            ("POST", "/v1/t", 200, {"Authorization": basic("abc123")}),
            ("POST", "/v1/t", 200, {}),
            ("POST", "/v1/batch", 400, {}),
            ("POST", "/v1/t", 401, {"X-Strict-Mode": "1"}),
            ("POST", "/nowhere", 404, {}),
            ("GET", "/v1/t", 405, {}),
            ("GET", "/v1/pixel/track", 200, {}),
            ("GET", "/health", 200, {}),
            ("GET", "/v1/projects/k/settings", 200, {}),
        ],
    )
    @pytest.mark.parametrize("origin", ["https://shop.example.com", "null", None])
    def test_on_every_answer(
        self, method: str, path: str, status: int, headers: dict[str, str], origin: str | None
    ) -> None:
        sent = headers if origin is None else {**headers, "Origin": origin}
        answer = call_app(serve(MemorySink()).app, path, json.dumps(FIELDS).encode(), method=method, headers=sent)
        assert answer.status == status
        assert answer.headers["access-control-allow-origin"] == (origin or "*")
        exposed = answer.headers["access-control-expose-headers"].split(", ")
        assert {"Retry-After", "X-RateLimit-Reset"} <= set(exposed)
        assert answer.headers.get("access-control-allow-credentials") == ("true" if origin else None)

    @pytest.mark.parametrize("header", ["Origin", "Access-Control-Request-Headers"])
    @pytest.mark.parametrize("value", ["a\r\nSet-Cookie: x=1", "a\nb", "a\r\n b"])
    def test_a_folded_header_is_no_crash_and_no_injection(self, header: str, value: str) -> None:
        """Wsgiref passes a folded header with its line break."""
        answer = call_app(serve(MemorySink()).app, "/v1/t", method="OPTIONS", headers={header: value}, validate=False)
        assert answer.status in {200, 400, 500}
        assert "set-cookie" not in answer.headers
        assert not any("\n" in text for text in answer.headers.values())
