"""The composition: the core, the log and the WSGI app put together as a configuration says."""

from __future__ import annotations

import atexit
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from trackcore_debugger import DebuggerApp, OneTimeToken, SessionAuth
from trackcore_sqlite import SqliteBrowser
from trackcore_wsgi import TrackingApp
from trackcore_wsgi.mounting import behind_proxies, under_prefix
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from trackcore import Collector, Sink
from trackcore_server.config.configuration import (
    Configuration,
    ConfigurationError,
    LogSettings,
    ServerSettings,
    load_configuration,
)
from trackcore_server.config.debugger_token import read_debugger_token
from trackcore_server.config.deployment import CONFIG_NAME, CONFIG_VARIABLE, find_configuration_file
from trackcore_server.debugger.charts import Charts
from trackcore_server.debugger.delivery_lag import DeliveryLag
from trackcore_server.debugger.reader import LogReader
from trackcore_server.debugger.recent import RecordingSink
from trackcore_server.debugger.recent_rows import RecentRows
from trackcore_server.inspection.explainer import Explainer
from trackcore_server.inspection.reprocess import Reprocessor
from trackcore_server.storage.log_changes import delivered_up_to
from trackcore_server.storage.logs import make_sink
from trackcore_server.storage.retention import start_retention

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

DEBUGGER_PATH = "/debugger"


def create_collector(configuration: Configuration, watch: Callable[[Sink], Sink] | None = None) -> Collector:
    """Make a collector that stores in the configured log, which is closed when the process ends.

    Args:
        configuration: what the server is told.
        watch: puts another sink around that of the log.

    Raises:
        ConfigurationError: there is no source, so that nothing could be collected, or the log has wrong settings.
    """
    if not configuration.sources:
        raise ConfigurationError(path="sources", detail="no source is configured, so no message could be stored")
    sink = make_sink(configuration)
    atexit.register(sink.close)
    return Collector(
        sources=configuration.sources,
        destinations=configuration.destinations,
        sink=sink if watch is None else watch(sink),
        clock=_now,
        new_message_id=lambda: str(uuid4()),
        limits=configuration.limits,
    )


class ServerApp:
    """The tracking API as a WSGI app, with the debugger mounted beside it where there is one.

    Both are mounted under the prefix of the server, behind its proxies.
    """

    def __init__(self, tracking: TrackingApp, debugger: WSGIApplication | None, server: ServerSettings) -> None:
        self.collector = tracking.collector
        app: WSGIApplication = tracking
        if debugger is not None:
            app = DispatcherMiddleware(tracking, {DEBUGGER_PATH: debugger})
        self._app = behind_proxies(under_prefix(app, server.prefix), server.proxy_hops)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        return self._app(environ, start_response)


def create_app(configuration: Configuration | None = None, one_time_token: OneTimeToken | None = None) -> ServerApp:
    """Make the WSGI app, with the debugger at `/debugger` where a token for it is configured or given.

    Args:
        configuration: what the server is told; left out, the file that the environment variable TRACKCORE_CONFIG names.
        one_time_token: opens the debugger once, where no token is configured.

    Raises:
        ConfigurationError: there is no such file, or it cannot be used.
    """
    file = None
    if configuration is None:
        file, configuration = _configuration_of_environment()
    if isinstance(configuration.log, LogSettings) and configuration.log.keep is not None:
        up_to = partial(delivered_up_to, configuration)
        atexit.register(start_retention(configuration.log.path, configuration.log.keep, up_to=up_to))
    auth = _session_auth(configuration, one_time_token, file)
    if auth is None:
        return ServerApp(TrackingApp(create_collector(configuration)), None, configuration.server)
    collector = create_collector(configuration, RecordingSink)
    debugger = DebuggerApp(_reader(configuration, collector), auth)
    return ServerApp(TrackingApp(collector), debugger, configuration.server)


def _session_auth(
    configuration: Configuration, one_time_token: OneTimeToken | None, file: Path | None
) -> SessionAuth | None:
    token = read_debugger_token(configuration, file=file)
    if token is not None:
        return SessionAuth.for_token(token)
    return None if one_time_token is None else SessionAuth.for_one_time(one_time_token)


def _reader(configuration: Configuration, collector: Collector) -> LogReader:
    log = SqliteBrowser(configuration.log_path, keep_open=True)
    atexit.register(log.close)
    assert isinstance(collector.sink, RecordingSink)
    return LogReader(
        log,
        Explainer(configuration),
        collector.sink,
        Reprocessor(collector),
        Charts(log, _now, DeliveryLag(configuration, log)),
        RecentRows(log),
    )


def _now() -> datetime:
    return datetime.now(UTC)


def _configuration_of_environment() -> tuple[Path, Configuration]:
    file = find_configuration_file()
    if file is None:
        detail = f"no configuration: set {CONFIG_VARIABLE} to a {CONFIG_NAME}, or start in a folder that has one"
        raise ConfigurationError(detail=detail)
    return file, load_configuration(file)
