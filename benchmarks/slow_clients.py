"""Silent and slow clients: how long an honest client waits beside them.

A third of them connects and sends nothing, a third sends a byte of its headers each second, a third a byte of its body.
When the server ends such a connection, another takes its place.  Meanwhile an honest client sends single messages, over
a connection that it keeps and over a new one in turn: a server may be busy with its threads, or not accept connections.

    python benchmarks/slow_clients.py --against previous=../previous/.venv/bin
"""

from __future__ import annotations

import resource
import socket
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import attrs
import click
from corpus import KEY, make_singles
from servers import CURRENT, LOCALHOST, Trackcore, against_option
from tables import Goal, Report, middle

MOST_WAIT_SECONDS = 1.0

_HEADERS = b"POST /v1/track HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 30000\r\n"
_BEGINNINGS = (b"", _HEADERS, _HEADERS + b"\r\n")
"""The first bytes of each kind: of a silent client, of one slow with its headers, of one slow with its body."""
_PATIENCE_SECONDS = 30.0
_SPARE_FILES = 200
_LONGEST = "longest wait"
_CREDENTIALS = "Basic " + b64encode(f"{KEY}:".encode()).decode()


@click.command()
@against_option
@click.option("--workers", default=1, show_default=True, metavar="N", help="Worker processes of each server.")
@click.option("--slow", default=1_000, show_default=True, metavar="N", help="Slow connections held open.")
@click.option("--seconds", default=30.0, show_default=True, metavar="S", help="How long, for each server.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def main(*, against: list[Trackcore], workers: int, slow: int, seconds: float, as_json: bool) -> None:
    """Measure the waits of an honest client beside silent and slow ones."""
    _allow_files(slow + _SPARE_FILES)
    servers = [attrs.evolve(server, options=("--workers", str(workers))) for server in (*against, CURRENT)]
    rows = [_measure(server, slow, seconds) for server in servers]
    longest = max(rows[-1][column] for column in rows[-1] if column.startswith(_LONGEST))
    Report(
        title=f"An honest client beside {slow:,} slow ones",
        rows=rows,
        goals=[
            Goal(name="longest wait", measured=longest, bound=MOST_WAIT_SECONDS, at_most=True, unit=" s"),
            Goal(name="requests without an answer of 200", measured=rows[-1]["failed"], bound=0, at_most=True),
        ],
        settings={"workers": workers, "seconds": seconds},
    ).tell(as_json=as_json)


def _allow_files(count: int) -> None:
    """Raise the limit of open files, which the servers inherit."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(count, min(most, 65_536)), most))


def _measure(server: Trackcore, slow: int, seconds: float) -> dict[str, Any]:
    click.echo(server.name, err=True)
    with TemporaryDirectory(prefix="trackcore-bench-") as name, server.serve(Path(name)) as running:
        crowd = _SlowClients(running.address[1], slow)
        with crowd.connected():
            kept, new, failed = _honest_waits(running.address[1], seconds)
    return {
        "server": server.name,
        "requests": len(kept) + len(new),
        "failed": failed,
        "median ms": 1e3 * middle(kept + new),
        f"{_LONGEST} on a kept connection, s": max(kept),
        f"{_LONGEST} on a new connection, s": max(new),
        "slow connections replaced": crowd.replaced,
    }


def _honest_waits(port: int, seconds: float) -> tuple[list[float], list[float], int]:
    """Return the waits in seconds over a kept connection and over new ones, and how many requests failed."""
    kept_open = HTTPConnection(LOCALHOST, port, timeout=_PATIENCE_SECONDS)
    waits: tuple[list[float], list[float]] = ([], [])
    failed = 0
    until = time.monotonic() + seconds
    for number, (call, body) in enumerate(cycle(make_singles(500, message_ids=False))):
        is_new = number % 2
        connection = HTTPConnection(LOCALHOST, port, timeout=_PATIENCE_SECONDS) if is_new else kept_open
        started = time.monotonic()
        failed += not _is_answered(connection, f"/v1/{call}", body)
        waits[is_new].append(time.monotonic() - started)
        if is_new:
            connection.close()
            if time.monotonic() > until:
                break
    kept_open.close()
    return *waits, failed


def _is_answered(connection: HTTPConnection, path: str, body: bytes) -> bool:
    try:
        connection.request("POST", path, body, {"Content-Type": "application/json", "Authorization": _CREDENTIALS})
        response = connection.getresponse()
        response.read()
    except (OSError, HTTPException):
        connection.close()
        return False
    return response.status == HTTPStatus.OK


class _SlowClients:
    """Connections that send a byte a second, or nothing."""

    def __init__(self, port: int, count: int) -> None:
        self.replaced = 0
        self._port = port
        self._count = count

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Keep all of them open during the block, in another thread."""
        connections = [self._open(number) for number in range(self._count)]
        is_over = threading.Event()
        thread = threading.Thread(target=self._go_on, args=(connections, is_over))
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()
            for connection in connections:
                connection.close()

    def _go_on(self, connections: list[socket.socket], is_over: threading.Event) -> None:
        while not is_over.wait(1.0):
            for number, connection in enumerate(connections):
                if not self._send_byte(connection, number):
                    connection.close()
                    connections[number] = self._open(number)
                    self.replaced += 1

    def _open(self, number: int) -> socket.socket:
        """Connect without waiting: if the server does not accept it, this is a silent client."""
        connection = socket.socket()
        connection.settimeout(0)
        connection.connect_ex((LOCALHOST, self._port))
        with suppress(OSError):
            connection.send(_beginning(number))
        return connection

    def _send_byte(self, connection: socket.socket, number: int) -> bool:
        """Send the next byte, and return whether the connection is still open: without an answer or an end."""
        try:
            connection.recv(1)
        except BlockingIOError:
            with suppress(BlockingIOError):
                connection.send(b"x" if _beginning(number) else b"")
            return True
        except OSError:
            pass
        return False


def _beginning(number: int) -> bytes:
    return _BEGINNINGS[number % len(_BEGINNINGS)]


if __name__ == "__main__":
    main()
