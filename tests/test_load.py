"""The load of the benchmarks: what it counts is what the server was sent and has answered."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

KEEP, CHUNKED, CLOSE, REFUSE, REFUSE_EARLY, HANG_UP = range(6)
BODY = b'{"batch": [%b]}' % b",".join(
    b'{"messageId":"00000000-0000-4000-8000-00000000000%d","anonymousId":"00000000-0000-4000-8000-000000000009"}'
    % number
    for number in range(3)
)


@pytest.fixture(scope="module")
def load() -> Any:
    """Import `benchmarks/load.py`, which is not in a package."""
    name = "trackcore_benchmark_load"
    spec = spec_from_file_location(name, Path(__file__).parents[1] / "benchmarks" / "load.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Collector(ThreadingHTTPServer):
    """A server that behaves in `ways`, one after the other, and records the bodies by way."""

    daemon_threads = False
    request_queue_size = 50

    def __init__(self, *ways: int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.ways = ways
        self.turn = 0
        self.lock = threading.Lock()
        self.bodies: dict[int, list[bytes]] = {way: [] for way in ways}

    def next_way(self) -> int:
        with self.lock:
            self.turn += 1
            return self.ways[self.turn % len(self.ways)]

    def ids(self, *ways: int) -> list[str]:
        """Return the messageIds of the whole requests that came on these ways."""
        batches = [json.loads(body)["batch"] for way in ways for body in self.bodies.get(way, ())]
        return [message["messageId"] for batch in batches for message in batch]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Collector

    def do_POST(self) -> None:
        way = self.server.next_way()
        if way == REFUSE_EARLY:
            self.refuse(413)
            return
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.lock:
            self.server.bodies[way].append(body)
        self.close_connection = way in (CLOSE, HANG_UP)
        if way != HANG_UP:
            self.answer(way)

    def answer(self, way: int) -> None:
        if way == REFUSE:
            self.refuse(503)
            return
        self.send_response(200)
        if way == CHUNKED:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("content-length", "10")
        if way == CLOSE:
            self.send_header("Connection", "close")
        self.end_headers()
        for piece in (b"A\r\n", b"0123456789\r\n", b"0\r\n\r\n") if way == CHUNKED else (b"01234", b"56789"):
            self.wfile.write(piece)

    def refuse(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Stay silent."""


@contextmanager
def collector(*ways: int) -> Iterator[Collector]:
    with Collector(*ways) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def generate(load: Any, server: Collector, body: bytes = BODY) -> Any:
    request = load.make_request("/v1/batch", body, key="key")
    plan = load.Plan(address=server.server_address, requests=[request], connections=5, seconds=0.3)
    return load.generate(plan)


class TestTheLoad:
    """No request is cut off, each message has a new id, and what is counted as acknowledged was answered with a 2xx."""

    @pytest.mark.parametrize("way", [KEEP, CHUNKED, CLOSE])
    def test_every_request_that_was_received_is_counted(self, load: Any, way: int) -> None:
        with collector(way) as server:
            tally = generate(load, server)
        assert tally.requests == len(server.bodies[way]) > 0
        assert tally.messages == 3 * tally.requests
        assert (tally.refused, tally.broken) == (0, 0)

    def test_no_id_is_sent_twice(self, load: Any) -> None:
        with collector(KEEP) as server:
            generate(load, server)
        ids = server.ids(KEEP)
        assert len(set(ids)) == len(ids)
        assert {UUID(text).version for text in ids} == {4}

    def test_only_the_named_field_is_replaced(self, load: Any) -> None:
        with collector(KEEP) as server:
            generate(load, server)
        message = json.loads(server.bodies[KEEP][0])["batch"][2]
        assert message["anonymousId"] == "00000000-0000-4000-8000-000000000009"
        assert message["messageId"] != "00000000-0000-4000-8000-000000000002"

    def test_refused_and_broken_requests_are_counted_apart(self, load: Any) -> None:
        with collector(KEEP, CHUNKED, REFUSE, CLOSE, HANG_UP) as server:
            tally = generate(load, server)
        assert tally.messages == len(server.ids(KEEP, CHUNKED, CLOSE))
        assert tally.refused == len(server.bodies[REFUSE]) > 0
        assert tally.broken == len(server.bodies[HANG_UP]) > 0
        assert tally.first_refusal.startswith("HTTP/1.1 503")

    def test_a_request_that_is_refused_before_it_was_read_does_not_spoil_the_next_one(self, load: Any) -> None:
        large = b'{"pad":"%b",%b' % (b"x" * 20_000_000, BODY[1:])
        with collector(KEEP, REFUSE_EARLY) as server:
            tally = generate(load, server, large)
        assert tally.messages == len(server.ids(KEEP)) > 0
        assert tally.refused > 0
        assert tally.broken == 0
