"""Serving the app with gunicorn: the worker, the process that delivers beside it, and what is exposed to others."""
