"""The rules for a request body: its size, its encoding, its length, its text."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from typing import Any

import pytest
from adapter_helpers import (
    KEY,
    SDK_KEY,
    UNKNOWN_KEY,
    Answer,
    Server,
    call_app,
    serve,
    sized,
    sized_batch,
    track,
    zipped,
)
from trackcore_wsgi import TrackingApp

from trackcore import Limits, MemorySink

REQUEST_BYTES = 524_288
MESSAGE_BYTES = 32_768
GZIP = {**KEY, "Content-Encoding": "gzip"}
BATCH = json.dumps({"batch": [track(messageId="m")]}).encode()


def assert_refused(answer: Answer, code: str) -> None:
    """R2: every non-200 body is a JSON object with top-level string `code` and `message`, plus `success: false`."""
    assert answer.status == 400
    assert answer.json["success"] is False
    assert answer.json["code"] == code
    assert isinstance(answer.json["message"], str)
    assert answer.json["message"]


class TestNotJson:
    """Not JSON, not a JSON object, a batch call whose `batch` is not an array: 400 (R1).  NaN/Infinity, trailing data,
    bad UTF-8: 400 `invalid_json` with the byte position (R19).
    """

    @pytest.mark.parametrize(
        ("text", "position"),
        [
            (b"", 0),
            (b"{", 1),
            (b"oops", 0),
            (b'{"batch": [}', 11),
            (b'{"batch": []} x', 14),
            (b'{"batch": [{"a": NaN}]}', 17),
            (b'{"batch": [], "a": Infinity}', 19),
            (b'{"batch": [], "a": -Infinity}', 20),
            (b'{"batch": ["\xff"]}', 12),
            (b"{'batch': []}", 1),
            ('{"batch": []}'.encode("utf-16"), 0),
            (b"\xef\xbb\xbf\xef\xbb\xbf{}", None),
        ],
    )
    def test_invalid_json(self, text: bytes, position: int | None) -> None:
        answer = serve(MemorySink()).post("/v1/batch", text)
        assert_refused(answer, "invalid_json")
        found = answer.json["position"]
        assert isinstance(found, int)
        if position is not None:
            assert found == position

    @pytest.mark.parametrize("path", ["/v1/batch", "/v1/track"])
    @pytest.mark.parametrize("text", [b"[]", b"null", b'"x"', b"1", b"true", b'[{"batch": []}]'])
    def test_no_object(self, path: str, text: bytes) -> None:
        assert_refused(serve(MemorySink()).post(path, text), "body_not_object")

    @pytest.mark.parametrize("body", [{}, {"batch": {}}, {"batch": None}, {"batch": "x"}, {"batch": 1}, track()])
    def test_no_array(self, body: Any) -> None:
        answer = serve(MemorySink()).post("/v1/batch", body)
        assert_refused(answer, "batch_not_array")
        assert answer.json["path"] == "batch"

    def test_the_batch_that_android_sent(self) -> None:
        assert_refused(serve(MemorySink()).post("/v1/import", b'{"batch":[, , , ],"sentAt":"x"}'), "invalid_json")

    def test_a_byte_order_mark(self, server: Server) -> None:
        assert server.post("/v1/batch", b"\xef\xbb\xbf" + BATCH).status == 200
        assert len(server.messages) == 1

    @pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
    @pytest.mark.parametrize("path", ["/v1/batch", "/v1/track"])
    def test_another_unicode_encoding_is_named(self, server: Server, encoding: str, path: str) -> None:
        answer = server.post(path, BATCH.decode().encode(encoding))
        assert_refused(answer, "invalid_json")
        assert f"it looks like {encoding[:6].upper()}; send UTF-8" in answer.json["message"]

    def test_an_empty_batch(self, server: Server) -> None:
        """An empty `batch` is a 200."""
        assert server.post("/v1/batch", {"batch": []}).body == b'{"success": true}'


class TestSizes:
    """Limits are bytes after decompression, inclusive: request 524,288, message 32,768, 2,500 items a batch (R8)."""

    def test_the_largest_request(self, server: Server) -> None:
        body = sized_batch(REQUEST_BYTES)
        assert len(body) == REQUEST_BYTES
        assert server.post("/v1/batch", body).body == b'{"success": true}'
        assert len(server.messages) == body.count(b'"type"')

    def test_one_byte_more(self, server: Server) -> None:
        answer = server.post("/v1/batch", sized_batch(REQUEST_BYTES + 1))
        assert_refused(answer, "body_too_large")
        assert (answer.json["limit"], answer.json["actual"]) == (REQUEST_BYTES, REQUEST_BYTES + 1)
        assert server.messages == []

    @pytest.mark.parametrize("more", [0, 1])
    def test_after_decompression(self, server: Server, more: int) -> None:
        answer = server.post("/v1/batch", zipped(sized_batch(REQUEST_BYTES + more)), headers=GZIP)
        assert answer.status == (400 if more else 200)
        if more:
            assert_refused(answer, "body_too_large")

    def test_a_gzip_that_did_not_compress(self, server: Server) -> None:
        """Stored blocks are a little larger than their content."""
        packed = gzip.compress(sized_batch(REQUEST_BYTES), compresslevel=0)
        assert len(packed) > REQUEST_BYTES
        assert server.post("/v1/batch", packed, headers=GZIP).status == 200

    def test_white_space_counts(self) -> None:
        padded = b'{"batch": []}'.ljust(REQUEST_BYTES)
        assert serve(MemorySink()).post("/v1/batch", padded).status == 200
        assert_refused(serve(MemorySink()).post("/v1/batch", padded + b" "), "body_too_large")

    @pytest.mark.parametrize("path", ["/v1/track", "/v1/t"])
    def test_a_single_message(self, server: Server, path: str) -> None:
        """A single call whose message exceeds the message limit: 400 (R1)."""
        assert server.post(path, sized(MESSAGE_BYTES)).status == 200
        answer = server.post(path, sized(MESSAGE_BYTES + 1))
        assert_refused(answer, "message_too_large")
        assert (answer.json["limit"], answer.json["actual"]) == (MESSAGE_BYTES, MESSAGE_BYTES + 1)
        assert len(server.messages) == 1

    def test_a_message_in_a_batch(self, server: Server) -> None:
        """An oversized item of a batch is rejected in a 200, and the other items are stored."""
        items = [
            sized(MESSAGE_BYTES, messageId="a"),
            sized(MESSAGE_BYTES + 1, messageId="b"),
            sized(200, messageId="c"),
        ]
        answer = server.post("/v1/batch", b'{"batch": [' + b" , ".join(items) + b"]}")
        assert answer.status == 200
        (verdict,) = answer.json["rejected"]
        assert (verdict["index"], verdict["messageId"], verdict["code"]) == (1, "b", "message_too_large")
        assert (verdict["limit"], verdict["actual"]) == (MESSAGE_BYTES, MESSAGE_BYTES + 1)
        assert [message["messageId"] for message in server.messages] == ["a", "c"]
        assert [record.payload for record in server.log.rejected()] == [items[1]]

    def test_a_message_is_measured_on_its_own_text(self, server: Server) -> None:
        """White space and escapes count as they were sent."""
        long = b'{"type": "track", "event": "E", "userId": "u", "p": "' + rb"\u00e9" * 5500 + b'"}'
        assert len(long) > MESSAGE_BYTES > len(json.loads(long)["p"].encode())
        (verdict,) = server.post("/v1/batch", b'{"batch":[' + long + b"]}").json["rejected"]
        assert verdict["actual"] == len(long)

    def test_2500_items(self, server: Server) -> None:
        answer = server.post("/v1/batch", {"batch": [track(messageId=f"m{n}") for n in range(2500)]})
        assert answer.body == b'{"success": true}'
        assert len(server.messages) == 2500

    def test_2501_items(self, server: Server) -> None:
        """The excess items are rejected."""
        answer = server.post("/v1/batch", {"batch": [track(messageId=f"m{n}") for n in range(2501)]})
        assert answer.status == 200
        assert answer.json["accepted"] == 2500
        (verdict,) = answer.json["rejected"]
        assert (verdict["index"], verdict["messageId"], verdict["code"]) == (2500, "m2500", "too_many_messages")
        assert (verdict["limit"], verdict["actual"]) == (2500, 2501)
        assert len(server.messages) == 2500
        assert server.log.totals().rejected == 1

    @pytest.mark.parametrize(("length", "accepted"), [(100, 1), (101, 0)])
    def test_message_ids(self, server: Server, length: int, accepted: int) -> None:
        """MessageId 100 characters."""
        answer = server.post("/v1/batch", {"batch": [track(messageId="é" * length), track()]})
        assert answer.json.get("accepted", 2) == accepted + 1
        if not accepted:
            (verdict,) = answer.json["rejected"]
            assert (verdict["code"], verdict["limit"], verdict["actual"]) == ("message_id_too_long", 100, 101)

    def test_limits_are_configurable(self) -> None:
        small = serve(MemorySink(), limits=Limits(request_bytes=200, message_bytes=100, batch_messages=1))
        assert small.post("/v1/track", sized(100)).status == 200
        assert small.post("/v1/track", sized(101)).json["limit"] == 100
        assert small.post("/v1/batch", b'{"batch":[]}'.ljust(201)).json["limit"] == 200
        assert small.post("/v1/batch", zipped(b'{"batch":[]}'.ljust(201)), headers=GZIP).json["limit"] == 200
        assert small.post("/v1/batch", {"batch": [1, 2]}).json["rejected"][1]["code"] == "too_many_messages"


class _Input:
    """A body that can only be read in pieces, and records the reads."""

    def __init__(self, body: bytes, most: int = 1 << 30) -> None:
        self._body = io.BytesIO(body)
        self._most = most
        self.largest = 0

    def read(self, size: int) -> bytes:
        assert size >= 0, "everything is asked for at once"
        self.largest = max(self.largest, size)
        return self._body.read(min(size, self._most))

    @property
    def rest(self) -> bytes:
        return self._body.read()


class _Breaking(_Input):
    """The connection breaks after the first piece."""

    def read(self, size: int) -> bytes:
        if self.largest:
            raise ConnectionResetError("secret detail")
        return super().read(size)


class _Malformed(_Input):
    """The second chunk is malformed; each server has its own exception for that."""

    def read(self, size: int) -> bytes:
        if self.largest:
            raise ValueError("secret detail")
        return super().read(size)


class _Untouchable(io.BytesIO):
    """A body that must not be read: a real one would block."""

    def read(self, _: int | None = -1) -> bytes:
        raise SystemExit("the body was read")


class _Endless(_Input):
    """An endless body."""

    given = 0

    def read(self, size: int) -> bytes:
        self.given += size
        assert self.given < 64 << 20, "it reads on and on"
        return b"x" * size


class TestReading:
    """Exactly the announced length is read; an oversized body is drained so that the client can read the response."""

    def test_a_body_that_is_too_large_is_drained(self) -> None:
        body = _Input(b"x" * 3_000_000)
        environ = {"wsgi.input": body, "CONTENT_LENGTH": "3000000"}
        answer = serve(MemorySink()).post("/v1/batch", environ=environ, validate=False)
        assert_refused(answer, "body_too_large")
        assert answer.json["actual"] == 3_000_000
        assert body.rest == b""
        assert body.largest <= 1 << 20

    def test_an_endless_body_is_given_up(self) -> None:
        environ = {"wsgi.input": _Endless(b""), "CONTENT_LENGTH": None, "wsgi.input_terminated": True}
        answer = serve(MemorySink()).post("/v1/batch", environ=environ, validate=False)
        assert_refused(answer, "body_too_large")

    def test_not_a_byte_beyond_the_announced_length(self, server: Server) -> None:
        """Later bytes belong to the next request of the connection."""
        body = _Input(BATCH + b"POST / HTTP/1.1")
        environ = {"wsgi.input": body, "CONTENT_LENGTH": str(len(BATCH))}
        assert server.post("/v1/batch", environ=environ, validate=False).status == 200
        assert body.rest == b"POST / HTTP/1.1"

    @pytest.mark.parametrize("length", [str(len(BATCH)), None])
    def test_in_small_pieces(self, server: Server, length: str | None) -> None:
        environ: dict[str, Any] = {"wsgi.input": _Input(BATCH, most=7), "CONTENT_LENGTH": length}
        if length is None:
            environ["wsgi.input_terminated"] = True
        assert server.post("/v1/batch", environ=environ, validate=False).status == 200
        assert len(server.messages) == 1

    @pytest.mark.parametrize("encoding", ["", "gzip"])
    @pytest.mark.parametrize("terminated", [False, True], ids=["by length", "terminated by the server"])
    def test_incomplete(self, server: Server, encoding: str, terminated: bool) -> None:
        """The body ended before its announced length.  (gunicorn terminates the input of every request.)"""
        body = zipped(BATCH) if encoding else BATCH
        environ: dict[str, Any] = {"CONTENT_LENGTH": str(len(body) + 1)}
        if terminated:
            environ["wsgi.input_terminated"] = True
        answer = server.post("/v1/batch", body, headers={**KEY, "Content-Encoding": encoding}, environ=environ)
        assert_refused(answer, "incomplete_body")
        assert server.messages == []
        assert [record.payload for record in server.log.rejected()] == [body]
        assert [record.code for record in server.log.rejected()] == ["incomplete_body"]

    @pytest.mark.parametrize("terminated", [False, True], ids=["by length", "terminated by the server"])
    def test_a_connection_that_breaks(self, server: Server, terminated: bool) -> None:
        environ: dict[str, Any] = {"wsgi.input": _Breaking(BATCH, most=20), "CONTENT_LENGTH": str(len(BATCH))}
        if terminated:
            environ["wsgi.input_terminated"] = True
        answer = server.post("/v1/batch", environ=environ, validate=False)
        assert_refused(answer, "incomplete_body")
        assert b"secret" not in answer.body
        assert [record.payload for record in server.log.rejected()] == [BATCH[:20]]

    def test_a_malformed_chunk(self, server: Server) -> None:
        """R1: a body that cannot be parsed gets a 400; on a 500 an SDK would send the same body again."""
        environ = {"wsgi.input": _Malformed(BATCH, most=20), "CONTENT_LENGTH": None, "wsgi.input_terminated": True}
        answer = server.post("/v1/batch", environ=environ, validate=False)
        assert_refused(answer, "incomplete_body")
        assert b"secret" not in answer.body
        assert [record.payload for record in server.log.rejected()] == [BATCH[:20]]

    @pytest.mark.parametrize("path", ["/v1/batch", "/v1/track"])
    @pytest.mark.parametrize("length", ["", "abc", "-1", "-99999999999", "1e3", "\u0665", "+5", " ", None])
    def test_no_usable_length(self, path: str, length: str | None) -> None:
        """A request without a length has no body unless the server declares that the input ends."""
        body = BATCH if length != "+5" else b""
        environ = {"CONTENT_LENGTH": length}
        assert_refused(serve(MemorySink()).post(path, body, environ=environ, validate=False), "invalid_json")

    def test_chunked(self, server: Server) -> None:
        """Kotlin and Android send no length; the server declares that the input ends."""
        environ = {"CONTENT_LENGTH": None, "wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
        assert server.post("/v1/b", BATCH, environ=environ).status == 200
        assert len(server.messages) == 1

    @pytest.mark.parametrize(
        "environ",
        [
            {"HTTP_TRANSFER_ENCODING": "chunked", "CONTENT_LENGTH": None},
            {"HTTP_TRANSFER_ENCODING": " Chunked", "CONTENT_LENGTH": ""},
            {"HTTP_TRANSFER_ENCODING": "chunked", "CONTENT_LENGTH": "5"},
            {"SERVER_PROTOCOL": "HTTP/2", "CONTENT_LENGTH": None},
            {"SERVER_PROTOCOL": "HTTP/2", "CONTENT_LENGTH": ""},
        ],
    )
    def test_without_a_length_the_body_is_read_only_where_its_end_is_marked(
        self, caplog: pytest.LogCaptureFixture, environ: dict[str, Any]
    ) -> None:
        """On a 400 SDKs drop the batch; on a 503 they keep it until the app is mounted as its log requests."""
        sink = MemorySink()
        server = serve(sink)
        for _ in range(2):
            answer = server.post("/v1/b", environ={**environ, "wsgi.input": _Untouchable()}, validate=False)
            assert (answer.status, answer.json["code"]) == (503, "input_not_terminated")
            assert 1 <= int(answer.headers["retry-after"]) <= 300
        assert caplog.text.count("input_terminated=True") == 1
        app = TrackingApp(server.app.collector, input_terminated=True)
        assert call_app(app, "/v1/b", BATCH, headers=KEY, environ=environ).status == 200
        assert len(sink.envelopes) == 1

    @pytest.mark.parametrize("coding", ["gzip, chunked", "gzip", "chunked, chunked", "x", "deflate,chunked"])
    @pytest.mark.parametrize("length", [None, str(len(BATCH))])
    def test_another_transfer_coding_is_refused(self, coding: str, length: str | None) -> None:
        """No server decodes it, so the body would be read wrongly."""
        environ = {"HTTP_TRANSFER_ENCODING": coding, "CONTENT_LENGTH": length, "wsgi.input_terminated": True}
        sink = MemorySink()
        answer = serve(sink).post("/v1/b", BATCH, environ=environ)
        assert (answer.status, answer.json["code"]) == (501, "unsupported_transfer_coding")
        assert not sink.envelopes

    def test_metrics_are_dropped_unread(self) -> None:
        environ = {"HTTP_TRANSFER_ENCODING": "chunked", "CONTENT_LENGTH": None, "wsgi.input": _Untouchable()}
        assert serve(MemorySink()).post("/v1/m", environ=environ, validate=False).status == 200

    @pytest.mark.parametrize(("size", "status"), [(REQUEST_BYTES, 200), (REQUEST_BYTES + 1, 400), (2_000_000, 400)])
    def test_chunked_and_large(self, size: int, status: int) -> None:
        environ = {"CONTENT_LENGTH": None, "wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
        answer = serve(MemorySink()).post("/v1/b", b'{"batch": []}'.ljust(size), environ=environ)
        assert answer.status == status
        if status == 400:
            assert_refused(answer, "body_too_large")
            assert "actual" not in answer.json


class TestContentType:
    """Content-Type is ignored: JSON is parsed with any Content-Type (R9)."""

    @pytest.mark.parametrize(
        "content_type",
        [
            "application/json",
            "application/json; charset=utf-8",
            "application/json;charset=UTF-8",
            "text/plain",
            "text/plain;charset=UTF-8",
            "application/x-www-form-urlencoded",
            "multipart/form-data",
            "multipart/form-data; boundary=x",
            "application/json; charset=latin-1",
            "image/png",
            "???",
            "",
            None,
        ],
    )
    def test_any(self, server: Server, content_type: str | None) -> None:
        answer = server.post("/v1/batch", BATCH, environ={"CONTENT_TYPE": content_type})
        assert (answer.status, answer.body) == (200, b'{"success": true}')
        assert server.only["messageId"] == "m"


class TestGzipWithoutContentEncoding:
    """A body without Content-Encoding that begins with gzip's magic is decompressed: JSON cannot begin so (R23)."""

    @pytest.mark.parametrize("headers", [KEY, {**KEY, "Content-Encoding": "identity"}], ids=["none", "identity"])
    def test_it_is_decompressed(self, server: Server, headers: dict[str, str]) -> None:
        assert server.post("/v1/batch", zipped(BATCH), headers=headers).status == 200
        assert server.only["messageId"] == "m"

    def test_within_the_same_limits(self, server: Server) -> None:
        assert_refused(server.post("/v1/batch", zipped(sized_batch(REQUEST_BYTES + 1)), headers=KEY), "body_too_large")
        assert_refused(server.post("/v1/batch", zipped(b" " * 50_000_000), headers=KEY), "body_too_large")
        assert server.post("/v1/batch", zipped(sized_batch(REQUEST_BYTES)), headers=KEY).status == 200

    @pytest.mark.parametrize("broken", [zipped(BATCH)[:-5], b"\x1f\x8b", b"\x1f\x8bxxxxxxxxx"])
    def test_what_only_begins_so_is_refused(self, server: Server, broken: bytes) -> None:
        assert_refused(server.post("/v1/batch", broken, headers=KEY), "invalid_encoding")
        assert [record.payload for record in server.log.rejected()] == [broken]


