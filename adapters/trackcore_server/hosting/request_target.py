"""The target of a request line: its path and its query.

Mail programs request pixels with addresses in raw UTF-8, which the parser of HTTP refuses.  So such bytes are
percent-encoded before it sees them; others, such as controls, are left for it to refuse.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote

_BEYOND_ASCII = re.compile(rb"[\x80-\xff]")


class RequestTarget(NamedTuple):
    """A target, as ASGI has it: the path as text and as sent, and the query as sent."""

    path: str
    raw_path: bytes
    query: bytes


def percent_encode(data: bytes) -> bytes:
    """Percent-encode bytes beyond ASCII, such as those of raw UTF-8 in an address."""
    return _BEYOND_ASCII.sub(lambda byte: b"%%%02X" % byte[0][0], data)


def parse_target(target: bytes) -> RequestTarget:
    """Parse a target in ASCII: one with a path, or `*`.  Raises `ValueError` for another."""
    if not target.startswith(b"/"):
        target = _without_authority(target)
    path, _, query = (target.partition(b"#")[0] if b"#" in target else target).partition(b"?")
    text = path.decode("ascii")
    return RequestTarget(unquote(text) if "%" in text else text, path, query)


def _without_authority(target: bytes) -> bytes:
    """Return the path and the query of a target that is sent to a proxy: `http://host/path?query`."""
    if target == b"*":
        return target
    _, separator, rest = target.partition(b"://")
    if not separator:
        raise ValueError("neither a path nor an address")
    authority = re.split(rb"[/?#]", rest, maxsplit=1)[0]
    rest = rest[len(authority) :]
    return rest if rest.startswith(b"/") else b"/" + rest
