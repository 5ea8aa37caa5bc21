"""Reading of write keys from the headers and the query of a request."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from trackcore import WriteKey, write_key_from_authorization
from trackcore.support import write_key

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


def header_write_key(environ: WSGIEnvironment) -> WriteKey | None:
    """Return the write key in the Authorization header, or None."""
    return write_key_from_authorization(environ.get("HTTP_AUTHORIZATION"))


def other_header_write_key(environ: WSGIEnvironment) -> WriteKey | None:
    """Return the write key in the header that is only for write keys, or None.  Jitsu sends `key:secret`."""
    return write_key(environ.get("HTTP_X_WRITE_KEY", "").partition(":")[0])


def query_write_key(environ: WSGIEnvironment) -> WriteKey | None:
    """Return the write key in the query, where beacons and pixels send it, or None."""
    key = query_of(environ).get("writeKey")
    return None if key is None else write_key(SURROGATE.sub("\ufffd", key))


def query_of(environ: WSGIEnvironment) -> dict[str, str]:
    """Return the query; of a repeated key the last value counts, as in JSON.

    It is UTF-8, percent-encoded or raw.  A byte that is not UTF-8 becomes an unpaired surrogate (PEP 383).
    """
    text = _BEYOND_ASCII.sub(lambda byte: f"%{ord(byte[0]):02X}", environ.get("QUERY_STRING", ""))
    return dict(parse_qsl(text, keep_blank_values=True, errors="surrogateescape"))


SURROGATE = re.compile("[\ud800-\udfff]")
_BEYOND_ASCII = re.compile("[\x80-\xff]")  # WSGI passes bytes decoded as Latin-1
