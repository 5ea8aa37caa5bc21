"""The documents that SDKs fetch before they send anything.

The settings document is that of analytics-next, React Native, Swift and Kotlin.  It makes them send messages to the
host that served it, so it is enough to set an SDK's CDN host.  Any write key gets one: a wrong key must not silence an
SDK, since only received requests can be seen in quarantine and reprocessed.  The retry rules and the
categories of consent depend on the source.

The source config is that of RudderStack's SDKs.  It names no destinations: these are all behind this server.
"""

from __future__ import annotations

from collections.abc import Sequence

from trackcore import Destination, JSONObject, WriteKey
from trackcore_http.options import DEFAULT_SDK_SETTINGS, SdkSettings
from trackcore_http.request import HttpRequest

_SEGMENT = "Segment.io"


def settings_document(
    request: HttpRequest,
    write_key: WriteKey | None,
    settings: SdkSettings = DEFAULT_SDK_SETTINGS,
    destinations: Sequence[Destination] = (),
) -> JSONObject:
    """Build the document for one write key, with the settings and the destinations of its source."""
    return {
        "integrations": {
            **({} if _is_browser(request) else _categories(destinations)),
            _SEGMENT: {
                "apiKey": write_key,
                "apiHost": f"{request.host}{request.root_path}/v1",
                "protocol": request.scheme,
                "unbundledIntegrations": [],
                "addBundledMetadata": True,
                "versionSettings": {"version": "4.4.7", "componentTypes": ["browser"]},
                "httpConfig": settings.http.as_json(),
            },
        },
        **_consent_settings(settings, destinations),
        "plan": {"track": {"__default": {"enabled": True, "integrations": {}}}},
        "edgeFunction": {},
        "analyticsNextEnabled": True,
        "middlewareSettings": {},
        "enabledMiddleware": {},
        "metrics": {"sampleRate": 0},
        "legacyVideoPluginsEnabled": False,
        "remotePlugins": [],
    }


def source_config(write_key: WriteKey | None) -> JSONObject:
    """Build RudderStack's document for one write key.

    The SDK needs `source` with an id, a `config` and an array of destinations; it does not start if the source is not
    `enabled`.  With `statsCollection` it would send metrics and errors to RudderStack.
    """
    off = {"enabled": False}
    source: JSONObject = {
        "id": write_key or "",
        "name": write_key or "",
        "writeKey": write_key or "",
        "enabled": True,
        "workspaceId": "trackcore",
        "config": {"statsCollection": {"errors": off, "metrics": off}},
        "destinations": [],
        "dataplanes": {},
        "updatedAt": "2026-01-01T00:00:00.000Z",
    }
    return {"source": source, "updatedAt": source["updatedAt"]}


def _is_browser(request: HttpRequest) -> bool:
    """Return whether a page asks.

    With more than one integration analytics-next loads a further script, from the CDN of its vendor unless the page has
    it, and does not start if that fails.  It needs categories only of destinations that the page itself sends to.
    """
    return request.headers.get("user-agent", "").startswith("Mozilla/")


def _categories(destinations: Sequence[Destination]) -> JSONObject:
    """Return what each destination that needs consent contributes to `integrations`."""
    return {
        destination.name: {"consentSettings": {"categories": list(destination.consent.categories)}}
        for destination in destinations
        if destination.consent is not None and destination.name != _SEGMENT
    }


def _consent_settings(settings: SdkSettings, destinations: Sequence[Destination]) -> JSONObject:
    """Return the categories of all destinations; nothing if none needs consent.

    While `hasUnmappedDestinations` is true, the consent wrapper sends every message.  A wrong false loses messages, and
    the log itself takes those without consent, so it is false only where the operator does not want them.
    """
    rules = [destination.consent for destination in destinations]
    categories = sorted({category for rule in rules if rule is not None for category in rule.categories})
    if not categories:
        return {}
    has_unmapped = settings.collect_without_consent or None in rules
    return {"consentSettings": {"allCategories": categories, "hasUnmappedDestinations": has_unmapped}}
