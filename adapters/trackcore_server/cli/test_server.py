"""`trackcore test-server`: a server for tests in any language, in memory, which can be asked what it has received."""

from __future__ import annotations

import signal
import sys
from ipaddress import ip_address
from urllib.parse import urlsplit

import attrs
import click
from trackcore_testing import TEST_SOURCES, Stored, TrackingServer, summary

from trackcore import Source
from trackcore.support import write_key_fault
from trackcore.text import visible
from trackcore_server.cli._options import FINDINGS
from trackcore_server.process.signals import StopFlag, die_of_interrupt, held_back

_STOPS = (signal.SIGTERM, signal.SIGINT)
_EXAMPLES = """\b
Examples:
  trackcore test-server --port 8090 --watch
  trackcore test-server --print-url --strict
  curl -d '{"event": "Order Completed"}' http://127.0.0.1:8090/test/wait
"""


@click.command("test-server", epilog=_EXAMPLES)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65_535), default=0, help="Port to listen on.  [default: a free one]")
@click.option(
    "--write-key",
    "write_keys",
    multiple=True,
    metavar="KEY",
    help="Write key of a source; the sources are named `test`, `test-2` and so on.  [default: test-write-key]",
)
@click.option("--print-url", is_flag=True, help="Write the address to stdout, as its first line.")
@click.option("--watch", "is_watching", is_flag=True, help="Write a line to stdout for each message.")
@click.option("--strict", "is_strict", is_flag=True, help="Exit with 1 if something was rejected.")
@click.pass_context
def test_server(
    context: click.Context,
    *,
    host: str,
    port: int,
    write_keys: tuple[str, ...],
    print_url: bool,
    is_watching: bool,
    is_strict: bool,
) -> None:
    """Serve the tracking API for tests, in memory.

    A test asks below /test/ what was received, waits for a message, or requests failures; /test/openapi.json describes
    that. SIGTERM and Ctrl-C stop the server. Anybody who reaches the address may do the same, so it listens on loopback
    unless --host names another address.

    Exit code: 0, or 1 with --strict if a message was rejected or had an unknown write key.
    """
    die_of_interrupt(context)
    for fault in filter(None, map(write_key_fault, write_keys)):
        raise click.BadParameter(fault, param_hint="--write-key")
    sources = _sources(write_keys) or TEST_SOURCES
    watch = _Lines().write if is_watching else None
    # The threads of the server keep them blocked, so a signal always interrupts the wait of this one.
    with held_back(*_STOPS):
        server = TrackingServer(host=host, port=port, sources=sources, watch=watch)
    stop = StopFlag()
    for number in _STOPS:
        signal.signal(number, lambda *_: stop.set())
    with server:
        _announce(server, print_url=print_url)
        stop.wait()
        report = server.tracking.unexpected_rejections()
    if is_strict and report:
        click.echo(report, err=True)
        sys.exit(FINDINGS)


def _sources(write_keys: tuple[str, ...]) -> list[Source]:
    names = ["test", *(f"test-{number}" for number in range(2, len(write_keys) + 1))]
    return [Source(name=name, write_keys=[key]) for name, key in zip(names, write_keys, strict=False)]


def _announce(server: TrackingServer, *, print_url: bool) -> None:
    if print_url:
        click.echo(server.url)
        sys.stdout.flush()
    click.echo(f"Listening on {server.url}", err=True)
    for source, key in server.tracking.write_keys.items():
        click.echo(f"Write key of {source}: {key}", err=True)
    if not ip_address(urlsplit(server.url).hostname or "").is_loopback:
        click.echo("WARNING: anybody who reaches this address can read and delete the messages", err=True)


@attrs.define
class _Lines:
    """Writes a line for each message, until nobody reads them any more."""

    _is_read: bool = attrs.field(init=False, default=True)

    def write(self, stored: Stored) -> None:
        if not self._is_read:
            return
        lines = [summary(one.message) for one in stored.messages]
        lines += [f"rejected  {record.code}: {record.message}" for record in stored.rejected]
        lines += ["unknown write key" for _ in stored.quarantined]
        try:
            for line in lines:
                click.echo(visible(line))
            sys.stdout.flush()
        except BrokenPipeError:
            self._is_read = False
