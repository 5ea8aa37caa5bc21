"""Every server that the guide names hosts the app: an event is sent, answered and stored."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from adapter_helpers import basic
from patience import PATIENCE, wait_for
from served import Running

WSGI, ASGI = "trackcore_server:create_app()", "trackcore_server:create_asgi_app()"
FACTORY = "trackcore_server:create_asgi_app"
GUNICORN = ("gunicorn", "--no-control-socket", "--bind", "unix:socket")
HOSTS: dict[str, tuple[str, ...]] = {
    "gunicorn": (*GUNICORN, "--threads", "2", WSGI),
    "gunicorn, our threaded worker": (*GUNICORN, "--worker-class", "trackcore_server.worker.Worker", WSGI),
    "gunicorn, its former path": (*GUNICORN, "--worker-class", "trackcore_server.hosting.worker.Worker", WSGI),
    "gunicorn, our asynchronous worker": (*GUNICORN, "--worker-class", "trackcore_server.worker.AsyncWorker", ASGI),
    "gunicorn, uvicorn's worker": (*GUNICORN, "--worker-class", "uvicorn_worker.UvicornWorker", ASGI),
    "uvicorn": ("uvicorn", "--uds", "socket", "--factory", FACTORY),
    "granian, ASGI": ("granian", "--uds", "socket", "--interface", "asgi", "--factory", FACTORY),
    "granian, WSGI": (
        *("granian", "--uds", "socket", "--interface", "wsgi"),
        *("--blocking-threads", "2", "--factory", "trackcore_server:create_app"),
    ),
    "waitress": (
        "waitress",
        "--unix-socket",
        "socket",
        "--unix-socket-perms",
        "600",
        "--call",
        "trackcore_server:create_app",
    ),
}
TRACK = {"userId": "user-1", "event": "Bought"}


@pytest.fixture(params=HOSTS)
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Running]:
    """A host that listens on a local socket in the folder of the test."""
    Path("trackcore.toml").write_text('[[sources]]\nname = "website"\nwrite_keys = ["key"]\n')
    log = tmp_path / "stderr"
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", *HOSTS[request.param]],
            stdout=stderr,
            stderr=stderr,
            start_new_session=True,
            env={**os.environ, "TRACKCORE_CONFIG": "trackcore.toml"},
        )
    running = Running(process, log)
    yield running
    running.kill()


def connect(host: Running) -> socket.socket | None:
    """Connect to the host, once it listens."""
    assert host.process.poll() is None, host.stderr()
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(PATIENCE)
    with suppress(FileNotFoundError, ConnectionRefusedError):
        connection.connect("socket")
        return connection
    connection.close()
    return None


def test_an_event_is_stored(host: Running, run: Callable[..., Any], lines: Callable[[Any], list[Any]]) -> None:
    body = json.dumps(TRACK)
    head = f"POST /v1/track HTTP/1.1\r\nHost: x\r\nAuthorization: {basic('key')}\r\nConnection: close\r\n"
    with wait_for(lambda: connect(host)) as connection:
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        answer = bytearray()
        while chunk := connection.recv(65_536):
            answer += chunk
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n"), host.stderr()
    assert json.loads(answer.partition(b"\r\n\r\n")[2]) == {"success": True}
    host.terminate()
    assert [record["message"]["event"] for record in lines(run("events", "--config", "trackcore.toml"))] == ["Bought"]
    assert "Traceback" not in host.stderr()
