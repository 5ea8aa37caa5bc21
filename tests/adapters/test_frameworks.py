"""The ASGI app inside the apps of others: FastAPI, Starlette, Django and Litestar, served by uvicorn over a socket."""

from __future__ import annotations

import asyncio
import gzip
import http.client
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import django
import pytest
import uvicorn
from adapter_helpers import KEY, NOON, SOURCES, track
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path
from fastapi import FastAPI
from litestar import Litestar, asgi, get
from patience import PATIENCE, wait_for
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route
from trackcore_asgi import App, TrackingApp, under_prefix
from trackcore_sqlite import SqliteLog, SqliteSink

from trackcore import Collector

OWN = {"own": True}
STORED = (200, {"success": True})
PREFIX = "/tracking"


def in_starlette(tracking: App) -> App:
    async def own(_: Request) -> JSONResponse:
        return JSONResponse(OWN)

    middleware = [Middleware(CORSMiddleware, allow_origins=["https://example.org"])]
    return Starlette(routes=[Route("/own", own), Mount(PREFIX, tracking)], middleware=middleware)


def in_fastapi(tracking: App) -> App:
    app = FastAPI()
    app.get("/own")(lambda: OWN)
    app.mount(PREFIX, tracking)
    return app


def in_litestar(tracking: App) -> App:
    """Litestar removes the path of a mount, but names it nowhere."""
    below = under_prefix(tracking, PREFIX)

    @asgi(PREFIX, is_mount=True, copy_scope=True)
    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        await below(scope, receive, send)

    @get("/own", sync_to_thread=False)
    def own() -> dict[str, bool]:
        return OWN

    return Litestar([mounted, own])  # type: ignore[return-value]  # it spells out the types of ASGI


def own_page_of_django(_: HttpRequest) -> JsonResponse:
    return JsonResponse(OWN)


urlpatterns = [path("own", own_page_of_django)]


def in_django(tracking: App) -> App:
    if not settings.configured:
        settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["127.0.0.1"])
        django.setup()
    pages = get_asgi_application()
    below = under_prefix(tracking, PREFIX)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        is_tracking = scope["type"] == "http" and scope["path"].startswith(f"{PREFIX}/")
        await (below if is_tracking else pages)(scope, receive, send)

    return app


class Client:
    """A client of a server on a loopback port."""

    def __init__(self, port: int, log: SqliteLog) -> None:
        self.port, self.log = port, log

    def request(self, method: str, target: str, body: Any = None, headers: Mapping[str, str] = KEY) -> tuple[int, Any]:
        """Send a request, and return the status and the JSON of its response.  An iterable body is sent in chunks."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, target, body, dict(headers), encode_chunked=True)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def stored(self) -> list[str]:
        """Return the ids in the log."""
        return [entry.message["messageId"] for entry in self.log.messages()]


@pytest.fixture(name="client", params=[in_fastapi, in_starlette, in_django, in_litestar])
def _client(request: pytest.FixtureRequest, sqlite_sink: SqliteSink, log: SqliteLog) -> Iterator[Client]:
    """A client of a server that hosts a framework with the app mounted in it."""
    mount: Callable[[App], App] = request.param
    collector = Collector(sources=SOURCES, sink=sqlite_sink, clock=lambda: NOON, new_message_id=lambda: "made")
    config = uvicorn.Config(mount(TrackingApp(collector)), port=0, log_config=None, lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=asyncio.run, args=(server.serve(),))
    thread.start()
    try:
        wait_for(lambda: server.started)
        yield Client(server.servers[0].sockets[0].getsockname()[1], log)
    finally:
        server.should_exit = True
        thread.join(PATIENCE)


def batch(*ids: str) -> bytes:
    return json.dumps({"batch": [track(messageId=message_id) for message_id in ids]}).encode()


class TestMounted:
    """FastAPI, Starlette, Django ASGI and Litestar mount it, with chunked bodies, gzip and a prefix."""

    def test_messages_are_stored(self, client: Client) -> None:
        assert client.request("POST", f"{PREFIX}/v1/batch", batch("a", "b")) == STORED
        assert client.request("POST", f"{PREFIX}/v1/track", json.dumps(track(messageId="c"))) == (
            200,
            {"success": True},
        )
        assert client.stored() == ["a", "b", "c"]

    def test_a_chunked_body(self, client: Client) -> None:
        text = batch("a", "b")
        pieces = (text[start : start + 7] for start in range(0, len(text), 7))
        chunked = {**KEY, "Transfer-Encoding": "chunked"}
        assert client.request("POST", f"{PREFIX}/v1/batch", pieces, chunked) == STORED
        assert client.stored() == ["a", "b"]

    def test_a_compressed_body(self, client: Client) -> None:
        headers = {**KEY, "Content-Encoding": "gzip"}
        assert client.request("POST", f"{PREFIX}/v1/batch", gzip.compress(batch("a")), headers) == (
            200,
            {"success": True},
        )
        assert client.stored() == ["a"]

    def test_a_body_that_is_too_large(self, client: Client) -> None:
        status, answer = client.request("POST", f"{PREFIX}/v1/batch", b" " * 600_000)
        assert (status, answer["code"]) == (400, "body_too_large")

    def test_a_rejected_message_is_listed(self, client: Client) -> None:
        status, answer = client.request("POST", f"{PREFIX}/v1/batch", b'{"batch":[{}]}')
        assert (status, answer["rejected"][0]["code"]) == (200, "no_type")

    def test_the_settings_name_the_mount_point(self, client: Client) -> None:
        _, document = client.request("GET", f"{PREFIX}/v1/projects/abc123/settings")
        assert document["integrations"]["Segment.io"]["apiHost"] == f"127.0.0.1:{client.port}{PREFIX}/v1"

    def test_the_app_around_it_goes_on(self, client: Client) -> None:
        assert client.request("GET", "/own") == (200, OWN)
        assert client.request("GET", f"{PREFIX}/nowhere")[1]["code"] == "not_found"
