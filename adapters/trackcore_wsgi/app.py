"""The WSGI app: performs the steps of an exchange one after the other, in the thread of the request."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from trackcore_http import (
    DEFAULT_OPTIONS,
    X_FORWARDED_FOR,
    ApiOptions,
    HttpRequest,
    Proxies,
    ReadBody,
    Response,
    Step,
    Store,
    TrackingApi,
    UnterminatedBody,
)

from trackcore import Collector
from trackcore_wsgi.bodies import read_into
from trackcore_wsgi.headers import EnvironHeaders
from trackcore_wsgi.mounting import behind_proxies

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger("trackcore.http")


class TrackingApp:
    """A Segment-compatible tracking endpoint as a WSGI app.

    It may be mounted under a prefix inside another app (`werkzeug.middleware.dispatcher.DispatcherMiddleware`).

    Args:
        collector: receives and stores the messages.
        proxy_hops: how many proxies in front are trusted to report the client's address, host and scheme.  With 0, the
            X-Forwarded headers are ignored, since any client can send them.
        trusted_proxies: the addresses of trusted proxies instead, as ranges such as `10.0.0.0/8`.
        proxy_header: the header in which they report the client: `X-Forwarded-For` or `Forwarded`.
        input_terminated: declares that the server in front ends `wsgi.input` at the end of the body, which is true of
            a2wsgi and of Starlette's WSGIMiddleware.  Servers such as gunicorn declare it themselves, as
            `wsgi.input_terminated`.  Otherwise a body without Content-Length is answered with 503: SDKs keep it.
        options: what SDKs are served beside, and the status of a failure to store.
    """

    def __init__(
        self,
        collector: Collector,
        *,
        proxy_hops: int = 0,
        trusted_proxies: Iterable[str] = (),
        proxy_header: str = X_FORWARDED_FOR,
        input_terminated: bool = False,
        options: ApiOptions = DEFAULT_OPTIONS,
    ) -> None:
        self._api = TrackingApi(collector, options)
        self._input_terminated = input_terminated
        self._warned_of_input = False
        self._app: WSGIApplication = behind_proxies(
            self._respond, Proxies(hops=proxy_hops, ranges=trusted_proxies, header=proxy_header)
        )

    @property
    def collector(self) -> Collector:
        """The collector."""
        return self._api.collector

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Respond to one request."""
        if self._input_terminated:
            environ["wsgi.input_terminated"] = True
        return self._app(environ, start_response)

    def _respond(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = _request(environ)
        response = self._response(request, environ)
        status = f"{response.status.value} {response.status.phrase}"
        start_response(status, list(response.headers_for(request)))
        return () if request.method == "HEAD" else (response.body,)

    def _response(self, request: HttpRequest, environ: WSGIEnvironment) -> Response:
        exchange = self._api.exchange(request)
        try:
            step = next(exchange)
            while True:
                try:
                    result = self._perform(step, environ)
                except Exception as error:  # noqa: BLE001 - the exchange decides
                    step = exchange.throw(error)
                else:
                    step = exchange.send(result)
        except StopIteration as done:
            response: Response = done.value
            return response

    def _perform(self, step: Step, environ: WSGIEnvironment) -> Any:
        if isinstance(step, ReadBody):
            try:
                return read_into(step.reader, environ)
            except UnterminatedBody:
                self._warn_of_input()
                raise
        if isinstance(step, Store):
            return self.collector.store(step.pending)
        return self.collector.sink.check_ready()

    def _warn_of_input(self) -> None:
        """Log once how to mount this app: until then each chunked body gets a 503."""
        if not self._warned_of_input:
            self._warned_of_input = True
            log.warning(
                "responded with 503 to a body without Content-Length, which cannot be read: if the server ends "
                "wsgi.input at the end of a body, pass TrackingApp(..., input_terminated=True); else use another server"
            )


def _request(environ: WSGIEnvironment) -> HttpRequest:
    port = environ.get("SERVER_PORT", "")
    return HttpRequest(
        method=environ["REQUEST_METHOD"],
        path=_path(environ),
        query=environ.get("QUERY_STRING", ""),
        headers=EnvironHeaders(environ),
        root_path=environ.get("SCRIPT_NAME", ""),
        scheme=environ.get("wsgi.url_scheme", "http"),
        server=(environ.get("SERVER_NAME", ""), int(port) if port.isdecimal() else None),
        client=environ.get("REMOTE_ADDR"),
    )


def _path(environ: WSGIEnvironment) -> str:
    """Return the path below the mount point of the app.  WSGI passes its bytes decoded as Latin-1."""
    path: str = environ.get("PATH_INFO", "")
    return path if path.isascii() else path.encode("latin-1").decode("utf-8", "replace")
