"""The name of the gunicorn worker before it had a room; configurations in use keep it."""

from trackcore_server.hosting.worker import Worker

__all__ = ["Worker"]
