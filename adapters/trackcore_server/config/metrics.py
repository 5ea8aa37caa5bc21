"""The settings of the metrics, `[metrics]`."""

from __future__ import annotations

import attrs

from trackcore_server.config.units import parse_bind


def _check_bind(_: object, __: object, bind: str | None) -> None:
    if bind is not None:
        parse_bind(bind)


@attrs.frozen(kw_only=True)
class MetricsSettings:
    """Where the metrics are served, an address of their own: HOST:PORT.  Without one they are off."""

    bind: str | None = attrs.field(default=None, validator=_check_bind)
