"""The settings of how HTTP is served, `[server]`, and of the debugger, `[debugger]`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs
from attrs import validators
from trackcore_delivery import Secret
from trackcore_http import ROUTES, X_FORWARDED_FOR, ApiOptions, Proxies, as_networks

from trackcore_server.config.units import parse_bind
from trackcore_server.process.log_lines import FORMATTERS, LEVELS


def _check_prefix(_: object, __: object, prefix: str) -> None:
    if prefix and not _PREFIX.fullmatch(prefix):
        raise ValueError("expected a path such as '/endpoint', without a slash at its end")
    taken = next(
        (
            path
            for path in (*ROUTES, "/v1/projects", "/analytics.js", "/debugger")
            if f"{path}/".startswith(f"{prefix}/")
        ),
        None,
    )
    if prefix and taken is not None:
        raise ValueError(f"it cannot be distinguished from the path {taken!r} of the API; choose another")


_PREFIX = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+")


def _one_of(values: Sequence[str]) -> Callable[[object, object, str], None]:
    def check(_: object, __: object, value: str) -> None:
        if value not in values:
            raise ValueError(f"expected one of {', '.join(values)}, found {value!r}")

    return check


def _check_ranges(_: object, __: object, ranges: Sequence[str]) -> None:
    for place, text in enumerate(ranges, 1):
        try:
            as_networks([text])
        except ValueError:
            raise ValueError(f"number {place} is not a range of addresses, such as '10.0.0.0/8' or '::1'") from None


def _check_status(_: object, __: object, status: int) -> None:
    ApiOptions(unavailable_status=status)


def _check_proxy_header(_: object, __: object, header: str) -> None:
    Proxies(header=header)


@attrs.frozen(kw_only=True)
class ServerSettings:
    """The data folder, and how HTTP is served.

    `data` is the base of paths of data; itself it starts at the folder of the configuration.
    One worker (a process) is the default: its requests commit together, so that many clients share one fsync. More
    workers use more processors; they take turns at the log. `threads` is obsolete: a worker serves its requests in one
    loop. `proxy_hops` is how many reverse proxies are in front, whose headers on the client's address are trusted;
    `trusted_proxies` are their addresses instead, and `proxy_header` is the header that they use. With a `prefix` such
    as `/endpoint`, everything is also served below that path. `log` is the form of the log on standard error, and
    `access_log` adds a line for each request. `analytics_js` is the file of the browser SDK that is served to pages
    with a snippet, relative to the data folder. `unavailable_status` is the status while nothing can be stored: 503, or
    429, with which the SDKs for browsers and Node obey Retry-After.
    """

    data: Path = Path()
    bind: str = attrs.field(default="127.0.0.1:8080", validator=lambda _, __, bind: parse_bind(bind))
    workers: int = attrs.field(default=1, validator=validators.ge(1))
    threads: int | None = attrs.field(default=None, validator=validators.optional(validators.ge(1)))
    proxy_hops: int = attrs.field(default=0, validator=validators.ge(0))
    trusted_proxies: tuple[str, ...] = attrs.field(default=(), validator=_check_ranges)
    proxy_header: str = attrs.field(default=X_FORWARDED_FOR, validator=_check_proxy_header)
    prefix: str = attrs.field(default="", validator=_check_prefix)
    log: str = attrs.field(default="text", validator=_one_of(tuple(FORMATTERS)))
    log_level: str = attrs.field(default="info", validator=_one_of(LEVELS))
    access_log: bool = False
    analytics_js: Path | None = None
    unavailable_status: int = attrs.field(default=503, validator=_check_status)

    @property
    def proxies(self) -> Proxies:
        """The proxies in front that are trusted."""
        return Proxies(hops=self.proxy_hops, ranges=self.trusted_proxies, header=self.proxy_header)


@attrs.frozen(kw_only=True)
class DebuggerSettings:
    """Access to the debugger: it needs the token.  Without one the debugger is off."""

    token: Secret | None = None
