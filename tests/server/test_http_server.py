"""The asynchronous server over real sockets: what it reads, refuses and sends, whatever the app is."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import pytest
import uvloop
from hypothesis import example, given, settings
from hypothesis import strategies as st
from patience import PATIENCE, wait_for
from trackcore_server.hosting.async_server import AsyncServer
from trackcore_server.hosting.http_connection import MOST_WAITING_BYTES, MOST_WAITING_REQUESTS
from trackcore_server.hosting.http_host import HttpLimits

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

LIMITS = HttpLimits(
    request_line=200, headers=10, header_size=100, request_seconds=60, keepalive_seconds=60, connections=1_000
)
HOST = b"Host: x\r\n"
CLOSE = b"Connection: close\r\n"


START: dict[str, Any] = {"type": "http.response.start", "status": 200, "headers": []}
END: dict[str, Any] = {"type": "http.response.body", "body": b"abc"}
WRONG: dict[str, list[dict[str, Any]]] = {
    "/nothing": [],
    "/body-first": [END],
    "/two-starts": [START, START],
    "/two-lines": [START | {"headers": [(b"x", b"a\r\nSet-Cookie: b")]}, END],
    "/too-short": [START | {"headers": [(b"content-length", b"4")]}, END],
    "/too-long": [START | {"headers": [(b"content-length", b"2")]}, END],
    "/unknown": [{"type": "http.response.push"}],
}
HALF: list[dict[str, Any]] = [START | {"headers": [(b"content-length", b"9")]}, END | {"more_body": True}]
"""Responses that HTTP cannot express, by their paths."""


class Mirror:
    """An app that answers with what it was asked; `goes_on` lets those of `/wait` go on."""

    def __init__(self) -> None:
        self.goes_on = threading.Event()
        self.events: list[str] = []
        self.largest = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.live(receive, send)
        else:
            await self.answer(scope, receive, send)

    async def live(self, receive: Receive, send: Send) -> None:
        while not self.events or self.events[-1] != "lifespan.shutdown":
            event = await receive()
            self.events.append(event["type"])
            await send({"type": f"{event['type']}.complete"})

    async def answer(self, scope: Message, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if path == "/fail":
            raise ValueError("a secret")
        if path == "/early":
            await respond(send, b"early")
            return
        if path in WRONG or path == "/half":
            for event in WRONG.get(path, HALF):
                await send(dict(event))
            return
        if path == "/flood":
            await self.flood(send)
        while path == "/wait" and not self.goes_on.is_set():  # noqa: ASYNC110 - set by the thread of the test
            await asyncio.sleep(0.001)
        body = await self.read(receive)
        if path == "/stream":
            await stream(send, body)
        elif body is not None:
            shown = {
                "method": scope["method"],
                "path": path,
                "query": scope["query_string"].decode("ascii"),
                "headers": [[name.decode(), value.decode("latin-1")] for name, value in scope["headers"]],
                "body": len(body),
            }
            await respond(send, json.dumps(shown).encode())

    async def flood(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            while True:
                await send({"type": "http.response.body", "body": b"x" * 10_000, "more_body": True})
        except OSError:
            self.events.append("gone")
            raise

    async def read(self, receive: Receive) -> bytes | None:
        body = bytearray()
        while True:
            event = await receive()
            if event["type"] == "http.disconnect":
                self.events.append("http.disconnect")
                return None
            self.largest = max(self.largest, len(event["body"]))
            body += event["body"]
            if not event["more_body"]:
                return bytes(body)


async def respond(send: Send, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def stream(send: Send, body: bytes | None) -> None:
    """Send a long response in parts, without its length."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(100):
        await send({"type": "http.response.body", "body": b"x" * 10_000, "more_body": True})
    await send({"type": "http.response.body", "body": body or b""})


class Running:
    """A server in a thread of this process."""

    def __init__(self, loop: Callable[[], asyncio.AbstractEventLoop], limits: HttpLimits) -> None:
        self.app = Mirror()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._ready = threading.Event()
        self.server = AsyncServer(
            app=self.app,
            sockets=[self._listener],
            limits=limits,
            backlog=1_000,
            graceful_seconds=PATIENCE,
            on_ready=self._ready.set,
            on_tick=lambda: None,
        )
        self._factory = loop
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._ready.wait(PATIENCE)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=self._factory) as runner:
            self.loop = runner.get_loop()
            runner.run(self.server.serve())

    def stop(self) -> None:
        self.app.goes_on.set()
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self.server.stop)
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        self._listener.close()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), PATIENCE)

    def exchange(self, *parts: bytes) -> bytes:
        """Send bytes on a new connection, and return what is received until the server closes it."""
        with self.connect() as connection:
            for part in parts:
                connection.sendall(part)
            return received(connection)


