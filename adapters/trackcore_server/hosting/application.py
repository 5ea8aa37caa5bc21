"""gunicorn's application for `trackcore serve`: the server in this process, with a new app in each worker."""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from gunicorn.app.base import BaseApplication
from trackcore_debugger import OneTimeToken

from trackcore import Metrics, TrackcoreError
from trackcore_server.app import DEBUGGER_PATH, AsgiServerApp, create_asgi_app, create_collector
from trackcore_server.config.api_options import read_api_options
from trackcore_server.config.configuration import contents_of
from trackcore_server.config.debugger_token import read_debugger_token
from trackcore_server.config.deployment import Deployment
from trackcore_server.config.plan_files import load_plans
from trackcore_server.config.privacy_rules import read_admin_token
from trackcore_server.config.server import ServerSettings
from trackcore_server.config.units import parse_bind
from trackcore_server.delivery.service import check_destinations
from trackcore_server.hosting.metrics_segments import MetricsSegments
from trackcore_server.hosting.other_servers import ServerLock
from trackcore_server.hosting.supervisor import ChildProcess, SupervisingArbiter
from trackcore_server.process.stderr_log import log_to_stderr

log = logging.getLogger("trackcore.server")

DELIVERY, METRICS = "trackcore_server.delivery.child", "trackcore_server.monitoring.child"
"""The modules of the other processes."""

SOCKETS_VARIABLE = "GUNICORN_FD"
"""Set when a running server passes its sockets to a new one (SIGUSR2)."""

GRACEFUL_SECONDS = 10
"""How long requests in progress may take to finish once the server is stopping."""

KEEPALIVE_SECONDS = 75
"""How long an idle connection stays open: longer than the 60 seconds of the usual proxy, which closes its own first."""

SILENCE_SECONDS = 60
"""A worker without a heartbeat for this many seconds is replaced: something blocks its loop."""

REQUEST_LINE_BYTES = 8_190
"""The largest value that gunicorn accepts.  A pixel carries its message in the address."""

HEADERS = 100
HEADER_BYTES = 8_190
"""The number of headers of a request, and the size of each, at most."""

CONNECTIONS = 4_000
"""Connections that a worker keeps open at once, most of them idle; more wait in the system's backlog."""

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - gunicorn makes its own file there, safely


