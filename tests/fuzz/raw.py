"""A whole request as bytes, in the form in which a fuzzer mutates it, and its conversion for the app.

The text is that of HTTP/1.1, read leniently: any line may be anything.  It cannot express anything that a server would
never pass on, such as a line break inside a header.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import attrs

VECTORS = Path(__file__).parents[1] / "vectors"
_KEY = ("Authorization", "Basic V1JJVEVLRVkxMjM6")  # WRITEKEY123, as recorded


@attrs.frozen(kw_only=True)
class RawRequest:
    """A request: `target` is the path with its query, still quoted; headers in their order."""

    method: str = "POST"
    target: str = "/v1/batch"
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    def header(self, name: str) -> str | None:
        """Return the first header of a name."""
        return next((value for found, value in self.headers if found.lower() == name), None)


def parse_raw(data: bytes) -> RawRequest:
    """Read any bytes as a request."""
    head, _, body = data.partition(b"\n\n")
    first, *lines = head.decode("latin-1").split("\n")
    method, _, target = first.partition(" ")
    pairs = (line.partition(":") for line in lines)
    headers = tuple((name.strip(), value.strip()) for name, _, value in pairs if _is_token(name.strip()))
    return RawRequest(method=method or "POST", target=target, headers=headers, body=body)


def format_raw(request: RawRequest) -> bytes:
    """Write a request as bytes; `parse_raw` returns the same request."""
    lines = [f"{request.method} {request.target}", *(f"{name}: {value}" for name, value in request.headers)]
    return "\n".join(lines).encode("latin-1", "replace") + b"\n\n" + request.body


def environ_of(request: RawRequest) -> dict[str, Any]:
    """Make the WSGI environment that a server would make of a request."""
    path, _, query = request.target.partition("?")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(path.encode("latin-1", "replace")).decode("latin-1"),
        "QUERY_STRING": query,
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "203.0.113.9",
        "CONTENT_LENGTH": str(len(request.body)),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(request.body),
        "wsgi.errors": io.StringIO(),
    }
    for name, value in request.headers:
        variable = name.upper().replace("-", "_")
        if variable in {"CONTENT_TYPE", "CONTENT_LENGTH"}:
            environ[variable] = value
        else:  # a server joins the values of a repeated header
            variable = f"HTTP_{variable}"
            environ[variable] = f"{environ[variable]},{value}" if variable in environ else value
    if "HTTP_TRANSFER_ENCODING" in environ:
        environ["wsgi.input_terminated"] = True
        del environ["CONTENT_LENGTH"]
    return environ


def seeds() -> list[RawRequest]:
    """Return the requests that fuzzing starts from: valid ones, and earlier findings."""
    return [*honest_requests(), *(parse_raw(text) for text in found_cases().values())]


def honest_requests() -> list[RawRequest]:
    """Return recorded requests, those of the API page, and one for each other route."""
    return [*_recorded(), *_documented(), *_others()]


def found_cases() -> dict[str, bytes]:
    """Return earlier findings by name; they serve as regression tests."""
    return {path.name: path.read_bytes() for path in sorted((VECTORS / "fuzz").glob("*.http"))}


def _recorded() -> Iterator[RawRequest]:
    for path in sorted((VECTORS / "sdk-captures").glob("*.json")):
        capture = json.loads(path.read_text(encoding="utf-8"))
        method, target, _ = capture["request_line"].split(" ")
        headers = tuple(
            (name, value)
            for name, value in capture["headers"]
            if name.lower() not in {"content-length", "content-encoding", "transfer-encoding"}
        )
        yield RawRequest(method=method, target=target, headers=headers, body=capture["body"].encode())


def _documented() -> Iterator[RawRequest]:
    for example in json.loads((VECTORS / "api-page-examples.json").read_text(encoding="utf-8")):
        yield RawRequest(target=f"/v1/{example['call']}", headers=(_KEY,), body=json.dumps(example["body"]).encode())


def _others() -> Iterator[RawRequest]:
    """Return a request for each route that no SDK was recorded on."""
    key = "writeKey=WRITEKEY123"
    yield RawRequest(method="GET", target=f"/v1/pixel/track?{key}&userId=u&event=Opened&properties.subject=Hello")
    yield RawRequest(method="GET", target="/v1/pixel/page?data=eyJ1c2VySWQiOiJ1Iiwid3JpdGVLZXkiOiJXUklURUtFWTEyMyJ9")
    yield RawRequest(target=f"/beacon/v1/batch?{key}", body=b'{"batch":[{"type":"page","userId":"u"}]}')
    yield RawRequest(method="GET", target="/v1/projects/WRITEKEY123/settings")
    yield RawRequest(target="/v1/m", body=b'{"series":[{"type":"Counter","metric":"m","value":1,"tags":{}}]}')
    yield RawRequest(method="OPTIONS", headers=(("Origin", "https://example.org"),))
    for target in ("/health", "/ready", "/openapi.json", "/nowhere"):
        yield RawRequest(method="GET", target=target)


def _is_token(name: str) -> bool:
    return name.isascii() and name.replace("-", "").isalnum()
