"""Recorded requests: what a client sent, and what it was answered."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import attrs
from trackcore_http import HttpRequest

from trackcore import Outcome

_SECRETS = frozenset({"authorization", "cookie", "proxy-authorization", "x-write-key"})
_HIDDEN = "***"
_GZIP_START = b"\x1f\x8b"
_USER_AGENT = re.compile(r"([^\s/]+)/([^\s/]+)")


@attrs.frozen(kw_only=True)
class RecordedRequest:
    """A request that the server received, with its answer.

    Attributes:
        method, path, query: as in the request line; the path is percent-decoded.
        headers: by names in lower case; credentials are replaced by `***`.
        body: the body, decompressed where it can be.
        received_at: when it was received.
        source: the source that its write key belongs to, None if there is none.
        outcomes: of each accepted message, whether it was stored or is a duplicate.
        status, answer: the answer; None and empty if the connection was dropped.
        fault: the fault that changed the answer; None if there was none.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    received_at: datetime
    source: str | None
    outcomes: tuple[Outcome, ...]
    status: int | None
    answer: bytes
    fault: str | None

    @property
    def json(self) -> Any:
        """The body as JSON.  Raises `ValueError` if it is not JSON."""
        return json.loads(self.body)

    @property
    def sdk(self) -> str | None:
        """The name of the SDK: that of `context.library`, else that of the User-Agent."""
        return self._library()[0]

    @property
    def sdk_version(self) -> str | None:
        """The version of the SDK."""
        return self._library()[1]

    @property
    def retry_count(self) -> int:
        """The number of the attempt by the header X-Retry-Count; 0 without it, which SDKs leave out at the first."""
        count = self.headers.get("x-retry-count", "")
        return int(count) if count.isdecimal() else 0

    def _library(self) -> tuple[str | None, str | None]:
        try:
            document = self.json
        except ValueError:
            document = None
        for part in (document, *_items(document)):
            library = _member(_member(part, "context"), "library")
            if _member(library, "name") is not None:
                return _text(library["name"]), _text(_member(library, "version"))
        found = _USER_AGENT.match(self.headers.get("user-agent", ""))
        return (found[1], found[2]) if found else (None, None)


def shown_headers(request: HttpRequest) -> Mapping[str, str]:
    """Return the headers of a request without credentials."""
    return {name: _HIDDEN if name in _SECRETS else value for name, value in request.headers.items()}


def decompressed(body: bytes) -> bytes:
    """Return a body that may be compressed by gzip; one that cannot be decompressed as it is."""
    if not body.startswith(_GZIP_START):
        return body
    try:
        return gzip.decompress(body)
    except (OSError, EOFError, zlib.error):
        return body


def _items(document: Any) -> list[Any]:
    batch = _member(document, "batch")
    return batch if isinstance(batch, list) else []


def _member(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
