"""POST requests to one endpoint, and what its responses mean for delivery.

| response | meaning |
| --- | --- |
| 2xx | accepted |
| no connection, 429, a redirect, any of the next row with `Retry-After` | retry; the destination as a whole fails |
| 408, 425, 5xx, none within the timeout | retry; one user's messages may be the cause |
| 401, 403, 404, 405, 407, 410 | rejected, because of the address or the credentials: bisecting is pointless |
| any other 4xx | rejected, and one message may be the cause |

The timeout is a deadline for the whole request (see `deadline`).  At most `ANSWER_BYTES` of a response are read, and
compression is not requested.

Failures are described in our own words: exceptions of libraries quote headers and URLs, which contain our secrets.  An
endpoint is named by its host alone, and its response is quoted with our settings masked.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import ssl
import zlib
from collections.abc import Iterator, Mapping, Sequence
from socket import EAI_AGAIN, gaierror
from urllib.parse import quote, unquote

import attrs
import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    LocationParseError,
    NewConnectionError,
    ProxyError,
    SSLError,
)

from trackcore import Clock
from trackcore.support import MEBIBYTE
from trackcore.text import visible
from trackcore_delivery.deadline import Deadline, NotConnectedInTime, make_pool
from trackcore_delivery.retry_after import retry_after_seconds
from trackcore_delivery.secret import secret_fault
from trackcore_delivery.sending import PermanentError, RetryLater

ANSWER_BYTES = MEBIBYTE

_QUOTED_CHARS = 200
_SEARCHED_BYTES = 1 << 16
_GZIP_LEVEL = 6
_HEADER_NAME = re.compile(r"[A-Za-z0-9_-]+")
_RESERVED_HEADERS = frozenset({"content-length", "content-encoding", "transfer-encoding", "host", "connection"})
_ENDPOINT_FAULTS = frozenset({401, 403, 404, 405, 407, 410})
_RETRIED_STATUSES = frozenset({408, 425, 429})
_NOT_REACHED = (NewConnectionError, ConnectTimeoutError, SSLError, ProxyError)
"""Failures before a batch is sent: no message can be the cause."""

_CHUNK_BYTES = 1 << 16
_SECRET_PART_CHARS = 8
"""From this length on a part of a path may be a secret; shorter ones are words such as `track`."""


def check_url(_: object, __: object, url: str) -> None:
    """Check the URL of an endpoint (an attrs validator)."""
    try:
        parsed = urllib3.util.parse_url(url)
    except LocationParseError:
        parsed = urllib3.util.Url()
    if parsed.scheme not in {"http", "https"} or not parsed.host or secret_fault(url) is not None:
        raise ValueError("expected a URL such as 'https://example.com/path'")
    if parsed.auth:
        raise ValueError("a password in a URL would appear in logs: send it in a header, 'env:NAME'")


def check_headers(_: object, __: object, headers: Mapping[str, object]) -> None:
    """Check the names of headers (an attrs validator)."""
    for name in headers:
        if name.lower() in _RESERVED_HEADERS or not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot be set as a header")


def url_without_secrets(url: str) -> str:
    """Return the part of a URL that may be shown, quoted (an attrs `repr`)."""
    parsed = urllib3.util.parse_url(url)
    return repr(f"{parsed.scheme}://{parsed.host}/…")


def encoded(body: bytes, *, with_gzip: bool) -> tuple[bytes, dict[str, str]]:
    """Return a body as it is sent, and the headers that describe its encoding."""
    return (gzip.compress(body, _GZIP_LEVEL, mtime=0), {"Content-Encoding": "gzip"}) if with_gzip else (body, {})


@attrs.frozen(kw_only=True)
class EndpointResponse:
    """The response of an endpoint.  `is_whole` is False if the body could not be read completely in time and size."""

    status: int
    body: bytes
    is_whole: bool = True
    retry_after: str | None = None


class HttpEndpoint:
    """An endpoint that batches are posted to, over persistent connections.

    `timeout` is the seconds that a request may take, from looking up the host to the end of the response.  `secrets`
    must not be shown.  `clock` is the reference for dates in responses.
    """

    def __init__(
        self, url: str, *, headers: Mapping[str, str], timeout: float, secrets: Sequence[str], clock: Clock
    ) -> None:
        parsed = urllib3.util.parse_url(url)
        self._target = parsed.request_uri
        self._name = f"{parsed.scheme}://{parsed.netloc}"
        self._headers = {"User-Agent": "trackcore", "Content-Type": "application/json", **headers}
        self._timeout = timeout
        forms = _echoed_forms([*secrets, *_secret_parts(parsed)])
        self._masked = re.compile("|".join(map(re.escape, forms)) or "(?!)", re.IGNORECASE)
        self._longest = max(map(len, forms), default=0)
        self._clock = clock
        self._deadline = Deadline()
        self._pool = make_pool(url, self._deadline)

    def post(self, body: bytes, headers: Mapping[str, str]) -> EndpointResponse:
        """Post a body and return the response, whatever its status.  Raises `RetryLater` if there is none."""
        self._deadline.start(self._timeout)
        try:
            response = self._pool.urlopen(
                "POST",
                self._target,
                body=body,
                headers={"Accept-Encoding": "identity", **self._headers, **headers},
                redirect=False,
                retries=False,
                timeout=self._timeout,
                preload_content=False,
                decode_content=False,
            )
            received, is_whole = self._read(response)
        except (HTTPError, OSError) as error:
            raise self._failure(_describe_failure(error), of_destination=isinstance(error, _NOT_REACHED)) from None
        except Exception as error:  # noqa: BLE001 - the messages of libraries quote the request
            raise self._failure(f"the request failed ({type(error).__name__})") from None
        if is_whole and response.headers.get("Content-Encoding", "identity").lower() != "identity":
            received, is_whole = _inflated(received)
        retry_after = response.headers.get("Retry-After")
        return EndpointResponse(status=response.status, body=received, is_whole=is_whole, retry_after=retry_after)

    def check(self, answer: EndpointResponse) -> None:
        """Raise the error that a response means (see above), unless the batch was accepted."""
        status = answer.status
        if status // 100 == 2:  # noqa: PLR2004 - a class of statuses
            return
        if status // 100 == 4 and status not in _RETRIED_STATUSES:  # noqa: PLR2004 - a class of statuses
            raise PermanentError(detail=self._describe(answer), divisible=status not in _ENDPOINT_FAULTS)
        raise self.retry_later(answer)

    def retry_later(self, answer: EndpointResponse, reason: str = "") -> RetryLater:
        """Build the error for a batch that may be accepted later.  `reason` explains it where the status does not."""
        retry_after = None if answer.retry_after is None else retry_after_seconds(answer.retry_after, self._clock())
        of_destination = answer.status == 429 or answer.status // 100 == 3  # noqa: PLR2004 - a status, a class of them
        detail = self._describe(answer, reason)
        return RetryLater(detail=detail, retry_after=retry_after, of_destination=of_destination)

    def quoted(self, text: str) -> str:
        """Return text of a response in a form that can be shown: masked, on one line, and cut."""
        return visible(" ".join(self._masked.sub("***", text).split()))[:_QUOTED_CHARS]

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()

    def _failure(self, description: str, *, of_destination: bool = False) -> RetryLater:
        return RetryLater(detail=f"{self._name}: {description}", of_destination=of_destination)

    def _describe(self, answer: EndpointResponse, reason: str = "") -> str:
        text = answer.body[:_SEARCHED_BYTES].decode("utf-8", "replace")
        if len(answer.body) > _SEARCHED_BYTES or not answer.is_whole:
            text = self._without_part_at_end(text)
        text = self.quoted(text)
        return f"{self._name} answered {answer.status}{reason}" + (f": {text}" if text else "")

    def _without_part_at_end(self, text: str) -> str:
        """Drop the end of a truncated text: it may be the beginning of a secret, which the masks do not match."""
        end = max(0, len(text) - self._longest)
        across = (found.end() for found in self._masked.finditer(text) if found.start() < end < found.end())
        return text[: next(across, end)]

    def _read(self, response: urllib3.BaseHTTPResponse) -> tuple[bytes, bool]:
        """Read a response, and return whether it is complete; the connection of an incomplete one is closed."""
        parts: list[bytes] = []
        size = 0
        try:
            while part := response.read1(_CHUNK_BYTES, decode_content=False):
                parts.append(part)
                size += len(part)
                if size > ANSWER_BYTES:
                    response.close()
                    return b"".join(parts), False
        except urllib3.exceptions.TimeoutError:  # its status is known, and that decides
            response.close()
            return b"".join(parts), False
        response.release_conn()
        return b"".join(parts), True


def _inflated(body: bytes) -> tuple[bytes, bool]:
    """Inflate a response that is compressed although that was not requested, up to a limit."""
    inflater = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        text = inflater.decompress(body, ANSWER_BYTES)
    except zlib.error:
        return b"", False
    return text, inflater.eof


def _secret_parts(url: urllib3.util.Url) -> Iterator[str]:
    """Yield the parts of a URL to mask: its target, its query with every value, and long parts of its path."""
    yield url.request_uri if len(url.request_uri) > 1 else ""
    yield url.query or ""
    yield from (pair.partition("=")[2] for pair in (url.query or "").split("&"))
    path = url.path or ""
    yield from (part for part in (path, *path.split("/")) if len(part) >= _SECRET_PART_CHARS)


def _echoed_forms(secrets: Sequence[str]) -> list[str]:
    """Return the forms in which responses echo secrets, longest first: a short one may be part of a longer one."""
    forms: set[str] = set()
    for secret in secrets:
        for text in (secret, secret.partition(" ")[2], unquote(secret)):  # `Bearer TOKEN`: also the token by itself
            forms |= {text, quote(text), quote(text, safe=""), json.dumps(text)[1:-1], text.replace("/", "\\/")}
            as_utf_8 = text.encode("latin-1", "replace").decode("utf-8", "replace")
            forms |= {json.dumps(text, ensure_ascii=False)[1:-1], as_utf_8}
    return sorted(forms - {""}, key=len, reverse=True)


def _describe_failure(error: BaseException) -> str:
    """Describe why the response is missing, from the types of the errors and the system's own messages alone.

    urllib3 counts its `NewConnectionError` as a timeout, whatever the cause: the errors behind it are more precise.
    """
    errors = list(_causes(error))
    for each in errors:
        if isinstance(each, NewConnectionError):
            continue
        if isinstance(each, NotConnectedInTime):
            return f"{each} within the timeout"
        if isinstance(each, TimeoutError | urllib3.exceptions.TimeoutError):
            return "no answer within the timeout"
        if isinstance(each, gaierror):
            is_temporary = each.errno == EAI_AGAIN
            return "the host cannot be looked up at this time" if is_temporary else "the host is not known"
        if isinstance(each, ssl.SSLCertVerificationError):
            return f"TLS failed (certificate verify failed: {each.verify_message})"
        if isinstance(each, ssl.SSLError):
            return f"TLS failed ({(each.reason or 'the connection broke off').lower().replace('_', ' ')})"
    numbers = [each.errno for each in errors if isinstance(each, OSError) and isinstance(each.errno, int)]
    return os.strerror(numbers[-1]).lower() if numbers else "the connection broke off"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those that led to it."""
    seen: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting:
        each = waiting.pop(0)
        if isinstance(each, BaseException) and each not in seen:
            seen.append(each)
            yield each
            waiting += [getattr(each, "reason", None), *each.args, each.__cause__, each.__context__]
