"""The settings document that analytics-next and React Native fetch before they send anything.

It makes them send messages to the host that served it, so it is enough to set an SDK's CDN host.  It is the same for
every write key: a wrong key must not silence an SDK, since only received requests can be seen in quarantine and
reprocessed.
"""

from __future__ import annotations

from trackcore import JSONObject, WriteKey
from trackcore_http.request import HttpRequest


def settings_document(request: HttpRequest, write_key: WriteKey | None) -> JSONObject:
    """Build the document for one write key."""
    return {
        "integrations": {
            "Segment.io": {
                "apiKey": write_key,
                "apiHost": f"{request.host}{request.root_path}/v1",
                "protocol": request.scheme,
                "unbundledIntegrations": [],
                "addBundledMetadata": True,
                "versionSettings": {"version": "4.4.7", "componentTypes": ["browser"]},
            }
        },
        "plan": {"track": {"__default": {"enabled": True, "integrations": {}}}},
        "edgeFunction": {},
        "analyticsNextEnabled": True,
        "middlewareSettings": {},
        "enabledMiddleware": {},
        "metrics": {"sampleRate": 0},
        "legacyVideoPluginsEnabled": False,
        "remotePlugins": [],
    }
