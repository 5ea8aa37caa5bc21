"""Proxies and prefixes: what proxies report about a request, and which part of its path names a route.

The URLs that an app writes (`apiHost` of the settings document) begin with the path of its mount point.  It consists of
the prefix that a proxy removed from the path and sent in X-Forwarded-Prefix, the prefix of this server, and the path at
which another app has mounted this one.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from trackcore.support import normalize_path, single_slashes


@attrs.frozen(kw_only=True)
class Forwarded:
    """The values that a trusted proxy reports; None for each that it does not."""

    client: str | None
    scheme: str | None
    host: str | None
    prefix: str | None


def forwarded_by(hops: int, headers: Mapping[str, str]) -> Forwarded:
    """Return what the proxy that is `hops` before this server reports.

    Each proxy appends its own value to a header, so the values before that one may be of the client's making.
    """
    prefix = _reported("x-forwarded-prefix", hops, headers)
    return Forwarded(
        client=_reported("x-forwarded-for", hops, headers),
        scheme=_reported("x-forwarded-proto", hops, headers),
        host=_reported("x-forwarded-host", hops, headers),
        prefix=None if prefix is None else normalize_path("/" + prefix),
    )


def joined(outer: str, inner: str) -> str:
    """Return the path of a mount point inside another one; if both are the same, somebody has reported it twice."""
    return outer if outer == inner else outer + inner


def without_prefix(path: str, prefix: str) -> str:
    """Return a path with single slashes, and without the prefix of the server if it begins with it.

    Paths without the prefix work as well, for health checks and for proxies that remove it without a header.
    """
    path = single_slashes(path)
    return path[len(prefix) :] if path == prefix or path.startswith(f"{prefix}/") else path


def _reported(header: str, hops: int, headers: Mapping[str, str]) -> str | None:
    values = headers.get(header, "").split(",")
    return values[-hops].strip() or None if len(values) >= hops else None
