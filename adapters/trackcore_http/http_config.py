"""The retry rules that SDKs fetch with their settings: Segment's `httpConfig`.

Swift and Kotlin obey Retry-After only if the document has these rules; an explicit `enabled: false` keeps their old
behaviour.  The browser SDK always has rules, and takes the numbers from here.  Each SDK silently clamps what is outside
of its range, and Kotlin ignores all rules if an integer has a fraction.  So the ranges here are those that every SDK
accepts, and times are whole seconds where Kotlin expects them.

Source: the code of analytics-next, analytics-swift and analytics-kotlin; https://segment.com/docs/connections/sources/
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
from attrs import validators

from trackcore import JSONObject

RETRY = "retry"
DROP = "drop"


def _between(least: float, most: float) -> Any:
    def check(_: object, __: object, value: float) -> None:
        if not least <= value <= most:
            raise ValueError(f"expected a number from {least:g} to {most:g}, which is what every SDK accepts")

    return check


def _check_behavior(_: object, __: object, behavior: str) -> None:
    if behavior not in (RETRY, DROP):
        raise ValueError(f"expected {RETRY!r} or {DROP!r}")


def _check_code(_: object, __: object, code: str) -> None:
    if not (code.isascii() and code.isdecimal() and 100 <= int(code) <= 599):  # noqa: PLR2004 - the codes of HTTP
        raise ValueError(f"expected a status from 100 to 599, found {code!r}")


_OVERRIDES: Mapping[str, str] = {
    **dict.fromkeys(("408", "410", "429", "460"), RETRY),
    **dict.fromkeys(("501", "505", "511"), DROP),
}
"""The statuses that the SDKs for browsers retry, or do not, by themselves."""


@attrs.frozen(kw_only=True)
class RateLimitConfig:
    """How SDKs obey Retry-After: how often, how many seconds at most each time, and how many in all."""

    enabled: bool = True
    max_retry_count: int = attrs.field(default=100, validator=_between(0, 100))
    max_retry_interval: int = attrs.field(default=300, validator=_between(1, 3_600))
    max_rate_limit_duration: int = attrs.field(default=43_200, validator=_between(10, 86_400))


@attrs.frozen(kw_only=True)
class BackoffConfig:
    """How SDKs retry by themselves, in seconds, and after which statuses.

    `status_code_overrides` adds to what the SDKs do by themselves, or replaces it, status by status.
    """

    enabled: bool = True
    max_retry_count: int = attrs.field(default=100, validator=_between(0, 100))
    base_backoff_interval: float = attrs.field(default=0.5, validator=_between(0.1, 60))
    max_backoff_interval: int = attrs.field(default=300, validator=_between(1, 3_600))
    max_total_backoff_duration: int = attrs.field(default=43_200, validator=_between(60, 604_800))
    jitter_percent: int = attrs.field(default=10, validator=_between(0, 50))
    default_4xx_behavior: str = attrs.field(default=DROP, validator=_check_behavior)
    default_5xx_behavior: str = attrs.field(default=RETRY, validator=_check_behavior)
    unknown_code_behavior: str = attrs.field(default=DROP, validator=_check_behavior)
    status_code_overrides: dict[str, str] = attrs.field(
        factory=dict, validator=validators.deep_mapping(_check_code, _check_behavior), hash=False
    )


@attrs.frozen(kw_only=True)
class HttpConfig:
    """The rules for one source.  The defaults make SDKs obey a server that is overloaded; `enabled` is for both parts.

    >>> HttpConfig(enabled=False).as_json()
    {'rateLimitConfig': {'enabled': False}, 'backoffConfig': {'enabled': False}}
    """

    enabled: bool = True
    rate_limit_config: RateLimitConfig = attrs.field(factory=RateLimitConfig)
    backoff_config: BackoffConfig = attrs.field(factory=BackoffConfig)

    def as_json(self) -> JSONObject:
        """Return it as a JSON object, with the names of Segment."""
        return {
            "rateLimitConfig": self._part(self.rate_limit_config),
            "backoffConfig": self._part(self.backoff_config),
        }

    def _part(self, part: RateLimitConfig | BackoffConfig) -> JSONObject:
        if not (self.enabled and part.enabled):
            return {"enabled": False}
        values = attrs.asdict(part)
        if isinstance(part, BackoffConfig):  # Kotlin has only what it is given
            values["status_code_overrides"] = {**_OVERRIDES, **part.status_code_overrides}
        return {segments_name(name): value for name, value in values.items()}


def segments_name(name: str) -> str:
    """Return a setting as Segment writes it: `maxRetryCount` for `max_retry_count`."""
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))
