"""The choice of a backend: the only place that looks at the kind of log in a configuration."""

from __future__ import annotations

from trackcore_server.config.configuration import Configuration
from trackcore_server.config.kafka_log import KafkaLogSettings
from trackcore_server.storage.backend import Backend
from trackcore_server.storage.kafka_backend import KafkaBackend
from trackcore_server.storage.sqlite_backend import SqliteBackend


def backend_of(configuration: Configuration) -> Backend:
    """Return the backend of the configured log."""
    if isinstance(configuration.log, KafkaLogSettings):
        return KafkaBackend(configuration, configuration.log)
    return SqliteBackend(configuration, configuration.log)
