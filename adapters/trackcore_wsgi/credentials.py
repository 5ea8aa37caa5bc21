"""Where a request may carry its write key, beside its body."""

from __future__ import annotations

from urllib.parse import parse_qsl

from werkzeug.datastructures import MultiDict
from werkzeug.wrappers import Request

from trackcore import WriteKey, write_key_from_authorization

_KEY_HEADER = "X-Write-Key"  # Jitsu, as `key:secret`


def header_write_key(request: Request) -> WriteKey | None:
    """Read the write key from the headers."""
    key = write_key_from_authorization(request.headers.get("Authorization"))
    if key is None and (given := request.headers.get(_KEY_HEADER, "").partition(":")[0]):
        return WriteKey(given)
    return key


def query_write_key(request: Request) -> WriteKey | None:
    """Read the write key from the query, where beacons and pixels have it."""
    key = query_of(request).get("writeKey")
    return WriteKey(key) if key else None


def query_of(request: Request) -> MultiDict[str, str]:
    """Read the query.  What is not UTF-8 in it becomes U+FFFD, where Werkzeug's own reading of it would raise."""
    text = request.query_string.decode("utf-8", "replace")
    return MultiDict(parse_qsl(text, keep_blank_values=True, errors="replace"))
