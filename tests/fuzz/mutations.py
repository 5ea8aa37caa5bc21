"""Random mutations of requests: of JSON, bytes, method, path and headers.  The same seed yields the same mutations."""

from __future__ import annotations

import gzip
import json
import random
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import attrs
from fuzz.raw import RawRequest, format_raw, parse_raw
from trackcore_http.routes import ROUTES

_MAX_BYTES = 40_000

_TEXTS = (
    "",
    "x",
    "\ud800",
    "\x00",
    "\x1b[31m",
    "a\nb",
    "true",
    "NaN",
    "2015-2-02T00:30:08.276Z",
    "24:00:00",
    "é" * 200,
)
_NUMBERS = (0, -1, 1, 0.5, 1e308, -0.0, 2**53, 2**63, 2**70, 10**99, 10**400)
_VALUES: tuple[Any, ...] = (
    *_TEXTS,
    *_NUMBERS,
    None,
    True,
    False,
    [],
    {},
    [[]],
    {"": None},
    {"All": False},
    {"direct": True},
)
_NAMES = (
    *(
        "type",
        "userId",
        "anonymousId",
        "messageId",
        "timestamp",
        "originalTimestamp",
        "sentAt",
        "receivedAt",
        "context",
    ),
    *(
        "integrations",
        "traits",
        "properties",
        "event",
        "name",
        "category",
        "groupId",
        "previousId",
        "writeKey",
        "batch",
    ),
    *("_metadata", "All", "all", "ip", "direct", "__proto__", "$set", "a.b", "", "channel", "version", "projectId"),
)
_CALLS = ("identify", "track", "page", "screen", "group", "alias", "batch", "Track", "")
_FRAGMENTS = (
    *(
        b"NaN",
        b"-Infinity",
        b"1e999",
        b"null",
        b"-",
        b"//",
        b"\r\n",
        b"\x00",
        b"\xff",
        b"\xed\xa0\x80",
        b"\xef\xbb\xbf",
    ),
    *(b"\\", b"\\ud800", b"\\udc00", b"\\u0000", b'"', b"[", b"]", b"{", b"}", b",", b":", b" ", b"\t", b"[" * 300),
    *(b'{"a":' * 100, b"9" * 5_000, b'"batch":', b'"writeKey":"app1"', b"\n\n"),
    *(b"&", b"=", b"%", b"%ff", b"+", b"/"),
)
_HEADERS = (
    ("Authorization", "Basic V1JJVEVLRVkxMjM6"),
    ("Authorization", "Basic YXBwMTo="),
    ("Authorization", "Basic ////"),
    ("Authorization", "Bearer x"),
    ("Authorization", "Basic"),
    ("X-Write-Key", "WRITEKEY123:secret"),
    ("X-Strict-Mode", "1"),
    ("Content-Type", "text/plain"),
    ("Content-Type", "multipart/form-data; boundary=x"),
    ("Content-Length", "5"),
    ("Content-Length", "-1"),
    ("Content-Length", "abc"),
    ("Content-Length", "99999999999999999999"),
    ("Content-Encoding", "gzip"),
    ("Content-Encoding", "GZIP, identity"),
    ("Content-Encoding", "br"),
    ("Transfer-Encoding", "chunked"),
    ("Origin", "https://example.org"),
    ("Origin", "\xff\r"),
    ("Access-Control-Request-Headers", "authorization\rx"),
    ("X-Forwarded-For", "1.2.3.4, ::1"),
    ("X-Forwarded-Host", "evil.example\xff"),
    ("Host", "[::1"),
    ("Host", "\xff:99999999"),
    ("Expect", "100-continue"),
    ("Range", "bytes=0-"),
)
_METHODS = ("GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "post", "\xff", "X")
_TARGETS = (*ROUTES, "/v1/projects/x/settings", "/", "//v1//batch//", "/v1/../v1/batch", "/v1/%2e%2e/batch", "*", "")


def mutate(request: RawRequest, rng: random.Random, seeds: Sequence[RawRequest]) -> RawRequest:
    """Change a request a little, in one to five ways."""
    for _ in range(rng.randint(1, 5)):
        change = rng.choices(_CHANGES, _WEIGHTS)[0]
        request = change(request, rng, seeds)
    return attrs.evolve(request, body=request.body[:_MAX_BYTES])


def _change_json(request: RawRequest, rng: random.Random, _: Sequence[RawRequest]) -> RawRequest:
    try:
        document = json.loads(request.body)
    except (ValueError, RecursionError):
        return _change_body(request, rng, _)
    try:
        body = json.dumps(_changed(document, rng), ensure_ascii=rng.random() < 0.7).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):
        return request
    return attrs.evolve(request, body=body)


