"""gunicorn's threaded worker, with the three things that an open endpoint needs and gunicorn has no setting for.

1. What gunicorn refuses by itself (a request line that is too long, a header that is none) it answers in HTML; SDKs
   take anything but a JSON object with `code` and `message` for a reason to retry.  Here it is one.
2. gunicorn gives a thread to a connection with the first byte of a request, and then waits for the rest for ever; as
   many idle connections as there are threads would stop the server.  Here a request has a deadline, from its first byte
   to the last byte of the answer, and a connection that misses it is cut.
3. gunicorn refuses an address with bytes that should be percent-encoded; mail programs send pixels so, in raw UTF-8.
   Here they are encoded first.

Serve with it wherever trackcore is open to others:

    gunicorn --worker-class trackcore_server.worker.Worker --threads 16 'trackcore_server:create_app()'
"""

from __future__ import annotations

import logging
import re
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any

from gunicorn.http import errors
from gunicorn.http.message import Request
from gunicorn.http.parser import RequestParser
from gunicorn.workers.gthread import ThreadWorker

from trackcore.jsontext import encode_json
from trackcore.unexpected import describe_unexpected

REQUEST_SECONDS = 30.0
"""How long one request may take in all.  SDKs themselves give up after 10 to 15 seconds."""

log = logging.getLogger("trackcore.server")

_STATUSES: Mapping[type[Exception], HTTPStatus] = {
    errors.LimitRequestLine: HTTPStatus.REQUEST_URI_TOO_LONG,
    errors.LimitRequestHeaders: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    errors.UnsupportedTransferCoding: HTTPStatus.NOT_IMPLEMENTED,
    errors.ExpectationFailed: HTTPStatus.EXPECTATION_FAILED,
    errors.ForbiddenProxyRequest: HTTPStatus.FORBIDDEN,
    errors.ParseException: HTTPStatus.BAD_REQUEST,
}
"""How what gunicorn refuses is answered; the first that fits.  Anything else is a failure of ours."""

_CODES: Mapping[HTTPStatus, tuple[str, str]] = {
    HTTPStatus.REQUEST_URI_TOO_LONG: ("uri_too_long", "The address of the request is too long; use POST."),
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: ("headers_too_large", "There are too many headers, or too large ones."),
    HTTPStatus.NOT_IMPLEMENTED: ("unsupported_transfer_coding", "Transfer-Encoding may only be chunked."),
    HTTPStatus.EXPECTATION_FAILED: ("expectation_failed", "Expect may only be 100-continue."),
    HTTPStatus.FORBIDDEN: ("forbidden", "This connection may not be made here."),
    HTTPStatus.BAD_REQUEST: ("invalid_http", "This is no HTTP request that could be read."),
    HTTPStatus.INTERNAL_SERVER_ERROR: ("internal_error", "Something failed here; try again."),
}


class _LenientRequest(Request):  # type: ignore[misc]  # gunicorn has no types
    """A request whose address may hold raw bytes beyond ASCII."""

    def parse_request_line(self, line_bytes: bytes) -> None:
        """Parse the line, with those bytes of the address percent-encoded.  Others, such as controls, are refused."""
        method, space, rest = bytes(line_bytes).partition(b" ")
        super().parse_request_line(method + space + _BEYOND_ASCII.sub(lambda byte: b"%%%02X" % byte[0][0], rest))


_BEYOND_ASCII = re.compile(rb"[\x80-\xff]")


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """A threaded worker whose own refusals are JSON, and whose requests have a deadline."""

    request_seconds = REQUEST_SECONDS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deadlines: dict[Any, float] = {}
        self._deadlines_lock = threading.Lock()

    def init_process(self) -> None:
        """Start to serve.  The process is this worker's own, so the parser can be changed in it."""
        RequestParser.mesg_class = _LenientRequest
        super().init_process()

    def handle(self, conn: Any) -> Any:
        """Serve a connection in a thread, within the deadline."""
        with self._deadlines_lock:
            self._deadlines[conn] = time.monotonic() + self.request_seconds
        try:
            return super().handle(conn)
        finally:
            with self._deadlines_lock:
                del self._deadlines[conn]

    def murder_pending(self) -> None:
        """Cut what is over time.  gunicorn calls this once a second or more often."""
        super().murder_pending()
        now = time.monotonic()
        with self._deadlines_lock:
            late = [conn for conn, deadline in self._deadlines.items() if deadline < now]
            for conn in late:
                self._deadlines[conn] = float("inf")
                with suppress(OSError):  # it is gone already
                    conn.sock.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits for it
        if late:
            log.warning("%d connections were cut: a request took more than %g s", len(late), self.request_seconds)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Answer what could not be handed to the app, and log it without its address, which may hold a write key."""
        del req
        status = _status_of(exc)
        if status is HTTPStatus.INTERNAL_SERVER_ERROR:
            log.error("a request failed: %s", describe_unexpected(exc))
        else:
            who = addr[0] if isinstance(addr, tuple) else "a local socket"
            log.info("refused a request of %s: %s", who, type(exc).__name__)
        with suppress(OSError):
            client.sendall(_answer(status))


def _status_of(error: BaseException) -> HTTPStatus:
    if isinstance(error, errors.InvalidResponseHeader | errors.InvalidResponseHeaderName | errors.ConfigurationProblem):
        return HTTPStatus.INTERNAL_SERVER_ERROR
    found = (status for kind, status in _STATUSES.items() if isinstance(error, kind))
    return next(found, HTTPStatus.INTERNAL_SERVER_ERROR)


def _answer(status: HTTPStatus) -> bytes:
    code, message = _CODES[status]
    body = encode_json({"success": False, "code": code, "message": message})
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\n"
        "Connection: close\r\n"
        "Access-Control-Allow-Origin: *\r\n"
        "Content-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("ascii") + body
