"""Who may look: tokens, sessions, and where a request comes from.

Theory.  The page shows what users did, so nobody gets in without a token.  A token is given once, in the body of a POST
(the link that a server prints has it behind `#`, which browsers do not send, so it is in no access log).  Who has it
gets a session: a cookie that scripts cannot read and that no other site can make a browser send (HttpOnly,
SameSite=Strict, and Secure over https).  It says until when it holds and is signed, so processes share no sessions.

Beside that, a request that changes something must name our own origin, and one whose browser says that it comes from
another site, or is to be shown in a frame, is refused.
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
_TOKEN_BYTES = 24
_OWN = frozenset({"same-origin"})
_SEEN = frozenset({"document", "empty", ""})


class OneTimeToken:
    """A token that opens once, in whichever of the processes that are forked after it was made."""

    def __init__(self) -> None:
        self.text = secrets.token_urlsafe(_TOKEN_BYTES)
        self._unused = multiprocessing.get_context("fork").Semaphore(1)

    def open(self, given: str) -> bool:
        """Tell whether this is the token, and is so for the first time."""
        return _equal(given, self.text) and self._unused.acquire(block=False)


@attrs.frozen
class SessionAuth:
    """Lets in who has the token, or the one-time token, and remembers it by a signed cookie.

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
        """Give the cookie of a new session for a token; None for a wrong one."""
        allowed = self._token is not None and _equal(given, self._token)
        if not allowed and self._one_time is not None:
            allowed = self._one_time.open(given)
        return self._signed(int(self._clock()) + SESSION_SECONDS) if allowed else None

    def has_session(self, request: Request) -> bool:
        """Tell whether a request belongs to a session that still holds."""
        cookie = request.cookies.get(COOKIE, "")
        expires, _, _ = cookie.partition(".")
        if not (expires.isascii() and expires.isdecimal() and len(expires) <= _DIGITS):
            return False
        # One that would hold for much longer than a session does was signed while a clock was ahead.
        is_current = 0 < int(expires) - self._clock() <= SESSION_SECONDS + _SLACK_SECONDS
        return _equal(cookie, self._signed(int(expires))) and is_current

    def _signed(self, expires: int) -> str:
        return f"{expires}.{hmac.new(self._key, str(expires).encode(), sha256).hexdigest()}"


_DIGITS = 12


def is_foreign(request: Request, *, is_page: bool) -> bool:
    """Tell whether a request was made by another site, or is to be shown inside another page.

    A page may be opened by a link from anywhere (without the cookie, which is SameSite=Strict), but not in a frame; all
    else only by our own page.  Browsers that do not say where a request comes from still name the origin of a POST.
    """
    origin = request.headers.get("Origin")
    if origin is not None and origin != f"{request.scheme}://{request.host}":
        return True
    site = request.headers.get("Sec-Fetch-Site")
    if is_page:
        return request.headers.get("Sec-Fetch-Dest", "") not in _SEEN
    if request.method not in ("GET", "HEAD") and origin is None:
        return True
    return site is not None and site not in _OWN


def _equal(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode("utf-8", "replace"))
