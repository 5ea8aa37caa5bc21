"""The server of an asynchronous worker: it accepts connections, keeps their deadlines, and stops without losing any.

Once a second it looks at all connections and closes those past their deadline.  It stops accepting while there are as
many as `HttpLimits.connections`: more wait in the backlog of the system.  Meanwhile it closes those that are idle for
`IDLE_SECONDS`, so that silent clients cannot keep others out.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

import attrs
from trackcore_asgi import App

from trackcore_server.hosting.http_connection import HttpConnection
from trackcore_server.hosting.http_host import HttpHost, HttpLimits
from trackcore_server.hosting.lifespan import Lifespan
from trackcore_server.process.access_log import AccessLog

IDLE_SECONDS = 2.0
"""How long a connection without a request stays open when the worker is stopping or full: a client may be sending."""

_TICK_SECONDS = 1.0
_STOPPING_TICK_SECONDS = 0.05
_CANCELLING_SECONDS = 1.0

log = logging.getLogger("trackcore.server")


@attrs.define(eq=False, kw_only=True)
class AsyncServer:
    """Serves an ASGI app on sockets that are bound already.

    Args:
        app: the app.
        sockets: the sockets; they stay open.
        limits: the limits of clients.
        backlog: how many connections wait in the system.
        graceful_seconds: how long requests in progress may take once the server is stopping.
        most_requests: the server stops by itself after about so many.
        tls: serves HTTPS.
        access_log: logs each request.
        on_ready: called when the app has started; from then on `stop` can be called.
        on_tick: called at least once a second.
    """

    app: App
    sockets: Sequence[socket.socket]
    limits: HttpLimits
    backlog: int
    graceful_seconds: float
    most_requests: float = float("inf")
    tls: ssl.SSLContext | None = None
    access_log: AccessLog | None = None
    on_ready: Callable[[], None]
    on_tick: Callable[[], None]
    _host: HttpHost = attrs.field(init=False)
    _listeners: list[asyncio.Server] = attrs.field(init=False, factory=list)
    _is_hasty: bool = attrs.field(init=False, default=False)

    async def serve(self) -> None:
        """Serve until `stop` is called.  Raises `StartFailed` if the app cannot start."""
        lifespan = Lifespan(self.app)
        self._host = HttpHost(
            app=self.app,
            limits=self.limits,
            loop=asyncio.get_running_loop(),
            scheme="http" if self.tls is None else "https",
            app_state=lifespan.state,
            access_log=self.access_log,
        )
        await lifespan.start()
        self.on_ready()
        await self._serve_until_stopped()
        await self._finish()
        await lifespan.stop()

    def stop(self, *, is_hasty: bool = False) -> None:
        """Stop once the requests in progress are answered; in haste, without waiting for clients that are idle."""
        self._is_hasty = self._is_hasty or is_hasty
        self._host.is_stopping = True
        self._host.changed.set()

    async def _serve_until_stopped(self) -> None:
        host = self._host
        while not host.is_stopping and host.answered < self.most_requests:
            await self._listen_if_there_is_room()
            self._tick()
            with suppress(TimeoutError):
                async with asyncio.timeout(_TICK_SECONDS):
                    await host.changed.wait()
            host.changed.clear()

    async def _finish(self) -> None:
        """Answer the requests in progress, and close all connections."""
        host = self._host
        host.is_stopping = True
        self._stop_listening()
        now = host.loop.time()
        end, idle_end = now + self.graceful_seconds, now + IDLE_SECONDS
        while (host.connections or host.exchanges) and host.loop.time() < end:
            self._limit_idle(host.loop.time() if self._is_hasty else idle_end)
            await asyncio.sleep(_STOPPING_TICK_SECONDS)
            self._tick()
        await self._cancel()
        self._tick()

    async def _cancel(self) -> None:
        for connection in list(self._host.connections):
            connection.abort()
        tasks = [exchange.task for exchange in self._host.exchanges if exchange.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_CANCELLING_SECONDS)

    async def _listen_if_there_is_room(self) -> None:
        if self._host.is_full:
            self._stop_listening()
        elif not self._listeners:
            for each in self.sockets:
                listener = await self._host.loop.create_server(
                    partial(HttpConnection, self._host), sock=each.dup(), backlog=self.backlog, ssl=self.tls
                )
                self._listeners.append(listener)

    def _stop_listening(self) -> None:
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()

    def _tick(self) -> None:
        host = self._host
        now = host.loop.time()
        if host.is_full:
            self._limit_idle(now + IDLE_SECONDS)
        late = sum([each.cut() for each in list(host.connections) if each.deadline <= now])
        if late:
            log.warning("closed %d connections: a request took more than %g s", late, self.limits.request_seconds)
        if host.rejected:
            codes = ", ".join(f"{number} {code}" for code, number in host.rejected.most_common())
            log.info("rejected %d requests: %s", host.rejected.total(), codes)
            host.rejected.clear()
        host.refresh_date()
        self.on_tick()

    def _limit_idle(self, deadline: float) -> None:
        for connection in self._host.connections:
            if connection.is_idle:
                connection.deadline = min(connection.deadline, deadline)