def _changed(value: Any, rng: random.Random) -> Any:
    """Change a JSON value, at the top or somewhere below."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        name = rng.choice(list(value))
        return _changed_member(value, name, rng)
    if isinstance(value, list) and value and rng.random() < 0.9:
        at = rng.randrange(len(value))
        choice = rng.random()
        if choice < 0.7:
            return [*value[:at], _changed(value[at], rng), *value[at + 1 :]]
        return [*value[:at], *value[at + 1 :]] if choice < 0.8 else [*value, *[value[at]] * rng.randint(1, 20)]
    return rng.choice(_VALUES)


def _changed_member(value: dict[str, Any], name: str, rng: random.Random) -> dict[str, Any]:
    choice = rng.random()
    if choice < 0.6:
        return {**value, name: _changed(value[name], rng)}
    if choice < 0.7:
        return {other: inner for other, inner in value.items() if other != name}
    if choice < 0.8:
        return {**value, "type": rng.choice(_CALLS)}
    return {**value, rng.choice(_NAMES): rng.choice((*_VALUES, value[name]))}


def _change_body(request: RawRequest, rng: random.Random, _: Sequence[RawRequest]) -> RawRequest:
    return attrs.evolve(request, body=_changed_bytes(request.body, rng))


def _changed_bytes(text: bytes, rng: random.Random) -> bytes:
    at = rng.randint(0, len(text))
    end = min(len(text), at + rng.choice((1, 1, 2, 8, 64, 1_000)))
    choice = rng.random()
    if choice < 0.2:
        return text[:at] + text[end:]
    if choice < 0.4:
        return text[:at] + text[at:end] * rng.randint(2, 5) + text[end:]
    if choice < 0.6:
        return text[:at] + rng.choice(_FRAGMENTS) + text[at:]
    if choice < 0.7:
        return text[:at]
    return text[:at] + bytes(rng.randrange(256) for _ in range(min(8, end - at))) + text[end:]


def _change_headers(request: RawRequest, rng: random.Random, _: Sequence[RawRequest]) -> RawRequest:
    headers = list(request.headers)
    if headers and rng.random() < 0.3:
        del headers[rng.randrange(len(headers))]
    else:
        headers.append(rng.choice(_HEADERS))
    return attrs.evolve(request, headers=tuple(headers))


def _change_target(request: RawRequest, rng: random.Random, _: Sequence[RawRequest]) -> RawRequest:
    if rng.random() < 0.6:
        return attrs.evolve(request, target=rng.choice(_TARGETS))
    text = _changed_bytes(request.target.encode("latin-1", "replace"), rng).replace(b"\n", b"")
    return attrs.evolve(request, target=text.decode("latin-1")[:8_000])


def _change_method(request: RawRequest, rng: random.Random, _: Sequence[RawRequest]) -> RawRequest:
    return attrs.evolve(request, method=rng.choice(_METHODS))


def _compress(request: RawRequest, rng: random.Random, _: Sequence[RawRequest]) -> RawRequest:
    body = gzip.compress(request.body, mtime=0) if rng.random() < 0.8 else zlib.compress(request.body)
    body = _changed_bytes(body, rng) if rng.random() < 0.3 else body
    return attrs.evolve(request, body=body, headers=(*request.headers, ("Content-Encoding", "gzip")))


def _change_anything(request: RawRequest, rng: random.Random, _: Sequence[RawRequest]) -> RawRequest:
    return parse_raw(_changed_bytes(format_raw(request), rng))


def _cross(request: RawRequest, rng: random.Random, seeds: Sequence[RawRequest]) -> RawRequest:
    other = rng.choice(seeds)
    return attrs.evolve(request, target=other.target, headers=other.headers)


_Change = Callable[[RawRequest, random.Random, Sequence[RawRequest]], RawRequest]
_CHANGES: tuple[_Change, ...] = (
    *(_change_json, _change_body, _change_headers, _change_target, _change_method, _compress, _change_anything, _cross),
)
_WEIGHTS = (10, 4, 3, 2, 1, 1, 2, 1)
