"""POST requests to one endpoint, and what its answers mean for delivery.

| answer | meaning |
| --- | --- |
| 2xx | taken |
| no connection, 429, a redirect, any of the next row with `Retry-After` | try later; it is the destination as a whole |
| 408, 425, 5xx, none within the timeout | try later; one user's messages may be the reason |
| 401, 403, 404, 405, 407, 410 | refused, and it is the address or the credentials: nothing to divide |
| any other 4xx | refused, and one message may be the reason |

The timeout is a deadline for the whole request (see `deadline`).  Of an answer at most `ANSWER_BYTES` are read, and it
is not asked for compressed.

Failures are described in words of our own: exceptions of libraries quote headers and URLs, which have our secrets.
An endpoint is named by its host alone, and what it answered is quoted with our settings masked.
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
from trackcore.limits import MEBIBYTE
from trackcore_delivery.deadline import Deadline, NotConnectedInTime, make_pool
from trackcore_delivery.retry_after import retry_after_seconds
from trackcore_delivery.secret import secret_fault
from trackcore_delivery.sending import PermanentError, RetryLater
from trackcore_delivery.visible import visible

USER_AGENT = "trackcore"

ANSWER_BYTES = MEBIBYTE
"""How much of an answer is read."""

_TOLD_CHARS = 200
_SEARCHED_BYTES = 1 << 16
_GZIP_LEVEL = 6
_HEADER_NAME = re.compile(r"[A-Za-z0-9_-]+")
_OURS = frozenset({"content-length", "content-encoding", "transfer-encoding", "host", "connection"})
_OF_THE_ENDPOINT = frozenset({401, 403, 404, 405, 407, 410})
_TRY_LATER = frozenset({408, 425, 429})
_TOO_MANY = 429
_NOT_REACHED = (NewConnectionError, ConnectTimeoutError, SSLError, ProxyError)
"""What happens before a batch is sent: no message can be the reason."""

_CHUNK_BYTES = 1 << 16
_TELLING_CHARS = 8
"""From how many characters on a part of a path may be a secret; shorter ones are words such as `track`."""


def check_url(_: object, __: object, url: str) -> None:
    """Check the URL of an endpoint: a validator of attrs."""
    try:
        parsed = urllib3.util.parse_url(url)
    except LocationParseError:
        parsed = urllib3.util.Url()
    if parsed.scheme not in {"http", "https"} or not parsed.host or secret_fault(url) is not None:
        raise ValueError("expected a URL such as 'https://example.com/path'")
    if parsed.auth:
        raise ValueError("a URL with a password would show in logs: give it as a header, 'env:NAME'")


def check_headers(_: object, __: object, headers: Mapping[str, object]) -> None:
    """Check the names of headers: a validator of attrs."""
    for name in headers:
        if name.lower() in _OURS or not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot be set as a header")


def url_without_secrets(url: str) -> str:
    """Return the part of a URL that may be shown, quoted: a `repr` of attrs."""
    parsed = urllib3.util.parse_url(url)
    return repr(f"{parsed.scheme}://{parsed.host}/…")


def encoded(body: bytes, *, with_gzip: bool) -> tuple[bytes, dict[str, str]]:
    """Give a body as it is sent, and the headers that say how."""
    return (gzip.compress(body, _GZIP_LEVEL, mtime=0), {"Content-Encoding": "gzip"}) if with_gzip else (body, {})


@attrs.frozen(kw_only=True)
class EndpointResponse:
    """What an endpoint answered.  `is_whole` is False if the body could not be read to its end in time and size."""

    status: int
    body: bytes
    is_whole: bool = True
    retry_after: str | None = None

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        return self.status // 100 == 2  # noqa: PLR2004 - a class of statuses


class HttpEndpoint:
    """Where batches are posted to, over connections that are kept open.

    Args:
        url: where to.
        headers: what every request carries.
        timeout: seconds that a request may take, from looking up the host to the end of the answer.
        secrets: what must not be told.
        clock: what dates in answers are relative to.
    """

    def __init__(
        self, url: str, *, headers: Mapping[str, str], timeout: float, secrets: Sequence[str], clock: Clock
    ) -> None:
        parsed = urllib3.util.parse_url(url)
        self._target = parsed.request_uri
        self._name = f"{parsed.scheme}://{parsed.netloc}"
        self._headers = {"User-Agent": USER_AGENT, "Content-Type": "application/json", **headers}
        self._timeout = timeout
        forms = _forms([*secrets, *_parts(parsed)])
        self._masked = re.compile("|".join(map(re.escape, forms)) or "(?!)", re.IGNORECASE)
        self._longest = max(map(len, forms), default=0)
        self._clock = clock
        self._deadline = Deadline()
        self._pool = make_pool(url, self._deadline)

    def post(self, body: bytes, headers: Mapping[str, str]) -> EndpointResponse:
        """Post a body and give the answer, whatever its status.  Raises `RetryLater` when there is none."""
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
            raise self._failure(_what_happened(error), of_destination=isinstance(error, _NOT_REACHED)) from None
        except Exception as error:  # noqa: BLE001 - whatever a library says of a request quotes it
            raise self._failure(f"the request failed ({type(error).__name__})") from None
        if is_whole and response.headers.get("Content-Encoding", "identity").lower() != "identity":
            received, is_whole = _inflated(received)
        wish = response.headers.get("Retry-After")
        return EndpointResponse(status=response.status, body=received, is_whole=is_whole, retry_after=wish)

    def check(self, answer: EndpointResponse) -> None:
        """Raise what an answer means, unless it means that the batch was taken.

        Raises:
            PermanentError, RetryLater: see above.
        """
        status = answer.status
        if answer.is_success:
            return
        if status // 100 == 4 and status not in _TRY_LATER:  # noqa: PLR2004 - likewise
            raise PermanentError(detail=self._told_of(answer), divisible=status not in _OF_THE_ENDPOINT)
        raise self.not_taken(answer)

    def not_taken(self, answer: EndpointResponse, because: str = "") -> RetryLater:
        """Build the error for a batch that may arrive later.  `because` is why, where the status does not say it."""
        retry_after = None if answer.retry_after is None else retry_after_seconds(answer.retry_after, self._clock())
        of_destination = answer.status == _TOO_MANY or answer.status // 100 == 3  # noqa: PLR2004 - a class of statuses
        detail = self._told_of(answer, because)
        return RetryLater(detail=detail, retry_after=retry_after, of_destination=of_destination)

    def quoted(self, text: str) -> str:
        """Return what an endpoint answered in a form that can be shown: masked, on one line, and cut."""
        return visible(" ".join(self._masked.sub("***", text).split()))[:_TOLD_CHARS]

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()

    def _failure(self, what: str, *, of_destination: bool = False) -> RetryLater:
        return RetryLater(detail=f"{self._name}: {what}", of_destination=of_destination)

    def _told_of(self, answer: EndpointResponse, because: str = "") -> str:
        text = answer.body[:_SEARCHED_BYTES].decode("utf-8", "replace")
        if len(answer.body) > _SEARCHED_BYTES or not answer.is_whole:
            text = self._without_part_at_end(text)
        text = self.quoted(text)
        return f"{self._name} answered {answer.status}{because}" + (f": {text}" if text else "")

    def _without_part_at_end(self, text: str) -> str:
        """Drop the end of a text that was cut off: what begins there may be a part of a secret, which nothing masks."""
        end = max(0, len(text) - self._longest)
        across = (found.end() for found in self._masked.finditer(text) if found.start() < end < found.end())
        return text[: next(across, end)]

    def _read(self, response: urllib3.BaseHTTPResponse) -> tuple[bytes, bool]:
        """Read an answer, and report whether to its end; a connection that is not read to its end is closed."""
        parts: list[bytes] = []
        size = 0
        try:
            while part := response.read1(_CHUNK_BYTES, decode_content=False):
                parts.append(part)
                size += len(part)
                if size > ANSWER_BYTES:
                    response.close()
                    return b"".join(parts), False
        except urllib3.exceptions.TimeoutError:  # its status is known, and that says what became of the batch
            response.close()
            return b"".join(parts), False
        response.release_conn()
        return b"".join(parts), True


def _inflated(body: bytes) -> tuple[bytes, bool]:
    """Inflate an answer that is compressed although nobody asked for that, up to a limit."""
    inflater = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        text = inflater.decompress(body, ANSWER_BYTES)
    except zlib.error:
        return b"", False
    return text, inflater.eof


def _parts(url: urllib3.util.Url) -> Iterator[str]:
    """Yield what of a URL must not be told: its target, its query with every value, and long parts of its path."""
    yield url.request_uri if len(url.request_uri) > 1 else ""
    yield url.query or ""
    yield from (pair.partition("=")[2] for pair in (url.query or "").split("&"))
    path = url.path or ""
    yield path if len(path) >= _TELLING_CHARS else ""
    yield from (part for part in path.split("/") if len(part) >= _TELLING_CHARS)


def _forms(secrets: Sequence[str]) -> list[str]:
    """Return the forms in which answers echo secrets, the longest first: a short one may be part of a longer one."""
    forms: set[str] = set()
    for secret in secrets:
        for text in (secret, secret.partition(" ")[2], unquote(secret)):  # `Bearer TOKEN`: also the token by itself
            forms |= {text, quote(text), quote(text, safe=""), json.dumps(text)[1:-1], text.replace("/", "\\/")}
            forms |= {
                json.dumps(text, ensure_ascii=False)[1:-1],
                text.encode("latin-1", "replace").decode("utf-8", "replace"),
            }
    return sorted(forms - {""}, key=len, reverse=True)


def _what_happened(error: BaseException) -> str:
    """Describe why there is no answer, from the kinds of the errors and the system's own words alone.

    urllib3 counts its `NewConnectionError` as a timeout, whatever the reason: what stands behind it says more.
    """
    errors = list(_behind(error))
    for each in errors:
        if isinstance(each, NewConnectionError):
            continue
        if isinstance(each, NotConnectedInTime):
            return f"{each.missing} within the timeout"
        if isinstance(each, TimeoutError | urllib3.exceptions.TimeoutError):
            return "no answer within the timeout"
        if isinstance(each, gaierror):
            is_for_now = each.errno == EAI_AGAIN
            return "the host cannot be looked up at this time" if is_for_now else "the host is not known"
        if isinstance(each, ssl.SSLCertVerificationError):
            return f"TLS failed (certificate verify failed: {each.verify_message})"
        if isinstance(each, ssl.SSLError):
            return f"TLS failed ({(each.reason or 'the connection broke off').lower().replace('_', ' ')})"
    numbers = [each.errno for each in errors if isinstance(each, OSError) and isinstance(each.errno, int)]
    return os.strerror(numbers[-1]).lower() if numbers else "the connection broke off"


def _behind(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those that led to it."""
    seen: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting:
        each = waiting.pop(0)
        if isinstance(each, BaseException) and each not in seen:
            seen.append(each)
            yield each
            waiting += [getattr(each, "reason", None), *each.args, each.__cause__, each.__context__]
