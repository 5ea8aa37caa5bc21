"""The WSGI app: routes a request, passes its body to the collector, and responds when the sink has committed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from werkzeug.wrappers import Request

from trackcore import Collector, InvalidRequest, Origin, Receipt, SinkUnavailable
from trackcore.text import canonical_address, describe_unexpected
from trackcore_wsgi import responses
from trackcore_wsgi.bodies import RefusedBody, UnsupportedTransferCoding, UnterminatedBody, read_body
from trackcore_wsgi.credentials import header_write_key, other_header_write_key, query_of, query_write_key
from trackcore_wsgi.mounting import behind_proxies
from trackcore_wsgi.openapi import openapi_document
from trackcore_wsgi.pixel import message_in_query
from trackcore_wsgi.responses import Response
from trackcore_wsgi.routes import Action, Route, find_route
from trackcore_wsgi.settings import settings_document

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger("trackcore.wsgi")

_SECONDS_TO_CONFIGURE = 60
"""After how long a client may retry a request that this app cannot read in its current mount."""


class TrackingApp:
    """A Segment-compatible tracking endpoint as a WSGI app.

    It may be mounted under a prefix inside another app (`werkzeug.middleware.dispatcher.DispatcherMiddleware`).

    Args:
        collector: receives and stores the messages.
        proxy_hops: how many proxies in front are trusted to report the client's address, host and scheme.  With 0, the
            X-Forwarded headers are ignored, since any client can send them.
        input_terminated: declares that the server in front ends `wsgi.input` at the end of the body, which is true of
            a2wsgi and of Starlette's WSGIMiddleware.  Servers such as gunicorn declare it themselves, as
            `wsgi.input_terminated`.  Otherwise a body without Content-Length is answered with 503: SDKs keep it.
    """

    def __init__(self, collector: Collector, *, proxy_hops: int = 0, input_terminated: bool = False) -> None:
        self.collector = collector
        self._input_terminated = input_terminated
        self._warned_of_input = False
        self._actions: dict[Action, Callable[[WSGIEnvironment, Route], Response]] = {
            Action.TRACK: self._track,
            Action.PIXEL: self._pixel,
            Action.DROP: self._drop,
            Action.SETTINGS: self._settings,
            Action.HEALTH: lambda *_: responses.json_response({"status": "ok"}),
            Action.READY: self._ready,
            Action.OPENAPI: self._openapi,
        }
        self._app: WSGIApplication = behind_proxies(self._respond, proxy_hops)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Respond to one request."""
        if self._input_terminated:
            environ["wsgi.input_terminated"] = True
        return self._app(environ, start_response)

    def _respond(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return self._response_to(environ).send(environ, start_response)

    def _response_to(self, environ: WSGIEnvironment) -> Response:
        try:
            return self._dispatch(environ)
        except InvalidRequest as error:
            return responses.invalid_request(error)
        except SinkUnavailable as error:
            log.warning("cannot store: %s", error)
            return responses.unavailable(error)
        except UnsupportedTransferCoding:
            return responses.failure_response(responses.UNSUPPORTED_TRANSFER_CODING)
        except UnterminatedBody:
            self._warn_of_input()
            return responses.retry_later(responses.INPUT_NOT_TERMINATED, _SECONDS_TO_CONFIGURE)
        except Exception as error:  # noqa: BLE001 - every failure gets a response
            log.error("a request failed: %s", describe_unexpected(error))  # noqa: TRY400 - see `unexpected`
            return responses.failure_response(responses.INTERNAL_ERROR)

    def _dispatch(self, environ: WSGIEnvironment) -> Response:
        method = environ["REQUEST_METHOD"]
        if method == "OPTIONS":
            return responses.SUCCESS
        route = find_route(_path(environ))
        if route is None:
            return responses.failure_response(responses.NOT_FOUND)
        if method not in route.methods:
            return responses.method_not_allowed((*route.methods, "OPTIONS"))
        return self._actions[route.action](environ, route)

    def _track(self, environ: WSGIEnvironment, route: Route) -> Response:
        origin = _origin(environ, route)
        try:
            body = read_body(environ, self.collector.limits.request_bytes)
        except RefusedBody as refused:
            pending = self.collector.prepare_refused(
                refused.received, refused.error, origin=origin, endpoint=route.endpoint
            )
        else:
            pending = self.collector.prepare(body, endpoint=route.endpoint, origin=origin)
        receipt = self.collector.store(pending)
        self._log_rate(receipt)
        strict = environ.get("HTTP_X_STRICT_MODE") == "1"
        if receipt.source is None:
            return responses.unknown_source(receipt.hint) if strict else responses.SUCCESS
        return responses.for_receipt(receipt, strict=strict)

    def _pixel(self, environ: WSGIEnvironment, route: Route) -> Response:
        try:
            body = message_in_query(query_of(environ))
            self.collector.receive(body, endpoint=route.endpoint, origin=_origin(environ, route))
        except InvalidRequest as error:
            log.info("a pixel was rejected: %s", error.reason)
        except Exception as error:  # noqa: BLE001 - "always responds with a 200 <empty-gif>, even if an error occurs"
            log.error("a pixel could not be stored: %s", describe_unexpected(error))  # noqa: TRY400 - see `unexpected`
        return responses.IMAGE

    def _drop(self, environ: WSGIEnvironment, _: Route) -> Response:
        try:
            read_body(environ, self.collector.limits.request_bytes)
        except (RefusedBody, UnsupportedTransferCoding, UnterminatedBody):
            log.debug("dropped metrics that could not be read")
        return responses.SUCCESS

    def _settings(self, environ: WSGIEnvironment, route: Route) -> Response:
        return responses.json_response(settings_document(Request(environ), route.write_key))

    def _ready(self, _environ: WSGIEnvironment, _: Route) -> Response:
        try:
            self.collector.sink.check_ready()
        except SinkUnavailable as error:
            log.warning("not ready: %s", error)
            return responses.not_ready(error)
        return responses.json_response({"status": "ready"})

    def _openapi(self, environ: WSGIEnvironment, _: Route) -> Response:
        return responses.json_response(openapi_document(self.collector.limits, Request(environ).root_path))

    def _warn_of_input(self) -> None:
        """Log once how to mount this app: until then each chunked body gets a 503."""
        if not self._warned_of_input:
            self._warned_of_input = True
            log.warning(
                "responded with 503 to a body without Content-Length, which cannot be read: if the server ends "
                "wsgi.input at the end of a body, pass TrackingApp(..., input_terminated=True); else use another server"
            )

    def _log_rate(self, receipt: Receipt) -> None:
        advised = self.collector.limits.advised_requests_per_second
        if receipt.source is not None and receipt.requests_this_second == advised + 1:
            log.warning("source %r sends more than %d requests a second to this process", receipt.source.name, advised)


def _path(environ: WSGIEnvironment) -> str:
    """Return the path below the mount point of the app.  WSGI passes its bytes decoded as Latin-1."""
    path: str = environ.get("PATH_INFO", "")
    return path if path.isascii() else path.encode("latin-1").decode("utf-8", "replace")


def _origin(environ: WSGIEnvironment, route: Route) -> Origin:
    return Origin(
        header_key=header_write_key(environ),
        other_header_key=other_header_write_key(environ),
        query_key=query_write_key(environ) if route.key_in_query else None,
        client_ip=canonical_address(environ.get("REMOTE_ADDR")),
        client_side=route.client_side,
    )
