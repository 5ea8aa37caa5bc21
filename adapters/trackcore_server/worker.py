"""The workers of gunicorn: `AsyncWorker` for the ASGI app, `Worker`, with threads, for the WSGI app."""

from trackcore_server.hosting.async_worker import AsyncWorker
from trackcore_server.hosting.worker import Worker

__all__ = ["AsyncWorker", "Worker"]
