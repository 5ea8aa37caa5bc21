"""The server put together: configuration, composition and the `trackcore` command.

`gunicorn 'trackcore_server:create_app()'` serves the configuration that `TRACKCORE_CONFIG` names.
"""

from trackcore_server.app import create_app, create_collector
from trackcore_server.config.configuration import (
    Configuration,
    ConfigurationError,
    LogSettings,
    ServerSettings,
    load_configuration,
    parse_configuration,
)
from trackcore_server.config.kafka_log import KafkaLogSettings

__all__ = [
    "Configuration",
    "ConfigurationError",
    "KafkaLogSettings",
    "LogSettings",
    "ServerSettings",
    "create_app",
    "create_collector",
    "load_configuration",
    "parse_configuration",
]
