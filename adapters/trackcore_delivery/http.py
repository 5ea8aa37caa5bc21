"""POST requests to one endpoint, and what its answers mean for delivery.

| answer | meaning |
| --- | --- |
| 2xx | taken |
| 408, 429, 5xx, a redirect, none within the timeout, no connection | try later; `Retry-After` is obeyed |
| 401, 403, 404, 405, 407, 410 | refused, and it is the address or the credentials: nothing to divide |
| any other 4xx | refused, and one message may be the reason |

Errors are told by the host alone, and what an endpoint answered is told with our secrets blotted out.
"""

from __future__ import annotations

import gzip
import re
import time
from collections.abc import Mapping, Sequence
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

import attrs
import urllib3
from urllib3.exceptions import HTTPError, LocationParseError

from trackcore import Clock
from trackcore_delivery.sending import Refused, TryLater

USER_AGENT = "trackcore"

CONNECT_SECONDS = 10.0
ANSWER_BYTES = 1 << 20
"""How much of an answer is read."""

_TOLD_CHARS = 200
_GZIP_LEVEL = 6
_HEADER_NAME = re.compile(r"[A-Za-z0-9_-]+")
_OURS = frozenset({"content-length", "content-encoding", "transfer-encoding", "host", "connection"})
_OF_THE_ENDPOINT = frozenset({401, 403, 404, 405, 407, 410})
_TRY_LATER = frozenset({408, 425, 429})
_CHUNK_BYTES = 1 << 16


def check_url(_: object, __: object, url: str) -> None:
    """Check the URL of an endpoint: a validator of attrs."""
    try:
        parsed = urllib3.util.parse_url(url)
    except LocationParseError:
        parsed = urllib3.util.Url()
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise ValueError("expected a URL such as 'https://example.com/path'")
    if parsed.auth:
        raise ValueError("a URL with a password would show in logs: give it as a header, 'env:NAME'")


def check_headers(_: object, __: object, headers: Mapping[str, object]) -> None:
    """Check the names of headers: a validator of attrs."""
    for name in headers:
        if name.lower() in _OURS or not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot be set as a header")


def encoded(body: bytes, *, with_gzip: bool) -> tuple[bytes, dict[str, str]]:
    """Give a body as it is sent, and the headers that say how."""
    return (gzip.compress(body, _GZIP_LEVEL, mtime=0), {"Content-Encoding": "gzip"}) if with_gzip else (body, {})


@attrs.frozen(kw_only=True)
class Answer:
    """What an endpoint answered."""

    status: int
    body: bytes
    retry_after: float | None


class Endpoint:
    """Where batches are posted to, over connections that are kept open.

    Args:
        url: where to.
        headers: what every request carries.
        timeout: seconds that an answer may take.
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
        self._secrets = [secret for secret in secrets if secret]
        self._clock = clock
        limits = urllib3.Timeout(connect=min(CONNECT_SECONDS, timeout), read=timeout)
        self._pool = urllib3.connection_from_url(self._name, maxsize=1, timeout=limits, retries=False)

    def post(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Post a body and give the answer, whatever its status.  Raises `TryLater` when there is none."""
        try:
            response = self._pool.urlopen(
                "POST",
                self._target,
                body=body,
                headers={**self._headers, **headers},
                redirect=False,
                preload_content=False,
            )
            return Answer(
                status=response.status,
                body=self._read(response),
                retry_after=_retry_after(response.headers.get("Retry-After"), self._clock),
            )
        except (HTTPError, OSError) as error:
            raise TryLater(detail=f"{self._name}: {_what_happened(error)}") from error

    def check(self, answer: Answer) -> None:
        """Raise what an answer means, unless it means that the batch was taken.

        Raises:
            Refused, TryLater: see above.
        """
        status = answer.status
        if status // 100 == 2:  # noqa: PLR2004 - a class of statuses
            return
        detail = f"{self._name} answered {status}{self._told(answer.body)}"
        if status // 100 == 4 and status not in _TRY_LATER:  # noqa: PLR2004 - likewise
            raise Refused(detail=detail, divisible=status not in _OF_THE_ENDPOINT)
        raise TryLater(detail=detail, retry_after=answer.retry_after)

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()

    def _read(self, response: urllib3.BaseHTTPResponse) -> bytes:
        """Read an answer, but for so long and so much only; a connection that is not read to its end is closed."""
        deadline = time.monotonic() + self._timeout
        parts: list[bytes] = []
        size = 0
        while part := response.read1(_CHUNK_BYTES):
            parts.append(part)
            size += len(part)
            if size > ANSWER_BYTES or time.monotonic() > deadline:
                response.close()
                break
        response.release_conn()
        return b"".join(parts)

    def _told(self, body: bytes) -> str:
        text = body[: 4 * _TOLD_CHARS].decode("utf-8", "replace")
        for secret in self._secrets:
            text = text.replace(secret, "***")
        text = " ".join(text.split())
        return f": {text[:_TOLD_CHARS]}" if text else ""


def _retry_after(text: str | None, clock: Clock) -> float | None:
    """Read `Retry-After`: seconds, or a date."""
    if text is None:
        return None
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return (date - clock()).total_seconds()


def _what_happened(error: Any) -> str:
    """Tell an error of urllib3 without what it says of addresses and paths."""
    names = {
        "ConnectTimeoutError": "no connection within the timeout",
        "ReadTimeoutError": "no answer within the timeout",
        "NameResolutionError": "the host is not known",
        "SSLError": "TLS failed",
    }
    name = type(error).__name__
    reason = getattr(error, "reason", None) or error.__cause__ or error.__context__
    text = getattr(reason, "strerror", None) or getattr(error, "strerror", None)
    if name == "SSLError":
        return f"TLS failed ({reason})" if reason else names[name]
    return names.get(name) or (text.lower() if isinstance(text, str) else "the connection broke off")