def received(connection: socket.socket) -> bytes:
    data = bytearray()
    while chunk := connection.recv(65_536):
        data += chunk
    return bytes(data)


def answers(data: bytes) -> list[tuple[int, dict[str, str], Any]]:
    """Parse responses with a length."""
    found = []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        length = int(headers["content-length"])
        body, data = data[:length], data[length:]
        found.append((int(first.split()[1]), headers, json.loads(body) if body.startswith(b"{") else body))
    return found


def get(path: bytes, *headers: bytes) -> bytes:
    return b"GET %b HTTP/1.1\r\n%b%b\r\n" % (path, HOST, b"".join(headers))


def post(path: bytes, body: bytes, *headers: bytes) -> bytes:
    length = b"Content-Length: %d\r\n" % len(body)
    return b"POST %b HTTP/1.1\r\n%b%b%b\r\n%b" % (path, HOST, length, b"".join(headers), body)


def chunked(path: bytes, chunks: bytes, *headers: bytes) -> bytes:
    return b"POST %b HTTP/1.1\r\n%bTransfer-Encoding: chunked\r\n%b\r\n%b" % (path, HOST, b"".join(headers), chunks)


@contextmanager
def running(
    loop: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop, limits: HttpLimits = LIMITS
) -> Iterator[Running]:
    server = Running(loop, limits)
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def server(request: pytest.FixtureRequest) -> Iterator[Running]:
    """A server on each loop; it must log no error but those that a test expects."""
    with running(uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop) as found:
        yield found


