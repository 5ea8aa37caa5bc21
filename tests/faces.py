"""The faces of the HTTP layer, each called with the same request and without a socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, unquote_to_bytes

import attrs
import trackcore_asgi
import trackcore_wsgi
from a2wsgi import WSGIMiddleware
from fuzz.raw import RawRequest, environ_of

from trackcore import Collector

CLIENT = "203.0.113.9"


@attrs.frozen
class Reply:
    """A response: its headers as they were sent, by names in lower case."""

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes


class WsgiFace:
    """`trackcore_wsgi.TrackingApp`, called as a WSGI server calls it."""

    def __init__(self, collector: Collector, **options: Any) -> None:
        self.app = trackcore_wsgi.TrackingApp(collector, **options)

    def ask(self, request: RawRequest) -> Reply:
        """Send a request, and return the response."""
        started: list[tuple[str, list[tuple[str, str]]]] = []

        def start_response(status: str, headers: list[tuple[str, str]], _: Any = None) -> Callable[[bytes], object]:
            started.append((status, headers))
            return lambda _: None

        body = b"".join(self.app(environ_of(request), start_response))
        ((status, headers),) = started
        return Reply(int(status.split()[0]), [(name.lower(), value) for name, value in headers], body)

    def close(self) -> None:
        """Nothing is open."""


class AsgiFace:
    """`trackcore_asgi.TrackingApp`, called as an ASGI server calls it, in an event loop of its own.

    `split` says how the server passes on a body: by default whole.
    """

    def __init__(
        self, collector: Collector, *, split: Callable[[bytes], Iterable[bytes]] = lambda body: [body], **options: Any
    ) -> None:
        self.app: trackcore_asgi.App = self.make(collector, **options)
        self._split = split
        self._runner = asyncio.Runner()

    def make(self, collector: Collector, **options: Any) -> trackcore_asgi.App:
        """Make the app."""
        return trackcore_asgi.TrackingApp(collector, **options)

    def ask(self, request: RawRequest) -> Reply:
        """Send a request, and return the response."""
        return self._runner.run(self._ask(request))

    def close(self) -> None:
        """Close the event loop."""
        self._runner.close()

    async def _ask(self, request: RawRequest) -> Reply:
        parts = [*self._split(request.body)] or [b""]
        events: list[dict[str, Any]] = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
        events[-1]["more_body"] = False
        return await ask_asgi(self.app, scope_of(request), events)


class A2wsgiFace(AsgiFace):
    """The WSGI face on an ASGI server, by a2wsgi, which ends the input itself and expects a query in ASCII."""

    def make(self, collector: Collector, **options: Any) -> trackcore_asgi.App:
        """Make the app."""
        wsgi: Any = trackcore_wsgi.TrackingApp(collector, input_terminated=True, **options)
        adapted: Any = WSGIMiddleware(wsgi)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            query = quote(scope["query_string"], safe="".join(map(chr, range(128)))).encode()
            await adapted({**scope, "query_string": query}, receive, send)

        return app


FACES: Mapping[str, Callable[..., WsgiFace | AsgiFace]] = {
    "WSGI": WsgiFace,
    "ASGI": AsgiFace,
    "WSGI on ASGI": A2wsgiFace,
}


async def ask_asgi(app: trackcore_asgi.App, scope: dict[str, Any], events: Iterable[dict[str, Any]]) -> Reply:
    """Call an ASGI app with a request, and return the response.  After these events the client waits."""
    waiting = iter(events)
    sent: list[Any] = []

    async def receive() -> Any:
        return next(waiting, None) or await asyncio.Event().wait()

    async def send(event: Any) -> None:
        sent.append(event)

    await app(scope, receive, send)
    start, *rest = sent
    assert [event["type"] for event in sent] == ["http.response.start", *["http.response.body"] * len(rest)]
    assert not rest[-1].get("more_body", False)
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in start["headers"]]
    return Reply(start["status"], headers, b"".join(event.get("body", b"") for event in rest))


def scope_of(request: RawRequest) -> dict[str, Any]:
    """Make the ASGI scope that a server would make of a request."""
    path, _, query = request.target.partition("?")
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in request.headers]
    is_chunked = request.header("transfer-encoding") is not None
    if is_chunked:
        headers = [(name, value) for name, value in headers if name != b"content-length"]
    elif request.header("content-length") is None:
        headers.append((b"content-length", str(len(request.body)).encode()))
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": unquote_to_bytes(path.encode("latin-1", "replace")).decode("utf-8", "replace"),
        "raw_path": path.encode("latin-1", "replace"),
        "query_string": query.encode("latin-1", "replace"),
        "root_path": "",
        "headers": headers,
        "client": (CLIENT, 50_000),
        "server": ("localhost", 80),
    }
