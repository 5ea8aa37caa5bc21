"""The composition: the core, the log and the WSGI app put together as a configuration says."""

from __future__ import annotations

import atexit
from datetime import UTC, datetime
from functools import partial
from uuid import uuid4

from trackcore_wsgi import TrackingApp

from trackcore import Collector
from trackcore_server.config import Configuration, ConfigurationMistake, LogSettings, load_configuration
from trackcore_server.delivering import delivered_up_to
from trackcore_server.locate import CONFIG_NAME, CONFIG_VARIABLE, find_configuration_file
from trackcore_server.logs import make_sink
from trackcore_server.retention import keep_short


def create_collector(configuration: Configuration) -> Collector:
    """Make a collector that stores in the configured log, which is closed when the process ends.

    Raises:
        ConfigurationMistake: there is no source, so that nothing could be collected, or the log has wrong settings.
    """
    if not configuration.sources:
        raise ConfigurationMistake(path="sources", detail="no source is configured, so no message could be stored")
    sink = make_sink(configuration)
    atexit.register(sink.close)
    return Collector(
        sources=configuration.sources,
        destinations=configuration.destinations,
        sink=sink,
        clock=lambda: datetime.now(UTC),
        new_message_id=lambda: str(uuid4()),
        limits=configuration.limits,
    )


def create_app(configuration: Configuration | None = None) -> TrackingApp:
    """Make the WSGI app; without a configuration, from the file that the environment variable TRACKCORE_CONFIG names.

    Raises:
        ConfigurationMistake: there is no such file, or it cannot be used.
    """
    if configuration is None:
        configuration = _configuration_of_environment()
    if isinstance(configuration.log, LogSettings) and configuration.log.keep is not None:
        up_to = partial(delivered_up_to, configuration)
        atexit.register(keep_short(configuration.log.path, configuration.log.keep, up_to=up_to))
    return TrackingApp(create_collector(configuration), proxy_hops=configuration.server.proxy_hops)


def _configuration_of_environment() -> Configuration:
    file = find_configuration_file()
    if file is None:
        detail = f"no configuration: set {CONFIG_VARIABLE} to a {CONFIG_NAME}, or start in a folder that has one"
        raise ConfigurationMistake(detail=detail)
    return load_configuration(file)
