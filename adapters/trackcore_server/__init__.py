"""The server put together: configuration, composition and the `trackcore` command.

`gunicorn 'trackcore_server:create_app()'` serves the configuration that `TRACKCORE_CONFIG` names.
"""

from trackcore_server.composition import create_app, create_collector
from trackcore_server.config import (
    Configuration,
    ConfigurationMistake,
    LogSettings,
    ServerSettings,
    load_configuration,
    parse_configuration,
)
from trackcore_server.kafka_log import KafkaLogSettings

__all__ = [
    "Configuration",
    "ConfigurationMistake",
    "KafkaLogSettings",
    "LogSettings",
    "ServerSettings",
    "create_app",
    "create_collector",
    "load_configuration",
    "parse_configuration",
]
