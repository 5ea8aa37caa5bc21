"""Every face of the HTTP layer sends the same response to the same request, and stores the same."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import attrs
import pytest
from adapter_helpers import NOON, SOURCES, FailingSink, basic, sized_batch, track, unavailable, zipped
from faces import FACES, AsgiFace, Reply, WsgiFace
from fuzz.mutations import mutate
from fuzz.raw import RawRequest, found_cases, honest_requests, parse_raw, seeds
from hypothesis import given
from hypothesis import strategies as st

from trackcore import Cause, Collector, MemorySink, Sink

KEY = ("Authorization", basic("abc123"))
STRICT = ("Authorization", basic("strict1"))
NOBODY = ("Authorization", basic("nobody's"))
BATCH = json.dumps({"batch": [track(messageId="m"), {"type": "track"}, 5]}).encode()
MUTATIONS = 1_500
ORIGINS = ("https://example.org", "null", "a\x01b", "é")


def collector_of(sink: Sink) -> Collector:
    numbers = iter(range(1, 1_000_000))
    return Collector(sources=SOURCES, sink=sink, clock=lambda: NOON, new_message_id=lambda: f"server-{next(numbers)}")


@attrs.frozen
class Twins:
    """One face of each kind, each on a sink of its own."""

    faces: list[WsgiFace | AsgiFace]
    sinks: list[Any]

    def reply(self, request: RawRequest) -> Reply:
        """Return the response that all faces send; fail where they differ, or differ in what they stored."""
        first, *others = [face.ask(request) for face in self.faces]
        for name, other in zip(list(FACES)[1:], others, strict=True):
            assert other == first, name
        return first

    def check_stored(self) -> None:
        """Check that all faces have stored the same."""
        first, *others = self.sinks
        for sink in others:
            assert sink.envelopes == first.envelopes
            assert sink.rejected == first.rejected
            assert sink.quarantined == first.quarantined


@pytest.fixture
def make_twins() -> Iterator[Callable[..., Twins]]:
    """Make twins; `sink` makes a sink, and the options are those of the app."""
    made: list[Any] = []

    def make(sink: Callable[[], Any] = MemorySink, **options: Any) -> Twins:
        sinks = [sink() for _ in FACES]
        faces = [make(collector_of(sink), **options) for make, sink in zip(FACES.values(), sinks, strict=True)]
        made.extend(faces)
        return Twins(faces, sinks)

    yield make
    for face in made:
        face.close()


@pytest.fixture(name="twins")
def _twins(make_twins: Callable[..., Twins]) -> Twins:
    return make_twins()


class TestTheSameResponse:
    """The answers are equal to the byte: status, headers and body."""

    @pytest.mark.parametrize("request_", honest_requests(), ids=lambda request: request.target[:40])
    @pytest.mark.parametrize("is_zipped", [False, True])
    def test_to_recorded_and_documented_requests(self, twins: Twins, request_: RawRequest, *, is_zipped: bool) -> None:
        if is_zipped:
            headers = (*request_.headers, ("Content-Encoding", "gzip"))
            request_ = attrs.evolve(request_, headers=headers, body=zipped(request_.body))
        twins.reply(request_)
        twins.check_stored()

    @pytest.mark.parametrize("name", found_cases())
    def test_to_the_findings_of_fuzzing(self, twins: Twins, name: str) -> None:
        twins.reply(parse_raw(found_cases()[name]))
        twins.check_stored()

    def test_to_changed_requests(self, twins: Twins) -> None:
        rng, known = random.Random(13), seeds()
        statuses = {twins.reply(mutate(rng.choice(known), rng, known)).status for _ in range(MUTATIONS)}
        twins.check_stored()
        assert statuses >= {200, 400, 404, 405}

    @pytest.mark.parametrize("origin", [None, *ORIGINS])
    @pytest.mark.parametrize("method", ["OPTIONS", "GET", "HEAD", "POST", "PUT", "post"])
    @pytest.mark.parametrize("target", ["/v1/batch", "/v1//b/", "/health", "/v1/pixel/track", "/nowhere", "/", "*", ""])
    def test_to_each_method_of_each_kind_of_path(
        self, twins: Twins, target: str, method: str, origin: str | None
    ) -> None:
        asked = (("Access-Control-Request-Headers", "authorization, x-own"),) if method == "OPTIONS" else ()
        headers = (KEY, *(() if origin is None else (("Origin", origin),)), *asked)
        twins.reply(RawRequest(method=method, target=target, headers=headers, body=BATCH))
        twins.check_stored()

    @pytest.mark.parametrize(
        ("headers", "status"),
        [
            ((KEY,), 200),
            ((STRICT,), 400),
            ((KEY, ("X-Strict-Mode", "1")), 400),
            ((NOBODY,), 200),
            ((NOBODY, ("X-Strict-Mode", "1")), 401),
            ((KEY, ("Content-Encoding", "br")), 400),
            ((KEY, ("Content-Encoding", "gzip")), 400),
            ((KEY, ("Content-Length", "5")), 400),
            ((KEY, ("Content-Length", "100000")), 400),
            ((KEY, ("Content-Length", "-1")), 400),
            ((KEY, ("Content-Length", "9" * 5_000)), 400),
            ((KEY, ("Transfer-Encoding", "chunked")), 200),
            ((KEY, ("Transfer-Encoding", "gzip, chunked")), 501),
            ((NOBODY, ("X-Write-Key", "abc123:secret")), 200),
            ((KEY, KEY), 200),
            ((("X-Write-Key", "nobody's"), ("X-Write-Key", "abc123")), 200),
        ],
    )
    def test_to_headers_that_matter(self, twins: Twins, headers: tuple[tuple[str, str], ...], status: int) -> None:
        assert twins.reply(RawRequest(headers=headers, body=BATCH)).status == status
        twins.check_stored()

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{",
            b"\xff",
            b"[]",
            b"\x1f\x8b",
            zipped(BATCH),
            zipped(b" " * 600_000),
            sized_batch(524_288),
            sized_batch(524_289),
            b" " * 20_000_000,
        ],
        ids=len,
    )
    def test_to_any_body(self, twins: Twins, body: bytes) -> None:
        twins.reply(RawRequest(headers=(KEY,), body=body))
        twins.check_stored()

    @pytest.mark.parametrize(
        "error",
        [
            *(unavailable(cause=cause, retry_after=7) for cause in Cause),
            RuntimeError("secret detail"),
            OSError("secret detail"),
        ],
        ids=repr,
    )
    @pytest.mark.parametrize(
        "request_",
        [
            RawRequest(headers=(KEY,), body=BATCH),
            RawRequest(headers=(KEY,), body=b"{"),
            RawRequest(headers=(NOBODY,), body=BATCH),
            RawRequest(method="GET", target="/ready"),
            RawRequest(method="GET", target="/v1/pixel/track?writeKey=abc123&userId=u&event=e"),
        ],
        ids=lambda request: request.target,
    )
    def test_when_the_sink_fails(
        self, make_twins: Callable[..., Twins], error: Exception, request_: RawRequest
    ) -> None:
        make_twins(lambda: FailingSink(error)).reply(request_)

    @pytest.mark.parametrize("hops", [0, 1, 2])
    @pytest.mark.parametrize(
        "forwarded",
        [
            {"For": "198.51.100.1, 192.0.2.7", "Proto": "https", "Host": "t.example.com", "Prefix": "/in"},
            {"For": "198.51.100.1", "Proto": "", "Host": "t.example.com:443, b:1", "Prefix": "in//x/, /"},
            {"For": "", "Host": "<script>", "Prefix": "é"},
        ],
    )
    @pytest.mark.parametrize("target", ["/v1/projects/k/settings", "/openapi.json", "/v1/p"])
    def test_behind_proxies(
        self, make_twins: Callable[..., Twins], hops: int, forwarded: dict[str, str], target: str
    ) -> None:
        headers = tuple((f"X-Forwarded-{name}", value) for name, value in forwarded.items())
        twins = make_twins(proxy_hops=hops)
        request = RawRequest(method="GET", target=target, headers=headers)
        if target == "/v1/p":
            request = attrs.evolve(request, method="POST", body=b'{"userId":"u","writeKey":"abc123"}')
        twins.reply(request)
        twins.check_stored()


def _pieces(body: bytes, ends: Iterable[int]) -> Iterator[bytes]:
    start = 0
    for end in sorted(ends):
        yield body[start:end]
        start = end
    yield body[start:]


class TestPieces:
    """A server passes on a body in any pieces."""

    @given(st.lists(st.integers(0, len(BATCH) + 20)), st.sampled_from(["", "gzip"]), st.booleans())
    def test_the_pieces_do_not_matter(self, ends: list[int], encoding: str, is_chunked: bool) -> None:
        headers: tuple[tuple[str, str], ...] = (KEY, ("Content-Encoding", encoding))
        if is_chunked:
            headers += (("Transfer-Encoding", "chunked"),)
        body = gzip.compress(BATCH) if encoding else BATCH
        request = RawRequest(headers=headers, body=body)
        sinks = MemorySink(), MemorySink()
        whole = AsgiFace(collector_of(sinks[0]))
        pieces = AsgiFace(collector_of(sinks[1]), split=lambda body: _pieces(body, ends))
        try:
            assert pieces.ask(request) == whole.ask(request)
        finally:
            whole.close()
            pieces.close()
        assert sinks[0].envelopes == sinks[1].envelopes
        assert sinks[0].rejected == sinks[1].rejected
