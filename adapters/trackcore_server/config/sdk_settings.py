"""The settings of a source that SDKs fetch: its retry rules, and whether it collects without consent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from trackcore_http import BackoffConfig, HttpConfig, RateLimitConfig

from trackcore import Destination, Source
from trackcore_server.config.plans import CONTROLS
from trackcore_server.config.sources import ConfiguredSource

NAMED_BY_SEGMENT: tuple[type, ...] = (*CONTROLS, RateLimitConfig, BackoffConfig, HttpConfig)
"""The classes of which a setting is written as Segment writes it."""


def wrong_consent(path: str, source: Source, destinations: Sequence[Destination]) -> Iterator[tuple[str, str]]:
    """Yield the mistake of a source that shall collect nothing without consent, although it would."""
    if not isinstance(source, ConfiguredSource) or source.collect_without_consent:
        return
    own = [each for each in destinations if source.destinations is None or each.name in source.destinations]
    free = [each.name for each in own if each.consent is None]
    if free or not own:
        which = f"; {free[0]!r} has none" if free else ", and it has no destination"
        yield f"{path}.collect_without_consent", f"each destination of the source needs `consent`{which}"
