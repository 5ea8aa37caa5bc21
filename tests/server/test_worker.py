"""The promises of both workers: requests that do not reach the app, and deliberately slow clients, under gunicorn."""

from __future__ import annotations

import json
import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE, wait_for
from served import Served

Lines = Callable[[Any], list[Any]]

KEY = "key"
GOOD = b'{"userId":"u","event":"E","writeKey":"key"}'

ASGI, WSGI = "trackcore_server:create_asgi_app()", "trackcore_server:create_app()"
WORKERS = {
    "threads": ("trackcore_server.worker.Worker", "--threads", "16", WSGI),
    "loop": ("trackcore_server.worker.AsyncWorker", ASGI),
    "loop of asyncio": ("trackcore_server.worker.AsyncWorker", "--asgi-loop", "asyncio", ASGI),
    "quick threads": ("quick_worker.QuickWorker", "--threads", "2", WSGI),
    "quick loop": ("quick_worker.QuickAsyncWorker", ASGI),
}
SLOW, QUICK = list(WORKERS)[:3], list(WORKERS)[3:]


@pytest.fixture(params=SLOW)
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Served]:
    """A gunicorn with one source."""
    (tmp_path / "trackcore.toml").write_text('[[sources]]\nname = "website"\nwrite_keys = ["key"]\n')
    options = ("--limit-request-line", "8190", "--forwarded-allow-ips=", "--pythonpath", str(Path(__file__).parent))
    found = Served.start_gunicorn(tmp_path / "stderr", *options, "--worker-class", *WORKERS[request.param])
    try:
        found.wait_until_listening()
        wait_for(found.is_ready)
        yield found
    finally:
        found.kill()


