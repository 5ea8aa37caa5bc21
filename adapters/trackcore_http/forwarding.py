"""Proxies and prefixes: what proxies report about a request, and which part of its path names a route.

The URLs that an app writes (`apiHost` of the settings document) begin with the path of its mount point.  It consists of
the prefix that a proxy removed from the path and sent in X-Forwarded-Prefix, the prefix of this server, and the path at
which another app has mounted this one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import TypeAlias

import attrs

from trackcore.support import normalize_path, single_slashes
from trackcore.text import canonical_address

Network: TypeAlias = IPv4Network | IPv6Network

X_FORWARDED_FOR = "X-Forwarded-For"
FORWARDED = "Forwarded"


@attrs.frozen(kw_only=True)
class Forwarded:
    """The values that a trusted proxy reports; None for each that it does not."""

    client: str | None
    scheme: str | None
    host: str | None
    prefix: str | None


NOTHING = Forwarded(client=None, scheme=None, host=None, prefix=None)


def as_networks(ranges: Iterable[str | Network]) -> tuple[Network, ...]:
    """Read ranges of addresses, such as `10.0.0.0/8` and `::1`.  Raises `ValueError` for one that is none."""
    if isinstance(ranges, str):  # an iterable of text as well: each of its letters would be a range
        raise TypeError("the ranges are a list, not one range")
    return tuple(map(ip_network, ranges))


def _check_header(_: object, __: object, header: str) -> None:
    if header not in (X_FORWARDED_FOR, FORWARDED):
        raise ValueError(f"expected {X_FORWARDED_FOR!r} or {FORWARDED!r}")


@attrs.frozen(kw_only=True)
class Proxies:
    """The proxies in front that are trusted: so many `hops`, or those whose addresses are in one of the `ranges`.

    `header` is the one in which they report the client.  The other one is not read, since a proxy passes on what a
    client wrote into it.  With neither hops nor ranges nothing is believed.  With ranges the hops do not count.
    """

    hops: int = 0
    ranges: tuple[Network, ...] = attrs.field(default=(), converter=as_networks)
    header: str = attrs.field(default=X_FORWARDED_FOR, validator=_check_header)
    _is_trusted: Callable[[str | None], bool] = attrs.field(init=False, repr=False, eq=False)

    @_is_trusted.default
    def _remember_addresses(self) -> Callable[[str | None], bool]:
        ranges = self.ranges

        @lru_cache(maxsize=1_024)
        def is_trusted(text: str) -> bool:
            address = ip_address(text)
            return any(address in network for network in ranges)

        return lambda text: (address := canonical_address(text)) is not None and is_trusted(address)

    def __bool__(self) -> bool:
        """Return whether any proxy is trusted."""
        return bool(self.hops or self.ranges)

    def report(self, connected: str | None, headers: Mapping[str, str]) -> Forwarded:
        """Return what the outermost trusted proxy reports; `connected` is the address of the connection.

        By ranges, it is found from the right: each proxy appends the address that it was connected from, so an address
        counts if the one that reported it, to its right, is trusted.
        """
        if self.ranges and not self._is_trusted(connected):
            return NOTHING
        hops = self._hops_within_ranges(headers) if self.ranges else self.hops
        if self.header == FORWARDED:
            return _in_forwarded(hops, headers)
        if not self.ranges:
            return forwarded_by(hops, headers)
        # A proxy between may have replaced a header instead of appending to it.
        return _reported_by(lambda header: _reported(header, min(hops, len(_values(header, headers))), headers))

    def _hops_within_ranges(self, headers: Mapping[str, str]) -> int:
        values = _values(self.header.lower(), headers)
        trusted = 0
        while trusted < len(values) and self._is_trusted(values[-1 - trusted]):
            trusted += 1
        return max(1, min(trusted + 1, len(values)))


def forwarded_by(hops: int, headers: Mapping[str, str]) -> Forwarded:
    """Return what the proxy that is `hops` before this server reports.

    Each proxy appends its own value to a header, so the values before that one may be of the client's making.
    """
    return _reported_by(lambda header: _reported(header, hops, headers))


def joined(outer: str, inner: str) -> str:
    """Return the path of a mount point inside another one; if both are the same, somebody has reported it twice."""
    return outer if outer == inner else outer + inner


def without_prefix(path: str, prefix: str) -> str:
    """Return a path with single slashes, and without the prefix of the server if it begins with it.

    Paths without the prefix work as well, for health checks and for proxies that remove it without a header.
    """
    path = single_slashes(path)
    return path[len(prefix) :] if path == prefix or path.startswith(f"{prefix}/") else path


def _reported_by(read: Callable[[str], str | None]) -> Forwarded:
    return Forwarded(
        client=read("x-forwarded-for"),
        scheme=read("x-forwarded-proto"),
        host=read("x-forwarded-host"),
        prefix=_as_prefix(read("x-forwarded-prefix")),
    )


def _in_forwarded(hops: int, headers: Mapping[str, str]) -> Forwarded:
    """Read the header of RFC 7239.  It is split at every comma: a quote that a client left open changes nothing."""
    element = _reported("forwarded", hops, headers)
    pairs = [pair.partition("=") for pair in (element or "").split(";")]
    found = {name.strip().lower(): value.strip().strip('"').strip() for name, _, value in pairs}
    return Forwarded(
        client=found.get("for") or None,
        scheme=found.get("proto", "").lower() or None,
        host=found.get("host") or None,
        prefix=_as_prefix(_reported("x-forwarded-prefix", hops, headers)),
    )


def _as_prefix(reported: str | None) -> str | None:
    return None if reported is None else normalize_path("/" + reported)


def _values(header: str, headers: Mapping[str, str]) -> Sequence[str]:
    return headers.get(header, "").split(",")


def _reported(header: str, hops: int, headers: Mapping[str, str]) -> str | None:
    values = _values(header, headers)
    return values[-hops].strip() or None if len(values) >= hops else None
