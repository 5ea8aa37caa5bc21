"""Helpers for the tests of the adapters: records to store, a server to call without a socket, and bounded waiting."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any
from wsgiref.validate import validator

import attrs
from patience import PATIENCE
from trackcore_sqlite import SqliteLog, SqliteSink
from trackcore_wsgi import TrackingApp

from trackcore import (
    Call,
    Collector,
    Envelope,
    JSONObject,
    Limits,
    MessageWarning,
    Outcome,
    QuarantinedRequest,
    RejectedRecord,
    Sink,
    SinkUnavailable,
    Source,
    StoredMessage,
    WriteKey,
)

VECTORS = Path(__file__).parent / "vectors"
NOON = datetime(2024, 5, 6, 12, 0, 0, 250_000, tzinfo=UTC)
NOON_TEXT = "2024-05-06T12:00:00.250Z"
SDK_KEY = "WRITEKEY123"
CLIENT_IP = "203.0.113.9"

# Records


def envelope(
    message_id: str = "m1",
    *,
    source: str = "website",
    call: Call = "track",
    user_id: str | None = "u1",
    anonymous_id: str | None = None,
    received_at: datetime = NOON,
    destinations: tuple[str, ...] = (),
    warnings: tuple[MessageWarning, ...] = (),
    payload: bytes | None = None,
) -> Envelope:
    """Build an envelope; two of the same arguments are equal and not identical."""
    if payload is None:
        payload = json.dumps({"messageId": message_id, "type": call}).encode()
    return Envelope(source, message_id, call, user_id, anonymous_id, received_at, destinations, warnings, payload)


def rejected_record(payload: bytes = b"{}", *, source: str = "website", code: str = "no_type") -> RejectedRecord:
    """Build a record of a rejected message."""
    return RejectedRecord(
        source=source,
        received_at=NOON,
        code=code,
        message="a sentence",
        path="type",
        payload=payload,
        endpoint="track",
    )


def quarantined_request(payload: bytes = b"{}", *, write_key: str | None = "nobody's") -> QuarantinedRequest:
    """Build a request with an unknown write key."""
    return QuarantinedRequest(
        received_at=NOON,
        endpoint="batch",
        write_key=None if write_key is None else WriteKey(write_key),
        client_ip=CLIENT_IP,
        client_side=True,
        payload=payload,
    )


class _Interrupting(list[Envelope]):
    """Envelopes during whose writing a signal arrives."""

    written = False

    def __iter__(self) -> Iterator[Envelope]:
        yield from super().__iter__()
        if self.written:
            raise KeyboardInterrupt
        self.written = True  # the first iteration sums up their sizes


def interrupting() -> list[Envelope]:
    """Return an envelope, named so, during whose writing a signal arrives."""
    return _Interrupting([envelope("interrupted")])


# Waiting and threads


class Workers:
    """Threads that all begin at once, with the result or the error of each."""

    def __init__(self, tasks: Iterable[Callable[[], object]]) -> None:
        tasks = list(tasks)
        self.results: list[Any] = [None] * len(tasks)
        self.errors: list[BaseException | None] = [None] * len(tasks)
        self._start = threading.Barrier(len(tasks))
        self._threads = [
            threading.Thread(target=self._run, args=(number, task), daemon=True) for number, task in enumerate(tasks)
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, number: int, task: Callable[[], object]) -> None:
        self._start.wait(PATIENCE)
        try:
            self.results[number] = task()
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.errors[number] = error

    def finish(self) -> list[Any]:
        """Wait for all threads and return their results."""
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive(), "a thread hangs"
        return self.results


def at_once(*tasks: Callable[[], object]) -> list[Any]:
    """Run tasks at the same time and return their results; none may raise."""
    workers = Workers(tasks)
    results = workers.finish()
    assert [error for error in workers.errors if error is not None] == []
    return results


@contextmanager
def commits_held(sink: SqliteSink) -> Iterator[None]:
    """Let calls of `store` queue up, to be committed together afterwards."""
    with sink._writer._file._lock:
        yield


@contextmanager
def write_lock(path: Path) -> Iterator[sqlite3.Connection]:
    """Hold the write lock of the file, as another process does while it writes."""
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        other.execute("BEGIN IMMEDIATE")
        yield other
        other.execute("ROLLBACK")
    finally:
        other.close()


def run_python(script: str, *arguments: object) -> str:
    """Run a script in its own process and return its output."""
    done = subprocess.run(
        python_command(script, *arguments),
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def python_command(script: str, *arguments: object) -> list[str]:
    """Return the command that runs a script; some scripts fork beside threads on purpose."""
    return [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script, *map(str, arguments)]


def child_environment() -> dict[str, str]:
    """Return an environment in which a script can import this module."""
    folders = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, folders))}


def back_up(path: Path, backup: Path) -> None:
    """Make a backup as the guide shows."""
    backup.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("VACUUM INTO ?", (str(backup),))


def put_in_place(path: Path, backup: Path | None) -> None:
    """Restore a backup as the guide shows; without one, delete the log."""
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()
    if backup is not None:
        path.write_bytes(backup.read_bytes())


def overwrite(path: Path, backup: Path) -> None:
    """Restore a backup while the log is open elsewhere, as `.restore` of the sqlite3 shell does."""
    with closing(sqlite3.connect(backup)) as source, closing(sqlite3.connect(path)) as target:
        source.backup(target)


def is_sound(path: Path) -> bool:
    """Return whether the file passes SQLite's integrity check."""
    connection = sqlite3.connect(path)
    try:
        return [row[0] for row in connection.execute("PRAGMA integrity_check")] == ["ok"]
    finally:
        connection.close()


# Sinks that fail


