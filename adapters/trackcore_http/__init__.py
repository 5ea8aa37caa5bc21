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
from trackcore_http.request import HttpRequest
from trackcore_http.responses import Headers, Response
from trackcore_http.routes import ROUTES, UNKNOWN_ROUTE, Action, Route, find_route, route_name

__all__ = [
    "CUT_OFF",
    "ROUTES",
    "UNKNOWN_ROUTE",
    "UNREADABLE",
    "X_FORWARDED_FOR",
    "Action",
    "BodyReader",
    "CheckReady",
    "Exchange",
    "Forwarded",
    "Headers",
    "HttpRequest",
    "Network",
    "Proxies",
    "ReadBody",
    "Response",
    "Route",
    "Step",
    "Store",
    "TrackingApi",
    "UnterminatedBody",
    "as_networks",
    "find_route",
    "forwarded_by",
    "joined",
    "route_name",
    "without_prefix",
]