@pytest.fixture(autouse=True)
def _log(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Expect that nothing is logged as an error, unless the test clears the log."""
    with caplog.at_level(logging.INFO):
        yield
    assert "ERROR" not in {record.levelname for record in caplog.records}, caplog.text


class TestRequests:
    def test_a_body_with_a_length(self, server: Running) -> None:
        ((status, headers, shown),) = answers(server.exchange(post(b"/a%20b?q=1", b"{}", CLOSE)))
        assert (status, shown["method"], shown["path"], shown["query"]) == (200, "POST", "/a b", "q=1")
        assert shown["body"] == 2
        assert headers["connection"] == "close"
        assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d gmt", headers["date"])
        assert "server" not in headers

    def test_a_chunked_body_whose_trailers_are_no_headers(self, server: Running) -> None:
        chunks = b"2;extension=1\r\n{}\r\n1\r\nx\r\n0\r\nAuthorization: Basic eA==\r\nX: y\r\n\r\n"
        ((_, _, shown),) = answers(server.exchange(chunked(b"/", chunks, CLOSE)))
        assert shown["body"] == 3
        assert {"authorization", "x"}.isdisjoint(name for name, _ in shown["headers"])

    def test_several_on_one_connection(self, server: Running) -> None:
        with server.connect() as connection:
            for number in range(3):
                connection.sendall(post(b"/%d" % number, b"x"))
                assert connection.recv(12) == b"HTTP/1.1 200"
                while not connection.recv(65_536).endswith(b"}"):
                    pass

    def test_some_sent_ahead_are_answered_in_order(self, server: Running) -> None:
        server.app.goes_on.clear()
        with server.connect() as connection:
            connection.sendall(get(b"/wait") + post(b"/1", b"x" * 50) + get(b"/2") + get(b"/3", CLOSE))
            server.app.goes_on.set()
            assert [shown["path"] for _, _, shown in answers(received(connection))] == ["/wait", "/1", "/2", "/3"]

    def test_too_many_sent_ahead_are_not_served(self, server: Running) -> None:
        """The connection is closed after some, and the client has to send the others again."""
        server.app.goes_on.clear()
        with server.connect() as connection:
            connection.sendall(get(b"/wait") + get(b"/") * (MOST_WAITING_REQUESTS + 10))
            server.app.goes_on.set()
            found = answers(received(connection))
        assert [status for status, _, _ in found] == [200] * (MOST_WAITING_REQUESTS + 1)
        assert found[-1][1]["connection"] == "close"

    @pytest.mark.parametrize(
        ("target", "path", "query"),
        [
            (b"http://host/p?q", "/p", "q"),
            (b"http://host?q", "/", "q"),
            (b"//a//b", "//a//b", ""),
            (b"/a?b#c", "/a", "b"),
            ("/ü?ö=ä".encode(), "/ü", "%C3%B6=%C3%A4"),
            (b"/%C3%BC?%C3%B6", "/ü", "%C3%B6"),
            (b"/\xff", "/\ufffd", ""),
        ],
    )
    def test_targets(self, server: Running, target: bytes, path: str, query: str) -> None:
        ((_, _, shown),) = answers(server.exchange(get(target, CLOSE)))
        assert (shown["path"], shown["query"]) == (path, query)

    def test_an_address_in_raw_utf_8_that_arrives_in_parts(self, server: Running) -> None:
        request = get("/ü".encode(), CLOSE)
        with server.connect() as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in request:
                connection.sendall(bytes([byte]))
            assert answers(received(connection))[0][2]["path"] == "/ü"

    def test_a_header_with_an_underscore_is_dropped(self, server: Running) -> None:
        ((_, _, shown),) = answers(server.exchange(get(b"/", b"X_Forwarded_For: 1\r\nX-A: b  \r\n", CLOSE)))
        assert shown["headers"] == [["host", "x"], ["x-a", "b"], ["connection", "close"]]

    def test_a_client_that_has_closed_its_side_is_answered(self, server: Running) -> None:
        server.app.goes_on.clear()
        with server.connect() as connection:
            connection.sendall(get(b"/wait"))
            connection.shutdown(socket.SHUT_WR)
            server.app.goes_on.set()
            assert [status for status, _, _ in answers(received(connection))] == [200]

    def test_a_client_that_goes_away_within_a_body(self, server: Running) -> None:
        server.app.events.clear()
        with server.connect() as connection:
            connection.sendall(post(b"/", b"x" * 100)[:-1])
        wait_for(lambda: server.app.events == ["http.disconnect"])

    def test_a_client_that_does_not_wait_for_its_answer(self, server: Running) -> None:
        """A request that was sent completely is passed on."""
        server.app.goes_on.clear()
        server.app.largest = 0
        with server.connect() as connection:
            connection.sendall(post(b"/wait", b"x" * 100))
        server.app.goes_on.set()
        wait_for(lambda: server.app.largest == 100)

    def test_a_body_waits_at_the_client_while_the_app_does_not_read(self, server: Running) -> None:
        server.app.goes_on.clear()
        server.app.largest = 0
        size = 100 * MOST_WAITING_BYTES
        with server.connect() as connection:
            sender = threading.Thread(target=connection.sendall, args=(post(b"/wait", b"x" * size, CLOSE),))
            sender.start()
            sender.join(0.2)
            assert sender.is_alive(), "the server reads more than it should keep"
            server.app.goes_on.set()
            assert answers(received(connection))[0][2]["body"] == size
            sender.join()
        assert server.app.largest < 4 * MOST_WAITING_BYTES


class TestOtherProtocols:
    """A client may ask for another protocol; it is served as if it had not."""

    @pytest.mark.parametrize("protocol", [b"h2c", b"websocket", b"TLS/1.0"])
    def test_a_body_is_read_all_the_same(self, server: Running, protocol: bytes) -> None:
        """java.net.http asks for h2c with its first request, whatever that is."""
        upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: %b\r\nHTTP2-Settings: AAMA\r\n" % protocol
        data = server.exchange(post(b"/1", b"{}", upgrade) + post(b"/2", b"x", upgrade) + get(b"/3", CLOSE))
        assert [(shown["path"], shown["body"]) for _, _, shown in answers(data)] == [("/1", 2), ("/2", 1), ("/3", 0)]

    def test_a_chunked_body_too(self, server: Running) -> None:
        upgrade = b"Connection: Upgrade\r\nUpgrade: h2c\r\n"
        with server.connect() as connection:
            connection.sendall(chunked(b"/1", b"2\r\n{}\r\n", upgrade))
            connection.sendall(b"1\r\nx\r\n0\r\n\r\n" + get(b"/2", CLOSE))
            assert [shown["body"] for _, _, shown in answers(received(connection))] == [3, 0]

    @pytest.mark.parametrize(
        "request_bytes",
        [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00", b"CONNECT x:1 HTTP/1.1\r\n\r\n"],
        ids=["HTTP/2", "TLS", "CONNECT"],
    )
    def test_one_that_is_not_http_1(self, server: Running, request_bytes: bytes) -> None:
        assert [status for status, _, _ in answers(server.exchange(request_bytes))] == [400]

    def test_nothing_is_logged(self, server: Running, caplog: pytest.LogCaptureFixture) -> None:
        upgrade = b"Connection: Upgrade, close\r\nUpgrade: h2c\r\n"
        server.exchange(get(b"/", upgrade))
        assert warnings_in(caplog) == []


class TestRefusals:
    """A request that could be read in two ways is refused: another server on its way may read it in the other one."""

    @pytest.mark.parametrize(
        ("head", "status"),
        [
            (b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
            (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400),
            (b"POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nabcde", 400),
            (b"POST / HTTP/1.1\r\nContent-Length: 5, 5\r\n\r\nabcde", 400),
            (b"POST / HTTP/1.1\r\nContent-Length: +5\r\n\r\nabcde", 400),
            (b"POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\nabcde", 400),
            (b"POST / HTTP/1.1\r\nContent-Length: 0x5\r\n\r\nabcde", 400),
            (b"POST / HTTP/1.1\r\nContent-Length:\r\n\r\nabcde", 400),
            (b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", 400),
            (b"POST / HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501),
            (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
            (b"POST / HTTP/1.1\r\nTransfer-Encoding: identity\r\n\r\n", 501),
            (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n", 501),
            (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nX: a\r\n folded\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nX : a\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nX: a\x00b\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nX: a\rb\r\n\r\n", 400),
            (b"GET / HTTP/1.1\nX: a\n\n", 400),
            (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nContent-Type: a\r\nContent-Type: b\r\n\r\n", 400),
            (b"GET / HTTP/2.0\r\n\r\n", 400),
            (b"GET /\r\n\r\n", 400),
            (b"GET relative HTTP/1.1\r\n\r\n", 400),
            (b"GET /\x00 HTTP/1.1\r\n\r\n", 400),
            (b"POST / HTTP/1.1\r\nExpect: 100-Continue, more\r\n\r\n", 417),
        ],
    )
    def test_each_is_answered_and_ends_the_connection(self, server: Running, head: bytes, status: int) -> None:
        ((found, headers, body),) = answers(server.exchange(head + get(b"/smuggled")))
        assert (found, headers["connection"]) == (status, "close")
        assert body == {"success": False, "code": body["code"], "message": body["message"]}

    @pytest.mark.parametrize(
        "chunks",
        [
            b"zz\r\n",
            b"2\r\n{}XX",
            b"-2\r\n{}\r\n",
            b"2 \r\n{}\r\n",
            b"2\n{}\n",
            b"f" * 17 + b"\r\n",
            b"0\r\nX: a\r\n b\r\n\r\n",
            b"0\r\nContent-Length: 3\r\n\r\n",
        ],
    )
    def test_a_malformed_chunk(self, server: Running, chunks: bytes) -> None:
        assert [status for status, _, _ in answers(server.exchange(chunked(b"/", chunks)))] == [400]

    def test_one_after_others_is_refused_after_their_answers(self, server: Running) -> None:
        server.app.goes_on.clear()
        with server.connect() as connection:
            connection.sendall(get(b"/wait") + get(b"/2") + get(b"/3", b"no colon\r\n"))
            server.app.goes_on.set()
            assert [status for status, _, _ in answers(received(connection))] == [200, 200, 400]

    def test_they_are_logged_together(self, caplog: pytest.LogCaptureFixture) -> None:
        with running() as server:
            for _ in range(5):
                server.exchange(b"GET /?writeKey=a-secret HTTP/9.9\r\n\r\n")
        assert sum(int(found) for found in re.findall(r"rejected (\d+) requests: \1 inv", caplog.text)) == 5
        assert "secret" not in caplog.text

    @pytest.mark.parametrize("size", [3_000_000, 100_000])
    def test_a_client_that_sends_on_can_read_the_answer(self, server: Running, size: int) -> None:
        assert [found[0] for found in answers(server.exchange(b"BAD\r\n" + b"x" * size))] == [400]


class TestLimits:
    """A request line of 200 bytes, 10 headers, each of 100 bytes with its line break."""

    @pytest.mark.parametrize(("more", "status"), [(0, 200), (1, 414)])
    def test_the_request_line(self, server: Running, more: int, status: int) -> None:
        path = b"/" + b"a" * (200 - len("GET / HTTP/1.1") + more)
        assert [found[0] for found in answers(server.exchange(get(path, CLOSE)))] == [status]

    @pytest.mark.parametrize(("more", "status"), [(0, 200), (1, 431)])
    def test_the_size_of_a_header(self, server: Running, more: int, status: int) -> None:
        header = b"X: %b\r\n" % (b"a" * (100 - len("X: \r\n") + more))
        assert [found[0] for found in answers(server.exchange(get(b"/", header, CLOSE)))] == [status]

    @pytest.mark.parametrize(("more", "status"), [(0, 200), (1, 431)])
    def test_the_number_of_headers(self, server: Running, more: int, status: int) -> None:
        headers = b"X: a\r\n" * (8 + more)  # and two others
        assert [found[0] for found in answers(server.exchange(get(b"/", headers, CLOSE)))] == [status]

    @pytest.mark.parametrize(
        ("head", "status"),
        [
            (b"GET /", 414),
            (b"GET / HTTP/1.1\r\n", 431),
            (b"GET / HTTP/1.1\r\nX: ", 431),
            (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2;", 400),
            (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ", 400),
        ],
        ids=["line", "name", "value", "chunk extension", "trailer"],
    )
    def test_an_endless_part(self, server: Running, head: bytes, status: int) -> None:
        """It is refused long before it fills the memory."""
        assert [found[0] for found in answers(server.exchange(head + b"a" * 2_000_000))] == [status]

    def test_endless_trailers(self, server: Running) -> None:
        data = chunked(b"/", b"2\r\n{}\r\n0\r\n" + b"X: a\r\n" * 100_000)
        assert [found[0] for found in answers(server.exchange(data))] == [400]


class TestResponses:
    def test_a_head_request_gets_no_body(self, server: Running) -> None:
        data = server.exchange(b"HEAD / HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n")
        assert data.startswith(b"HTTP/1.1 200 OK\r\n")
        assert data.endswith(b"connection: close\r\n\r\n")
        assert b"content-length: 1" in data

    def test_an_old_client(self, server: Running) -> None:
        ((_, headers, _),) = answers(server.exchange(b"GET / HTTP/1.0\r\n\r\n"))
        assert headers["connection"] == "close"

    def test_an_old_client_that_wants_to_keep_the_connection(self, server: Running) -> None:
        data = server.exchange(b"GET /1 HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n" + b"GET /2 HTTP/1.0\r\n\r\n")
        assert [headers["connection"] for _, headers, _ in answers(data)] == ["keep-alive", "close"]

    def test_one_of_unknown_length_comes_in_chunks(self, server: Running) -> None:
        head, _, body = server.exchange(post(b"/stream", b"last", CLOSE)).partition(b"\r\n\r\n")
        assert b"transfer-encoding: chunked" in head
        assert body == b"2710\r\n" + b"\r\n2710\r\n".join([b"x" * 10_000] * 100) + b"\r\n4\r\nlast\r\n0\r\n\r\n"

    def test_one_of_unknown_length_to_an_old_client_ends_with_the_connection(self, server: Running) -> None:
        head, _, body = server.exchange(b"GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").partition(
            b"\r\n\r\n"
        )
        assert b"transfer-encoding" not in head
        assert b"connection: close" in head
        assert body == b"x" * 1_000_000

    def test_a_client_that_announces_its_body_is_asked_for_it(self, server: Running) -> None:
        head, body = post(b"/", b"{}", b"Expect: 100-continue\r\n", CLOSE).split(b"{")
        with server.connect() as connection:
            connection.sendall(head)
            assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
            connection.sendall(b"{" + body)
            assert answers(received(connection))[0][2]["body"] == 2

    def test_an_answer_before_the_announced_body_ends_the_connection(self, server: Running) -> None:
        """The client may still send the body, or not: the next bytes could be either."""
        head, _ = post(b"/early", b"{}", b"Expect: 100-continue\r\n").split(b"{")
        ((status, headers, _),) = answers(server.exchange(head))
        assert (status, headers["connection"]) == (200, "close")

    def test_an_answer_before_the_end_of_the_body_keeps_the_connection(self, server: Running) -> None:
        """The rest of the body is not read as a request."""
        body = get(b"/smuggled") * 10
        data = server.exchange(post(b"/early", body), get(b"/next", CLOSE))
        assert [found[2] if found[2] == b"early" else found[2]["path"] for found in answers(data)] == [
            b"early",
            "/next",
        ]

    def test_an_app_that_fails(self, server: Running, caplog: pytest.LogCaptureFixture) -> None:
        ((status, _, body),) = answers(server.exchange(get(b"/fail")))
        assert (status, body["code"]) == (500, "internal_error")
        assert "ValueError" in caplog.text
        assert "a secret" not in caplog.text
        caplog.clear()

    @pytest.mark.parametrize("path", WRONG)
    def test_an_app_that_answers_wrongly(self, server: Running, caplog: pytest.LogCaptureFixture, path: str) -> None:
        assert [found[0] for found in answers(server.exchange(get(path.encode())))] == [500]
        assert "a request failed" in caplog.text
        caplog.clear()

    def test_a_response_that_goes_wrong_after_its_start_is_cut(
        self, server: Running, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Its client sees that it is not whole."""
        data = server.exchange(get(b"/half"))
        assert data.endswith(b"\r\n\r\nabc")
        assert b"content-length: 9" in data
        caplog.clear()


class TestDeadlines:
    def test_a_request_that_takes_too_long(self, caplog: pytest.LogCaptureFixture) -> None:
        """Its head, its body, the app and the answer count alike."""
        limits = HttpLimits(**{**as_dict(LIMITS), "request_seconds": 0.3})
        with running(limits=limits) as server:
            for start in (b"GET / HT", post(b"/", b"x" * 9)[:-1], get(b"/wait"), get(b"/flood")):
                with server.connect() as connection:
                    connection.sendall(start)
                    wait_for(lambda: "took more than 0.3 s" in caplog.text)
                    caplog.clear()
            assert answers(server.exchange(get(b"/", CLOSE)))[0][0] == 200
            wait_for(lambda: "gone" in server.app.events)

    def test_it_counts_from_the_first_byte(self) -> None:
        with running() as server, server.connect() as slow:
            slow.sendall(b"POST / HT")
            (connection,) = wait_for(lambda: server.server._host.connections)
            wait_for(lambda: not connection.is_idle)
            deadline = connection.deadline
            slow.sendall(b"TP/1.1\r\nContent-Length: 5\r\n\r\nx")
            wait_for(lambda: server.server._host.exchanges)
            assert connection.deadline == deadline
            slow.sendall(b"xxxx")
            wait_for(lambda: connection.is_idle)
            assert connection.deadline > deadline - LIMITS.request_seconds

    @pytest.mark.parametrize("start", [b"", get(b"/")])
    def test_an_idle_connection_is_closed(self, start: bytes, caplog: pytest.LogCaptureFixture) -> None:
        limits = HttpLimits(**{**as_dict(LIMITS), "keepalive_seconds": 0.3})
        with running(limits=limits) as server, server.connect() as connection:
            connection.sendall(start)
            assert received(connection).startswith(b"HTTP/1.1 200" if start else b"")
        assert warnings_in(caplog) == []


class TestManyConnections:
    def test_more_than_the_limit_wait_until_others_end(self) -> None:
        limits = HttpLimits(**{**as_dict(LIMITS), "connections": 5})
        with running(limits=limits) as server:
            server.app.goes_on.clear()
            busy = [server.connect() for _ in range(5)]
            for connection in busy:
                connection.sendall(get(b"/wait", CLOSE))
            wait_for(lambda: server.server._host.is_full and not server.server._listeners)
            with server.connect() as waiting:
                waiting.sendall(get(b"/", CLOSE))
                server.app.goes_on.set()
                assert [received(connection)[:12] for connection in busy] == [b"HTTP/1.1 200"] * 5
                assert answers(received(waiting))[0][0] == 200
            for connection in busy:
                connection.close()

    def test_silent_ones_give_way(self) -> None:
        """They would keep all others out until the end of their time."""
        limits = HttpLimits(**{**as_dict(LIMITS), "connections": 5})
        with running(limits=limits) as server:
            silent = [server.connect() for _ in range(5)]
            assert answers(server.exchange(get(b"/", CLOSE)))[0][0] == 200
            for connection in silent:
                connection.close()


class TestStopping:
    def test_requests_in_progress_are_answered_and_the_app_is_told(self) -> None:
        with running() as server:
            server.app.goes_on.clear()
            with server.connect() as busy, server.connect() as kept, server.connect() as silent:
                kept.sendall(get(b"/"))
                assert kept.recv(12) == b"HTTP/1.1 200"
                busy.sendall(get(b"/wait"))
                assert answers(server.exchange(get(b"/", CLOSE)))[0][0] == 200  # accepted after the others
                server.loop.call_soon_threadsafe(server.server.stop)
                wait_for(lambda: server.server._host.is_stopping)
                silent.sendall(get(b"/late"))  # a client that did not know
                server.app.goes_on.set()
                for connection in (busy, silent):
                    assert answers(received(connection))[0][1]["connection"] == "close"
                received(kept)
            wait_for(lambda: server.app.events == ["lifespan.startup", "lifespan.shutdown"])


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def as_dict(limits: HttpLimits) -> dict[str, Any]:
    return {name: getattr(limits, name) for name in HttpLimits.__annotations__}


REQUESTS = st.sampled_from(
    [
        get(b"/"),
        get("/ü".encode(), "X: ü\r\n".encode()),
        post("/ü".encode(), "\r\n\r\nü\n\r\n".encode()),
        post(b"/p", b"x" * 300),
        chunked(b"/c", b"2\r\n{}\r\n0\r\nX: y\r\n\r\n"),
        post(b"/u", b"{}", b"Connection: Upgrade\r\nUpgrade: h2c\r\n"),
        post(b"/early", b"x" * 50),
        b"HEAD /h HTTP/1.1\r\nHost: x\r\n\r\n",
        get(b"/bad", b"X\r\n"),
        chunked(b"/c", b"zz\r\n"),
    ]
)


class TestLaws:
    @example(requests=[get(b"/"), get("/ü".encode())], cuts=[len(get(b"/"))])
    @example(requests=[chunked(b"/c", b"0\r\n\r\n"), get("/ü".encode(), "X: ü\r\n".encode())], cuts=[90, 95])
    @given(requests=st.lists(REQUESTS, max_size=4), cuts=st.lists(st.integers(1, 600), max_size=6))
    @settings(deadline=None)
    def test_the_answers_do_not_depend_on_how_the_bytes_arrive(self, requests: list[bytes], cuts: list[int]) -> None:
        data = b"".join(requests) + get(b"/end", CLOSE)
        places = [0, *sorted(cuts), len(data)]
        parts = [data[start:end] for start, end in pairwise(places)]
        whole, cut = _shared().exchange(data), _shared().exchange(*parts)
        undated = re.compile(rb"date: [^\r]*")
        assert undated.sub(b"", whole) == undated.sub(b"", cut)

    @given(
        start=st.sampled_from([b"", b"GET /", b"POST / HTTP/1.1\r\n", chunked(b"/", b""), post(b"/", b"x" * 20)[:-9]]),
        rest=st.binary(max_size=200),
    )
    @settings(deadline=None)
    def test_any_bytes_get_answers_or_none(self, start: bytes, rest: bytes) -> None:
        """R2: "Every non-200 body is a JSON object"; and no bytes make the server fail."""
        with _shared().connect() as connection:
            connection.sendall(start + rest)
            connection.shutdown(socket.SHUT_WR)
            data = received(connection)
        assert {status for status, _, _ in answers(data.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b""))} <= KNOWN


KNOWN = {200, 400, 414, 417, 431, 501}

_running: list[Running] = []


def _shared() -> Running:
    return _running[0]


@pytest.fixture(scope="module", autouse=True)
def _server_of_laws() -> Iterator[None]:
    with running() as server:
        _running.append(server)
        yield
        _running.clear()
