"""The WSGI face: `TrackingApp(collector)`, an app that any WSGI server can host and any Segment SDK can send to."""

from trackcore_wsgi.app import TrackingApp
from trackcore_wsgi.mounting import behind_proxies, under_prefix

__all__ = ["TrackingApp", "behind_proxies", "under_prefix"]