@attrs.define
class FailingSink:
    """A sink on which every call fails in the same way."""

    error: Exception

    def store(
        self,
        envelopes: Sequence[Envelope] = (),
        *,
        rejected: Sequence[RejectedRecord] = (),
        quarantined: Sequence[QuarantinedRequest] = (),
    ) -> Sequence[Outcome]:
        del envelopes, rejected, quarantined
        raise self.error

    def check_ready(self) -> None:
        raise self.error


# The server

GIF_START = b"GIF89a"


@attrs.frozen(kw_only=True)
class Answer:
    """A response of the app."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> JSONObject:
        """The body as the JSON object that it must be."""
        assert self.headers["content-type"] == "application/json"
        decoded = json.loads(self.body, parse_constant=_no_constants)
        assert isinstance(decoded, dict)
        return decoded


def _no_constants(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


def call_app(
    app: Any,
    path: str,
    body: bytes = b"",
    *,
    method: str = "POST",
    query: str = "",
    headers: Mapping[str, str] | None = None,
    environ: Mapping[str, Any] | None = None,
    validate: bool = True,
) -> Answer:
    """Call a WSGI app with an environment made by hand, so that no client normalizes the request.

    `environ` overrides everything else; a value of None removes a key.
    """
    given: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": CLIENT_IP,
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    for name, value in (headers or {}).items():
        variable = name.upper().replace("-", "_")
        given[variable if variable in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{variable}"] = value
    given.update(environ or {})
    given = {name: value for name, value in given.items() if value is not None}
    started: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(status: str, response_headers: list[tuple[str, str]], _: Any = None) -> Callable[[bytes], None]:
        started.append((status, response_headers))
        return lambda _: None

    chunks = (validator(app) if validate else app)(given, start_response)
    try:
        answered = b"".join(chunks)
    finally:
        if hasattr(chunks, "close"):
            chunks.close()
    ((status, response_headers),) = started
    return Answer(
        status=int(status.split()[0]),
        headers={name.lower(): value for name, value in response_headers},
        body=answered,
    )


def basic(user: str, password: str = "") -> str:
    """Return an Authorization header as SDKs send it."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


KEY = {"Authorization": basic("abc123")}
STRICT_KEY = {"Authorization": basic("strict1")}
UNKNOWN_KEY = {"Authorization": basic("nobody's")}

SOURCES = (
    Source(
        name="website", write_keys=(WriteKey("abc123"), WriteKey("second"), WriteKey(SDK_KEY), WriteKey("schlüssel"))
    ),
    Source(name="app", write_keys=(WriteKey("app1"),)),
    Source(name="ci", write_keys=(WriteKey("strict1"),), strict=True),
)


@attrs.frozen
class Server:
    """The app on a sink, with a fixed clock and predictable ids."""

    app: TrackingApp
    sink: Sink

    def with_collector(self, **changes: Any) -> Server:
        """Return a server on the same sink whose collector has other attributes."""
        return attrs.evolve(self, app=TrackingApp(attrs.evolve(self.app.collector, **changes)))

    def post(self, path: str, body: Any = b"", **options: Any) -> Answer:
        """Post a body, given as bytes or as the object to send; with a known write key unless headers are given."""
        sent = body if isinstance(body, bytes) else json.dumps(body).encode()
        options.setdefault("headers", KEY)
        return call_app(self.app, path, sent, **options)

    def get(self, path: str, query: str = "", **options: Any) -> Answer:
        """Get a page, with no write key unless headers are given."""
        return call_app(self.app, path, method=options.pop("method", "GET"), query=query, **options)

    @property
    def log(self) -> SqliteLog:
        """The log of the sink."""
        assert isinstance(self.sink, SqliteSink)
        return SqliteLog(self.sink.path)

    @property
    def entries(self) -> list[StoredMessage]:
        """All messages of the log, with their columns."""
        return list(self.log.messages())

    @property
    def messages(self) -> list[JSONObject]:
        """The messages of the log, as wire objects."""
        return [entry.message for entry in self.entries]

    @property
    def only(self) -> JSONObject:
        """The only message of the log."""
        (message,) = self.messages
        return message


def serve(sink: Sink, *, proxy_hops: int = 0, limits: Limits | None = None) -> Server:
    """Build a server that stores in `sink`."""
    numbers = count(1)
    collector = Collector(
        sources=SOURCES,
        sink=sink,
        clock=lambda: NOON,
        new_message_id=lambda: f"server-{next(numbers)}",
        limits=limits or Limits(),
    )
    return Server(TrackingApp(collector, proxy_hops=proxy_hops), sink)


def unavailable(**fields: Any) -> SinkUnavailable:
    """Build the error of a sink that cannot store, with a detail that no client may see."""
    return SinkUnavailable(detail="secret detail", **fields)


def zipped(text: bytes) -> bytes:
    """Compress as SDKs do."""
    return gzip.compress(text, mtime=0)


def track(**fields: Any) -> JSONObject:
    """Build a valid track message for a batch."""
    return {"type": "track", "event": "E", "userId": "u1", **fields}


def sized(size: int, **fields: Any) -> bytes:
    """Return the text of a valid track message of exactly `size` bytes."""
    text = json.dumps(track(properties={"pad": ""}, **fields), separators=(",", ":")).encode()
    return text.replace(b'"pad":""', b'"pad":"' + b"x" * (size - len(text)) + b'"')


def sized_batch(size: int) -> bytes:
    """Return the text of a batch of exactly `size` bytes, in which no message is too large."""
    one = sized(30_000)
    start, end = b'{"batch":[', b"]}"
    items = [one] * ((size - len(start) - len(end) - 200) // (len(one) + 1))
    used = len(start) + len(end) + sum(len(item) + 1 for item in items)
    return start + b",".join([*items, sized(size - used)]) + end
