"""The workers with a deadline that a test can wait for."""

from trackcore_server.worker import AsyncWorker, Worker


class QuickWorker(Worker):
    """Cuts a request after half a second."""

    request_seconds = 0.5


class QuickAsyncWorker(AsyncWorker):
    """Cuts a request after half a second."""

    request_seconds = 0.5
