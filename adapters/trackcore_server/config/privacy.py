"""The settings about personal data that no source has for itself: `[privacy]`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs
from trackcore_delivery import DeliveredDestination, MaskSettings, Secret

from trackcore_server.config.sources import ConfiguredSource

if TYPE_CHECKING:
    from trackcore_server.config.configuration import Configuration


@attrs.frozen(kw_only=True)
class AdminSettings:
    """Access to requests about persons over HTTP.  Without a token there are none."""

    token: Secret | None = None


@attrs.frozen(kw_only=True)
class PrivacySettings:
    """The key of all hashes."""

    key: Secret | None = None


def missing_keys(configuration: Configuration) -> Iterator[tuple[str, str]]:
    """Yield the path and the detail of each setting that hashes without a key."""
    if configuration.privacy.key is None:
        for path in _settings_with_key(configuration):
            yield path, "a hash needs a key: set `key` under [privacy]"


def _settings_with_key(configuration: Configuration) -> Iterator[str]:
    for index, source in enumerate(configuration.sources):
        if isinstance(source, ConfiguredSource):
            if source.ip.needs_key:
                yield f"sources[{index}].ip.mode"
            yield from _masks_with_key(f"sources[{index}]", source.mask)
    for index, destination in enumerate(configuration.destinations):
        if isinstance(destination, DeliveredDestination):
            yield from _masks_with_key(f"destinations[{index}]", destination.mask)


def _masks_with_key(path: str, masks: tuple[MaskSettings, ...]) -> Iterator[str]:
    yield from (f"{path}.mask[{place}].action" for place, mask in enumerate(masks) if mask.needs_key)
