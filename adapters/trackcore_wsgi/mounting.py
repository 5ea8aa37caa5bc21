"""Mounting of an app behind proxies and under a prefix.

The URLs that an app writes (`apiHost` of the settings document) begin with `SCRIPT_NAME`.  It consists of the prefix
that a proxy removed from the path and sent in X-Forwarded-Prefix, the prefix of this server, and the path at which
another app has mounted this one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from werkzeug.middleware.proxy_fix import ProxyFix

from trackcore.support import normalize_path, single_slashes

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


def behind_proxies(app: WSGIApplication, hops: int) -> WSGIApplication:
    """Trust so many proxies to report the client's address, the host, the scheme and a prefix."""
    if not hops:
        return app

    def mounted(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        folder = environ["werkzeug.proxy_fix.orig"]["SCRIPT_NAME"] or ""
        if environ.get("SCRIPT_NAME", "") != folder:  # ProxyFix has replaced it with the proxy's prefix
            environ["SCRIPT_NAME"] = normalize_path("/" + environ["SCRIPT_NAME"]) + folder
        return app(environ, start_response)

    return ProxyFix(mounted, x_for=hops, x_proto=hops, x_host=hops, x_prefix=hops)


def under_prefix(app: WSGIApplication, prefix: str) -> WSGIApplication:
    """Mount an app under a prefix such as `/endpoint` or the empty one, and drop doubled slashes in paths.

    Paths without the prefix work as well, for health checks and for proxies that remove it without a header.  URLs that
    the app writes have the prefix in either case.
    """

    def mounted(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = single_slashes(environ.get("PATH_INFO", ""))
        environ["PATH_INFO"] = path[len(prefix) :] if path == prefix or path.startswith(f"{prefix}/") else path
        outer = environ.get("SCRIPT_NAME", "")
        if outer != prefix:  # otherwise the proxy has reported the same prefix
            environ["SCRIPT_NAME"] = outer + prefix
        return app(environ, start_response)

    return mounted
