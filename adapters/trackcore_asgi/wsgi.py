"""A WSGI app beside an ASGI app, for pages that may wait: threads serve it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

from trackcore_asgi.scopes import path_below, remounted, root_of

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

    from trackcore_asgi.scopes import App, Receive, Scope, Send


def with_wsgi_app(app: App, path: str, wsgi_app: WSGIApplication) -> App:
    """Mount a WSGI app at a path of an ASGI app.  It needs a2wsgi."""
    from a2wsgi import WSGIMiddleware  # noqa: PLC0415 - only servers with such an app need it

    threaded = cast("App", WSGIMiddleware(cast("Any", wsgi_app)))

    async def mounted(scope: Scope, receive: Receive, send: Send) -> None:
        below = path_below(scope) if scope["type"] == "http" else ""
        if below == path or below.startswith(f"{path}/"):
            await threaded(_inside(scope, path, below), receive, send)
        else:
            await app(scope, receive, send)

    return mounted


def _inside(scope: Scope, path: str, below: str) -> Scope:
    """Return the scope of a request for the mounted app.  The adapter expects a query in ASCII."""
    inside = remounted(scope, root_of(scope) + path, below[len(path) :])
    return {**inside, "query_string": quote(scope["query_string"], safe=_ASCII).encode()}


_ASCII = "".join(map(chr, range(0x80)))
