"""HTTP in: a WSGI app that any server can host and any Segment SDK can send to.

    TrackingApp(collector)

`routes` maps paths to calls, `credentials` and `bodies` read write keys and bodies from requests, `pixel` decodes
messages in a query, `settings` builds the settings document, `responses` holds the table of failures, `mounting`
handles proxies and prefixes, `openapi` describes the API, and `app` puts them together.
"""

from trackcore_wsgi.app import TrackingApp
from trackcore_wsgi.mounting import behind_proxies, under_prefix
from trackcore_wsgi.routes import ROUTES

__all__ = [
    "ROUTES",
    "TrackingApp",
    "behind_proxies",
    "under_prefix",
]
