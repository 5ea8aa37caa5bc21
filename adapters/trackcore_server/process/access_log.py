"""The access log: a line for each request, without anything that identifies a client.

It has no address, no query and no header.  The path is that of the route: a path that is not one may contain anything,
such as a write key, and is written as `?`.
"""

from __future__ import annotations

import logging

import attrs
from trackcore_http import UNKNOWN_ROUTE, route_name

from trackcore_server.process.log_lines import FIELDS

log = logging.getLogger("trackcore.access")


@attrs.frozen(kw_only=True)
class AccessLog:
    """Writes the lines.

    `prefix` is the one that everything is also served below; `folders` are other paths of the server, each with all
    that is below it.
    """

    prefix: str = ""
    folders: tuple[str, ...] = ()

    def write(self, *, method: str, path: str, status: int, seconds: float, size: int) -> None:
        """Log a request that was answered; the size is that of the body of the response."""
        name = self._name_of(path)
        milliseconds = round(1000 * seconds, 1)
        fields = {"method": method, "path": name, "status": status, "durationMs": milliseconds, "bytes": size}
        line = "%s %s %d %.1f ms %d B"
        log.info(line, method, name, status, milliseconds, size, extra={FIELDS: fields})

    def _name_of(self, path: str) -> str:
        name = route_name(path)
        if name == UNKNOWN_ROUTE and self.prefix and path.startswith(f"{self.prefix}/"):
            path = path.removeprefix(self.prefix)
            name = route_name(path)
        if name != UNKNOWN_ROUTE:
            return name
        return next((folder for folder in self.folders if f"{path}/".startswith(f"{folder}/")), UNKNOWN_ROUTE)
