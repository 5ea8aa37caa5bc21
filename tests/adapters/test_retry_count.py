"""`X-Retry-Count`, which the SDKs for browsers, Node, Swift, Kotlin and C# send with a retry, is kept and shown."""

from __future__ import annotations

import json

import pytest
from adapter_helpers import KEY, UNKNOWN_KEY, Server, serve, track

from trackcore import JSONObject, MemorySink, Origin, WriteKey

BATCH = {"batch": [track(messageId="m1"), track(messageId="m2")]}


def post(server: Server, retry_count: str, body: object = BATCH, key: dict[str, str] = KEY) -> int:
    return server.post("/v1/batch", body, headers={**key, "X-Retry-Count": retry_count}).status


class TestRecorded:
    def test_with_each_message_of_the_request(self) -> None:
        sink = MemorySink()
        assert post(serve(sink), "3") == 200
        assert [envelope.retry_count for envelope in sink.envelopes] == [3, 3]
        assert [stored.retry_count for stored in sink.log.messages()] == [3, 3]

    def test_the_first_attempt_has_none(self) -> None:
        sink = MemorySink()
        serve(sink).post("/v1/batch", BATCH)
        assert [envelope.retry_count for envelope in sink.envelopes] == [0, 0]

    @pytest.mark.parametrize(
        ("header", "expected"),
        [("0", 0), ("1", 1), ("999999", 999_999), ("1000000", 0), ("-1", 0), ("x", 0), ("", 0), ("1.5", 0), ("²", 0)],
    )
    def test_what_no_sdk_sends_is_none(self, header: str, expected: int) -> None:
        sink = MemorySink()
        assert post(serve(sink), header) == 200
        assert {envelope.retry_count for envelope in sink.envelopes} == {expected}

    def test_a_duplicate_keeps_its_own(self, server: Server) -> None:
        """A retry of what was stored already: its first answer was lost."""
        assert [post(server, "0"), post(server, "2")] == [200, 200]
        assert [stored.retry_count for stored in server.entries] == [0, 0]

    def test_the_receipt_has_it(self) -> None:
        collector = serve(MemorySink()).app.collector
        origin = Origin(header_key=WriteKey("abc123"), retry_count=4)
        bodies: list[JSONObject] = [BATCH, {"batch": [{}]}, {"batch": []}]
        for body in bodies:
            assert collector.receive(json.dumps(body).encode(), origin=origin).retry_count == 4

    def test_so_has_the_receipt_of_a_request_without_a_source(self) -> None:
        server = serve(MemorySink())
        assert post(server, "5", key=UNKNOWN_KEY) == 200
        pending = server.app.collector.prepare(b"{", origin=Origin(retry_count=5))
        assert pending.retry_count == 5
