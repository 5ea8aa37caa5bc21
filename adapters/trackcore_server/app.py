"""The composition: the core, the log and the app, put together by a configuration."""

from __future__ import annotations

import atexit
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import trackcore_asgi
import trackcore_wsgi
from trackcore_debugger import DebuggerApp, OneTimeToken, SessionAuth
from trackcore_http import ApiOptions
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from trackcore import Collector, Metrics, Sink
from trackcore.plans import PlanInForce
from trackcore.privacy import strictest
from trackcore_server.config.api_options import read_api_options
from trackcore_server.config.configuration import (
    Configuration,
    ConfigurationError,
    load_configuration,
)
from trackcore_server.config.debugger_token import read_debugger_token
from trackcore_server.config.deployment import CONFIG_NAME, CONFIG_VARIABLE, find_configuration_file
from trackcore_server.config.plan_files import load_plans
from trackcore_server.config.privacy_rules import privacy_rules, read_admin_token
from trackcore_server.config.server import ServerSettings
from trackcore_server.debugger.charts import Charts
from trackcore_server.debugger.delivery_lag import DeliveryLag
from trackcore_server.debugger.event_names import EventNames
from trackcore_server.debugger.outcomes import DeliveryOutcomes
from trackcore_server.debugger.reader import LogReader
from trackcore_server.debugger.recent import RecordingSink
from trackcore_server.debugger.recent_rows import RecentRows
from trackcore_server.inspection.explainer import Explainer
from trackcore_server.inspection.reprocess import Reprocessor
from trackcore_server.privacy.regulations import REGULATIONS, SUPPRESSIONS, RegulationsApp
from trackcore_server.privacy.runner import start_jobs
from trackcore_server.process.access_log import AccessLog
from trackcore_server.storage.backend import Backend, ClosableSink
from trackcore_server.storage.backends import backend_of

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from trackcore_asgi import Receive, Scope, Send

DEBUGGER_PATH = "/debugger"


def create_collector(
    configuration: Configuration,
    sink: Sink | None = None,
    plans: Mapping[str, PlanInForce] | None = None,
    metrics: Metrics | None = None,
) -> Collector:
    """Build a collector that stores in `sink`; by default, in the configured log, closed when the process ends.

    `plans` are those of the sources, if they were read before; `metrics` is what the collector counts in.

    Raises `ConfigurationError` if no source is configured, the log has wrong settings, or a plan cannot be used.
    """
    if not configuration.sources:
        raise ConfigurationError(path="sources", detail="no source is configured, so no message could be stored")
    metrics = metrics or Metrics()
    return Collector(
        sources=configuration.sources,
        destinations=configuration.destinations,
        sink=_open_sink(backend_of(configuration), metrics) if sink is None else sink,
        clock=_now,
        new_message_id=lambda: str(uuid4()),
        limits=configuration.limits,
        plans=load_plans(configuration) if plans is None else plans,
        privacy=privacy_rules(configuration),
        metrics=metrics,
    )


class ServerApp:
    """The WSGI app: the tracking API and what is `mounted` at paths beside it, under the prefix of the server."""

    def __init__(
        self,
        collector: Collector,
        mounted: Mapping[str, WSGIApplication],
        server: ServerSettings,
        options: ApiOptions,
    ) -> None:
        self.collector = collector
        app: WSGIApplication = trackcore_wsgi.TrackingApp(collector, options=options)
        if mounted:
            app = DispatcherMiddleware(app, dict(mounted))
        under_prefix = trackcore_wsgi.under_prefix(app, server.prefix)
        self._app = trackcore_wsgi.behind_proxies(under_prefix, server.proxies)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        return self._app(environ, start_response)


