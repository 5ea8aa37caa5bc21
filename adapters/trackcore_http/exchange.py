"""The exchange: one request and its response, as a generator that asks for what it cannot do itself.

Theory.  Everything about HTTP that is not IO is here, once, in the order in which it happens.  Where the outside world
is needed, the generator yields a step: read the body, store these records, check the sink.  The face performs it, in a
thread or in an event loop, and sends the result into the generator, or throws the error of the step.  The generator
returns the response.  So a blocking and an asynchronous face differ only in how they wait.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Mapping
from time import perf_counter
from typing import Any, TypeAlias

import attrs

from trackcore import Collector, InvalidRequest, PendingReceipt, Receipt, SinkUnavailable
from trackcore.text import describe_unexpected
from trackcore_http import responses
from trackcore_http.bodies import BodyReader, RefusedBody, UnsupportedTransferCoding, UnterminatedBody
from trackcore_http.credentials import origin_of, query_of
from trackcore_http.openapi import openapi_document
from trackcore_http.options import DEFAULT_OPTIONS, DEFAULT_SDK_SETTINGS, ApiOptions
from trackcore_http.pixel import message_in_query
from trackcore_http.rejection_log import RejectionLog
from trackcore_http.request import HttpRequest
from trackcore_http.responses import Response
from trackcore_http.routes import Action, Route, find_route, route_name
from trackcore_http.settings import settings_document, source_config

log = logging.getLogger("trackcore.http")

_SECONDS_TO_CONFIGURE = 60
"""After how long a client may retry a request that this app cannot read in its current mount."""


@attrs.frozen
class ReadBody:
    """Read the body into the reader.  The result is None, or why it was not read to its end."""

    reader: BodyReader


@attrs.frozen
class Store:
    """Store what was prepared, by the collector.  The result is the receipt."""

    pending: PendingReceipt


@attrs.frozen
class CheckReady:
    """Check whether the sink of the collector could store now.  The result does not matter."""


Step: TypeAlias = ReadBody | Store | CheckReady
Exchange: TypeAlias = Generator[Step, Any, Response]


class TrackingApi:
    """The tracking API of a collector."""

    def __init__(self, collector: Collector, options: ApiOptions = DEFAULT_OPTIONS) -> None:
        self.collector = collector
        self._rejections = RejectionLog()
        self.options = options
        self._actions: Mapping[Action, Callable[[HttpRequest, Route], Exchange]] = {
            Action.TRACK: self._track,
            Action.PIXEL: self._pixel,
            Action.DROP: self._drop,
            Action.SETTINGS: self._settings,
            Action.SCRIPT: self._script,
            Action.SOURCE_CONFIG: self._source_config,
            Action.HEALTH: self._health,
            Action.READY: self._ready,
            Action.OPENAPI: self._openapi,
        }

    def exchange(self, request: HttpRequest) -> Exchange:
        """Respond to a request, and count it.  Every failure, also one of a step, becomes a response."""
        metrics = self.collector.metrics
        started = perf_counter()
        metrics.begin_request()
        try:
            response: Response = yield from self._dispatch(request)
        except Exception as error:  # noqa: BLE001 - every failure gets a response
            response = self._response_to(error)
        finally:
            metrics.end_request()
        metrics.count_request(route=route_name(request.path), status=response.status, seconds=perf_counter() - started)
        return response

    def _response_to(self, error: Exception) -> Response:
        match error:
            case InvalidRequest():
                return responses.invalid_request(error)
            case SinkUnavailable():
                log.warning("cannot store: %s", error)
                return responses.unavailable(error, self.options.unavailable_status)
            case UnsupportedTransferCoding():
                return responses.failure_response(responses.UNSUPPORTED_TRANSFER_CODING)
            case UnterminatedBody():
                return responses.retry_later(responses.INPUT_NOT_TERMINATED, _SECONDS_TO_CONFIGURE)
        log.error("a request failed: %s", describe_unexpected(error))
        return responses.failure_response(responses.INTERNAL_ERROR)

    def _dispatch(self, request: HttpRequest) -> Exchange:
        if request.method == "OPTIONS":
            return _at_once(responses.SUCCESS)
        route = find_route(request.path)
        if route is None:
            return _at_once(responses.failure_response(responses.NOT_FOUND))
        if request.method not in route.methods:
            return _at_once(responses.method_not_allowed((*route.methods, "OPTIONS")))
        return self._actions[route.action](request, route)

    def _track(self, request: HttpRequest, route: Route) -> Exchange:
        origin = origin_of(request, route)
        reader = BodyReader(request, self.collector.limits.request_bytes)
        failure = yield ReadBody(reader)
        self.collector.metrics.count_body(route=route_name(request.path), size=reader.size)
        try:
            body = reader.body(failure)
        except RefusedBody as refused:
            pending = self.collector.prepare_refused(
                refused.received, refused.error, origin=origin, endpoint=route.endpoint
            )
        else:
            pending = self.collector.prepare(body, endpoint=route.endpoint, origin=origin)
        self._rejections.note(pending)
        receipt = yield Store(pending)
        self._log_rate(receipt)
        strict = request.headers.get("x-strict-mode") == "1"
        if receipt.source is None:
            return responses.unknown_source(receipt.hint) if strict else responses.SUCCESS
        return responses.for_receipt(receipt, strict=strict)

    def _pixel(self, request: HttpRequest, route: Route) -> Exchange:
        try:
            body = message_in_query(query_of(request))
            origin = origin_of(request, route)
            pending = self.collector.prepare(body, endpoint=route.endpoint, origin=origin)
            self._rejections.note(pending)
            yield Store(pending)
        except InvalidRequest as error:
            log.debug("a pixel was rejected: %s", error.reason)
        except Exception as error:  # noqa: BLE001 - "always responds with a 200 <empty-gif>, even if an error occurs"
            log.error("a pixel could not be stored: %s", describe_unexpected(error))  # noqa: TRY400 - see `unexpected`
        return responses.IMAGE

    def _drop(self, request: HttpRequest, _: Route) -> Exchange:
        try:
            reader = BodyReader(request, self.collector.limits.request_bytes)
            reader.body((yield ReadBody(reader)))
        except (RefusedBody, UnsupportedTransferCoding, UnterminatedBody):
            log.debug("dropped metrics that could not be read")
        return responses.SUCCESS

    def _settings(self, request: HttpRequest, route: Route) -> Exchange:
        source = self.collector.sources.find(route.write_key)
        if source is None:
            return _at_once(responses.json_response(settings_document(request, route.write_key)))
        settings = self.options.sdk_settings.get(source.name, DEFAULT_SDK_SETTINGS)
        destinations = self.collector.resolver(source.name).destinations
        document = settings_document(request, route.write_key, settings, destinations)
        return _at_once(responses.json_response(document))

    def _script(self, request: HttpRequest, _: Route) -> Exchange:
        found = self.options.analytics_js
        if found is None:
            return _at_once(responses.failure_response(responses.NOT_FOUND))
        return _at_once(responses.script(found, if_none_match=request.headers.get("if-none-match")))

    def _source_config(self, request: HttpRequest, route: Route) -> Exchange:
        origin = origin_of(request, route)
        write_key = origin.query_key or origin.header_key or origin.other_header_key
        return _at_once(responses.json_response(source_config(write_key)))

    def _health(self, _request: HttpRequest, _: Route) -> Exchange:
        return _at_once(responses.json_response({"status": "ok"}))

    def _ready(self, _request: HttpRequest, _: Route) -> Exchange:
        try:
            yield CheckReady()
        except SinkUnavailable as error:
            log.warning("not ready: %s", error)
            return responses.not_ready(error)
        return responses.json_response({"status": "ready"})

    def _openapi(self, request: HttpRequest, _: Route) -> Exchange:
        return _at_once(responses.json_response(openapi_document(self.collector.limits, request.root_path)))

    def _log_rate(self, receipt: Receipt) -> None:
        advised = self.collector.limits.advised_requests_per_second
        if receipt.source is not None and receipt.requests_this_second == advised + 1:
            log.warning("source %r sends more than %d requests a second to this process", receipt.source.name, advised)


def _at_once(response: Response) -> Exchange:
    """Return the exchange of a request for which nothing has to be done."""
    yield from ()
    return response
