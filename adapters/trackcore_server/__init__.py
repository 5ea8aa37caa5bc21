"""The server put together: configuration, composition and the `trackcore` command.

`create_app()` builds the WSGI app and `create_asgi_app()` the ASGI app of the configuration that `TRACKCORE_CONFIG`
names, for any server: `uvicorn --factory trackcore_server:create_asgi_app`.
"""

from trackcore_server.app import create_app, create_asgi_app, create_collector
from trackcore_server.config.configuration import (
    Configuration,
    ConfigurationError,
    load_configuration,
    parse_configuration,
)
from trackcore_server.config.kafka_log import KafkaLogSettings
from trackcore_server.config.log import LogSettings
from trackcore_server.config.server import ServerSettings

__all__ = [
    "Configuration",
    "ConfigurationError",
    "KafkaLogSettings",
    "LogSettings",
    "ServerSettings",
    "create_app",
    "create_asgi_app",
    "create_collector",
    "load_configuration",
    "parse_configuration",
]
