"""Where a request may carry its write key, beside its body."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from werkzeug.datastructures import MultiDict

from trackcore import WriteKey, write_key_from_authorization

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

_KEY_HEADER = "HTTP_X_WRITE_KEY"  # Jitsu, as `key:secret`


def header_write_key(environ: WSGIEnvironment) -> WriteKey | None:
    """Read the write key from the headers."""
    key = write_key_from_authorization(environ.get("HTTP_AUTHORIZATION"))
    if key is None and (given := environ.get(_KEY_HEADER, "").partition(":")[0]):
        return WriteKey(given)
    return key


def query_write_key(environ: WSGIEnvironment) -> WriteKey | None:
    """Read the write key from the query, where beacons and pixels have it."""
    key = query_of(environ).get("writeKey")
    return WriteKey(key) if key else None


def query_of(environ: WSGIEnvironment) -> MultiDict[str, str]:
    """Read the query.  What is not UTF-8 in it becomes U+FFFD, where Werkzeug's own reading of it would raise."""
    text = environ.get("QUERY_STRING", "").encode("latin-1").decode("utf-8", "replace")
    return MultiDict(parse_qsl(text, keep_blank_values=True, errors="replace"))
