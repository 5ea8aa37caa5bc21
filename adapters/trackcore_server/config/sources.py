"""A source with the settings that only a server has."""

from __future__ import annotations

from datetime import timedelta

import attrs
from trackcore_delivery import MaskSettings
from trackcore_http import HttpConfig

from trackcore.privacy import IpRule
from trackcore_server.config.plans import PlannedSource

_RULE = attrs.fields(IpRule)
_DEFAULT_HTTP = HttpConfig()


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


_DEFAULT_IP = IpSettings()


@attrs.frozen(kw_only=True)
class ConfiguredSource(PlannedSource):
    """A source with everything that a configuration can say of one.

    `ip` and `mask` are about personal data; `http` and `collect_without_consent` are what SDKs fetch, see
    `trackcore_http.SdkSettings`.
    """

    ip: IpSettings = _DEFAULT_IP
    mask: tuple[MaskSettings, ...] = ()
    http: HttpConfig = _DEFAULT_HTTP
    collect_without_consent: bool = True

    @property
    def is_plain(self) -> bool:
        """Whether it has nothing but what every `Source` has."""
        has_privacy = self.ip != _DEFAULT_IP or self.mask
        return self.plan is None and not has_privacy and self.http == _DEFAULT_HTTP and self.collect_without_consent
