"""Mounting of an ASGI app behind proxies and under a prefix; see `trackcore_http.forwarding`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trackcore_http import Proxies, joined, without_prefix

from trackcore_asgi.scopes import headers_of, path_below, remounted, root_of

if TYPE_CHECKING:
    from trackcore_asgi.scopes import App, Receive, Scope, Send


def behind_proxies(app: App, proxies: Proxies | int) -> App:
    """Trust these proxies, or so many, to report the client's address, the host, the scheme and a prefix."""
    trusted = Proxies(hops=proxies) if isinstance(proxies, int) else proxies
    if not trusted:
        return app

    async def mounted(scope: Scope, receive: Receive, send: Send) -> None:
        await app(_as_reported(scope, trusted) if scope["type"] == "http" else scope, receive, send)

    return mounted


def under_prefix(app: App, prefix: str) -> App:
    """Mount an app under a prefix such as `/endpoint` or the empty one, and drop doubled slashes in paths.

    Paths without the prefix work as well; URLs that the app writes have the prefix in either case.
    """

    async def mounted(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (prefix or "//" in scope["path"]):
            root = joined(root_of(scope), prefix)
            scope = remounted(scope, root, without_prefix(path_below(scope), prefix))
        await app(scope, receive, send)

    return mounted


def _as_reported(scope: Scope, proxies: Proxies) -> Scope:
    client = scope.get("client")
    found = proxies.report(client[0] if client else None, headers_of(scope))
    if found.prefix is not None:
        scope = remounted(scope, joined(found.prefix, root_of(scope)), path_below(scope))
    changed = dict(scope)
    if found.client is not None:
        changed["client"] = (found.client, 0)
    if found.scheme is not None:
        changed["scheme"] = found.scheme
    if found.host is not None:
        others = [(name, value) for name, value in scope["headers"] if name != b"host"]
        changed["headers"] = [*others, (b"host", found.host.encode("latin-1"))]
    return changed
