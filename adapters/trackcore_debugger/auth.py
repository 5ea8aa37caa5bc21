"""Authentication: tokens, sessions, and the origin of a request.

Theory.  The page shows user data, so it requires a token.  The token is sent once, in the body of a POST (the link that
a server prints has it after `#`, which browsers do not send, so access logs do not contain it).  It starts a session: a
cookie that scripts cannot read and that no other site can make a browser send (HttpOnly, SameSite=Strict, and Secure
over https).  The cookie is signed and contains its expiry time, so processes need no shared session store.

In addition, a request that changes something must name our own origin, and a request that, by its headers, comes from
another site or would be shown in a frame is rejected.
"""

from __future__ import annotations

import hmac
import multiprocessing
import secrets
import time
from collections.abc import Callable
from hashlib import sha256

import attrs
from werkzeug.wrappers import Request

SESSION_SECONDS = 12 * 3_600
COOKIE = "trackcore_debugger"

_SLACK_SECONDS = 300  # a clock may be set by a little without ending a session
_DIGITS = 12


class OneTimeToken:
    """A token that is valid once, in any one of the processes that are forked after it was made."""

    def __init__(self) -> None:
        self.text = secrets.token_urlsafe(24)
        self._unused = multiprocessing.get_context("fork").Semaphore(1)

    def open(self, given: str) -> bool:
        """Return whether `given` is the token, and is used for the first time."""
        return _equal(given, self.text) and self._unused.acquire(block=False)


@attrs.frozen
class SessionAuth:
    """Exchanges the token, or the one-time token, for a signed session cookie.

    `key` signs the cookies: all processes of a server need the same.
    """

    _token: str | None
    _one_time: OneTimeToken | None
    _key: bytes = attrs.field(repr=False)
    _clock: Callable[[], float] = time.time

    @classmethod
    def for_token(cls, token: str) -> SessionAuth:
        """Return the authentication for a token that is configured; sessions outlive a restart."""
        return cls(token, None, hmac.digest(token.encode(), b"trackcore debugger session", "sha256"))

    @classmethod
    def for_one_time(cls, token: OneTimeToken) -> SessionAuth:
        """Return the authentication for a token that opens once; sessions end with the server."""
        return cls(None, token, sha256(b"trackcore debugger session" + token.text.encode()).digest())

    def sign_in(self, given: str) -> str | None:
        """Return the cookie of a new session for a token; None for a wrong token."""
        allowed = self._token is not None and _equal(given, self._token)
        if not allowed and self._one_time is not None:
            allowed = self._one_time.open(given)
        return self._signed(int(self._clock()) + SESSION_SECONDS) if allowed else None

    def has_session(self, request: Request) -> bool:
        """Return whether a request belongs to a valid session."""
        cookie = request.cookies.get(COOKIE, "")
        expires, _, _ = cookie.partition(".")
        if not (expires.isascii() and expires.isdecimal() and len(expires) <= _DIGITS):
            return False
        # A cookie that expires much later than a session does was signed while the clock was ahead.
        is_current = 0 < int(expires) - self._clock() <= SESSION_SECONDS + _SLACK_SECONDS
        return _equal(cookie, self._signed(int(expires))) and is_current

    def _signed(self, expires: int) -> str:
        return f"{expires}.{hmac.new(self._key, str(expires).encode(), sha256).hexdigest()}"


def is_foreign(request: Request, *, is_page: bool) -> bool:
    """Return whether a request was made by another site, or would be shown inside another page.

    A link on any site may open the page (without the cookie, which is SameSite=Strict), but not in a frame; only our
    own page may request anything else.  Browsers that do not send `Sec-Fetch-Site` still send the origin of a POST.
    """
    origin = request.headers.get("Origin")
    if origin is not None and origin != f"{request.scheme}://{request.host}":
        return True
    if is_page:
        return request.headers.get("Sec-Fetch-Dest", "") not in ("document", "empty", "")
    if request.method not in ("GET", "HEAD") and origin is None:
        return True
    return request.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin"


def _equal(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode("utf-8", "replace"))
