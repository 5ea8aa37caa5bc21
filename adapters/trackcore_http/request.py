"""The request: what a face knows of it before its body is read."""

from __future__ import annotations

import re
from collections.abc import Mapping

import attrs


@attrs.frozen(kw_only=True)
class HttpRequest:
    """The head of a request, and where the app is mounted.

    Attributes:
        method: in upper case.
        path: the part of the path below the mount point, percent-decoded; what is not UTF-8 is replaced.
        query: as received, each byte as a character of Latin-1.
        headers: the values, also as Latin-1, by names in lower case; those of a repeated name are joined by commas.
        root_path: the path of the mount point, without a slash at its end.
        scheme: `http` or `https`.
        server: the host and the port of the server, for clients that send no Host.
        client: the address of the client, or of the last proxy that is not trusted.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    root_path: str = ""
    scheme: str = "http"
    server: tuple[str, int | None] | None = None
    client: str | None = None

    @property
    def host(self) -> str:
        """The host by which the client reaches this server, with a port unless it is the usual one of the scheme.

        It is empty for a Host that is not the text of a host, since that would be written into an address.
        """
        host = self.headers.get("host")
        if host is None:
            host = "" if self.server is None or self.server[1] is None else _host_text(*self.server)
        host = host.removesuffix(_USUAL_PORTS.get(self.scheme, ":"))
        match = _HOST.fullmatch(host)
        return host if match and int(match[1] or 1) <= _LAST_PORT else ""


def _host_text(name: str, port: int | None) -> str:
    is_bare_v6 = ":" in name and not name.startswith("[")
    return f"[{name}]:{port}" if is_bare_v6 else f"{name}:{port}"


_USUAL_PORTS = {"http": ":80", "https": ":443"}
_HOST = re.compile(r"(?:[a-z0-9.-]+|\[[a-f0-9]*:[a-f0-9.:]+])(?::([1-9][0-9]{,4}))?", re.ASCII | re.IGNORECASE)
_LAST_PORT = 65_535
