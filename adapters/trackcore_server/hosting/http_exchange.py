"""One HTTP request and its response, as an ASGI app sees them: `receive` and `send`.

The request arrives by `feed`, `finish` and `disconnect`, and waits in memory until the app takes it.  A request that
has arrived completely is passed on even if its client is gone: some clients do not wait for an answer.  The head of the
response is kept until there is a body, so that both are sent together.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from trackcore_asgi import Scope

from trackcore.text import describe_unexpected
from trackcore_server.hosting import rejections
from trackcore_server.hosting.http_host import Event, HttpHost
from trackcore_server.hosting.http_response import Response
from trackcore_server.hosting.rejections import Rejection

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

log = logging.getLogger("trackcore.server")


class Peer(Protocol):
    """The connection of an exchange."""

    def write(self, data: bytes) -> None:
        """Send bytes."""

    async def drain(self) -> None:
        """Wait until the client has taken enough of what was sent."""

    def take_more(self) -> None:
        """Read on, if enough of the body has been taken."""

    def advance(self) -> None:
        """Go on to the next request, if the first one is over."""

    def fail(self, rejection: Rejection) -> None:
        """Answer for the app, or cut the response that it has started."""


class ClientGone(OSError):
    """The client has closed the connection."""


class BrokenRequest(Exception):
    """The rest of a request cannot be read: it is malformed."""


class Exchange:
    """One request and its response."""

    __slots__ = (
        "_body",
        "_expects_continue",
        "_host",
        "_is_broken",
        "_is_disconnected",
        "_is_taken",
        "_peer",
        "_response",
        "_scope",
        "_sent",
        "_started_at",
        "_status",
        "_waiter",
        "is_answered",
        "is_received",
        "is_started",
        "keeps_alive",
        "task",
        "waiting_bytes",
    )

    def __init__(self, host: HttpHost, peer: Peer, scope: Scope, *, keeps_alive: bool, expects_continue: bool) -> None:
        self.keeps_alive = keeps_alive
        self.is_received = False
        self.is_started = False  # a part of the response has been sent
        self.is_answered = False
        self.waiting_bytes = 0
        self.task: asyncio.Task[None] | None = None
        self._host = host
        self._peer = peer
        self._scope = scope
        self._expects_continue = expects_continue
        self._body: list[bytes] = []
        self._is_taken = False
        self._is_broken = False
        self._is_disconnected = False
        self._waiter: asyncio.Future[None] | None = None
        self._response: Response | None = None
        self._status = self._sent = 0
        self._started_at = 0.0

    def feed(self, data: bytes) -> None:
        """Add a part of the body.  It is ignored if the app has answered already."""
        if not self.is_answered:
            self._expects_continue = False
            self._body.append(data)
            self.waiting_bytes += len(data)
            self._wake()

    def finish(self) -> None:
        """Note that the request has arrived completely."""
        self.is_received = True
        self._wake()

    def break_off(self) -> None:
        """Note that the rest of the request cannot be read."""
        self._is_broken = True
        self.keeps_alive = False
        self._body.clear()
        self._wake()

    def disconnect(self) -> None:
        """Note that the client is gone."""
        self._is_disconnected = True
        if not self.is_received:
            self._body.clear()
        self._wake()

    def start(self) -> None:
        """Let the app answer."""
        self._host.exchanges.add(self)
        self._started_at = self._host.loop.time()
        self.task = self._host.loop.create_task(self._run())

    async def _run(self) -> None:
        rejection = rejections.INTERNAL_ERROR
        try:
            await self._host.app(self._scope, self._receive, self._send)
            failure = None if self.is_answered or self._is_disconnected else "the app has not answered it"
        except ClientGone:
            failure = None
        except BrokenRequest:
            failure, rejection = None, rejections.INVALID_HTTP
        except Exception as error:  # noqa: BLE001 - of any app
            failure = describe_unexpected(error)
        finally:
            self._host.exchanges.discard(self)
        if failure is not None:
            log.error("a request failed: %s", failure)
        if not (self.is_answered or self._is_disconnected):
            self._peer.fail(rejection)

    async def _receive(self) -> Event:
        """Return the next event.  Raises `BrokenRequest`, which an app may answer by itself."""
        if self._expects_continue and not self.is_started:
            self._expects_continue = False
            self._peer.write(_CONTINUE)
        while not self.is_answered:
            if self._body or (self.is_received and not self._is_taken):
                return self._take()
            if self._is_disconnected:
                break
            if self._is_broken:
                raise BrokenRequest
            self._waiter = self._host.loop.create_future()
            await self._waiter
        return {"type": "http.disconnect"}

    def _take(self) -> Event:
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body.clear()
        self.waiting_bytes = 0
        self._is_taken = self.is_received
        self._peer.take_more()
        return {"type": "http.request", "body": body, "more_body": not self.is_received}

    async def _send(self, event: Event) -> None:
        """Send an event.  Raises `ClientGone` if nobody receives it."""
        if self._is_disconnected:
            raise ClientGone
        kind = event["type"]
        if kind == "http.response.start" and self._response is None:
            self._status = event["status"]
            self._response = Response(
                self._status,
                event.get("headers", ()),
                is_head=self._scope["method"] == "HEAD",
                is_old=self._scope["http_version"] == "1.0",
            )
        elif kind == "http.response.body" and self._response is not None and not self.is_answered:
            is_last = not event.get("more_body", False)
            self._send_part(self._response, event.get("body", b""), is_last=is_last)
            if not is_last:
                await self._peer.drain()
        else:
            raise RuntimeError(f"the app sends {kind} at the wrong time")

    def _send_part(self, response: Response, body: bytes, *, is_last: bool) -> None:
        if self.is_started:
            data = response.frame(body, is_last=is_last)
        else:
            if self._host.is_stopping or self._expects_continue:  # the client may or may not send its body now
                self.keeps_alive = False
            data = response.begin(body, is_last=is_last, keeps_alive=self.keeps_alive, date=self._host.date)
            self.is_started = True
        self._peer.write(data)
        self._sent += len(body)
        if is_last:
            self._end(response)

    def _end(self, response: Response) -> None:
        self.is_answered = True
        self.keeps_alive = self.keeps_alive and not response.closes
        self._body.clear()
        self.waiting_bytes = 0
        self._host.answered += 1
        if self._host.access_log is not None:
            self._host.access_log.write(
                method=self._scope["method"],
                path=self._scope["path"],
                status=self._status,
                seconds=self._host.loop.time() - self._started_at,
                size=self._sent,
            )
        self._wake()
        self._peer.advance()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
