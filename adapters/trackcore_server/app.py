"""The composition: the core, the log and the WSGI app, put together by a configuration."""

from __future__ import annotations

import atexit
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from trackcore_debugger import DebuggerApp, OneTimeToken, SessionAuth
from trackcore_wsgi import TrackingApp, behind_proxies, under_prefix
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from trackcore import Collector, Sink
from trackcore_server.config.configuration import (
    Configuration,
    ConfigurationError,
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
from trackcore_server.storage.backend import Backend, ClosableSink
from trackcore_server.storage.backends import backend_of

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

DEBUGGER_PATH = "/debugger"


def create_collector(configuration: Configuration, sink: Sink | None = None) -> Collector:
    """Build a collector that stores in `sink`; by default, in the configured log, closed when the process ends.

    Raises `ConfigurationError` if no source is configured, or the log has wrong settings.
    """
    if not configuration.sources:
        raise ConfigurationError(path="sources", detail="no source is configured, so no message could be stored")
    return Collector(
        sources=configuration.sources,
        destinations=configuration.destinations,
        sink=_open_sink(backend_of(configuration)) if sink is None else sink,
        clock=_now,
        new_message_id=lambda: str(uuid4()),
        limits=configuration.limits,
    )


class ServerApp:
    """The tracking API and the debugger, if there is one, under the prefix of the server and behind its proxies."""

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
    """Build the WSGI app, with the debugger at `/debugger` if a token for it is configured or passed.

    Args:
        configuration: if None, it is read from the file that TRACKCORE_CONFIG names.
        one_time_token: opens the debugger once, if no token is configured.

    Raises `ConfigurationError` if the file does not exist, or cannot be used.
    """
    file = None
    if configuration is None:
        file, configuration = _configuration_of_environment()
    backend = backend_of(configuration)
    atexit.register(backend.start_retention())
    auth = _session_auth(configuration, one_time_token, file)
    if auth is None:
        return ServerApp(TrackingApp(create_collector(configuration)), None, configuration.server)
    recording = RecordingSink(_open_sink(backend))
    collector = create_collector(configuration, recording)
    debugger = DebuggerApp(_reader(configuration, backend, collector, recording), auth)
    return ServerApp(TrackingApp(collector), debugger, configuration.server)


def _session_auth(
    configuration: Configuration, one_time_token: OneTimeToken | None, file: Path | None
) -> SessionAuth | None:
    if token := read_debugger_token(configuration, file=file):
        return SessionAuth.for_token(token)
    return None if one_time_token is None else SessionAuth.for_one_time(one_time_token)


def _open_sink(backend: Backend) -> ClosableSink:
    """Build the sink of the log, which is closed when the process ends."""
    sink = backend.make_sink()
    atexit.register(sink.close)
    return sink


def _reader(
    configuration: Configuration, backend: Backend, collector: Collector, recording: RecordingSink
) -> LogReader:
    log = backend.browser(keep_open=True)
    atexit.register(log.close)
    return LogReader(
        log,
        Explainer(configuration),
        recording,
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
