"""The routes: the paths of the API and their calls.

Paths are compared after doubled and trailing slashes are dropped.  A response is never a redirect: on a 301 or 302 SDKs
turn the POST into a GET and lose the batch, and the PHP SDK loops.

A *client-side* route is called by the user's own device, so the connection's address is the user's
(https://segment.com/docs/connections/spec/common/#context-fields, `ip`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum, auto
from functools import lru_cache
from typing import get_args

import attrs

from trackcore import Call, Endpoint, WriteKey
from trackcore.support import BODY_PATHS, BodyPath, normalize_path

SETTINGS_PATH = "/v1/projects/{writeKey}/settings"
SCRIPT_PATH = "/analytics.js/v1/{writeKey}/analytics.min.js"

UNKNOWN_ROUTE = "?"
"""The name of the route of a path that has none."""

_BEACON = "/beacon/v1/batch"  # a page that is being unloaded cannot set headers


class Action(Enum):
    """The action of a route."""

    TRACK = auto()
    PIXEL = auto()
    DROP = auto()
    SETTINGS = auto()
    SCRIPT = auto()
    SOURCE_CONFIG = auto()
    HEALTH = auto()
    READY = auto()
    OPENAPI = auto()


@attrs.frozen(kw_only=True)
class Route:
    """One route: its action, the methods that it allows, and the endpoint of its body.

    `key_in_query` is true where clients cannot set headers, so that the write key may be in the query.  `write_key` is
    the one in the path of a document.
    """

    action: Action
    methods: tuple[str, ...] = ("GET", "HEAD")
    endpoint: Endpoint = "batch"
    client_side: bool = False
    key_in_query: bool = False
    write_key: WriteKey | None = None


_KEPT_NAMES = 256


def find_route(path: str) -> Route | None:
    """Return the route of a path below the mount point of the app, or None."""
    path = normalize_path(path)
    route = ROUTES.get(path)
    if route is not None:
        return route
    for usual, pattern in _PATTERNS.items():
        if match := pattern.fullmatch(path):
            return attrs.evolve(ROUTES_WITH_KEY[usual], write_key=WriteKey(match[1]))
    return None


@lru_cache(_KEPT_NAMES)
def route_name(path: str) -> str:
    """Return the path of the route of a path, in its usual form, or `?`.  It is one of few, and has no write key."""
    path = normalize_path(path)
    if path in ROUTES:
        return path
    return next((usual for usual, pattern in _PATTERNS.items() if pattern.fullmatch(path)), UNKNOWN_ROUTE)


_PATTERNS = {
    SETTINGS_PATH: re.compile(r"/v1(?:/projects)+/([^/]+)/settings"),  # React Native repeats `projects` behind a proxy
    SCRIPT_PATH: re.compile(r"/analytics\.js/v1/([^/]+)/analytics\.min\.js"),
}


def _routes() -> Iterator[tuple[str, Route]]:
    for path, body in BODY_PATHS.items():
        yield path, attrs.evolve(_track(body), key_in_query=path == _BEACON)
    for call in get_args(Call):
        pixel = Route(action=Action.PIXEL, endpoint=call, client_side=True, key_in_query=True)
        yield f"/v1/pixel/{call}", pixel
    yield "/sourceConfig", Route(action=Action.SOURCE_CONFIG, key_in_query=True)
    yield "/v1/m", Route(action=Action.DROP, methods=("POST",))  # the SDKs' own metrics
    yield "/health", Route(action=Action.HEALTH)
    yield "/ready", Route(action=Action.READY)
    yield "/openapi.json", Route(action=Action.OPENAPI)


def _track(body: BodyPath) -> Route:
    return Route(action=Action.TRACK, methods=("POST",), endpoint=body.endpoint, client_side=body.client_side)


ROUTES = dict(_routes())

ROUTES_WITH_KEY = {
    SETTINGS_PATH: Route(action=Action.SETTINGS),
    SCRIPT_PATH: Route(action=Action.SCRIPT),
}
"""The routes whose path has a write key, as OpenAPI writes them."""
