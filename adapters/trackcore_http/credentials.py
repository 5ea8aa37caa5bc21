"""The origin of a request: its write keys in headers and query, its address, and how often it was sent before."""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import parse_qsl

from trackcore import Origin, WriteKey, write_key_from_authorization
from trackcore.support import write_key
from trackcore.text import canonical_address
from trackcore_http.request import HttpRequest
from trackcore_http.routes import Route


def origin_of(request: HttpRequest, route: Route) -> Origin:
    """Return where a request came from: its write keys outside of the body, its client, and its number of retries."""
    headers = request.headers
    query_key = _query_write_key(request) if route.key_in_query else None
    return _origin(
        headers.get("authorization"),
        headers.get("x-write-key"),
        query_key,
        request.client,
        route.client_side,
        _retry_count(headers.get("x-retry-count")),
    )


@lru_cache(maxsize=256)
def _origin(  # noqa: PLR0917 - a cache is faster by position
    authorization: str | None,
    x_write_key: str | None,
    query_key: WriteKey | None,
    client: str | None,
    client_side: bool,
    retry_count: int,
) -> Origin:
    """Cached, since a client sends the same again and again."""
    return Origin(
        header_key=write_key_from_authorization(authorization),
        other_header_key=_other_header_write_key(x_write_key),
        query_key=query_key,
        client_ip=canonical_address(client),
        client_side=client_side,
        retry_count=retry_count,
    )


def _retry_count(header: str | None) -> int:
    """Return the number in X-Retry-Count; 0 for one that no SDK sends."""
    return int(header) if header is not None and _RETRY_COUNT.fullmatch(header) else 0


_RETRY_COUNT = re.compile("[0-9]{1,6}")


def _other_header_write_key(header: str | None) -> WriteKey | None:
    """Return the write key in the header that is only for write keys, or None.  Jitsu sends `key:secret`."""
    return None if header is None else write_key(header.partition(":")[0])


def _query_write_key(request: HttpRequest) -> WriteKey | None:
    """Return the write key in the query, where beacons and pixels send it, or None."""
    key = query_of(request).get("writeKey")
    return None if key is None else write_key(SURROGATE.sub("\ufffd", key))


def query_of(request: HttpRequest) -> dict[str, str]:
    """Return the query; of a repeated key the last value counts, as in JSON.

    It is UTF-8, percent-encoded or raw.  A byte that is not UTF-8 becomes an unpaired surrogate (PEP 383).
    """
    text = _BEYOND_ASCII.sub(lambda byte: f"%{ord(byte[0]):02X}", request.query)
    return dict(parse_qsl(text, keep_blank_values=True, errors="surrogateescape"))


SURROGATE = re.compile("[\ud800-\udfff]")
_BEYOND_ASCII = re.compile("[\x80-\xff]")  # bytes, as characters of Latin-1
