"""`trackcore serve`: gunicorn, in this process, with the app made anew in each worker."""

from __future__ import annotations

import ctypes
import os
import shlex
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import attrs
import click
from gunicorn.app.base import BaseApplication
from trackcore_debugger import OneTimeToken
from trackcore_delivery import visible

from trackcore import Cause, SinkUnavailable, TrackcoreError
from trackcore.credentials import write_key_fault
from trackcore_server.app import DEBUGGER_PATH, ServerApp, create_app, create_collector
from trackcore_server.cli._options import Failure, location_options, read_bind
from trackcore_server.config.configuration import Configuration, ServerSettings, check_configuration
from trackcore_server.config.debugger_token import read_debugger_token
from trackcore_server.config.deployment import Deployment, create_configuration, find_deployment, with_write_keys
from trackcore_server.config.units import parse_bind
from trackcore_server.delivery.service import check_destinations
from trackcore_server.hosting.exposure import find_exposed
from trackcore_server.hosting.supervisor import DeliveringArbiter, DeliveryProcess
from trackcore_server.process.signals import die_of_interrupt
from trackcore_server.process.stderr_log import log_to_stderr
from trackcore_server.storage.backends import backend_of

GRACEFUL_SECONDS = 10
"""How long requests in progress may take to finish once the server is told to stop."""

KEEPALIVE_SECONDS = 75
"""How long an idle connection stays open: longer than the 60 seconds of the usual proxy, which closes its own first."""

SILENCE_SECONDS = 60
"""After this long without a sign of life a worker is replaced.  Slow requests do not matter: threads serve those."""

REQUEST_LINE_BYTES = 8_190
"""The most that gunicorn can be told.  A pixel carries its message in the address."""

HEADERS = 100
HEADER_BYTES = 8_190
"""How many headers a request may have, and how large each may be."""

CONNECTIONS = 1_000
"""Connections that a worker keeps open at once, most of them idle; more wait in the backlog of the system."""

_EXAMPLES = """\b
Examples:
  trackcore serve
  trackcore serve --bind 0.0.0.0:8080 --data /var/lib/trackcore
  trackcore serve --config /etc/trackcore.toml --workers 4
  trackcore serve --write-key test-key
"""
_ARENAS_OPTION, _ARENAS = -8, 2
"""M_ARENA_MAX of glibc's mallopt.  By default each thread gets a heap of its own, which keeps what the largest request
ever needed; two for all take a quarter less memory, and no time that could be measured."""

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - gunicorn makes its own file there, safely


@click.command(epilog=_EXAMPLES, short_help="Receive messages over HTTP.")
@location_options
@click.option(
    "--bind", callback=read_bind, metavar="HOST:PORT", help="Address to listen on.  [default: 127.0.0.1:8080]"
)
@click.option(
    "--write-key",
    "write_keys",
    multiple=True,
    metavar="KEY",
    help="Declare a source with this write key for this run, beside those of the configuration: `default`, then "
    "`default-2` and so on. With one, no configuration file is needed and none is made. Can be repeated.",
)
@click.option("--workers", type=click.IntRange(min=1), metavar="N", help="Processes.  [default: 1]")
@click.option("--threads", type=click.IntRange(min=1), metavar="N", help="Threads of each process.  [default: 16]")
@click.option("--deliver/--no-deliver", default=True, help="Deliver to destinations as well.  [default: yes]")
@click.pass_context
def serve(
    context: click.Context,
    *,
    config: Path | None,
    data: Path | None,
    bind: str | None,
    write_keys: tuple[str, ...],
    workers: int | None,
    threads: int | None,
    deliver: bool,
) -> None:
    """Serve the tracking API, and keep what comes in the log.

    Messages are delivered, by one process more, to the destinations that have a `kind`.

    Without a configuration it makes the data folder and in it a trackcore.toml with one source and a random write
    key, which the next start uses again. What the command line says wins over the configuration. SIGTERM and Ctrl-C
    stop the server once the requests in progress are answered, with exit code 0; SIGHUP reads the configuration again.
    `prefix` under `[server]` serves everything below a path such as /endpoint as well.
    """
    die_of_interrupt(context)
    for fault in filter(None, map(write_key_fault, write_keys)):
        raise click.BadParameter(fault, param_hint="--write-key")
    given = {"bind": bind, "workers": workers, "threads": threads}
    overrides = {name: value for name, value in given.items() if value is not None}

    def find() -> Deployment:
        deployment = find_deployment(config=config, data=data)
        if deployment.file is None and not write_keys:
            deployment = create_configuration(deployment.folder)
        return _with_command_line(deployment, write_keys, overrides)

    deployment = find()
    _check_log(deployment.configuration)
    read_debugger_token(deployment.configuration, file=deployment.file)
    if deliver:
        check_destinations(deployment.configuration, deployment.file)
    if "GUNICORN_FD" not in os.environ:  # set when a running server hands its socket to this one (SIGUSR2)
        _check_free(deployment.configuration.server.bind)
    _tell_start(deployment, deliver=deliver)
    for sentence in find_exposed(deployment.configuration, deployment.file):
        click.echo(f"WARNING: {sentence}", err=True)
    log_to_stderr()
    example_key = deployment.configuration.sources[-1].write_keys[0] if deployment.is_own or write_keys else None
    _share_arenas()
    one_time_token = OneTimeToken() if _is_private(deployment) else None
    _Server(
        deployment.configuration,
        find,
        example_key,
        one_time_token=one_time_token,
        deliver=deliver,
    ).run()