class TestContentEncoding:
    """`Content-Encoding: gzip` (also `x-gzip`, `identity`), decompression with a hard cap while inflating (R9)."""

    @pytest.mark.parametrize("encoding", ["gzip", "GZIP", "Gzip", " gzip ", "x-gzip", "X-GZip"])
    def test_gzip(self, server: Server, encoding: str) -> None:
        answer = server.post("/v1/batch", zipped(BATCH), headers={**KEY, "Content-Encoding": encoding})
        assert (answer.status, answer.body) == (200, b'{"success": true}')
        assert server.only["messageId"] == "m"

    @pytest.mark.parametrize("encoding", ["", "identity", "Identity", " identity "])
    def test_none(self, server: Server, encoding: str) -> None:
        assert server.post("/v1/batch", BATCH, headers={**KEY, "Content-Encoding": encoding}).status == 200
        assert len(server.messages) == 1

    @pytest.mark.parametrize("encoding", ["deflate", "br", "zstd", "gzip, gzip", "gzip;q=1", "x", "none", "\xff"])
    def test_unknown(self, server: Server, encoding: str) -> None:
        answer = server.post("/v1/batch", BATCH, headers={**KEY, "Content-Encoding": encoding})
        assert_refused(answer, "invalid_encoding")
        assert [record.payload for record in server.log.rejected()] == [BATCH]

    @pytest.mark.parametrize(
        "broken",
        [
            b"",
            b"\x1f",
            b"\x1f\x8b",
            BATCH,
            zipped(BATCH)[:-1],
            zipped(BATCH)[:-8],
            zipped(BATCH)[:20],
            zipped(BATCH)[:-8] + bytes(8),
            zipped(BATCH)[:30] + b"\xff\xff" + zipped(BATCH)[32:],
            zlib.compress(BATCH),
            zipped(BATCH) + b"rest",
            zipped(BATCH) + zipped(b"  ")[:-1],
        ],
        ids=["nothing", "one byte", "magic", "no gzip", "cut by one", "no trailer", "cut", "wrong sum", "garbled",
             "zlib", "rest", "second cut"],
    )  # fmt: skip
    def test_broken(self, server: Server, broken: bytes) -> None:
        answer = server.post("/v1/batch", broken, headers=GZIP)
        assert_refused(answer, "invalid_encoding")
        assert server.messages == []
        assert [record.payload for record in server.log.rejected()] == [broken]

    def test_several_members(self, server: Server) -> None:
        """A gzip stream may have several members, and padding behind them."""
        packed = zipped(BATCH[:10]) + zipped(b"") + zipped(BATCH[10:]) + bytes(100)
        assert server.post("/v1/batch", packed, headers=GZIP).status == 200
        assert server.only["messageId"] == "m"

    def test_several_members_that_are_too_large_together(self) -> None:
        body = sized_batch(REQUEST_BYTES + 1)
        packed = zipped(body[:300_000]) + zipped(body[300_000:])
        assert_refused(serve(MemorySink()).post("/v1/batch", packed, headers=GZIP), "body_too_large")
        exact = sized_batch(REQUEST_BYTES)
        packed = zipped(exact[:300_000]) + zipped(exact[300_000:]) + zipped(b"")
        assert serve(MemorySink()).post("/v1/batch", packed, headers=GZIP).status == 200

    def test_very_many_members(self) -> None:
        """Thousands of empty ones are an attack."""
        answer = serve(MemorySink()).post("/v1/batch", zipped(BATCH) + zipped(b"") * 5000, headers=GZIP)
        assert_refused(answer, "invalid_encoding")

    def test_a_bomb(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is never decompressed beyond the limit."""
        bomb = zipped(b" " * 200_000_000)
        assert len(bomb) < 200_000
        inflated: list[int] = []
        real = zlib.decompressobj

        class Watched:
            def __init__(self, **options: Any) -> None:
                self._real = real(**options)

            def decompress(self, data: bytes, most: int = 0) -> bytes:
                assert most > 0, "nothing bounds this"
                output = self._real.decompress(data, most)
                inflated.append(len(output))
                return output

            def __getattr__(self, name: str) -> Any:
                return getattr(self._real, name)

        monkeypatch.setattr(zlib, "decompressobj", Watched)
        answer = server.post("/v1/batch", bomb, headers=GZIP)
        assert_refused(answer, "body_too_large")
        assert answer.json["limit"] == REQUEST_BYTES
        assert 0 < sum(inflated) <= REQUEST_BYTES + 1
        assert [record.code for record in server.log.rejected()] == ["body_too_large"]

    def test_a_bomb_to_the_metrics(self) -> None:
        bomb = zipped(b" " * 20_000_000)
        assert serve(MemorySink()).post("/v1/m", bomb, headers=GZIP).json == {"success": True}


class TestNothingVanishes:
    """Each rejected message, and each 400'd body of a known source (up to the request limit), is kept with its code,
    and can be listed (R7).
    """

    @pytest.mark.parametrize(
        ("path", "body", "code"),
        [
            ("/v1/batch", b"{", "invalid_json"),
            ("/v1/batch", b'{"batch": [{"a": NaN}]}', "invalid_json"),
            ("/v1/batch", b"\xff\x00", "invalid_json"),
            ("/v1/batch", b"[]", "body_not_object"),
            ("/v1/batch", b"{}", "batch_not_array"),
            ("/v1/track", sized(MESSAGE_BYTES + 1), "message_too_large"),
        ],
    )
    def test_a_refused_body_is_kept_whole(self, server: Server, path: str, body: bytes, code: str) -> None:
        assert_refused(server.post(path, body), code)
        (record,) = server.log.rejected()
        assert (record.source, record.code, record.payload) == ("website", code, body)
        assert record.message

    def test_one_that_is_too_large_is_kept_to_the_limit(self, server: Server) -> None:
        body = sized_batch(REQUEST_BYTES + 5000)
        server.post("/v1/batch", body)
        (record,) = server.log.rejected()
        assert (record.code, record.payload) == ("body_too_large", body[:REQUEST_BYTES])

    @pytest.mark.parametrize(
        "body",
        [
            b'{"writeKey": "abc123", "batch": {}}',
            b'{"batch": 1, "writeKey": "abc123"}',
        ],
    )
    def test_a_source_that_only_the_body_names(self, server: Server, body: bytes) -> None:
        assert_refused(server.post("/v1/batch", body, headers={}), "batch_not_array")
        assert [(record.source, record.payload) for record in server.log.rejected()] == [("website", body)]

    def test_a_source_that_only_a_broken_body_names(self, server: Server) -> None:
        """Python 2.3 sends NaN, and its key in the body alone."""
        body = b'{"batch": [{"a": NaN}], "sentAt": "2024-05-06T12:00:00Z", "writeKey": "' + SDK_KEY.encode() + b'"}'
        assert_refused(server.post("/v1/batch", body, headers={}), "invalid_json")
        server.sink.check_ready()
        assert [(record.source, record.payload) for record in server.log.rejected()] == [("website", body)]

    @pytest.mark.parametrize("headers", [{}, UNKNOWN_KEY])
    def test_one_of_nobody_is_not_kept(self, server: Server, headers: dict[str, str]) -> None:
        assert_refused(server.post("/v1/batch", b"{", headers=headers), "invalid_json")
        server.sink.check_ready()
        totals = server.log.totals()
        assert (totals.rejected, totals.messages) == (0, 0)

    def test_rejected_messages_are_kept_as_sent(self, server: Server) -> None:
        body = b'{"batch": [ {"type" : "track","userId":"\\u00e9"} , 5, {"type":"page","userId":"u"}, [] ]}'
        answer = server.post("/v1/batch", body)
        assert answer.json["accepted"] == 1
        kept = [(record.code, record.path, record.payload) for record in server.log.rejected()]
        assert kept == [
            ("event_not_defined", "event", b'{"type" : "track","userId":"\\u00e9"}'),
            ("message_not_object", "", b"5"),
            ("message_not_object", "", b"[]"),
        ]

    def test_gzip_is_kept_as_text_where_it_was_readable(self, server: Server) -> None:
        server.post("/v1/batch", zipped(b'{"batch": 1}'), headers=GZIP)
        assert [record.payload for record in server.log.rejected()] == [b'{"batch": 1}']


def test_a_form_is_not_parsed(server: Server) -> None:
    """A framework must not parse form data first: that would consume the input."""
    answer = call_app(
        server.app, "/v1/t", b"userId=u&event=E", headers={**KEY, "Content-Type": "application/x-www-form-urlencoded"}
    )
    assert_refused(answer, "invalid_json")
    assert [record.payload for record in server.log.rejected()] == [b"userId=u&event=E"]
