"""The bytes of a response: its head, and its body framed by a length, in chunks, or by the end of the connection.

It is sans-IO: the caller sends the bytes.  The heads of an app differ little from each other, so they are encoded once.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from http import HTTPStatus
from typing import NamedTuple

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode("ascii") for status in HTTPStatus}
_BODILESS = frozenset({HTTPStatus.NO_CONTENT.value, HTTPStatus.NOT_MODIFIED.value})
_OF_THE_HOST = frozenset({b"connection", b"date", b"transfer-encoding"})
_KEPT_HEADS = 512

_END = b"\r\n"
_CLOSE = b"connection: close\r\n\r\n"
_KEEP_ALIVE = b"connection: keep-alive\r\n\r\n"


class InvalidResponse(Exception):
    """The app sends a response that HTTP cannot express."""


class _Head(NamedTuple):
    lines: bytes
    length: int | None
    """The Content-Length."""

    closes: bool
    """Whether the app asks for the end of the connection."""


class Response:
    """A response in the making.  Call `begin` for the first part of the body, then `frame` for each other part."""

    __slots__ = ("_has_body", "_head", "_is_chunked", "_is_old", "_left", "closes")

    def __init__(self, status: int, headers: Iterable[tuple[bytes, bytes]], *, is_head: bool, is_old: bool) -> None:
        """Start a response to a HEAD request or another one, of HTTP/1.0 (old) or HTTP/1.1.

        Raises `InvalidResponse` if a header cannot be sent.
        """
        self._head, self._left, self.closes = _encode(status, tuple([(name, value) for name, value in headers]))
        self._has_body = not (is_head or status in _BODILESS)
        self._is_old = is_old
        self._is_chunked = False

    def begin(self, body: bytes, *, is_last: bool, keeps_alive: bool, date: bytes) -> bytes:
        """Return the head and the first part of the body; `date` is the line of that header.

        Raises `InvalidResponse` if the body has another length than its Content-Length; so does `frame`.
        """
        head = self._head + date
        if self._has_body and self._left is None:
            if is_last:
                self._left = len(body)
                head += b"content-length: %d\r\n" % len(body)
            elif self._is_old:
                self.closes = True
            else:
                self._is_chunked = True
                head += b"transfer-encoding: chunked\r\n"
        if self.closes or not keeps_alive:
            head += _CLOSE
        else:
            head += _KEEP_ALIVE if self._is_old else _END
        return head + self.frame(body, is_last=is_last)

    def frame(self, body: bytes, *, is_last: bool) -> bytes:
        """Return a part of the body as it is sent."""
        if not self._has_body:
            return b""
        if self._is_chunked:
            chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            return chunk + b"0\r\n\r\n" if is_last else chunk
        if self._left is not None:
            self._left -= len(body)
            if self._left < 0 or (is_last and self._left):
                raise InvalidResponse("the body has another length than its Content-Length")
        return body


@lru_cache(_KEPT_HEADS)
def _encode(status: int, headers: tuple[tuple[bytes, bytes], ...]) -> _Head:
    lines = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status]
    length, closes = None, False
    for name, value in headers:
        lowered = name.lower()
        if lowered == b"connection":
            closes = closes or b"close" in value.lower()
        if lowered in _OF_THE_HOST:
            continue
        if b"\n" in name + value or b"\r" in name + value:
            raise InvalidResponse("a header contains a line break")
        if lowered == b"content-length":
            length = int(value)
        lines.append(b"%b: %b\r\n" % (lowered, value))
    return _Head(b"".join(lines), length, closes)
