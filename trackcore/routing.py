"""Which destinations the messages of each source may go to."""

from __future__ import annotations

from collections.abc import Iterable

from trackcore.credentials import Source
from trackcore.integrations import Destination, Resolver


def resolvers_for(sources: Iterable[Source], destinations: Iterable[Destination]) -> dict[str, Resolver]:
    """Return the resolver of each source, by the source's name.

    Raises `ValueError` if a source names a destination that does not exist.
    """
    existing = tuple(destinations)
    return {source.name: Resolver(_destinations_of(source, existing)) for source in sources}


def _destinations_of(source: Source, destinations: tuple[Destination, ...]) -> tuple[Destination, ...]:
    if source.destinations is None:
        return destinations
    unknown = set(source.destinations) - {destination.name for destination in destinations}
    if unknown:
        raise ValueError(f"source {source.name!r} names unknown destinations: {', '.join(sorted(unknown))}")
    return tuple(destination for destination in destinations if destination.name in source.destinations)
