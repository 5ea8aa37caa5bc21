"""The ASGI face where it differs from WSGI: lifespan, pieces of a body, clients that go, mount points, threads."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Sequence
from typing import Any

import attrs
import pytest
from adapter_helpers import NOON, SOURCES, FailingSink, basic, serve, track
from faces import ask_asgi, scope_of
from fuzz.raw import RawRequest
from trackcore_asgi import ThreadedSink, TrackingApp, behind_proxies, under_prefix, with_wsgi_app

from trackcore import Collector, Envelope, MemorySink, Outcome, QuarantinedRequest, RejectedRecord, Sink

KEY = ("Authorization", basic("abc123"))
BODY = json.dumps({"batch": [track(messageId="m")]}).encode()
POST = RawRequest(headers=(KEY,), body=BODY)
WHOLE = ({"type": "http.request", "body": BODY},)
SETTINGS = RawRequest(method="GET", target="/v1/projects/k/settings")


def app_on(sink: Sink, **options: Any) -> TrackingApp:
    numbers = iter(range(1, 1_000))
    collector = Collector(
        sources=SOURCES, sink=sink, clock=lambda: NOON, new_message_id=lambda: f"server-{next(numbers)}"
    )
    return TrackingApp(collector, **options)


def api_host(app: Any, scope: dict[str, Any]) -> str:
    reply = asyncio.run(ask_asgi(app, scope, [{"type": "http.request"}]))
    return str(json.loads(reply.body)["integrations"]["Segment.io"]["apiHost"])


class TestLifespan:
    """A server announces its start and its end, and waits for the app to be ready for each."""

    def test_both_are_confirmed(self) -> None:
        events = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
        sent: list[Any] = []

        async def receive() -> Any:
            return next(events)

        async def send(event: Any) -> None:
            sent.append(event)

        async def run() -> None:
            app = under_prefix(behind_proxies(app_on(MemorySink()), 1), "/in")
            await app({"type": "lifespan"}, receive, send)

        asyncio.run(run())
        assert sent == [{"type": "lifespan.startup.complete"}, {"type": "lifespan.shutdown.complete"}]

    def test_a_websocket_is_closed(self) -> None:
        sent: list[Any] = []

        async def send(event: Any) -> None:
            sent.append(event)

        asyncio.run(app_on(MemorySink())({"type": "websocket"}, asyncio.Event().wait, send))  # type: ignore[arg-type]
        assert sent == [{"type": "websocket.close"}]

    def test_another_kind_of_connection_is_a_mistake(self) -> None:
        with pytest.raises(ValueError, match="'webtransport' connections are not supported"):
            asyncio.run(app_on(MemorySink())({"type": "webtransport"}, None, None))  # type: ignore[arg-type]


class TestClientsThatGo:
    """`http.disconnect`: the client has gone; a send to it may raise OSError (ASGI 2.4)."""

    @pytest.mark.parametrize("length", [None, str(len(BODY))])
    def test_during_the_body(self, length: str | None) -> None:
        sink = MemorySink()
        extra = ("Transfer-Encoding", "chunked") if length is None else ("Content-Length", length)
        events: list[dict[str, Any]] = [
            {"type": "http.request", "body": BODY[:10], "more_body": True},
            {"type": "http.disconnect"},
        ]
        scope = scope_of(attrs.evolve(POST, headers=(KEY, extra)))
        reply = asyncio.run(ask_asgi(app_on(sink), scope, events))
        assert reply.status == 400
        assert [(record.code, record.payload) for record in sink.rejected] == [("incomplete_body", BODY[:10])]
        assert sink.envelopes == []

    def test_a_server_that_raises_for_a_malformed_body(self) -> None:
        sink = MemorySink()

        async def receive() -> Any:
            raise RuntimeError("a chunk without a size")

        sent: list[Any] = []

        async def send(event: Any) -> None:
            sent.append(event)

        asyncio.run(app_on(sink)(scope_of(POST), receive, send))
        assert sent[0]["status"] == 400
        assert [record.code for record in sink.rejected] == ["incomplete_body"]

    def test_before_the_response(self) -> None:
        sink = MemorySink()

        async def receive() -> Any:
            return WHOLE[0]

        async def send(_: Any) -> None:
            raise OSError("the client has gone")

        asyncio.run(app_on(sink)(scope_of(POST), receive, send))
        assert len(sink.envelopes) == 1, "what was received is stored all the same"

    def test_a_request_that_is_cancelled_is_no_failure_of_the_app(self, caplog: pytest.LogCaptureFixture) -> None:
        async def run() -> None:
            async def receive() -> Any:
                await asyncio.Event().wait()

            async def send(_: Any) -> None:
                raise AssertionError("nobody waits for a response")

            task = asyncio.ensure_future(app_on(MemorySink())(scope_of(POST), receive, send))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(run())
        assert caplog.text == ""


class TestBodies:
    """An announced length ends a body, whatever the server passes on."""

    def test_a_body_that_is_too_large_is_drained_and_then_given_up(self) -> None:
        read = 0

        async def receive() -> Any:
            nonlocal read
            read += 1 << 16
            return {"type": "http.request", "body": b"x" * (1 << 16), "more_body": True}

        sent: list[Any] = []

        async def send(event: Any) -> None:
            sent.append(event)

        scope = scope_of(RawRequest(headers=(KEY, ("Transfer-Encoding", "chunked"))))
        asyncio.run(app_on(MemorySink())(scope, receive, send))
        assert json.loads(sent[1]["body"])["code"] == "body_too_large"
        assert 16 << 20 <= read <= 18 << 20

    def test_headers_of_a_response_may_be_changed_by_what_is_around_the_app(self) -> None:
        app = app_on(MemorySink())
        first, second = ([], [])  # type: list[Any], list[Any]
        for sent in (first, second):

            async def receive() -> Any:
                return WHOLE[0]

            async def send(event: Any, sent: list[Any] = sent) -> None:
                sent.append([*event.get("headers", ())])
                event.get("headers", []).clear()

            asyncio.run(app(scope_of(POST), receive, send))
        assert first == second


class TestMountPoints:
    """`root_path`: the path at which the app is mounted; `path` includes it, except behind a proxy that removes it."""

    @pytest.mark.parametrize("root", ["/in", "/in/", "/a/b"])
    @pytest.mark.parametrize("is_removed", [False, True])
    def test_messages_arrive_below_it(self, root: str, *, is_removed: bool) -> None:
        sink = MemorySink()
        path = "/v1/batch" if is_removed else root.rstrip("/") + "/v1/batch"
        scope = {**scope_of(POST), "root_path": root, "path": path}
        assert asyncio.run(ask_asgi(app_on(sink), scope, WHOLE)).status == 200
        assert len(sink.envelopes) == 1

    def test_addresses_that_the_app_writes_contain_it(self) -> None:
        scope = {**scope_of(SETTINGS), "root_path": "/in", "path": "/in/v1/projects/k/settings"}
        assert api_host(app_on(MemorySink()), scope) == "localhost/in/v1"

    def test_only_whole_segments_are_it(self) -> None:
        scope = {**scope_of(POST), "root_path": "/v", "path": "/v1/batch"}
        assert asyncio.run(ask_asgi(app_on(MemorySink()), scope, WHOLE)).status == 200

    @pytest.mark.parametrize(("root", "expected"), [("", "/a"), ("/a", "/a"), ("/out", "/out/a")])
    @pytest.mark.parametrize("start", ["/a/v1", "/v1", "//a//v1/"])
    def test_a_prefix(self, root: str, expected: str, start: str) -> None:
        app = under_prefix(app_on(MemorySink()), "/a")
        scope = {**scope_of(SETTINGS), "root_path": root, "path": f"{root}{start}/projects/k/settings"}
        assert api_host(app, scope) == f"localhost{expected}/v1"

    def test_a_proxy_that_has_removed_a_prefix_which_is_also_a_path_of_the_api(self) -> None:
        sink = MemorySink()
        scope = scope_of(attrs.evolve(POST, headers=(KEY, ("X-Forwarded-Prefix", "/v1"))))
        assert asyncio.run(ask_asgi(app_on(sink, proxy_hops=1), scope, WHOLE)).status == 200
        assert len(sink.envelopes) == 1

    def test_a_server_on_a_unix_socket_has_no_host_of_its_own(self) -> None:
        scope = {**scope_of(SETTINGS), "server": ("/run/trackcore.sock", None), "client": None}
        assert api_host(app_on(MemorySink()), scope) == "/v1"

    def test_a_wsgi_app_beside_it(self) -> None:
        def page(environ: Any, start_response: Any) -> list[bytes]:
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [f"{environ['SCRIPT_NAME']}|{environ['PATH_INFO']}|{environ['QUERY_STRING']}".encode()]

        app = with_wsgi_app(app_on(MemorySink()), "/page", page)
        for target, root, expected in [
            ("/page", "", b"/page||"),
            ("/page/x/y?q=\xe9", "", b"/page|/x/y|q=%E9"),
            ("/in/page/x", "/in", b"/in/page|/x|"),
        ]:
            scope = {**scope_of(RawRequest(method="GET", target=target)), "root_path": root}
            assert asyncio.run(ask_asgi(app, scope, [{"type": "http.request"}])).body == expected
        for target in ("/pages", "/health"):
            reply = asyncio.run(ask_asgi(app, scope_of(RawRequest(method="GET", target=target)), ()))
            assert reply.headers[0] == ("content-type", "application/json")


@attrs.define
class BlockingSink:
    """A sink that notes the threads which call it."""

    threads: list[str] = attrs.field(factory=list)

    def store(
        self,
        envelopes: Sequence[Envelope] = (),
        *,
        rejected: Sequence[RejectedRecord] = (),
        quarantined: Sequence[QuarantinedRequest] = (),
    ) -> Sequence[Outcome]:
        del rejected, quarantined
        self.threads.append(threading.current_thread().name)
        return [Outcome.STORED] * len(envelopes)

    def check_ready(self) -> None:
        self.threads.append(threading.current_thread().name)


class TestThreads:
    """Threads call a sink without `store_async`, so that it does not block the event loop."""

    def test_a_sink_that_only_blocks(self) -> None:
        sink = BlockingSink()
        app = app_on(sink)
        assert asyncio.run(ask_asgi(app, scope_of(POST), WHOLE)).status == 200
        assert asyncio.run(ask_asgi(app, scope_of(RawRequest(method="GET", target="/ready")), ())).status == 200
        assert len(sink.threads) == 2
        assert threading.main_thread().name not in sink.threads

    def test_one_that_is_wrapped_is_the_same_sink_for_threads(self) -> None:
        sink = BlockingSink()
        wrapped = ThreadedSink(sink)
        serve(wrapped).post("/v1/batch", BODY)
        wrapped.check_ready()
        assert sink.threads == [threading.current_thread().name] * 2

    def test_its_errors_are_those_of_the_sink(self) -> None:
        reply = asyncio.run(ask_asgi(app_on(FailingSink(RuntimeError("secret detail"))), scope_of(POST), WHOLE))
        assert reply.status == 500
        assert b"secret" not in reply.body
