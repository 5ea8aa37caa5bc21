"""The options of an app beside its collector: the settings of SDKs, their script, the status of a failure to store."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from http import HTTPStatus

import attrs

from trackcore_http.http_config import HttpConfig


@attrs.frozen(kw_only=True)
class SdkSettings:
    """The settings that SDKs fetch for one source, beside the address to send to.

    With `collect_without_consent` a browser whose user has consented to nothing sends its messages all the same: the
    server decides about their destinations.  Otherwise the consent wrapper of the browser SDK sends none of them, if
    every destination of the source needs consent.
    """

    http: HttpConfig = attrs.field(factory=HttpConfig)
    collect_without_consent: bool = True


@attrs.frozen
class Script:
    """A script that browsers fetch."""

    content: bytes = attrs.field(repr=False)
    etag: str = attrs.field(init=False)

    @etag.default
    def _digest(self) -> str:
        return f'"{sha256(self.content).hexdigest()[:32]}"'


def _check_status(_: object, __: object, status: int) -> None:
    if status not in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS):
        raise ValueError("expected 503 or 429")


@attrs.frozen(kw_only=True)
class ApiOptions:
    """Options of an app.

    Attributes:
        sdk_settings: by the names of sources; one that is not named has the defaults.
        analytics_js: the browser SDK for `/analytics.js/v1/<writeKey>/analytics.min.js`; None: it is not served.
        unavailable_status: of a request that cannot be stored now: 503 (507 for a full disk), or 429, which is the only
            status with which the SDKs for browsers and Node obey Retry-After.
    """

    sdk_settings: Mapping[str, SdkSettings] = attrs.field(factory=dict)
    analytics_js: Script | None = None
    unavailable_status: int = attrs.field(default=503, validator=_check_status)


DEFAULT_OPTIONS = ApiOptions()
DEFAULT_SDK_SETTINGS = SdkSettings()
