"""The ASGI app: performs the steps of an exchange in the event loop, where only `await` waits."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from trackcore_http import (
    CUT_OFF,
    DEFAULT_OPTIONS,
    UNREADABLE,
    X_FORWARDED_FOR,
    ApiOptions,
    BodyReader,
    Headers,
    HttpRequest,
    Proxies,
    ReadBody,
    Response,
    Step,
    Store,
    TrackingApi,
)

from trackcore import AsyncSink, Collector
from trackcore_asgi.mounting import behind_proxies
from trackcore_asgi.scopes import headers_of, path_below, root_of
from trackcore_asgi.threads import with_async_sink

if TYPE_CHECKING:
    from trackcore_asgi.scopes import Receive, Scope, Send

log = logging.getLogger("trackcore.http")


class TrackingApp:
    """A Segment-compatible tracking endpoint as an ASGI app.

    It may be mounted under a prefix inside another app: `app.mount("/tracking", TrackingApp(collector))`.

    Args:
        collector: receives and stores the messages.  Threads call a sink without `store_async`.
        proxy_hops: how many proxies in front are trusted to report the client's address, host and scheme.  With 0, the
            X-Forwarded headers are ignored, since any client can send them.
        trusted_proxies: the addresses of trusted proxies instead, as ranges such as `10.0.0.0/8`.
        proxy_header: the header in which they report the client: `X-Forwarded-For` or `Forwarded`.
        options: what SDKs are served beside, and the status of a failure to store.
    """

    def __init__(
        self,
        collector: Collector,
        *,
        proxy_hops: int = 0,
        trusted_proxies: Iterable[str] = (),
        proxy_header: str = X_FORWARDED_FOR,
        options: ApiOptions = DEFAULT_OPTIONS,
    ) -> None:
        self._api = TrackingApi(with_async_sink(collector), options)
        self._respond_to_reported = behind_proxies(
            self._respond, Proxies(hops=proxy_hops, ranges=trusted_proxies, header=proxy_header)
        )

    @property
    def collector(self) -> Collector:
        """The collector."""
        return self._api.collector

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to one request, or follow the life of the server.

        Raises `ValueError` for a kind of connection that ASGI did not have when this was written.
        """
        kind = scope["type"]
        if kind == "http":
            await self._respond_to_reported(scope, receive, send)
        elif kind == "lifespan":
            await _follow_lifespan(receive, send)
        elif kind == "websocket":
            await send({"type": "websocket.close"})
        else:
            raise ValueError(f"{kind!r} connections are not supported")

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = _request(scope)
        response = await self._response(request, receive)
        headers = _encoded(response.headers_for(request))
        body = b"" if request.method == "HEAD" else response.body
        try:
            await send({"type": "http.response.start", "status": response.status.value, "headers": list(headers)})
            await send({"type": "http.response.body", "body": body})
        except OSError:
            log.debug("a client has gone before its response")

    async def _response(self, request: HttpRequest, receive: Receive) -> Response:
        exchange = self._api.exchange(request)
        try:
            step = next(exchange)
            while True:
                try:
                    result = await self._perform(step, receive)
                except Exception as error:  # noqa: BLE001 - the exchange decides
                    step = exchange.throw(error)
                else:
                    step = exchange.send(result)
        except StopIteration as done:
            response: Response = done.value
            return response

    async def _perform(self, step: Step, receive: Receive) -> Any:
        if isinstance(step, ReadBody):
            return await _read_into(step.reader, receive)
        if isinstance(step, Store):
            return await self.collector.store_async(step.pending)
        return await cast("AsyncSink", self.collector.sink).check_ready_async()


async def _read_into(reader: BodyReader, receive: Receive) -> str | None:
    """Read the body of a request, and return why it was not read to its end, if it was not."""
    more = True
    while more and reader.wanted:
        try:
            message = await receive()
        except Exception as error:  # noqa: BLE001 - each server has its own exceptions for a malformed body
            log.info("a body could not be read: %s", type(error).__name__)
            return UNREADABLE
        if message["type"] == "http.disconnect":
            return CUT_OFF
        reader.feed(message.get("body", b""))
        more = message.get("more_body", False)
    return None


async def _follow_lifespan(receive: Receive, send: Send) -> None:
    kind = ""
    while kind != "lifespan.shutdown":
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})


def _request(scope: Scope) -> HttpRequest:
    client = scope.get("client")
    return HttpRequest(
        method=scope["method"],
        path=path_below(scope),
        query=scope["query_string"].decode("latin-1"),
        headers=headers_of(scope),
        root_path=root_of(scope),
        scheme=scope.get("scheme", "http"),
        server=scope.get("server"),
        client=client[0] if client else None,
    )


@lru_cache(maxsize=256)
def _encoded(headers: Headers) -> tuple[tuple[bytes, bytes], ...]:
    """Return headers as ASGI wants them.  Cached, since most responses have the same."""
    return tuple((name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers)
