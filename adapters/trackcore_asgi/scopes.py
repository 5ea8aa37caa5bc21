"""Reading of a request in an ASGI scope (https://asgi.readthedocs.io/en/latest/specs/www.html)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, TypeAlias

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]


def headers_of(scope: Scope) -> Mapping[str, str]:
    """Return the headers; the values of a repeated one are joined by commas, as WSGI servers do."""
    pairs = scope["headers"]
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in pairs}
    if len(headers) == len(pairs):
        return headers
    joined: dict[str, str] = {}
    for name_bytes, value_bytes in pairs:
        name, value = name_bytes.decode("latin-1"), value_bytes.decode("latin-1")
        joined[name] = f"{joined[name]},{value}" if name in joined else value
    return joined


def root_of(scope: Scope) -> str:
    """Return the path of the mount point, without a slash at its end."""
    root: str = scope.get("root_path", "")
    return root.rstrip("/")


def path_below(scope: Scope) -> str:
    """Return the part of the path below the mount point.

    A path includes that of the mount point, except for servers behind a proxy that has removed it.
    """
    path: str = scope["path"]
    root = root_of(scope)
    return path[len(root) :] if root and (path == root or path.startswith(f"{root}/")) else path


def remounted(scope: Scope, root: str, below: str) -> Scope:
    """Return the scope of the same request with another mount point, and another path below it."""
    return {**scope, "root_path": root, "path": root + below}
