"""A client that speaks HTTP without an SDK, for the tests of the test kit."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import attrs
from adapter_helpers import basic
from patience import PATIENCE

from trackcore import JSONObject


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
            received = {name: ", ".join(response.headers.get_all(name, ())) for name in response.headers}
            return Answer(response.status, received, response.read())
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
