"""The headers that decide on how a request is read."""

from __future__ import annotations

from trackcore_server.hosting import rejections
from trackcore_server.hosting.rejections import Rejected

_FRAMING = frozenset({b"content-length", b"content-type", b"expect", b"host", b"transfer-encoding"})
"""Headers that a request has at most once.  llhttp checks the value of Content-Length itself."""


def read_framing(headers: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Return the headers that decide on how a request is read.  Raises `Rejected` if they cannot be followed."""
    found = [header for header in headers if header[0] in _FRAMING]
    framing = dict(found)
    if len(framing) < len(found):
        raise Rejected(rejections.INVALID_HTTP)
    if framing.get(b"transfer-encoding", b"chunked").lower() != b"chunked":
        raise Rejected(rejections.UNSUPPORTED_TRANSFER_CODING)
    if framing.get(b"expect", b"100-continue").lower() != b"100-continue":
        raise Rejected(rejections.EXPECTATION_FAILED)
    return framing
