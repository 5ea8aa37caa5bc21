"""Where an app is mounted: behind proxies that say so, and under a prefix.

The addresses that an app writes (`apiHost` of the settings document) begin with `SCRIPT_NAME`.  That is, from left to
right, what a proxy took off the path and named in X-Forwarded-Prefix, the prefix of this server, and the folder in
which another app has mounted this one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from werkzeug.middleware.proxy_fix import ProxyFix

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_LEADING_SLASHES = re.compile(r"^/{2,}")


def behind_proxies(app: WSGIApplication, hops: int) -> WSGIApplication:
    """Believe so many proxies when they name the client's address, the host, the scheme and a prefix."""
    if not hops:
        return app

    def mounted(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        folder = environ["werkzeug.proxy_fix.orig"]["SCRIPT_NAME"] or ""
        if environ.get("SCRIPT_NAME", "") != folder:  # ProxyFix puts the proxy's prefix in its place
            environ["SCRIPT_NAME"] = _normalized(environ["SCRIPT_NAME"]) + folder
        return app(environ, start_response)

    return ProxyFix(mounted, x_for=hops, x_proto=hops, x_host=hops, x_prefix=hops)


def under_prefix(app: WSGIApplication, prefix: str) -> WSGIApplication:
    """Mount an app under a prefix such as `/endpoint`.

    Paths without the prefix work as well, for health checks and for proxies that take it off silently.  Addresses that
    the app writes have the prefix in either case.
    """
    if not prefix:
        return app

    def mounted(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = _LEADING_SLASHES.sub("/", environ.get("PATH_INFO", ""))
        if path == prefix or path.startswith(f"{prefix}/"):
            environ["PATH_INFO"] = path[len(prefix) :]
        outer = environ.get("SCRIPT_NAME", "")
        if outer != prefix:  # else the proxy has named the same one
            environ["SCRIPT_NAME"] = outer + prefix
        return app(environ, start_response)

    return mounted


def _normalized(prefix: str) -> str:
    path = prefix.strip("/")
    return f"/{path}" if path else ""
