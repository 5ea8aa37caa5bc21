"""The former path of the gunicorn worker, which existing configurations use."""

from trackcore_server.hosting.worker import Worker

__all__ = ["Worker"]
