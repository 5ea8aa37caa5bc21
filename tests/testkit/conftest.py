"""Fixtures for the tests of the test kit: a server for all of them, and a client that speaks HTTP without an SDK."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import attrs
import pytest
from adapter_helpers import basic
from patience import PATIENCE
from trackcore_testing import Tracking, TrackingServer

from trackcore import JSONObject, Source

SOURCES = (Source(name="website", write_keys=["web-key"]), Source(name="app", write_keys=["app-key"]))


@attrs.frozen
class Answer:
    """The response to a request."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@attrs.frozen
class Client:
    """Sends requests to a server, each on a connection of its own."""

    url: str

    def send(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        key: str | None = "web-key",
        headers: JSONObject | None = None,
    ) -> Answer:
        """Send a request."""
        connection = HTTPConnection(urlsplit(self.url).netloc, timeout=PATIENCE)
        authorization = {} if key is None else {"Authorization": basic(key)}
        try:
            connection.request(method, path, body, {**authorization, **(headers or {})})
            response = connection.getresponse()
            return Answer(response.status, dict(response.headers), response.read())
        finally:
            connection.close()

    def post(self, path: str, body: Any, *, key: str | None = "web-key", **headers: str) -> Answer:
        """Send a JSON body."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.send("POST", path, json.dumps(body).encode(), key=key, headers=named)

    def track(self, event: str, user: str = "u1", *, key: str = "web-key", **fields: Any) -> Answer:
        """Send a track message."""
        return self.post("/v1/track", {"event": event, "userId": user, **fields}, key=key)

    @contextmanager
    def connected(self) -> Iterator[socket.socket]:
        """Connect a socket."""
        address = urlsplit(self.url)
        with socket.create_connection((address.hostname or "", address.port or 0), PATIENCE) as connected:
            yield connected


@pytest.fixture(scope="module", name="server")
def _server() -> Iterator[TrackingServer]:
    """A server with two sources."""
    with TrackingServer(sources=SOURCES, destinations=["Mixpanel"], timeout=0) as server:
        yield server


@pytest.fixture(name="tracked")
def _tracked(server: TrackingServer) -> Iterator[Tracking]:
    """Everything that a test sends to the server."""
    with server.collecting(strict=False) as tracking:
        yield tracking


@pytest.fixture(name="client")
def _client(tracked: Tracking) -> Client:
    """A client of the server."""
    return Client(tracked.url)


@pytest.fixture(name="failure")
def _failure() -> Callable[[Callable[[], object]], str]:
    """Return the text with which an assertion fails."""

    def text_of(assertion: Callable[[], object]) -> str:
        with pytest.raises(AssertionError) as caught:
            assertion()
        return str(caught.value)

    return text_of
