"""A server from settings as text, as test runners have them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import attrs

from trackcore import DEFAULT_LIMITS, Limits, Source
from trackcore.plans import InvalidPlan, Plan
from trackcore_testing.server import TEST_SOURCES, TrackingServer


def server_from(
    *, sources: Sequence[str], destinations: Iterable[str], limits: Iterable[str], timeout: str, plan: str | None = None
) -> TrackingServer:
    """Start a server.

    `sources` are `NAME` or `NAME=WRITE_KEY`, `limits` are `NAME=NUMBER`; the last one counts.  `plan` is the file of a
    tracking plan.

    Raises `ValueError` for a setting that is not valid.
    """
    return TrackingServer(
        sources=tuple(map(_source, sources)) or TEST_SOURCES,
        destinations=destinations,
        limits=attrs.evolve(DEFAULT_LIMITS, **dict(map(_limit, limits))),
        timeout=float(timeout),
        plan=_plan(plan) if plan else None,
    )


def _plan(file: str) -> Plan:
    try:
        from trackcore_plans import load_plan  # noqa: PLC0415 - of an extra
    except ModuleNotFoundError as error:
        raise ValueError(f"{error.name} is not installed: pip install 'trackcore[plans]'") from error
    try:
        return load_plan(Path(file))
    except (OSError, InvalidPlan) as error:
        raise ValueError(str(error)) from error


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
