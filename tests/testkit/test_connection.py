"""The server of the test kit: the responses of the real one, and HTTP in all forms that SDKs use."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from typing import Any
from urllib.parse import urlsplit

import pytest
from adapter_helpers import NOON, SDK_KEY, SOURCES, basic
from faces import WsgiFace
from fuzz.raw import RawRequest, honest_requests
from kit_client import Client
from patience import PATIENCE, wait_for
from support import CountingIds
from trackcore_testing import Tracking, TrackingServer
from trackcore_testing.connection import Connection
from trackcore_testing.listener import Listener

from trackcore import Collector, MemorySink

AUTHORIZATION = f"Authorization: {basic('web-key')}\r\n"
BODY = b'{"userId": "u1", "event": "Paid"}'


def read_response(connected: socket.socket) -> HTTPResponse:
    """Read one response; its body is read too."""
    response = HTTPResponse(connected)
    response.begin()
    response.read()
    return response


@pytest.fixture(scope="module", name="kit")
def _kit() -> Iterator[TrackingServer]:
    """A server with the sources of the recorded requests."""
    with TrackingServer(sources=SOURCES, timeout=0) as server:
        yield server


class TestTheSameAsTheServer:
    """It sends the responses of `trackcore_wsgi` to recorded and documented requests, over a real socket."""

    @pytest.mark.parametrize("request_", honest_requests(), ids=lambda request: request.target[:40])
    def test_the_same_response_and_as_many_messages(self, kit: TrackingServer, request_: RawRequest) -> None:
        sink = MemorySink()
        face = WsgiFace(Collector(sources=SOURCES, sink=sink, clock=lambda: NOON, new_message_id=CountingIds()))
        host = urlsplit(kit.url).netloc
        headers = {name: value for name, value in request_.headers if name.lower() not in {"host", "connection"}}
        request_ = RawRequest(
            method=request_.method,
            target=request_.target,
            headers=(*headers.items(), ("Host", host)),
            body=request_.body,
        )
        expected = face.ask(request_)
        with kit.collecting(strict=False) as tracking:
            tracking.freeze(NOON)
            answer = Client(kit.url).send(request_.method, request_.target, request_.body, key=None, headers=headers)
        assert (answer.status, answer.body) == (expected.status, expected.body)
        assert {name.lower(): value for name, value in answer.headers.items()} == dict(expected.headers)
        assert len(tracking.messages) == len(sink.envelopes)
        assert len(tracking.rejected) == len(sink.rejected)
        assert tracking.quarantined == []

    def test_the_key_of_the_recordings_belongs_to_a_source(self) -> None:
        assert SDK_KEY in SOURCES[0].write_keys


class TestHttp:
    def test_many_requests_on_one_connection(self, tracked: Tracking) -> None:
        connection = HTTPConnection(urlsplit(tracked.url).netloc, timeout=PATIENCE)
        try:
            for _ in range(3):
                connection.request("POST", "/v1/track", BODY, {"Authorization": basic("web-key")})
                assert connection.getresponse().read() == b'{"success": true}'
        finally:
            connection.close()
        tracked.assert_tracked("Paid", count=3)

    def test_chunked_bodies(self, tracked: Tracking) -> None:
        """Kotlin and Android send them, compressed."""
        connection = HTTPConnection(urlsplit(tracked.url).netloc, timeout=PATIENCE)
        try:
            pieces = (BODY[start : start + 7] for start in range(0, len(BODY), 7))
            connection.request("POST", "/v1/track", pieces, {"Authorization": basic("web-key")}, encode_chunked=True)
            assert connection.getresponse().status == 200
        finally:
            connection.close()
        tracked.assert_tracked("Paid", count=1)

    def test_a_client_that_waits_for_100_continue(self, tracked: Tracking, client: Client) -> None:
        head = f"POST /v1/track HTTP/1.1\r\nHost: x\r\n{AUTHORIZATION}Content-Length: {len(BODY)}\r\n"
        with client.connected() as connected:
            connected.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
            assert connected.recv(1_000).startswith(b"HTTP/1.1 100 ")
            connected.sendall(BODY)
            assert read_response(connected).status == 200
        tracked.assert_tracked("Paid", count=1)

    def test_http_1_0(self, tracked: Tracking, client: Client) -> None:
        with client.connected() as connected:
            head = f"POST /v1/track HTTP/1.0\r\n{AUTHORIZATION}Content-Length: {len(BODY)}\r\n\r\n"
            connected.sendall(head.encode() + BODY)
            assert read_response(connected).status == 200
            assert connected.recv(1) == b""
        tracked.assert_tracked("Paid", count=1)

    def test_a_whole_address_as_target(self, tracked: Tracking, client: Client) -> None:
        with client.connected() as connected:
            target = "http://tracking.example/v1/pixel/track?writeKey=web-key&userId=u1&event=Opened"
            connected.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert read_response(connected).headers["Content-Type"] == "image/gif"
        tracked.assert_tracked("Opened")

    def test_a_head_request_gets_no_body(self, client: Client) -> None:
        assert (client.send("HEAD", "/health").status, client.send("HEAD", "/health").body) == (200, b"")

    def test_a_body_that_is_not_read_is_skipped(self, client: Client) -> None:
        with client.connected() as connected:
            request = f"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: {len(BODY)}\r\n\r\n".encode() + BODY
            for _ in range(2):
                connected.sendall(request)
                assert read_response(connected).status == 404

    @pytest.mark.parametrize(
        "request_",
        [b"NOT HTTP\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nA: %b\r\n\r\n" % (b"a" * 70_000)],
    )
    def test_malformed_http_is_refused_in_json(self, tracked: Tracking, client: Client, request_: bytes) -> None:
        with client.connected() as connected:
            connected.sendall(request_)
            response = HTTPResponse(connected)
            response.begin()
            assert response.status in (400, 431)
            assert json.loads(response.read())["code"] == "invalid_http"
        assert tracked.requests == []

    @pytest.mark.parametrize(
        ("head", "detail"),
        [
            ("Content-Length: 100\r\n\r\n{", "the body ended before its announced length"),
            ("Transfer-Encoding: chunked\r\n\r\n5\r\n{", "the body ended before its announced length"),
            ("Transfer-Encoding: chunked\r\n\r\nno chunk\r\n", "the body could not be read to its end"),
        ],
    )
    def test_an_incomplete_body_is_rejected(self, tracked: Tracking, client: Client, head: str, detail: str) -> None:
        with client.connected() as connected:
            connected.sendall(f"POST /v1/track HTTP/1.1\r\nHost: x\r\n{AUTHORIZATION}{head}".encode())
            connected.shutdown(socket.SHUT_WR)
            wait_for(lambda: tracked.rejected)
        (record,) = tracked.rejected
        assert (record.code, record.message) == ("incomplete_body", detail)

    def test_a_client_that_goes_harms_nobody(self, tracked: Tracking, client: Client) -> None:
        for part in (b"", b"POST /v1/track HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{"):
            with client.connected() as connected:
                connected.sendall(part)
        client.track("Paid")
        tracked.assert_tracked("Paid")

    def test_a_client_that_goes_before_the_refusal_is_no_error(self) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.sendall(b"NOT HTTP\r\n\r\n")
            theirs.close()
            Connection(ours).serve(lambda *_: None)


class Accepting(Listener):
    """A listener whose connections get no thread."""

    def process_request(self, request: Any, client_address: Any) -> None:
        del client_address
        self.accepted = request


class TestLife:
    def test_each_server_has_a_port_of_its_own(self, server: TrackingServer) -> None:
        with TrackingServer() as other:
            assert other.url != server.url
            assert other.write_key == "test-write-key"

    def test_a_taken_port_is_an_error(self, server: TrackingServer) -> None:
        with pytest.raises(OSError, match="in use"):
            TrackingServer(port=urlsplit(server.url).port or 0)

    def test_ipv6(self) -> None:
        with TrackingServer(host="::1") as server, server.collecting() as tracking:
            assert server.url.startswith("http://[::1]:")
            Client(server.url).track("Paid", key=server.write_key)
            tracking.assert_tracked("Paid", context=None)

    def test_closing_ends_open_connections(self) -> None:
        with (
            TrackingServer() as server,
            socket.create_connection(("127.0.0.1", urlsplit(server.url).port or 0)) as idle,
        ):
            idle.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert read_response(idle).status == 200
            server.close()
            assert idle.recv(1) == b""

    def test_closing_ends_a_connection_whose_thread_has_not_begun(self) -> None:
        listener = Accepting("127.0.0.1", 0, socket.socket.close)
        listener.start()
        with (
            socket.create_connection(("127.0.0.1", listener.server_address[1]), PATIENCE) as client,
            wait_for(lambda: getattr(listener, "accepted", None)),
        ):
            listener.close()
            assert client.recv(1) == b""
