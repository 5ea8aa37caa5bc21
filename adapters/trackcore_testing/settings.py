"""A server from settings as text, as test runners have them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

from trackcore import DEFAULT_LIMITS, Limits, Source
from trackcore_testing.server import TEST_SOURCES, TrackingServer


def server_from(
    *, sources: Sequence[str], destinations: Iterable[str], limits: Iterable[str], timeout: str
) -> TrackingServer:
    """Start a server.  `sources` are `NAME` or `NAME=WRITE_KEY`, `limits` are `NAME=NUMBER`; the last one counts.

    Raises `ValueError` for a setting that is not valid.
    """
    return TrackingServer(
        sources=tuple(map(_source, sources)) or TEST_SOURCES,
        destinations=destinations,
        limits=attrs.evolve(DEFAULT_LIMITS, **dict(map(_limit, limits))),
        timeout=float(timeout),
    )


def _source(text: str) -> Source:
    name, _, key = map(str.strip, text.partition("="))
    return Source(name=name, write_keys=[key or f"{name}-write-key"])


def _limit(text: str) -> tuple[str, int]:
    name, _, number = map(str.strip, text.partition("="))
    names = [field.name for field in attrs.fields(Limits)]
    if name not in names:
        raise ValueError(f"{name!r} is not a limit; there are: {', '.join(names)}")
    if not number.isdecimal():
        raise ValueError(f"{text!r} is not a limit with a whole number, as message_bytes=1000")
    return name, int(number)