def exchange(port: int, request: bytes) -> bytes:
    """Send bytes and return the response until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        connection.sendall(request)
        received = b""
        while chunk := connection.recv(65_536):
            received += chunk
        return received


def answer_of(received: bytes) -> tuple[int, dict[str, str], Any]:
    """Parse a response into status, headers and JSON body."""
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    assert int(headers["content-length"]) == len(body)
    return int(first.split()[1]), headers, json.loads(body)


REJECTED = (
    (b"GET /v1/pixel/track?data=" + b"a" * 9_000 + b" HTTP/1.1\r\n\r\n", 414, "uri_too_long"),
    (b"POST /v1/track HTTP/1.1\r\nX: " + b"a" * 9_000 + b"\r\n\r\n", 431, "headers_too_large"),
    (b"POST /v1/track HTTP/1.1\r\n" + b"X: a\r\n" * 101 + b"\r\n", 431, "headers_too_large"),
    (b"nonsense\r\n\r\n", 400, "invalid_http"),
    (b"POST /v1/track HTTP/9.9\r\n\r\n", 400, "invalid_http"),
    (b"P{ST /v1/track HTTP/1.1\r\n\r\n", 400, "invalid_http"),
    (b"P\xc3\xa4ST /v1/track HTTP/1.1\r\n\r\n", 400, "invalid_http"),
    (b"GET /v1/pixel/track?a=\x7f HTTP/1.1\r\n\r\n", 400, "invalid_http"),
    (b"POST /v1/track HTTP/1.1\r\nno colon\r\n\r\n", 400, "invalid_http"),
    (b"POST /v1/track HTTP/1.1\r\nX: a\x00b\r\n\r\n", 400, "invalid_http"),
    (b"POST /v1/track HTTP/1.1\r\nTransfer-Encoding: gzip, chunked, x\r\n\r\n", 501, "unsupported_transfer_coding"),
    (b"POST /v1/track HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", 400, "invalid_http"),
    (b"POST /v1/track HTTP/1.1\r\nExpect: miracles\r\n\r\n", 417, "expectation_failed"),
)


def test_rejections_are_json(served: Served) -> None:
    """R2: "Every non-200 body is a JSON object with top-level string `code` and `message`, plus `success: false`"."""
    for request_head, status, code in REJECTED:
        found, headers, body = answer_of(exchange(served.port, request_head))
        assert (found, headers["content-type"]) == (status, "application/json"), request_head[:80]
        assert body == {"success": False, "code": code, "message": body["message"]}
        assert body["message"]
    assert served.post("/v1/track", json.loads(GOOD), KEY) == (200, {"success": True})


def test_raw_utf_8_in_an_address_is_read(served: Served, run: Callable[..., Any], lines: Lines) -> None:
    """Mail programs do not percent-encode, and the pixel always answers with its image."""
    for city in ("München".encode(), b"M%C3%BCnchen"):
        head = b"GET /v1/pixel/track?writeKey=key&event=raw&userId=u1&properties.city=%b HTTP/1.1\r\n" % city
        answer = exchange(served.port, head + b"Host: x\r\nConnection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"\r\n\r\nGIF89a" in answer
    stored = [record["message"] for record in lines(run("events", "--config", "trackcore.toml"))]
    assert [message["properties"] for message in stored] == [{"city": "München"}] * 2


def test_a_malformed_chunk_is_not_an_internal_error(served: Served) -> None:
    """R1: a request that cannot be parsed gets a 400, and the rest of the connection is ignored."""
    head = b"POST /v1/track HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    for chunks in (b"zz\r\n{}\r\n0\r\n\r\n", b"2\r\n{}XX0\r\n\r\n", b"-2\r\n{}\r\n0\r\n\r\n"):
        status, _, body = answer_of(exchange(served.port, head + chunks))
        assert (status, body["code"]) == (400, "incomplete_body")
    assert served.terminate() == 0
    assert "Traceback" not in served.stderr()


def test_a_refused_request_leaves_neither_key_nor_control_characters_in_the_log(served: Served) -> None:
    exchange(served.port, b"GET /v1/pixel/track?writeKey=secret-key\x1b[31m" + b"a" * 9_000 + b" HTTP/1.1\r\n\r\n")
    exchange(served.port, b"G\x1b[31m /v1/pixel/track?writeKey=secret-key HTTP/1.1\r\n\r\n")
    assert served.terminate() == 0
    assert "secret-key" not in served.stderr()
    assert "\x1b" not in served.stderr()


def test_a_forwarded_scheme_is_not_believed_unless_configured(served: Served) -> None:
    """R18: "Behind proxies only as many hops as configured are believed"; gunicorn by itself believes loopback."""
    request = (
        b"GET /v1/projects/k/settings HTTP/1.1\r\nHost: here\r\nConnection: close\r\n"
        b"X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nSCRIPT_NAME: /evil\r\n\r\n"
    )
    segment = answer_of(exchange(served.port, request))[2]["integrations"]["Segment.io"]
    assert (segment["protocol"], segment["apiHost"]) == ("http", "here/v1")


@pytest.mark.parametrize("served", QUICK, indirect=True)
def test_clients_that_stop_sending_do_not_stop_the_server(served: Served) -> None:
    """As many such clients as threads would block all others."""
    starts = (
        b"POST /v1/track HTTP/1.1\r\nHost: x\r\n",
        b"POST /v1/track HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n{",
        b"POST /v1/track HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n",
    )
    with ExitStack() as stack:
        idle = [stack.enter_context(connect(served)) for _ in range(4 * len(starts))]
        for number, connection in enumerate(idle):
            connection.sendall(starts[number % len(starts)])
        assert served.post("/v1/track", json.loads(GOOD), KEY) == (200, {"success": True})
        for connection in idle:
            while connection.recv(65_536):
                pass


def connect(served: Served) -> socket.socket:
    return socket.create_connection(("127.0.0.1", served.port), PATIENCE)


SILENT = 1_000


@pytest.fixture
def _many_files() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 3 * SILENT
    assert before[1] == resource.RLIM_INFINITY or before[1] >= wanted
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], wanted), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("_many_files")
def test_a_thousand_silent_and_slow_clients_keep_nobody_waiting(serve: Callable[..., Served]) -> None:
    served = serve("--write-key", KEY)
    with ExitStack() as stack:
        silent = [stack.enter_context(connect(served)) for _ in range(SILENT)]
        slow = [stack.enter_context(connect(served)) for _ in range(SILENT)]
        head = b"POST /v1/track HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(GOOD)
        for connection in slow:
            connection.sendall(head[:-10])
        for _ in range(20):
            assert served.post("/v1/track", json.loads(GOOD), KEY) == (200, {"success": True})
        for connection in (silent[0], silent[-1]):
            connection.sendall(head + GOOD)
        for connection in (slow[0], slow[-1]):
            connection.sendall(head[-10:] + GOOD)
        for connection in (silent[0], silent[-1], slow[0], slow[-1]):
            assert connection.recv(12) == b"HTTP/1.1 200", "those are served as well, once they have sent a request"