class AsgiServerApp:
    """The same as `ServerApp`, as an ASGI app.  Threads serve what is mounted, which may wait for the disk.

    `access_log` is for the host, if the configuration asks for one.
    """

    def __init__(
        self,
        collector: Collector,
        mounted: Mapping[str, WSGIApplication],
        server: ServerSettings,
        options: ApiOptions,
    ) -> None:
        self.access_log = AccessLog(prefix=server.prefix, folders=tuple(mounted)) if server.access_log else None
        tracking = trackcore_asgi.TrackingApp(collector, options=options)
        self.collector = tracking.collector
        app: trackcore_asgi.App = tracking
        for path, wsgi_app in mounted.items():
            app = trackcore_asgi.with_wsgi_app(app, path, wsgi_app)
        under_prefix = trackcore_asgi.under_prefix(app, server.prefix)
        self._app = trackcore_asgi.behind_proxies(under_prefix, server.proxies)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or follow the life of the server."""
        await self._app(scope, receive, send)


def create_app(
    configuration: Configuration | None = None,
    one_time_token: OneTimeToken | None = None,
    plans: Mapping[str, PlanInForce] | None = None,
    metrics: Metrics | None = None,
) -> ServerApp:
    """Build the WSGI app, with the debugger at `/debugger` if a token for it is configured or passed.

    Args:
        configuration: if None, it is read from the file that TRACKCORE_CONFIG names.
        one_time_token: opens the debugger once, if no token is configured.
        plans: the tracking plans of the sources, if they were read before.
        metrics: what the app counts in, if that is not of this process alone.

    Raises `ConfigurationError` if the file does not exist, or cannot be used.
    """
    return ServerApp(*_compose(configuration, one_time_token, plans, metrics or Metrics()))


def create_asgi_app(
    configuration: Configuration | None = None,
    one_time_token: OneTimeToken | None = None,
    plans: Mapping[str, PlanInForce] | None = None,
    metrics: Metrics | None = None,
) -> AsgiServerApp:
    """Build the ASGI app, as `create_app` builds the WSGI app."""
    return AsgiServerApp(*_compose(configuration, one_time_token, plans, metrics or Metrics()))


def _compose(
    configuration: Configuration | None,
    one_time_token: OneTimeToken | None,
    plans: Mapping[str, PlanInForce] | None,
    metrics: Metrics,
) -> tuple[Collector, Mapping[str, WSGIApplication], ServerSettings, ApiOptions]:
    file = None
    if configuration is None:
        file, configuration = _configuration_of_environment()
    options = read_api_options(configuration)
    backend = backend_of(configuration)
    atexit.register(backend.start_retention())
    mounted = _regulations(configuration, file)
    auth = _session_auth(configuration, one_time_token, file)
    if auth is None:
        return create_collector(configuration, plans=plans, metrics=metrics), mounted, configuration.server, options
    recording = RecordingSink(_open_sink(backend, metrics))
    collector = create_collector(configuration, recording, plans, metrics)
    rule = strictest(collector.privacy.values()).ip
    reader = _reader(configuration, backend, collector, recording)
    debugger = DebuggerApp(reader, auth, lambda address: rule.apply(address, rule.salt_at(_now())))
    return collector, {DEBUGGER_PATH: debugger, **mounted}, configuration.server, options


def _regulations(configuration: Configuration, file: Path | None) -> dict[str, WSGIApplication]:
    """Return the apps for requests about persons by their paths, if there is a token, and start to run them."""
    token = read_admin_token(configuration, file=file)
    if token is None:
        return {}
    atexit.register(start_jobs(configuration))
    app = RegulationsApp(configuration, token)
    return {REGULATIONS: app, SUPPRESSIONS: app}


def _session_auth(
    configuration: Configuration, one_time_token: OneTimeToken | None, file: Path | None
) -> SessionAuth | None:
    if token := read_debugger_token(configuration, file=file):
        return SessionAuth.for_token(token)
    return None if one_time_token is None else SessionAuth.for_one_time(one_time_token)


def _open_sink(backend: Backend, metrics: Metrics) -> ClosableSink:
    """Build the sink of the log, which is closed when the process ends."""
    sink = backend.make_sink(metrics.count_commit)
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
        EventNames(log),
        DeliveryOutcomes(configuration),
        _now,
    )


def _now() -> datetime:
    return datetime.now(UTC)


def _configuration_of_environment() -> tuple[Path, Configuration]:
    file = find_configuration_file()
    if file is None:
        detail = f"no configuration: set {CONFIG_VARIABLE} to a {CONFIG_NAME}, or start in a folder that has one"
        raise ConfigurationError(detail=detail)
    return file, load_configuration(file)