class ServerApplication(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    """Gunicorn's application.  It has the configuration, which workers inherit when they are forked."""

    _metrics: Metrics | None = None
    """In a worker: what it counts in, if that is exported."""

    def __init__(
        self, deployment: Deployment, find_again: Callable[[], Deployment], example_key: str | None, *, deliver: bool
    ) -> None:
        self._configuration = deployment.configuration
        self._plans = load_plans(deployment.configuration)  # so that a new worker gets the plans in force
        self._find_again = find_again
        self._example_key = example_key
        self._one_time_token = OneTimeToken() if _is_private(deployment) else None
        self._deliver = deliver
        self._server_lock = ServerLock()
        self._segments = MetricsSegments()
        super().__init__(prog="trackcore")

    def load_config(self) -> None:
        """Set the settings of gunicorn."""
        for name, value in _gunicorn_settings(self._configuration.server).items():
            self.cfg.set(name, value)
        self.cfg.set("when_ready", self._show_ready)
        self.cfg.set("pre_fork", self._before_fork)
        self.cfg.set("post_fork", self._in_worker)
        self.cfg.set("child_exit", lambda _, worker: self._segments.free(worker))

    def load(self) -> AsgiServerApp:
        """Build the app of one worker."""
        return create_asgi_app(self._configuration, self._one_time_token, self._plans, self._metrics)

    def run(self) -> None:
        """Serve until a signal stops the server."""
        if SOCKETS_VARIABLE not in os.environ:  # else the server that starts this one still holds the lock
            self._server_lock.hold(self._configuration)
        SupervisingArbiter(self).run()

    def make_children(self) -> dict[str, ChildProcess]:
        """Make the other processes of the configuration, not yet started."""
        configuration, children = self._configuration, {}
        memory = self._segments.memory if configuration.metrics.bind is not None else None
        descriptors = () if memory is None else (memory.descriptor,)
        if self._deliver and configuration.delivered:
            order = (configuration, memory)
            children["Delivery"] = ChildProcess("Delivery", DELIVERY, order, descriptors)
        if memory is not None:
            children["Metrics"] = ChildProcess("Metrics", METRICS, (configuration, memory), descriptors)
        return children

    def reload(self) -> None:
        """Reload the configuration; an invalid one changes nothing."""
        try:
            deployment = self._find_again()
            configuration = deployment.configuration
            plans = load_plans(configuration)
            create_collector(configuration, plans=plans)
            read_api_options(configuration)
            read_debugger_token(configuration, file=deployment.file)
            read_admin_token(configuration, file=deployment.file)
            if self._deliver:
                check_destinations(configuration, deployment.file)
        except TrackcoreError as error:
            log.warning("Keeping the previous configuration: %s", "; ".join(str(error).splitlines()))
        else:
            self._configuration, self._plans = configuration, plans
            log_to_stderr(configuration.server.log, configuration.server.log_level)
            log.info("Configuration read again: %s", contents_of(configuration))
            self._server_lock.hold(configuration)
        super().reload()

    def _before_fork(self, _: Any, worker: Any) -> None:
        if self._configuration.metrics.bind is not None:
            self._segments.take(worker)

    def _in_worker(self, arbiter: Any, worker: Any) -> None:
        arbiter.release_children()
        self._metrics = self._segments.metrics_of(worker)

    def _show_ready(self, arbiter: Any) -> None:
        host, port = arbiter.LISTENERS[0].sock.getsockname()[:2]
        url = f"http://{_reachable(host)}:{port}{self._configuration.server.prefix}"
        log.info("Listening on %s", url)
        if not _is_loopback(host):
            log.warning("Listening on a public address over plain HTTP; put a TLS proxy in front.")
        if self._configuration.debugger.token is not None:
            log.info("Debugger: %s%s/ (sign in with the configured token)", url, DEBUGGER_PATH)
        elif self._one_time_token is not None:
            log.info("Debugger: %s%s/#%s (opens once)", url, DEBUGGER_PATH, self._one_time_token.text)
        user = shlex.quote(f"{self._example_key or 'YOUR_WRITE_KEY'}:")
        message = '{"userId": "user-1", "event": "Signed Up", "properties": {"plan": "Pro"}}'
        curl = f"curl -u {user} -H 'Content-Type: application/json' -d '{message}' {url}/v1/track"
        log.info("Try: %s", curl)


def _is_private(deployment: Deployment) -> bool:
    """Return whether nothing is configured and only this machine reaches the server: then a link may sign in."""
    configuration = deployment.configuration
    has_no_token = configuration.log.has_debugger and configuration.debugger.token is None
    return deployment.is_own and has_no_token and _is_loopback(parse_bind(configuration.server.bind)[0])


def _gunicorn_settings(server: ServerSettings) -> dict[str, object]:
    return {
        "bind": server.bind,
        "workers": server.workers,
        "worker_class": "trackcore_server.hosting.async_worker.AsyncWorker",
        "worker_tmp_dir": str(_SHARED_MEMORY) if os.access(_SHARED_MEMORY, os.W_OK) else None,
        "preload_app": False,
        "timeout": SILENCE_SECONDS,
        "graceful_timeout": GRACEFUL_SECONDS,
        "keepalive": KEEPALIVE_SECONDS,
        "limit_request_line": REQUEST_LINE_BYTES,
        "limit_request_fields": HEADERS,
        "limit_request_field_size": HEADER_BYTES,
        "worker_connections": CONNECTIONS,
        "forwarded_allow_ips": "",  # the app trusts proxies by `proxy_hops`; gunicorn would trust loopback
        "accesslog": None,
        "errorlog": "-",
        "loglevel": "error" if server.log_level == "error" else "warning",
        "logger_class": "trackcore_server.process.stderr_log.GunicornLogger",
        "proc_name": "trackcore",
        "control_socket_disable": True,
    }


def _reachable(host: str) -> str:
    """Return the address by which this machine reaches a server that listens on `host`."""
    address = ip_address(host)
    if address.is_unspecified:
        return "localhost"
    return f"[{host}]" if address.version == 6 else host  # noqa: PLR2004 - IPv6


def _is_loopback(host: str) -> bool:
    """Return whether only this machine reaches a host, which is an address or a name."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
