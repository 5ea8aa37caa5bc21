"""The settings about personal data: `[privacy]`, and `ip` and `mask` of a source."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

import attrs
from trackcore_delivery import DeliveredDestination, MaskSettings, Secret

from trackcore.privacy import IpRule
from trackcore_server.config.plans import PlannedSource

if TYPE_CHECKING:
    from trackcore_server.config.configuration import Configuration

_RULE = attrs.fields(IpRule)


@attrs.frozen(kw_only=True)
class IpSettings:
    """The settings of a `trackcore.privacy.IpRule`, without its key."""

    mode: str = attrs.field(default="keep", validator=_RULE.mode.validator)
    ipv4_bits: int = attrs.field(default=24, validator=_RULE.ipv4_bits.validator)
    ipv6_bits: int = attrs.field(default=48, validator=_RULE.ipv6_bits.validator)
    rotate: timedelta = attrs.field(default=timedelta(days=1), validator=_RULE.rotate.validator)

    @property
    def needs_key(self) -> bool:
        """Whether addresses are hashed."""
        return self.mode == "hash"

    def rule(self, key: bytes) -> IpRule:
        """Return the rule.  Raises `ValueError` if it needs a key and there is none."""
        return IpRule(mode=self.mode, ipv4_bits=self.ipv4_bits, ipv6_bits=self.ipv6_bits, rotate=self.rotate, key=key)


@attrs.frozen(kw_only=True)
class ConfiguredSource(PlannedSource):
    """A source with everything that a configuration can say of one."""

    ip: IpSettings = attrs.field(factory=IpSettings)
    mask: tuple[MaskSettings, ...] = ()


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
