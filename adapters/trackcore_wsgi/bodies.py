"""Reading of a request body with hard limits: on the received bytes, and on their decompressed size.

Content-Type is ignored: browsers send JSON as text/plain, RudderStack's Node SDK as form data, C# without any.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable
from typing import IO, TYPE_CHECKING

import attrs
from werkzeug.exceptions import ClientDisconnected
from werkzeug.wsgi import get_content_length, get_input_stream

from trackcore import InvalidRequest, Reason
from trackcore.wire import body_too_large

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

log = logging.getLogger("trackcore.wsgi")

_CHUNK = 1 << 16
_GZIP_SLACK_BYTES = 1 << 12
"""How much larger than its content a gzip stream may be: headers, and data that does not compress."""

_DRAIN_BYTES = 16 << 20
"""How much of an oversized body is drained, so that the client can read the response: the Node SDKs send batches of
3 MB by a wrong size formula."""

_MAX_MEMBERS = 64
"""Members of one gzip stream.  SDKs send one; thousands of empty ones are an attack."""


@attrs.define
class RefusedBody(Exception):
    """A body that was refused while it was read: the error, and the part of it that was received."""

    error: InvalidRequest
    received: bytes


class UnsupportedTransferCoding(Exception):
    """Transfer-Encoding is not `chunked`, and no server in front decodes it.  Nothing was read."""


class UnterminatedBody(Exception):
    """The length is unknown, and the server in front does not mark the end: reading could block forever."""


def read_body(environ: WSGIEnvironment, limit: int) -> bytes:
    """Read and decompress the body of a request.

    Clients forget Content-Encoding, and proxies drop it: a body that begins like gzip is decompressed without it.

    Raises `RefusedBody` if it is larger than `limit` bytes after decompression, or does not match its Content-Encoding;
    `UnsupportedTransferCoding`; and `UnterminatedBody`.
    """
    environ = _framed(environ)
    encoding = environ.get("HTTP_CONTENT_ENCODING", "").strip().lower()
    inflate = _INFLATERS.get(encoding)
    cap = limit if inflate is None else limit + _GZIP_SLACK_BYTES
    announced = get_content_length(environ)
    received = _read(environ, announced, cap)
    if len(received) > cap:
        raise RefusedBody(body_too_large(limit, announced), received[:limit])
    if encoding in _PLAIN:
        if not received.startswith(_GZIP_START):
            return received
        inflate = gunzip  # JSON never begins with these bytes
    try:
        if inflate is None:
            raise _invalid_encoding(f"Content-Encoding {encoding[:40]!r} is not supported; use gzip")
        return inflate(received, limit)
    except InvalidRequest as error:
        raise RefusedBody(error, received) from None


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


def _framed(environ: WSGIEnvironment) -> WSGIEnvironment:
    """Return the environment, without a length where the server marks the end of the body.

    HTTP/2 has bodies without length that are not chunked.  Raises if the end of the body cannot be found.
    """
    coding = environ.get("HTTP_TRANSFER_ENCODING", "").strip().lower()
    if coding not in {*_PLAIN, "chunked"}:
        raise UnsupportedTransferCoding
    is_known = environ.get("CONTENT_LENGTH") and coding != "chunked"
    may_follow = coding == "chunked" or environ.get("SERVER_PROTOCOL", "").startswith(("HTTP/2", "HTTP/3"))
    if is_known or not may_follow:
        return environ
    if not environ.get("wsgi.input_terminated"):
        raise UnterminatedBody
    return {name: value for name, value in environ.items() if name != "CONTENT_LENGTH"}


def _read(environ: WSGIEnvironment, announced: int | None, cap: int) -> bytes:
    """Read up to `cap` bytes, and one more if there are more; then drain the rest, within reason."""
    stream = get_input_stream(environ)
    most = cap + 1 if announced is None else min(announced, cap + 1)
    received = bytearray()
    try:
        _read_into(stream, most, received.extend)
        if len(received) > cap:
            _read_into(stream, _DRAIN_BYTES, len)
        # Where the server marks the end of the input itself, the announced length is checked here.
        complete = announced is None or len(received) == most
    except (ClientDisconnected, OSError):
        complete = False
    except Exception as error:  # noqa: BLE001 - each server has its own exceptions for a malformed chunk
        log.info("a body could not be read: %s", type(error).__name__)
        raise _incomplete("the body could not be read to its end", received[:cap]) from None
    if not complete:
        raise _incomplete("the body ended before its announced length", received[:cap])
    return bytes(received)


def _incomplete(detail: str, received: bytearray) -> RefusedBody:
    return RefusedBody(InvalidRequest(reason=Reason.INCOMPLETE_BODY, detail=detail), bytes(received))


def _read_into(stream: IO[bytes], most: int, take: Callable[[bytes], object]) -> None:
    while most > 0 and (chunk := stream.read(min(most, _CHUNK))):
        take(chunk)
        most -= len(chunk)


def _invalid_encoding(detail: str) -> InvalidRequest:
    return InvalidRequest(reason=Reason.INVALID_ENCODING, detail=detail)


_GZIP_START = b"\x1f\x8b"
_PLAIN = frozenset({"", "identity"})
_INFLATERS = {"gzip": gunzip, "x-gzip": gunzip}
