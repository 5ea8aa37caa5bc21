"""`trackcore serve`: the tracking API over HTTP."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import attrs
import click

from trackcore import Cause, SinkUnavailable, TrackcoreError
from trackcore.support import write_key_fault
from trackcore_server.app import create_collector
from trackcore_server.cli._delivery import log_delivered
from trackcore_server.cli._options import UNUSABLE, Failure, location_options, parsed_by
from trackcore_server.config.api_options import read_api_options
from trackcore_server.config.configuration import Configuration, check_configuration
from trackcore_server.config.debugger_token import read_debugger_token
from trackcore_server.config.deployment import Deployment, create_configuration, find_deployment, with_write_keys
from trackcore_server.config.server import ServerSettings
from trackcore_server.config.units import parse_bind
from trackcore_server.delivery.service import check_destinations
from trackcore_server.hosting.application import SOCKETS_VARIABLE, ServerApplication
from trackcore_server.hosting.exposure import find_exposed
from trackcore_server.process.signals import die_of_interrupt
from trackcore_server.process.stderr_log import log_to_stderr
from trackcore_server.storage.backends import backend_of

log = logging.getLogger("trackcore.server")

_EXAMPLES = """\b
Examples:
  trackcore serve
  trackcore serve --bind 0.0.0.0:8080 --data /var/lib/trackcore
  trackcore serve --config /etc/trackcore.toml --data /var/lib/trackcore
  trackcore serve --workers 4
  trackcore serve --write-key test-key
"""

_NO_THREADS = "the setting `threads` has no effect any more, since one loop serves all requests of a worker; remove it"


@click.command(epilog=_EXAMPLES)
@location_options
@click.option(
    "--bind",
    callback=parsed_by(lambda text: parse_bind(text) and text),
    metavar="HOST:PORT",
    help="Address to listen on.  [default: 127.0.0.1:8080]",
)
@click.option(
    "--write-key",
    "write_keys",
    multiple=True,
    metavar="KEY",
    help="Add a source with this write key for this run, named `default`, then `default-2` and so on. "
    "With this option, a missing configuration file is not created. Can be repeated.",
)
@click.option("--workers", type=click.IntRange(min=1), metavar="N", help="Worker processes.  [default: 1]")
@click.option("--threads", type=click.IntRange(min=1), metavar="N", hidden=True)
@click.option("--deliver/--no-deliver", default=True, help="Also deliver to destinations.  [default: yes]")
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
    """Serve the tracking API and store messages in the log.

    Another process delivers the messages to the destinations that have a `kind`.

    Without a configuration, it creates the data folder and a trackcore.toml in it, with one source and a random write
    key; the next start uses them again. The command line overrides the configuration. SIGTERM and Ctrl-C stop the
    server once the requests in progress are answered, with exit code 0; SIGHUP reloads the configuration. With `prefix`
    under `[server]`, it also serves everything below a path such as /endpoint.
    """
    die_of_interrupt(context)
    if data is not None and data.is_file():
        raise click.BadParameter(f"{data} is a file; expected a folder", param_hint="--data")
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
    server = deployment.configuration.server
    log_to_stderr(server.log, server.log_level)
    with _failure_logged():
        _check_start(deployment, deliver=deliver)
    _log_start(deployment, deliver=deliver)
    example_key = deployment.configuration.sources[-1].write_keys[0] if deployment.is_own or write_keys else None
    ServerApplication(deployment, find, example_key, deliver=deliver).run()


@contextmanager
def _failure_logged() -> Iterator[None]:
    """End the process if the server cannot start; the reason is a line of the log, in its form."""
    try:
        yield
    except click.ClickException as failure:
        log.critical("Cannot start: %s", _in_a_line(failure.message))
        sys.exit(UNUSABLE)
    except (TrackcoreError, OSError) as failure:
        log.critical("Cannot start: %s", _in_a_line(str(failure)))
        sys.exit(UNUSABLE)


def _in_a_line(text: str) -> str:
    return "; ".join(text.splitlines())


def _check_start(deployment: Deployment, *, deliver: bool) -> None:
    _check_log(deployment.configuration)
    read_api_options(deployment.configuration)
    read_debugger_token(deployment.configuration, file=deployment.file)
    if deliver:
        check_destinations(deployment.configuration, deployment.file)
    if SOCKETS_VARIABLE not in os.environ:
        _check_free(deployment.configuration.server.bind)
        if deployment.configuration.metrics.bind is not None:
            _check_free(deployment.configuration.metrics.bind)


def _with_command_line(
    deployment: Deployment, write_keys: Sequence[str], overrides: dict[str, str | int]
) -> Deployment:
    configuration = with_write_keys(deployment.configuration, write_keys)
    server: ServerSettings = attrs.evolve(configuration.server, **overrides)  # type: ignore[arg-type]
    configuration = attrs.evolve(configuration, server=server)
    check_configuration(configuration)
    return attrs.evolve(deployment, configuration=configuration)


def _check_log(configuration: Configuration) -> None:
    """Open and write the log once, so that a wrong path is reported now and not to the first client.

    A full disk does not prevent the start: the server answers that it cannot store, and recovers by itself.
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
        log.warning("%s: %s; nothing can be stored until space is free", location, error)
    finally:
        sink.close()  # the workers must not inherit a connection of SQLite or Kafka
    backend.examine_positions()


def _check_free(bind: str) -> None:
    """Raise at once if the address is in use; gunicorn would retry for five seconds."""
    host, port = parse_bind(bind)
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        raise Failure(f"cannot listen on {bind}: {error.strerror}") from error


def _log_start(deployment: Deployment, *, deliver: bool) -> None:
    configuration = deployment.configuration
    log.info("Starting trackcore %s", version("trackcore"))
    log.info("Configuration: %s", deployment.file or "the command line")
    log.info("Log: %s", configuration.log.location)
    log.info("Sources: %s", ", ".join(source.name for source in configuration.sources))
    if deliver and configuration.delivered:
        log_delivered(configuration)
    for sentence in find_exposed(configuration, deployment.file):
        log.warning("%s", sentence)
    if configuration.server.threads is not None:
        log.warning("%s", _NO_THREADS)
