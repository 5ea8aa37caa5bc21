"""The WSGI app of the debugger: it checks the session and answers from the reader.

    GET  /                        the page, or the sign-in page
    GET  /<file>                  its styles and scripts, which contain no user data
    POST /session                 {"token": ...}: starts a session; DELETE ends it (/api/session: for /api/ only)
    GET  /api/start, /api/newer, /api/older, /api/find, /api/charts, /api/names, /api/detail/<part>/<seq>
    POST /api/repair/<part>/<seq>, /api/retry/messages/<seq>?destination=<name>

Errors are JSON objects with `code` and `message`, as in the tracking API.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Literal, TypeVar
from urllib.parse import quote

import attrs
import msgspec
from werkzeug.http import quote_etag
from werkzeug.wrappers import Request, Response

from trackcore import PARTS, JSONObject, Part, Search, TrackcoreError, parse_timestamp
from trackcore.support import failure_body
from trackcore.text import describe_unexpected, encode_json
from trackcore_debugger.assets import load_assets
from trackcore_debugger.auth import COOKIE, SESSION_SECONDS, SessionAuth, is_foreign
from trackcore_debugger.reader import Cursors, Listing, Reader

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

log = logging.getLogger("trackcore.debugger")
_T = TypeVar("_T")

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "X-Robots-Tag": "noindex",
}

_TOKEN_BYTES = 4_096
_MAX_SECONDS = 30 * 86_400
_MAX_CHARS = 200
_SEQ_DIGITS = 16


class _Token(msgspec.Struct):
    token: str


_token_decoder = msgspec.json.Decoder(_Token)


@attrs.define
class _RequestRejected(Exception):
    """A rejected request, with its response."""

    status: HTTPStatus
    code: str
    message: str


_NO_SESSION = (HTTPStatus.UNAUTHORIZED, "no_session", "Sign in with the token first.")
_WRONG_TOKEN = (HTTPStatus.FORBIDDEN, "wrong_token", "Wrong token, or a one-time token that was used before.")
_NOT_FOUND = (HTTPStatus.NOT_FOUND, "not_found", "Not found.")
_NO_METHOD = (HTTPStatus.METHOD_NOT_ALLOWED, "method_not_allowed", "Method not allowed.")
_BAD_QUERY = (HTTPStatus.BAD_REQUEST, "bad_query", "The query has an invalid value.")
_BAD_BODY = (HTTPStatus.BAD_REQUEST, "bad_body", 'The body must be a JSON object such as {"token": "..."}.')
_FAILED = (HTTPStatus.INTERNAL_SERVER_ERROR, "internal_error", "Internal error; see the log of the server.")


class DebuggerApp:
    """The debugger as a WSGI app.  Mount it under any path; its page only uses relative addresses."""

    def __init__(
        self, reader: Reader, auth: SessionAuth, shown: Callable[[str | None], str | None] = lambda address: address
    ) -> None:
        self._reader = reader
        self._shown = shown
        self._auth = auth
        self._assets = load_assets()
        self._queries: Mapping[str, Callable[[Request], JSONObject]] = {
            "start": lambda _: reader.start(),
            "newer": self._newer,
            "older": lambda request: _listing(reader.older(_cursors(request), _search(request), parts=_parts(request))),
            "names": lambda request: reader.names(_text(request, "text") or ""),
            "find": lambda request: {"rows": reader.find(_text(request, "id") or "")},
            "charts": lambda request: reader.charts(_number(request, "seconds", 1, _MAX_SECONDS)),
        }

    def _newer(self, request: Request) -> JSONObject:
        """Return new rows; with `charts`, a number of seconds, also the charts, so that a page needs one request."""
        log = _text(request, "log") or ""
        listing = _listing(self._reader.newer(_cursors(request), _search(request), parts=_parts(request), log=log))
        if "charts" in request.args:
            listing["charts"] = self._reader.charts(_number(request, "charts", 1, _MAX_SECONDS))
        return listing

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        request = Request(environ)
        response = self._answer(request)
        response.headers.extend(_HEADERS)
        return response(environ, start_response)

    def _answer(self, request: Request) -> Response:
        try:
            return self._dispatch(request)
        except _RequestRejected as rejected:
            return _failure(rejected.status, rejected.code, rejected.message)
        except TrackcoreError as error:
            return _failure(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", str(error))
        except Exception as error:  # noqa: BLE001 - every failure gets a response
            log.error("a request failed: %s", describe_unexpected(error))  # noqa: TRY400 - see `unexpected`
            return _failure(*_FAILED)

    def _dispatch(self, request: Request) -> Response:
        path = request.path.removeprefix("/")
        is_session = path in ("session", "api/session")
        if not is_session and not path.startswith("api/"):
            return self._file(request, path)
        if is_foreign(request, is_page=False):
            raise _foreign(request)
        if is_session:
            return self._session(request)
        if not self._auth.has_session(request):
            raise _RequestRejected(*_NO_SESSION)
        return self._private(request, path.removeprefix("api/"))

    def _file(self, request: Request, path: str) -> Response:
        _allow(request, "GET", "HEAD")
        status = HTTPStatus.OK
        if not path:
            if is_foreign(request, is_page=True):
                raise _foreign(request)
            if not request.environ.get("PATH_INFO"):  # the page's addresses are relative to its folder
                folder = quote(request.root_path.rpartition("/")[2])
                query = request.query_string.decode("latin-1")
                location = f"{folder}/?{query}" if query else f"{folder}/"
                return Response(status=HTTPStatus.PERMANENT_REDIRECT, headers={"Location": location})
            inside = self._auth.has_session(request)
            path, status = ("index.html", status) if inside else ("enter.html", HTTPStatus.UNAUTHORIZED)
        asset = self._assets.get(path)
        if asset is None:
            raise _RequestRejected(*_NOT_FOUND)
        response = Response(asset.content, status, content_type=asset.media_type)
        response.headers["Cache-Control"] = "no-store" if asset.media_type.startswith("text/html") else "no-cache"
        response.headers["ETag"] = quote_etag(asset.tag)
        return response.make_conditional(request) if status is HTTPStatus.OK else response

    def _session(self, request: Request) -> Response:
        """Start or end a session.

        The cookie has no path, so the browser sends it to the folder of this address, which we may not know: a proxy
        may have removed a prefix.
        """
        _allow(request, "POST", "DELETE")
        response = _json({})
        if request.method == "DELETE":
            response.delete_cookie(COOKIE, path=None)
            return response
        cookie = self._auth.sign_in(_token_in(request))
        if cookie is None:
            log.warning("wrong token from %s", self._shown(request.remote_addr) or "a client")
            raise _RequestRejected(*_WRONG_TOKEN)
        response.set_cookie(
            COOKIE,
            cookie,
            max_age=SESSION_SECONDS,
            path=None,
            secure=request.is_secure,
            httponly=True,
            samesite="Strict",
        )
        return response

    def _private(self, request: Request, path: str) -> Response:
        query = self._queries.get(path)
        if query is not None:
            _allow(request, "GET", "HEAD")
            return _json(query(request))
        action, _, place = path.partition("/")
        name, _, number = place.partition("/")
        part = next((part for part in PARTS if part == name), None)
        if part is None or not _is_number(number):
            raise _RequestRejected(*_NOT_FOUND)
        if action == "detail":
            _allow(request, "GET", "HEAD")
            found = self._reader.detail(part, int(number))
        elif action == "repair":
            _allow(request, "POST")
            found = self._reader.repair(part, int(number))
        elif action == "retry" and part == "messages":
            _allow(request, "POST")
            found = self._reader.retry(int(number), _text(request, "destination") or "")
        else:
            found = None
        if found is None:
            raise _RequestRejected(*_NOT_FOUND)
        return _json(found)


def _foreign(request: Request) -> _RequestRejected:
    """Reject a request of another site, or of our own page behind a proxy that does not report its address."""
    message = "The debugger only answers its own page."
    origin = request.headers.get("Origin")
    address = f"{request.scheme}://{request.host}"
    is_own_page = request.headers.get("Sec-Fetch-Site", "same-origin") == "same-origin"
    if is_own_page and origin not in (None, address):
        message = (
            f"This page is at {origin}, but the request reached the server as one to {address}. The proxy between must"
            " forward the host (`Host` or `X-Forwarded-Host`) and the scheme (`X-Forwarded-Proto`), and the server must"
            " trust it: `proxy_hops` under `[server]`."
        )
    return _RequestRejected(HTTPStatus.FORBIDDEN, "foreign", message)


def _token_in(request: Request) -> str:
    try:
        return _token_decoder.decode(request.stream.read(_TOKEN_BYTES)).token
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise _RequestRejected(*_BAD_BODY) from None
    except Exception as error:  # noqa: BLE001 - each server has different exceptions for a malformed chunk
        log.info("a body could not be read: %s", type(error).__name__)
        raise _RequestRejected(*_BAD_BODY) from None


def _allow(request: Request, *methods: str) -> None:
    if request.method not in methods:
        raise _RequestRejected(*_NO_METHOD)


def _json(body: JSONObject, status: HTTPStatus = HTTPStatus.OK) -> Response:
    response = Response(encode_json(body), status, content_type="application/json")
    response.headers["Cache-Control"] = "no-store"
    return response


def _failure(status: HTTPStatus, code: str, message: str) -> Response:
    return _json(failure_body(code, message), status)


def _listing(listing: Listing) -> JSONObject:
    return {
        "rows": list(listing.rows),
        "cursors": dict(listing.cursors),
        "skipped": listing.skipped,
        "isEnd": listing.is_end,
        "reached": listing.reached,
        "isAnotherLog": listing.is_another_log,
        "log": listing.log,
    }


def _cursors(request: Request) -> Cursors:
    return {part: _number(request, part, 0, 10**_SEQ_DIGITS) for part in PARTS}


def _parts(request: Request) -> Sequence[Part]:
    names = request.args.get("parts")
    return PARTS if names is None else [part for part in PARTS if part in names.split(",")]


_CONCERNS: Mapping[str, Literal["warning", "violation"]] = {"warning": "warning", "violation": "violation"}
_DELIVERIES: Mapping[str, Literal["not_selected", "waiting", "dead_letter"]] = {
    "not_selected": "not_selected",
    "waiting": "waiting",
    "dead_letter": "dead_letter",
}


def _search(request: Request) -> Search:
    path, has_value, value = (_text(request, "path") or "").partition("=")
    return Search(
        source=_text(request, "source"),
        call=_text(request, "type"),
        user=_text(request, "user"),
        code=_text(request, "code"),
        text=_text(request, "text"),
        event=_text(request, "event"),
        path=path.strip() or None,
        value=value.strip() if has_value else None,
        concern=_one_of(_CONCERNS, request, "concern"),
        destination=_text(request, "destination"),
        delivery=None if request.args.get("delivery") == "selected" else _one_of(_DELIVERIES, request, "delivery"),
        since=_time(request, "since"),
        until=_time(request, "until"),
    )


def _one_of(choices: Mapping[str, _T], request: Request, name: str) -> _T | None:
    text = _text(request, name)
    if text is not None and text not in choices:
        raise _RequestRejected(*_BAD_QUERY)
    return None if text is None else choices[text]


def _time(request: Request, name: str) -> datetime | None:
    text = _text(request, name)
    time = parse_timestamp(text)
    if text is not None and time is None:
        raise _RequestRejected(*_BAD_QUERY)
    return time


def _text(request: Request, name: str) -> str | None:
    text = request.args.get(name, "")
    if len(text) > _MAX_CHARS:
        raise _RequestRejected(*_BAD_QUERY)
    return text or None


def _number(request: Request, name: str, least: int, most: int) -> int:
    text = request.args.get(name, "")
    if not _is_number(text) or not least <= int(text) <= most:
        raise _RequestRejected(*_BAD_QUERY)
    return int(text)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= _SEQ_DIGITS
