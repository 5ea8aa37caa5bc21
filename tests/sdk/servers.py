"""Servers on loopback for the tests: a trackcore server with its log, and a site of another origin."""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import attrs
from patience import PATIENCE
from sdk.serving import DELAY, OUTAGE, REQUESTS
from trackcore_sqlite import SqliteLog

from trackcore import JSONObject

WRITE_KEY = "SdkMatrixWriteKey0123456789"
STRICT_WRITE_KEY = "SdkMatrixStrictKey987654321"
DESTINATIONS = ("Mixpanel", "KISSmetrics", "Google Analytics")

_WORKERS = "2"
_SERVE = (sys.executable, "-m", "sdk.serving", "serve")
_GUNICORN = (sys.executable, "-m", "gunicorn", "sdk.serving:application()", "--log-level", "warning")
_TLS_WORKER = "uvicorn_worker.UvicornWorker"
_ANNOUNCED = re.compile(r"(?<=Listening on )http://\S+")
_POLL_SECONDS = 0.01
_TESTS = Path(__file__).parent.parent

CONFIGURATION = f"""
[[sources]]
name = "live"
write_keys = ["{WRITE_KEY}"]

[[sources]]
name = "strict"
write_keys = ["{STRICT_WRITE_KEY}"]
strict = true

[log]
path = "log.db"
""" + "".join(f'\n[[destinations]]\nname = "{name}"\n' for name in DESTINATIONS)


class NeverHappened(AssertionError):
    """A condition that a test waited for did not become true in time."""


@attrs.frozen(kw_only=True)
class RecordedRequest:
    """A request that the server received, and the status of its response."""

    method: str
    path: str
    at: float
    status: int
    message_ids: tuple[str, ...] = attrs.field(converter=tuple[str, ...])
    origin: str | None
    user_agent: str | None
    authorization: str | None
    content_type: str | None
    content_encoding: str | None
    retry_count: str | None
    asked_headers: str | None
    retry_after: str | None


@attrs.frozen(kw_only=True)
class Server:
    """A running server: its address, its log, and the requests that it received."""

    url: str
    folder: Path

    @property
    def log(self) -> SqliteLog:
        """The log that it writes."""
        return SqliteLog(self.folder / "log.db")

    def requests(self) -> list[RecordedRequest]:
        """Return all requests so far, in the order of their responses."""
        file = self.folder / REQUESTS
        lines = file.read_text().splitlines() if file.exists() else []
        return [RecordedRequest(**json.loads(line)) for line in lines]

    def posts(self) -> list[RecordedRequest]:
        """Return all requests with messages."""
        return [request for request in self.requests() if request.method == "POST"]

    def events(self) -> list[str]:
        """Return the types of the messages that `trackcore events` lists."""
        command = (sys.executable, "-m", "trackcore_server.cli", "events", "--format", "jsonl")
        done = subprocess.run(
            (*command, "--config", str(self.folder / "trackcore.toml")), capture_output=True, check=True
        )
        return [json.loads(line)["message"]["type"] for line in done.stdout.splitlines()]

    def begin_outage(self, cause: str, retry_after: int) -> None:
        """Make the sink reject everything from now on."""
        part = self.folder / "outage.part"
        part.write_text(json.dumps({"cause": cause, "retry_after": retry_after}))
        part.rename(self.folder / OUTAGE)

    def end_outage(self) -> None:
        """Make the sink store again."""
        (self.folder / OUTAGE).unlink()

    def delay_requests(self, seconds: float) -> None:
        """Delay every request from now on, as a slow network would."""
        (self.folder / DELAY).write_text(json.dumps(seconds))

    def count_messages(self) -> int:
        """Count the messages in the log."""
        return self.log.totals().messages


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait until a condition holds.  Raises `NeverHappened`."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise NeverHappened(f"{what} did not happen within {PATIENCE:g} seconds")
        time.sleep(_POLL_SECONDS)


@contextmanager
def run_server(folder: Path, *, tls: bool = False, text: str = CONFIGURATION) -> Iterator[Server]:
    """Run a recorded server on a free port of 127.0.0.1, with its configuration, the `text`, and its log in a folder.

    It is `trackcore serve`; with `tls`, for which that has no option, it is the same app in a separate gunicorn.
    """
    configuration = folder / "trackcore.toml"
    configuration.write_text(text)
    environment = {**os.environ, "TRACKCORE_CONFIG": str(configuration), "PYTHONPATH": str(_TESTS)}
    if not tls:
        options = ("--config", str(configuration), "--bind", "127.0.0.1:0", "--workers", _WORKERS)
        with _running((*_SERVE, *options), environment, folder / "server.txt") as process:
            yield _await_server(folder, process, _ANNOUNCED.search)
        return
    # The socket listens before gunicorn starts, so the port is known and cannot be taken.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        bound = ("--bind", f"fd://{listener.fileno()}", "--workers", _WORKERS, "--worker-class", _TLS_WORKER)
        with _running(
            (*_GUNICORN, *bound, *_make_certificate(folder)), environment, folder / "server.txt", listener.fileno()
        ) as process:
            yield _await_server(folder, process, lambda _: re.search(".*", url))


@contextmanager
def _running(
    command: Sequence[str], environment: Mapping[str, str], output: Path, *descriptors: int
) -> Iterator[subprocess.Popen[bytes]]:
    with (
        output.open("wb") as stream,
        subprocess.Popen(
            command, env=environment, pass_fds=descriptors, stdout=stream, stderr=subprocess.STDOUT
        ) as process,
    ):
        try:
            yield process
        finally:
            stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Stop a process that was started here."""
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _await_server(
    folder: Path, process: subprocess.Popen[bytes], find_url: Callable[[str], re.Match[str] | None]
) -> Server:
    """Wait for `/ready`, which also creates the log, so that it can be read before it has a message."""
    output = folder / "server.txt"
    deadline = time.monotonic() + PATIENCE
    while (found := find_url(output.read_text())) is None:
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"no server: {output.read_text()}")
        time.sleep(_POLL_SECONDS)
    own_certificate = ssl._create_unverified_context() if found[0].startswith("https") else None  # noqa: S323 - ours
    try:
        with urllib.request.urlopen(f"{found[0]}/ready", timeout=PATIENCE, context=own_certificate) as answer:  # noqa: S310
            assert answer.status == 200
    except OSError as error:
        raise AssertionError(f"no server: {output.read_text()}") from error
    return Server(url=found[0], folder=folder)


def _make_certificate(folder: Path) -> tuple[str, ...]:
    """Make a certificate that is valid as long as the test, and return gunicorn's options for it."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        (
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)),
        ),
        check=True,
        capture_output=True,
    )
    return "--keyfile", str(key), "--certfile", str(certificate)


@contextmanager
def run_site(files: Mapping[str, tuple[str, bytes]]) -> Iterator[str]:
    """Serve files, given as path -> (content type, content), on a free port: a site of another origin than the server.

    The site is called `localhost` and the server `127.0.0.1`, so the two differ in host and port.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kind, content = files.get(self.path.partition("?")[0], ("", b""))
            self.send_response(200 if kind else 404)
            self.send_header("Content-Type", kind or "text/plain")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as site:
        site.daemon_threads = True
        thread = Thread(target=partial(site.serve_forever, poll_interval=0.05))
        thread.start()
        try:
            yield f"http://localhost:{site.server_port}"
        finally:
            site.shutdown()
            thread.join()


def read_json(file: Path) -> JSONObject:
    """Read a JSON object."""
    document = json.loads(file.read_bytes())
    assert isinstance(document, dict)
    return document
