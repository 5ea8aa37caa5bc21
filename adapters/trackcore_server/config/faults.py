"""Rules across the settings: each check yields the path and the detail of a mistake."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING

from trackcore_http import segments_name

from trackcore import Destination, Source
from trackcore.support import ALL
from trackcore_server.config.converter import nearest
from trackcore_server.config.plans import PlannedSource
from trackcore_server.config.privacy import missing_keys
from trackcore_server.config.sdk_settings import wrong_consent
from trackcore_server.config.units import parse_bind

_EVERY_HOST = {"0.0.0.0", "::"}  # noqa: S104 - compared

if TYPE_CHECKING:
    from trackcore_server.config.configuration import Configuration


def faults_across(configuration: Configuration) -> Iterator[tuple[str, str]]:
    """Yield the mistakes that no single setting shows."""
    wrong_names = _wrong_destinations(configuration.destinations)
    sources, server = _wrong_sources(configuration), _wrong_server(configuration)
    schemas = _shared_schemas(configuration)
    yield from chain(wrong_names, sources, server, configuration.log.faults(), missing_keys(configuration), schemas)


def _shared_schemas(configuration: Configuration) -> Iterator[tuple[str, str]]:
    if any(destination.is_warehouse for destination in configuration.destinations):
        from trackcore_server.config.warehouse import shared_schemas  # noqa: PLC0415 - few have a warehouse

        yield from shared_schemas(configuration.sources, configuration.destinations)


def _wrong_destinations(destinations: Sequence[Destination]) -> Iterator[tuple[str, str]]:
    yield from _wrong_names("destinations", [destination.name for destination in destinations])
    for index, destination in enumerate(destinations):
        if destination.name == ALL:
            yield f"destinations[{index}].name", f"{ALL!r} means all destinations, so none can have that name"


def _wrong_sources(configuration: Configuration) -> Iterator[tuple[str, str]]:
    yield from _wrong_names("sources", [source.name for source in configuration.sources])
    owners: dict[str, str] = {}
    known = [destination.name for destination in configuration.destinations]
    for index, source in enumerate(configuration.sources):
        path = f"sources[{index}]"
        if not source.write_keys:
            yield f"{path}.write_keys", "a source needs at least one write key"
        for place, key in enumerate(source.write_keys):
            if key in owners:
                yield f"{path}.write_keys[{place}]", f"this write key already belongs to source {owners[key]!r}"
            owners[key] = source.name
        yield from _wrong_forwards(path, source, [other.name for other in configuration.sources])
        yield from wrong_consent(path, source, list(configuration.destinations))
        for place, name in enumerate(source.destinations or ()):
            if name not in known:
                yield f"{path}.destinations[{place}]", f"there is no destination {name!r}{nearest(name, known)}"


def _wrong_forwards(path: str, source: Source, sources: Sequence[str]) -> Iterator[tuple[str, str]]:
    controls = source.plan_controls if isinstance(source, PlannedSource) else None
    for field in ("forwarding_violations_to", "forwarding_blocked_events_to") if controls is not None else ():
        name = getattr(controls, field)
        place = f"{path}.plan_controls.{segments_name(field)}"
        if name == source.name:
            yield place, "a source cannot forward to itself"
        elif name is not None and name not in sources:
            yield place, f"there is no source {name!r}{nearest(name, sources)}"


def _wrong_server(configuration: Configuration) -> Iterator[tuple[str, str]]:
    if configuration.server.proxy_hops and configuration.server.trusted_proxies:
        yield "server.trusted_proxies", "proxies are trusted by their addresses or by `proxy_hops`: remove one of both"
    if configuration.metrics.bind is not None:
        host, port = parse_bind(configuration.metrics.bind)
        public_host, public_port = parse_bind(configuration.server.bind)
        if port == public_port != 0 and (host == public_host or _EVERY_HOST & {host, public_host}):
            yield "metrics.bind", "the metrics need an address of their own, which clients cannot reach"


def _wrong_names(path: str, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    for index, name in enumerate(names):
        if not name:
            yield f"{path}[{index}].name", "a name cannot be empty"
        elif name in names[:index]:
            yield f"{path}[{index}].name", f"{name!r} is already the name of {path}[{names.index(name)}]"
