"""A request body with hard limits: on the received bytes, and on their decompressed size.

Content-Type is ignored: browsers send JSON as text/plain, RudderStack's Node SDK as form data, C# without any.
"""

from __future__ import annotations

import re
import zlib

import attrs

from trackcore import InvalidRequest, Reason
from trackcore.wire import body_too_large
from trackcore_http.request import HttpRequest

_CHUNK = 1 << 16
_GZIP_SLACK_BYTES = 1 << 12
"""How much larger than its content a gzip stream may be: headers, and data that does not compress."""

_DRAIN_BYTES = 16 << 20
"""How much of an oversized body is drained, so that the client can read the response: the Node SDKs send batches of
3 MB by a wrong size formula."""

_MAX_MEMBERS = 64
"""Members of one gzip stream.  SDKs send one; thousands of empty ones are an attack."""

CUT_OFF = "the body ended before its announced length"
"""Why a body is incomplete whose client has gone."""

UNREADABLE = "the body could not be read to its end"
"""Why a body is incomplete that its server could not parse."""


@attrs.define
class RefusedBody(Exception):
    """A body that was refused while it was read: the error, and the part of it that was received."""

    error: InvalidRequest
    received: bytes


class UnsupportedTransferCoding(Exception):
    """Transfer-Encoding is not `chunked`, and no server in front decodes it.  Nothing was read."""


class UnterminatedBody(Exception):
    """The length is unknown, and the server in front does not mark the end: reading could block forever."""


class BodyReader:
    """Collects the body of a request, up to its limit, and decompresses it.

    A face feeds it as long as it is `wanted`, and then calls `body`.

    Attributes:
        announced: the length that the client has announced; None for a chunked body, and for one of HTTP/2 without it.

    Raises `UnsupportedTransferCoding`.
    """

    def __init__(self, request: HttpRequest, limit: int) -> None:
        headers = request.headers
        coding = headers.get("transfer-encoding", "").strip().lower()
        if coding not in _TRANSFER_CODINGS:
            raise UnsupportedTransferCoding
        self.announced = None if coding == "chunked" else _length(headers.get("content-length"))
        self._encoding = headers.get("content-encoding", "").strip().lower()
        self._inflate = _INFLATERS.get(self._encoding)
        self._limit = limit
        self._cap = limit if self._inflate is None else limit + _GZIP_SLACK_BYTES
        self._most = self._cap + 1 if self.announced is None else min(self.announced, self._cap + 1)
        self._received = bytearray()
        self._drained = 0

    @property
    def size(self) -> int:
        """How many bytes were received."""
        return len(self._received) + self._drained

    @property
    def wanted(self) -> int:
        """How many bytes are read next, at most.

        Of a body above its limit so many are received that it is known to be above it; the rest is drained, within
        reason, so that the client can read the response.
        """
        left = self._most - len(self._received)
        if left == 0 and self._most > self._cap:
            left = _DRAIN_BYTES - self._drained
        return min(max(left, 0), _CHUNK)

    def feed(self, chunk: bytes) -> None:
        """Add received bytes."""
        part = chunk[: self._most - len(self._received)]
        self._received += part
        self._drained += len(chunk) - len(part)

    def body(self, failure: str | None = None) -> bytes:
        """Return the decompressed body.

        Clients forget Content-Encoding, and proxies drop it: a body that begins like gzip is decompressed without it.

        Args:
            failure: why the body was not read to its end, as a sentence for the client; None if it was.

        Raises `RefusedBody` if it is incomplete, larger than its limit, or does not match its Content-Encoding.
        """
        received = bytes(self._received)
        # The end of the body may be that of the server, so the announced length is checked here.
        if failure is None and self.announced is not None and len(received) < self._most:
            failure = CUT_OFF
        if failure is not None:
            error = InvalidRequest(reason=Reason.INCOMPLETE_BODY, detail=failure)
            raise RefusedBody(error, received[: self._cap])
        if len(received) > self._cap:
            raise RefusedBody(body_too_large(self._limit, self.announced), received[: self._limit])
        try:
            return self._decoded(received)
        except InvalidRequest as error:
            raise RefusedBody(error, received) from None

    def _decoded(self, received: bytes) -> bytes:
        if self._encoding in _PLAIN:
            # JSON never begins like gzip.
            return gunzip(received, self._limit) if received.startswith(_GZIP_START) else received
        if self._inflate is None:
            raise _invalid_encoding(f"Content-Encoding {self._encoding[:40]!r} is not supported; use gzip")
        return self._inflate(received, self._limit)


def _length(text: str | None) -> int | None:
    """Return the announced length; a length that is not a number counts as 0, as in most servers."""
    if not text:
        return None
    return int(text) if _LENGTH.fullmatch(text) else 0


_LENGTH = re.compile(r"[0-9]{1,18}")


def gunzip(data: bytes, limit: int) -> bytes:
    """Decompress a gzip stream of one or more members to at most `limit` bytes, without holding more than that.

    Raises `InvalidRequest` if it is broken, cut short, or larger.
    """
    inflated = bytearray()
    for _ in range(_MAX_MEMBERS):
        member = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        try:
            inflated += member.decompress(data, limit + 1 - len(inflated))
        except zlib.error as error:
            raise _invalid_encoding(f"the gzip stream is broken ({error})") from None
        if len(inflated) > limit:
            raise body_too_large(limit, None)
        if not member.eof:
            raise _invalid_encoding("the gzip stream ends too early")
        data = member.unused_data.lstrip(b"\0")  # padding is allowed
        if not data:
            return bytes(inflated)
    raise _invalid_encoding(f"the gzip stream has more than {_MAX_MEMBERS} members")


def _invalid_encoding(detail: str) -> InvalidRequest:
    return InvalidRequest(reason=Reason.INVALID_ENCODING, detail=detail)


_GZIP_START = b"\x1f\x8b"
_PLAIN = frozenset({"", "identity"})
_TRANSFER_CODINGS = _PLAIN | {"chunked"}
_INFLATERS = {"gzip": gunzip, "x-gzip": gunzip}
