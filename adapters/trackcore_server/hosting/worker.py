"""gunicorn's threaded worker, with four changes that a public endpoint needs and gunicorn has no settings for.

1. gunicorn rejects some requests itself (a request line that is too long, a malformed header) and answers in HTML; SDKs
   retry unless the answer is a JSON object with `code` and `message`.  Here it is one.
2. gunicorn assigns a thread to a connection at the first byte of a request, and then waits for the rest without limit;
   as many slow connections as there are threads would block the server.  Here a request has a deadline, from its first
   byte to the last byte of the answer, and a connection that misses it is closed.
3. gunicorn rejects an address with bytes that should be percent-encoded; mail programs request pixels with such
   addresses, in raw UTF-8.  Here these bytes are encoded first.
4. gunicorn may hang in its signal handler: see `stopping`.

`trackcore serve` uses the asynchronous worker.  This one hosts the WSGI app:

    gunicorn --worker-class trackcore_server.worker.Worker --threads 16 'trackcore_server:create_app()'
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from gunicorn.http import errors
from gunicorn.http.message import Request
from gunicorn.http.parser import RequestParser
from gunicorn.workers.gthread import PollableMethodQueue, ThreadWorker

from trackcore.text import describe_unexpected
from trackcore_server.hosting import rejections
from trackcore_server.hosting.rejections import Rejection
from trackcore_server.hosting.request_target import percent_encode
from trackcore_server.hosting.stopping import StoppableWorker

REQUEST_SECONDS = 30.0
"""How long one request may take in total.  SDKs themselves give up after 10 to 15 seconds."""

IDLE_SECONDS = 2.0
"""How long a connection without a request stays open once the worker is stopping: a client may be sending one."""

log = logging.getLogger("trackcore.server")

_REJECTIONS: Mapping[type[Exception], Rejection] = {
    errors.LimitRequestLine: rejections.URI_TOO_LONG,
    errors.LimitRequestHeaders: rejections.HEADERS_TOO_LARGE,
    errors.UnsupportedTransferCoding: rejections.UNSUPPORTED_TRANSFER_CODING,
    errors.ExpectationFailed: rejections.EXPECTATION_FAILED,
    errors.ForbiddenProxyRequest: rejections.FORBIDDEN,
    errors.InvalidResponseHeader: rejections.INTERNAL_ERROR,
    errors.InvalidResponseHeaderName: rejections.INTERNAL_ERROR,
    errors.ConfigurationProblem: rejections.INTERNAL_ERROR,
    errors.ParseException: rejections.INVALID_HTTP,
}
"""The rejection for each exception of gunicorn; the first match counts.  Anything else is an internal error."""


class _LenientRequest(Request):  # type: ignore[misc]  # gunicorn has no types
    """A request whose address may contain raw bytes beyond ASCII."""

    def parse_request_line(self, line_bytes: bytes) -> None:
        """Parse the line, with these bytes of the address percent-encoded.  Others, such as controls, are rejected."""
        method, space, rest = bytes(line_bytes).partition(b" ")
        super().parse_request_line(method + space + percent_encode(rest))


class WakeUp(PollableMethodQueue):  # type: ignore[misc]  # gunicorn has no types
    """The pipe by which threads wake the loop."""

    def close(self) -> None:
        """Leave the pipe open until the process ends.

        A request that takes too long ends after the loop, and its thread still writes a byte.  The descriptor of a
        closed pipe could then belong to another file, such as the log.
        """


class Worker(StoppableWorker, ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """A threaded worker that rejects requests with JSON, limits their time and stops reliably."""

    request_seconds = REQUEST_SECONDS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.method_queue = WakeUp()
        self._deadlines: dict[Any, float] = {}
        self._deadlines_lock = threading.Lock()
        self._idle_until = float("inf")

    def init_process(self) -> None:
        """Start to serve.  The process belongs to this worker, so the parser can be patched in it."""
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

    def murder_keepalived(self, force: bool = False) -> None:  # noqa: FBT002 - as gunicorn has it
        """Close keep-alive connections that have been idle for long, or all of them after SIGQUIT."""
        super().murder_keepalived(force or self.quits)

    def murder_pending(self) -> None:
        """Close connections past their deadline.  gunicorn calls this at least once a second."""
        now = time.monotonic()
        if not self.alive:
            self._cut_idle(now)
        super().murder_pending()
        with self._deadlines_lock:
            late = [conn for conn, deadline in self._deadlines.items() if deadline < now]
            for conn in late:
                self._deadlines[conn] = float("inf")
                with suppress(OSError):  # it is closed already
                    conn.sock.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits for it
        if late:
            log.warning("closed %d connections: a request took more than %g s", len(late), self.request_seconds)

    def _cut_idle(self, now: float) -> None:
        """Close connections that have sent nothing yet once their time is over: gunicorn would wait for them."""
        self._idle_until = now if self.quits else min(self._idle_until, now + IDLE_SECONDS)
        for conn in self.pending_conns:
            conn.timeout = min(conn.timeout, self._idle_until)
        if now < self._idle_until:
            return
        with self._deadlines_lock:
            for conn in self._deadlines:
                if not (conn.initialized or conn.data_ready):
                    with suppress(OSError):  # it is closed already
                        conn.sock.shutdown(socket.SHUT_RD)  # received bytes are still read, and answered

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Answer a request that could not reach the app; log it without its address, which may contain a write key."""
        del req
        rejection = _rejection_of(exc)
        if rejection is rejections.INTERNAL_ERROR:
            log.error("a request failed: %s", describe_unexpected(exc))
        else:
            who = addr[0] if isinstance(addr, tuple) else "a local socket"
            log.info("rejected a request of %s: %s", who, type(exc).__name__)
        with suppress(OSError):
            client.sendall(rejection.response())


def _rejection_of(error: BaseException) -> Rejection:
    found = (rejection for kind, rejection in _REJECTIONS.items() if isinstance(error, kind))
    return next(found, rejections.INTERNAL_ERROR)
