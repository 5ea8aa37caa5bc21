"""The choice of a backend: the only place that looks at the kind of log in a configuration.

The client of Kafka is imported if a configuration asks for it, so that nobody else has to install it.
"""

from __future__ import annotations

from trackcore_server.config.configuration import Configuration, ConfigurationError
from trackcore_server.config.kafka_log import KafkaLogSettings
from trackcore_server.storage.backend import Backend
from trackcore_server.storage.sqlite_backend import SqliteBackend


def backend_of(configuration: Configuration) -> Backend:
    """Return the backend of the configured log.  Raises `ConfigurationError` if its client is not installed."""
    if not isinstance(configuration.log, KafkaLogSettings):
        return SqliteBackend(configuration, configuration.log)
    try:
        from trackcore_server.storage.kafka_backend import KafkaBackend  # noqa: PLC0415 - see the module
    except ModuleNotFoundError as error:
        detail = f"a log in Kafka needs {error.name}: pip install 'trackcore[kafka]'"
        raise ConfigurationError(path="log.kind", detail=detail) from error
    return KafkaBackend(configuration, configuration.log)