class _Server(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    """Gunicorn's application: it holds the configuration, and workers inherit it when they are forked."""

    def __init__(
        self,
        configuration: Configuration,
        read_again: Callable[[], Deployment],
        example_key: str | None,
        *,
        one_time_token: OneTimeToken | None,
        deliver: bool,
    ) -> None:
        self._configuration = configuration
        self._read_again = read_again
        self._example_key = example_key
        self._one_time_token = one_time_token
        self._deliver = deliver
        super().__init__(prog="trackcore")

    def load_config(self) -> None:
        settings = {
            **_gunicorn_settings(self._configuration.server),
            "when_ready": self._tell_ready,
            "post_fork": _let_go,
        }
        for name, value in settings.items():
            self.cfg.set(name, value)

    def load(self) -> ServerApp:
        return create_app(self._configuration, self._one_time_token)

    def run(self) -> None:
        DeliveringArbiter(self).run()

    def make_delivery_process(self) -> DeliveryProcess | None:
        """Give the process that delivers, not yet started; None when there is nothing to deliver."""
        if not self._deliver or not self._configuration.delivered:
            return None
        return DeliveryProcess(self._configuration)

    def reload(self) -> None:
        """Read the configuration again; one that cannot be used changes nothing."""
        try:
            deployment = self._read_again()
            configuration = deployment.configuration
            create_collector(configuration)
            read_debugger_token(configuration, file=deployment.file)
            if self._deliver:
                check_destinations(configuration, deployment.file)
        except TrackcoreError as error:
            click.echo(f"The configuration stays as it was: {visible(str(error))}", err=True)
        else:
            self._configuration = configuration
        super().reload()

    def _tell_ready(self, arbiter: Any) -> None:
        host, port = arbiter.LISTENERS[0].sock.getsockname()[:2]
        url = f"http://{_reachable(host)}:{port}{self._configuration.server.prefix}"
        click.echo(f"Listening on {url}", err=True)
        if not _is_loopback(host):
            click.echo("Others can reach this address, in plain HTTP: put a proxy with TLS in front of it.", err=True)
        self._tell_debugger(f"{url}{DEBUGGER_PATH}/")
        key = "YOUR_WRITE_KEY" if self._example_key is None else self._example_key
        click.echo(f"Try:\n  {_curl(url, key)}", err=True)

    def _tell_debugger(self, url: str) -> None:
        if self._configuration.debugger.token is not None:
            click.echo(f"Debugger: {url} (with the configured token)", err=True)
        elif self._one_time_token is not None:
            click.echo(f"Debugger: {url}#{self._one_time_token.text} (opens once)", err=True)


def _let_go(arbiter: DeliveringArbiter, _: object) -> None:
    arbiter.let_go()


def _with_command_line(
    deployment: Deployment, write_keys: Sequence[str], overrides: dict[str, str | int]
) -> Deployment:
    configuration = with_write_keys(deployment.configuration, write_keys)
    server: ServerSettings = attrs.evolve(configuration.server, **overrides)  # type: ignore[arg-type]
    configuration = attrs.evolve(configuration, server=server)
    check_configuration(configuration)
    return attrs.evolve(deployment, configuration=configuration)


def _is_private(deployment: Deployment) -> bool:
    """Tell whether nobody configured anything, nor can reach the server from elsewhere: then a link may open all."""
    host, _ = parse_bind(deployment.configuration.server.bind)
    return deployment.is_own and deployment.configuration.debugger.token is None and _is_loopback_name(host)


def _share_arenas() -> None:
    """Let the threads of each worker share their heaps, where the C library knows how."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_ARENAS_OPTION, _ARENAS)


def _gunicorn_settings(server: ServerSettings) -> dict[str, object]:
    return {
        "bind": server.bind,
        "workers": server.workers,
        "threads": server.threads,
        "worker_class": "trackcore_server.hosting.worker.Worker",
        "worker_tmp_dir": str(_SHARED_MEMORY) if os.access(_SHARED_MEMORY, os.W_OK) else None,
        "preload_app": False,
        "timeout": SILENCE_SECONDS,
        "graceful_timeout": GRACEFUL_SECONDS,
        "keepalive": KEEPALIVE_SECONDS,
        "limit_request_line": REQUEST_LINE_BYTES,
        "limit_request_fields": HEADERS,
        "limit_request_field_size": HEADER_BYTES,
        "worker_connections": CONNECTIONS,
        "forwarded_allow_ips": "",  # the app decides whom to believe, by `proxy_hops`; gunicorn would believe loopback
        "accesslog": None,
        "errorlog": "-",
        "loglevel": "warning",
        "logger_class": "trackcore_server.process.stderr_log.GunicornLogger",
        "proc_name": "trackcore",
        "control_socket_disable": True,
    }


def _check_log(configuration: Configuration) -> None:
    """Open and write the log once, so that a wrong path is told now and not to the first client.

    A full disk is no reason not to start: the server says so to its clients, and recovers by itself.
    """
    create_collector(configuration)
    backend = backend_of(configuration)
    backend.prepare()
    sink = backend.make_sink()
    location = configuration.log.location
    try:
        sink.check_ready()
    except SinkUnavailable as error:
        if error.cause is not Cause.FULL:
            raise Failure(f"{location}: {error}") from error
        click.echo(f"{location}: {error}; nothing can be stored until there is room", err=True)
    finally:
        sink.close()  # neither SQLite nor Kafka can be taken along into the workers
    backend.examine_positions()


def _check_free(bind: str) -> None:
    """Fail at once where gunicorn would try for five seconds."""
    host, port = parse_bind(bind)
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        raise Failure(f"cannot listen on {bind}: {error.strerror}") from error


def _tell_start(deployment: Deployment, *, deliver: bool) -> None:
    configuration = deployment.configuration
    click.echo(f"Configuration: {deployment.file or 'the command line'}", err=True)
    click.echo(f"Log: {configuration.log.location}", err=True)
    click.echo(f"Sources: {', '.join(source.name for source in configuration.sources)}", err=True)
    if deliver and configuration.delivered:
        names = ", ".join(f"{item.name} ({item.kind})" for item in configuration.delivered)
        click.echo(f"Delivering to: {names}", err=True)


def _reachable(host: str) -> str:
    """Give the address by which this machine reaches a server that listens on `host`."""
    address = ip_address(host)
    if address.is_unspecified:
        return "localhost"
    return f"[{host}]" if address.version == 6 else host  # noqa: PLR2004 - IPv6


def _is_loopback_name(host: str) -> bool:
    return host == "localhost" or (_is_address(host) and _is_loopback(host))


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    return ip_address(host).is_loopback


def _curl(url: str, key: str) -> str:
    message = '{"userId": "user-1", "event": "Signed Up", "properties": {"plan": "Pro"}}'
    return f"curl -u {shlex.quote(key + ':')} -H 'Content-Type: application/json' -d '{message}' {url}/v1/track"
