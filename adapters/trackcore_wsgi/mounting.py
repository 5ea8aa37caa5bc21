"""Mounting of a WSGI app behind proxies and under a prefix; see `trackcore_http.forwarding`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from trackcore_http import Proxies, joined, without_prefix

from trackcore_wsgi.headers import EnvironHeaders

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


def behind_proxies(app: WSGIApplication, proxies: Proxies | int) -> WSGIApplication:
    """Trust these proxies, or so many, to report the client's address, the host, the scheme and a prefix."""
    trusted = Proxies(hops=proxies) if isinstance(proxies, int) else proxies
    if not trusted:
        return app

    def mounted(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        found = trusted.report(environ.get("REMOTE_ADDR"), EnvironHeaders(environ))
        reported = {"REMOTE_ADDR": found.client, "wsgi.url_scheme": found.scheme, "HTTP_HOST": found.host}
        environ.update({name: value for name, value in reported.items() if value is not None})
        if found.prefix is not None:
            environ["SCRIPT_NAME"] = joined(found.prefix, environ.get("SCRIPT_NAME", ""))
        return app(environ, start_response)

    return mounted


def under_prefix(app: WSGIApplication, prefix: str) -> WSGIApplication:
    """Mount an app under a prefix such as `/endpoint` or the empty one, and drop doubled slashes in paths.

    Paths without the prefix work as well; URLs that the app writes have the prefix in either case.
    """

    def mounted(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ["PATH_INFO"] = without_prefix(environ.get("PATH_INFO", ""), prefix)
        environ["SCRIPT_NAME"] = joined(environ.get("SCRIPT_NAME", ""), prefix)
        return app(environ, start_response)

    return mounted
