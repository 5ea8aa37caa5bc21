"""Metrics in the text form of Prometheus, by its own library: for `trackcore serve`, and for those who embed.

`wsgi_app` and `asgi_app` expose what a collector counts in this process.  Mount them where only your monitoring reaches
them: they need no password.
"""

from trackcore_metrics.exposition import asgi_app, make_registry, wsgi_app

__all__ = ["asgi_app", "make_registry", "wsgi_app"]
