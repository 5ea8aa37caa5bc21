"""HTTP in: `TrackingApp(collector)`, a WSGI app that any server can host and any Segment SDK can send to."""

from trackcore_wsgi.app import TrackingApp
from trackcore_wsgi.mounting import behind_proxies, under_prefix
from trackcore_wsgi.routes import ROUTES

__all__ = ["ROUTES", "TrackingApp", "behind_proxies", "under_prefix"]
