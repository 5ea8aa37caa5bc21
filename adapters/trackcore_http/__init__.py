"""HTTP without IO: from the value of a request to the value of its response, for any face (`wsgi`, `asgi`) to serve.

`TrackingApi.exchange` is the whole API.  A face builds an `HttpRequest`, performs the steps that the exchange asks for
(read the body, store, check), and sends the `Response`.
"""

from trackcore_http.bodies import CUT_OFF, UNREADABLE, BodyReader, UnterminatedBody
from trackcore_http.exchange import CheckReady, Exchange, ReadBody, Step, Store, TrackingApi
from trackcore_http.forwarding import (
    X_FORWARDED_FOR,
    Forwarded,
    Network,
    Proxies,
    as_networks,
    forwarded_by,
    joined,
    without_prefix,
)
from trackcore_http.http_config import BackoffConfig, HttpConfig, RateLimitConfig, segments_name
from trackcore_http.openapi import openapi_document
from trackcore_http.options import DEFAULT_OPTIONS, ApiOptions, Script, SdkSettings
from trackcore_http.request import HttpRequest
from trackcore_http.responses import Headers, Response
from trackcore_http.routes import ROUTES, ROUTES_WITH_KEY, UNKNOWN_ROUTE, Action, Route, find_route, route_name

__all__ = [
    "CUT_OFF",
    "DEFAULT_OPTIONS",
    "ROUTES",
    "ROUTES_WITH_KEY",
    "UNKNOWN_ROUTE",
    "UNREADABLE",
    "X_FORWARDED_FOR",
    "Action",
    "ApiOptions",
    "BackoffConfig",
    "BodyReader",
    "CheckReady",
    "Exchange",
    "Forwarded",
    "Headers",
    "HttpConfig",
    "HttpRequest",
    "Network",
    "Proxies",
    "RateLimitConfig",
    "ReadBody",
    "Response",
    "Route",
    "Script",
    "SdkSettings",
    "Step",
    "Store",
    "TrackingApi",
    "UnterminatedBody",
    "as_networks",
    "find_route",
    "forwarded_by",
    "joined",
    "openapi_document",
    "route_name",
    "segments_name",
    "without_prefix",
]
