"""The state that all connections of an asynchronous worker share, and the limits of their requests."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import MutableMapping
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs
from trackcore_asgi import App

from trackcore_server.process.access_log import AccessLog

if TYPE_CHECKING:
    from trackcore_server.hosting.http_connection import HttpConnection
    from trackcore_server.hosting.http_exchange import Exchange


Event: TypeAlias = MutableMapping[str, Any]
"""An event between a server and an app; ASGI calls it a message."""


@attrs.frozen(kw_only=True)
class HttpLimits:
    """The limits of a client.  Sizes are in bytes, times in seconds.

    `request_seconds` is from the first byte of a request to the last byte of its answer.  `connections` may be open at
    once; more wait in the system's backlog.
    """

    request_line: int
    headers: int
    header_size: int
    request_seconds: float
    keepalive_seconds: float
    connections: int

    @property
    def head_size(self) -> int:
        """The largest head of a request, and the most bytes between two parts of a body."""
        return self.request_line + self.headers * self.header_size


def _date_header() -> bytes:
    return b"date: %b\r\n" % formatdate(usegmt=True).encode("ascii")


@attrs.define(eq=False, kw_only=True)
class HttpHost:
    """The app, its connections and its requests in progress.

    `changed` is set when something happens that the server has to react to before its next tick.
    """

    app: App
    limits: HttpLimits
    loop: asyncio.AbstractEventLoop
    scheme: str = "http"
    app_state: dict[str, Any] = attrs.field(factory=dict)
    access_log: AccessLog | None = None
    date: bytes = attrs.field(init=False, factory=_date_header)
    is_full: bool = attrs.field(init=False, default=False)
    is_stopping: bool = attrs.field(init=False, default=False)
    changed: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)
    connections: set[HttpConnection] = attrs.field(init=False, factory=set)
    exchanges: set[Exchange] = attrs.field(init=False, factory=set)
    answered: int = attrs.field(init=False, default=0)
    rejected: Counter[str] = attrs.field(init=False, factory=Counter)
    """The number of rejected requests of each code since they were last logged."""

    def add(self, connection: HttpConnection) -> None:
        """Add a connection."""
        self.connections.add(connection)
        self._check_room()

    def discard(self, connection: HttpConnection) -> None:
        """Remove a connection that is closed."""
        self.connections.discard(connection)
        self._check_room()

    def refresh_date(self) -> None:
        """Update the date of responses."""
        self.date = _date_header()

    def _check_room(self) -> None:
        is_full = len(self.connections) >= self.limits.connections
        if is_full is not self.is_full:
            self.is_full = is_full
            self.changed.set()
