"""The server put together: configuration, composition and the `trackcore` command.

`create_app()` builds the WSGI app and `create_asgi_app()` the ASGI app of the configuration that `TRACKCORE_CONFIG`
names, for any server: `uvicorn --factory trackcore_server:create_asgi_app`.
"""

from typing import TYPE_CHECKING, Any

from trackcore_server.config.configuration import (
    Configuration,
    ConfigurationError,
    load_configuration,
    parse_configuration,
)
from trackcore_server.config.kafka_log import KafkaLogSettings
from trackcore_server.config.log import LogSettings
from trackcore_server.config.server import ServerSettings

if TYPE_CHECKING:
    from trackcore_server.app import create_app, create_asgi_app, create_collector

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


def __getattr__(name: str) -> Any:
    """Import the apps when they are used: most commands need none, and should begin at once."""
    if name not in ("create_app", "create_asgi_app", "create_collector"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from trackcore_server import app  # noqa: PLC0415 - see above

    return getattr(app, name)
