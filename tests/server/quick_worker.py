"""The worker with a deadline that a test can wait for."""

from trackcore_server.hosting.worker import Worker


class QuickWorker(Worker):
    """Cuts a request after half a second."""

    request_seconds = 0.5
