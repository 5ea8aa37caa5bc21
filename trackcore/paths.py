"""Which path takes which body: the one table of them, for the HTTP adapters and for embedders with a path and a body.

Paths are compared after doubled and trailing slashes are dropped.  A *client-side* path is one that the user's own
device calls, so the connection's address is the user's
(https://segment.com/docs/connections/spec/common/#context-fields, `ip`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import get_args

import attrs

from trackcore.typing import Call, Endpoint


@attrs.frozen(kw_only=True)
class BodyPath:
    """The kind of body that is posted to a path, and whether the user's own device sends it."""

    endpoint: Endpoint
    client_side: bool = False


def endpoint_of(path: str) -> Endpoint | None:
    """Return the endpoint whose bodies are posted to a path, None if there is none: `track` for `/v1/t`.

    A query is ignored.  The paths of pixels carry their message in the query, so they are not among these.
    """
    found = BODY_PATHS.get(normalize_path(path.partition("?")[0]))
    return None if found is None else found.endpoint


def normalize_path(path: str) -> str:
    """Return a path without doubled and trailing slashes."""
    return single_slashes(path).rstrip("/")


def single_slashes(path: str) -> str:
    """Return a path without doubled slashes."""
    return _SLASHES.sub("/", path)


_SLASHES = re.compile(r"/{2,}")

_SERVER_BATCHES = (
    "/v1/batch",
    "/v1/import",  # Ruby, Java, Android (classic), .NET
)
_CLIENT_BATCHES = (
    "/v1/b",  # analytics-next, Swift, Kotlin, React Native, C#
    # Some SDKs append `/b` to any base URL.
    "/b",
    "/batch/b",
    "/v1/batch/b",
    "/beacon/v1/batch",  # RudderStack JS on leaving a page
)


def _body_paths() -> Iterator[tuple[str, BodyPath]]:
    for call in get_args(Call):
        yield f"/v1/{call}", BodyPath(endpoint=call)
        yield f"/v1/{call[0]}", BodyPath(endpoint=call, client_side=True)
        # Jitsu, in a page and in Node
        yield f"/api/s/{call}", BodyPath(endpoint=call, client_side=True)
        yield f"/api/s/s2s/{call}", BodyPath(endpoint=call)
    for path in _SERVER_BATCHES:
        yield path, BodyPath(endpoint="batch")
    for path in _CLIENT_BATCHES:
        yield path, BodyPath(endpoint="batch", client_side=True)


BODY_PATHS: Mapping[str, BodyPath] = dict(_body_paths())
