"""Requests that gunicorn itself rejects, and deliberately slow clients, on a real server."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE, wait_for
from served import Served

Lines = Callable[[Any], list[Any]]

KEY = "key"
GOOD = b'{"userId":"u","event":"E","writeKey":"key"}'


@pytest.fixture
def served(serve: Callable[..., Served]) -> Served:
    """A server with one source."""
    return serve("--write-key", KEY)


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


@pytest.mark.parametrize(
    ("request_head", "status", "code"),
    [
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
    ],
)
def test_a_rejection_of_gunicorn_is_json(served: Served, request_head: bytes, status: int, code: str) -> None:
    """R2: "Every non-200 body is a JSON object with top-level string `code` and `message`, plus `success: false`"."""
    found, headers, body = answer_of(exchange(served.port, request_head))
    assert (found, headers["content-type"]) == (status, "application/json")
    assert body == {"success": False, "code": code, "message": body["message"]}
    assert body["message"]
    assert served.post("/v1/track", json.loads(GOOD), KEY) == (200, {"success": True})


@pytest.mark.parametrize("city", ["München".encode(), b"M%C3%BCnchen"])
def test_raw_utf_8_in_an_address_is_read(served: Served, run: Callable[..., Any], lines: Lines, city: bytes) -> None:
    """Mail programs do not percent-encode, and the pixel always answers with its image."""
    head = b"GET /v1/pixel/track?writeKey=key&event=raw&userId=u1&properties.city=%b HTTP/1.1\r\n" % city
    answer = exchange(served.port, head + b"Host: x\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\n\r\nGIF89a" in answer
    (stored,) = lines(run("events"))
    assert (stored["message"]["event"], stored["message"]["properties"]) == ("raw", {"city": "München"})


@pytest.mark.parametrize("chunks", [b"zz\r\n{}\r\n0\r\n\r\n", b"2\r\n{}XX0\r\n\r\n", b"-2\r\n{}\r\n0\r\n\r\n"])
def test_a_malformed_chunk_is_not_an_internal_error(served: Served, chunks: bytes) -> None:
    """R1: a request that cannot be parsed gets a 400, and the rest of the connection is ignored."""
    head = b"POST /v1/track HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
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


@pytest.fixture
def quick_port(tmp_path: Path) -> Iterator[int]:
    """The port of gunicorn with two threads and a short deadline."""
    (tmp_path / "trackcore.toml").write_text('[[sources]]\nname = "website"\nwrite_keys = ["key"]\n')
    command = [sys.executable, "-m", "gunicorn", "--bind", "127.0.0.1:0", "--threads", "2", "--no-control-socket"]
    command += ["--worker-class", "quick_worker.QuickWorker", "--pythonpath", str(Path(__file__).parent)]
    log = tmp_path / "stderr"
    with log.open("wb") as stderr:
        process = subprocess.Popen([*command, "trackcore_server:create_app()"], stderr=stderr, start_new_session=True)
    try:
        found = wait_for(lambda: re.search(r"Listening at: http://127\.0\.0\.1:(\d+)", log.read_text()))
        yield int(found[1])
    finally:
        process.terminate()
        process.wait(PATIENCE)


@pytest.mark.parametrize(
    "start",
    [
        b"POST /v1/track HTTP/1.1\r\nHost: x\r\n",
        b"POST /v1/track HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n{",
        b"POST /v1/track HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n",
    ],
    ids=["head", "body", "chunk"],
)
def test_clients_that_stop_sending_do_not_stop_the_server(quick_port: int, start: bytes) -> None:
    """As many such clients as threads would block all others."""
    idle = [socket.create_connection(("127.0.0.1", quick_port), PATIENCE) for _ in range(4)]
    for connection in idle:
        connection.sendall(start)
    head = b"POST /v1/track HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(GOOD)
    status, _, body = answer_of(exchange(quick_port, head + GOOD))
    assert (status, body) == (200, {"success": True})
    for connection in idle:
        while connection.recv(65_536):
            pass
        connection.close()
