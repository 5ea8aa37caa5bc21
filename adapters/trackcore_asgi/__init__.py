"""The ASGI face: `TrackingApp(collector)`, an app for any ASGI server, and to be mounted in any ASGI framework."""

from trackcore_asgi.app import TrackingApp
from trackcore_asgi.mounting import behind_proxies, under_prefix
from trackcore_asgi.scopes import App, Receive, Scope, Send
from trackcore_asgi.threads import ThreadedSink
from trackcore_asgi.wsgi import with_wsgi_app

__all__ = [
    "App",
    "Receive",
    "Scope",
    "Send",
    "ThreadedSink",
    "TrackingApp",
    "behind_proxies",
    "under_prefix",
    "with_wsgi_app",
]
