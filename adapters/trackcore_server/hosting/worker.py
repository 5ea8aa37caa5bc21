"""gunicorn's threaded worker, with the four things that an open endpoint needs and gunicorn has no setting for.

1. What gunicorn refuses by itself (a request line that is too long, a header that is none) it answers in HTML; SDKs
   take anything but a JSON object with `code` and `message` for a reason to retry.  Here it is one.
2. gunicorn gives a thread to a connection with the first byte of a request, and then waits for the rest for ever; as
   many idle connections as there are threads would stop the server.  Here a request has a deadline, from its first byte
   to the last byte of the answer, and a connection that misses it is cut.
3. gunicorn refuses an address with bytes that should be percent-encoded; mail programs send pixels so, in raw UTF-8.
   Here they are encoded first.
4. gunicorn stops a worker inside of its signal handler, by locks that the interrupted thread may hold; then it hangs
   until it is killed.  Here a handler only sets a flag, and the loop does what there is to do.

Serve with it wherever trackcore is open to others:

    gunicorn --worker-class trackcore_server.hosting.worker.Worker --threads 16 'trackcore_server:create_app()'
"""

from __future__ import annotations

import logging
import os
import re
import signal
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
from gunicorn.workers.gthread import PollableMethodQueue, ThreadWorker

from trackcore.failures import failure_body
from trackcore.text.jsontext import encode_json
from trackcore.text.unexpected import describe_unexpected
from trackcore_server.process.signals import GROUP_SIGNALS, STOP_SIGNALS, ignore_stops

REQUEST_SECONDS = 30.0
"""How long one request may take in all.  SDKs themselves give up after 10 to 15 seconds."""

IDLE_SECONDS = 2.0
"""How long a connection without a request stays open once the worker is told to stop: a client may be sending one."""

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


class WakeUp(PollableMethodQueue):  # type: ignore[misc]  # gunicorn has no types
    """What threads wake the loop with, by a byte in a pipe."""

    def close(self) -> None:
        """Leave the pipe open, up to the end of the process.

        A request that takes too long ends after the loop, and its thread writes its byte all the same.  The number of
        a closed pipe could be that of another file by then, such as the log.
        """


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """A threaded worker whose own refusals are JSON, whose requests have a deadline, and which stops when told to."""

    request_seconds = REQUEST_SECONDS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.method_queue = WakeUp()
        self._deadlines: dict[Any, float] = {}
        self._deadlines_lock = threading.Lock()
        self._quits = False
        self._idle_until = float("inf")

    def init_process(self) -> None:
        """Start to serve.  The process is this worker's own, so the parser can be changed in it."""
        RequestParser.mesg_class = _LenientRequest
        super().init_process()

    def init_signals(self) -> None:
        """Take signals from now on.  What was held back since the process began comes in here."""
        super().init_signals()
        for number in GROUP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {*STOP_SIGNALS, *GROUP_SIGNALS})

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Note SIGTERM, and wake the loop.  A worker that does not serve yet has nothing to finish."""
        if not self.booted:
            os._exit(0)
        super().handle_exit(sig, frame)

    def handle_quit(self, sig: int, frame: Any) -> None:
        """Note SIGQUIT: as SIGTERM, but idle connections are closed at once."""
        self._quits = True
        self.handle_exit(sig, frame)

    def run(self) -> None:
        """Serve until told to stop, and then until what is in progress is answered."""
        super().run()
        ignore_stops()

    def handle(self, conn: Any) -> Any:
        """Serve a connection in a thread, within the deadline."""
        with self._deadlines_lock:
            self._deadlines[conn] = time.monotonic() + self.request_seconds
        try:
            return super().handle(conn)
        finally:
            with self._deadlines_lock:
                del self._deadlines[conn]

    def murder_keepalived(self, force: bool = False) -> None:  # noqa: FBT002 - as gunicorn has it
        """Close kept connections that have been idle for long; all of them when it has to be quick."""
        super().murder_keepalived(force or self._quits)

    def murder_pending(self) -> None:
        """Cut what is over time.  gunicorn calls this once a second or more often."""
        now = time.monotonic()
        if not self.alive:
            self._cut_idle(now)
        super().murder_pending()
        with self._deadlines_lock:
            late = [conn for conn, deadline in self._deadlines.items() if deadline < now]
            for conn in late:
                self._deadlines[conn] = float("inf")
                with suppress(OSError):  # it is gone already
                    conn.sock.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits for it
        if late:
            log.warning("%d connections were cut: a request took more than %g s", len(late), self.request_seconds)

    def _cut_idle(self, now: float) -> None:
        """Close, once their time is over, connections that have sent nothing yet: gunicorn would wait for them."""
        self._idle_until = now if self._quits else min(self._idle_until, now + IDLE_SECONDS)
        for conn in self.pending_conns:
            conn.timeout = min(conn.timeout, self._idle_until)
        if now < self._idle_until:
            return
        with self._deadlines_lock:
            for conn in self._deadlines:
                if not (conn.initialized or conn.data_ready):
                    with suppress(OSError):  # it is gone already
                        conn.sock.shutdown(socket.SHUT_RD)  # what has come in is still read, and answered

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
    body = encode_json(failure_body(code, message))
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\n"
        "Connection: close\r\n"
        "Access-Control-Allow-Origin: *\r\n"
        "Content-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("ascii") + body
