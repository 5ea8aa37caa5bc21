"""A connection of the asynchronous worker: it parses requests with llhttp, the parser of Node.js, and serves them.

llhttp leaves to its user:

- the limits of a head, and other requests that are not served: the answers are those of `rejections`;
- one request after another: a client may send some ahead, and gets the answers in their order;
- a deadline: `request_seconds` for a request, `keepalive_seconds` between two.  The server compares it with the time
  once a second, which costs less than a timer for each request;
- memory: reading pauses while `MOST_WAITING_BYTES` of a body wait for the app, and while a request waits for its turn;
- a request for another protocol, such as HTTP/2, is served as if it had not asked for it;
- trailers after a chunked body are ignored: no app may mistake them for headers;
- a header with an underscore is dropped: a gateway to WSGI could mistake it for another one.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from collections.abc import Mapping
from typing import Any

from httptools import HttpParserCallbackError, HttpParserError, HttpParserUpgrade, HttpRequestParser

from trackcore.text import describe_unexpected
from trackcore_server.hosting import rejections
from trackcore_server.hosting.framing import read_framing
from trackcore_server.hosting.http_exchange import Exchange
from trackcore_server.hosting.http_host import HttpHost
from trackcore_server.hosting.rejections import Rejected, Rejection
from trackcore_server.hosting.request_target import parse_target, percent_encode

MOST_WAITING_BYTES = 262_144
"""How much of a body waits in memory for the app before the connection stops reading."""

MOST_WAITING_REQUESTS = 32
"""How many requests of a connection wait for the answer to an earlier one; more are not read."""

LINGER_SECONDS = 2.0
"""How long a rejected client may continue to send.  If it were cut at once, it could lose the answer."""

_VERSIONS = frozenset({"1.0", "1.1"})
_LINE_EXTRA = len("  HTTP/1.1")
_LINE_ENDS = re.compile(rb"[\r\n]+")

log = logging.getLogger("trackcore.server")


class HttpConnection(asyncio.Protocol):
    """One connection, and its requests from the one being served to the one being received."""

    _transport: asyncio.Transport
    _parser: HttpRequestParser
    _addresses: dict[str, Any]

    def __init__(self, host: HttpHost) -> None:
        self.is_idle = True
        self.deadline = float("inf")
        self._host = host
        self._limits = host.limits
        self._most_headers = host.limits.headers
        self._most_header_bytes = host.limits.header_size - len(": \r\n")
        self._exchanges: deque[Exchange] = deque()
        self._rejection: Rejection | None = None
        self._is_paused = False
        self._writable: asyncio.Future[None] | None = None
        self._ignores_input = False
        self._has_ended = False  # the client has closed its side
        # The request that is being received
        self._parser = self._make_parser()
        self._receiving: Exchange | None = None
        self._is_in_message = False
        self._is_line_over = False
        self._wants_upgrade = False
        self._has_body_part = False
        self._body_left = 0  # by its Content-Length
        self._unparsed = 0  # bytes since its begin or the last part of its body
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []

    # The connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # of TCP
        """Start with a new connection."""
        self._transport = transport
        self._addresses = {
            "client": _address(transport.get_extra_info("peername")),
            "server": _address(transport.get_extra_info("sockname")),
        }
        self.deadline = self._host.loop.time() + self._limits.keepalive_seconds
        self._host.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Release what the connection holds.  A request that has arrived completely is still served."""
        del exc
        self._host.discard(self)
        self._ignores_input = True
        self._parser = None  # type: ignore[assignment]  # each holds the other
        self.resume_writing()
        while len(self._exchanges) > 1:
            self._exchanges.pop()
        for exchange in self._exchanges:
            exchange.disconnect()

    def data_received(self, data: bytes) -> None:
        """Parse bytes, and start to serve the requests in them."""
        if self._ignores_input:
            return
        if self.is_idle:
            self.is_idle = False
            self.deadline = self._host.loop.time() + self._limits.request_seconds
        at = 0
        while at < len(data) and not self._ignores_input:
            if not self._is_line_over:
                data = self._with_ascii_line(data, at)
            end = self._end_of_part(data, at)
            again = self._parse(data[at:end])
            if again:
                data = again + data[end:]
            at = 0 if again else end

    def eof_received(self) -> bool:
        """Return whether the connection stays open, since requests that have arrived are to be answered."""
        self._has_ended = True
        if self._ignores_input or self._receiving is not None or not self._exchanges:
            return False
        self._exchanges[-1].keeps_alive = False
        self._ignores_input = True
        return self._transport.can_write_eof()  # not with TLS

    def pause_writing(self) -> None:
        """Note that the client does not take what is sent."""
        self._writable = self._host.loop.create_future()

    def resume_writing(self) -> None:
        """Note that the client takes what is sent, or is gone."""
        writable, self._writable = self._writable, None
        if writable is not None and not writable.done():
            writable.set_result(None)

    # For the server

    def cut(self) -> bool:
        """Close the connection at its deadline, and return whether that cuts a request."""
        if self.is_idle and not self._transport.is_closing():
            self.deadline += LINGER_SECONDS  # for a client that has not taken the whole answer yet
            self._transport.close()
            return False
        self._transport.abort()
        return bool(self._exchanges) or not (self.is_idle or self._ignores_input)

    def abort(self) -> None:
        """Close the connection at once."""
        self._transport.abort()

    # For an exchange

    def write(self, data: bytes) -> None:
        """Send bytes, unless the connection is closed."""
        if not self._transport.is_closing():
            self._transport.write(data)

    async def drain(self) -> None:
        """Wait until the client has taken enough of what was sent."""
        if self._writable is not None:
            await self._writable

    def take_more(self) -> None:
        """Continue to read, if nothing waits any more."""
        if self._is_paused and not self._has_enough():
            self._is_paused = False
            self._transport.resume_reading()

    def advance(self) -> None:
        """Go on to the next request, if the first one is over."""
        if not self._exchanges or not self._exchanges[0].is_answered:
            return
        first = self._exchanges[0]
        if not first.keeps_alive:
            self._close(is_complete=first.is_received and not self._ignores_input)
            return
        if first.is_received:
            self._exchanges.popleft()
            self._go_on()
        self.take_more()

    def fail(self, rejection: Rejection) -> None:
        """Answer for the app, or cut the response that it has started."""
        if self._exchanges and self._exchanges[0].is_started:
            self._transport.abort()
        else:
            self._close_with(rejection)

    # One request after another

    def _go_on(self) -> None:
        """Serve the next request: the time of one that was sent ahead begins now."""
        now = self._host.loop.time()
        self.deadline = now + self._limits.request_seconds
        if self._exchanges:
            self._exchanges[0].start()
        elif self._rejection is not None:
            self._close_with(self._rejection)
        elif not self._is_in_message:
            self.is_idle = True
            self.deadline = now + self._limits.keepalive_seconds

    def _has_enough(self) -> bool:
        waiting = len(self._exchanges)
        return waiting > 1 or (waiting == 1 and self._exchanges[0].waiting_bytes > MOST_WAITING_BYTES)

    def _pause(self) -> None:
        if not self._is_paused and self._has_enough():
            self._is_paused = True
            self._transport.pause_reading()

    def _close_with(self, rejection: Rejection) -> None:
        self.write(rejection.response())
        self._close(is_complete=False)

    def _close(self, *, is_complete: bool) -> None:
        """Close after what was written; if the client may still be sending, wait for its end."""
        self._ignores_input = True
        if is_complete or self._has_ended or not self._transport.can_write_eof():
            self._transport.close()
        elif not self._transport.is_closing():
            self._exchanges.clear()
            self.deadline = self._host.loop.time() + LINGER_SECONDS
            self._transport.write_eof()
            self.take_more()

    def _reject(self, rejection: Rejection) -> None:
        """Answer a request that cannot be served, after those before it."""
        self._ignores_input = True
        self._host.rejected[rejection.code] += 1
        if self._receiving is not None:
            self._receiving.break_off()
            self.advance()
        elif self._exchanges:
            self._rejection = rejection
        else:
            self._close_with(rejection)

    # Parsing

    def _make_parser(self) -> HttpRequestParser:
        parser = HttpRequestParser(self)
        parser.set_dangerous_leniencies(lenient_data_after_close=True)  # ignored, so that the last request is answered
        return parser

    def _parse(self, data: bytes) -> bytes:
        """Parse bytes; return those that are left, if a request asks for another protocol."""
        self._has_body_part = False
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            return self._head_without_upgrade() + data[upgrade.args[0] :]
        except HttpParserError as error:
            if not self._ignores_input:
                self._reject(_rejection_of(error))
            return b""
        if self._is_in_message:
            self._unparsed = 0 if self._has_body_part else self._unparsed + len(data)
            if self._unparsed > self._limits.head_size:
                self._reject(rejections.HEADERS_TOO_LARGE)
        return b""

    def _with_ascii_line(self, data: bytes, start: int) -> bytes:
        """Return bytes with a request line in ASCII: of an address in raw UTF-8, the percent-encoded form."""
        if data[start] in b"\r\n":
            return data  # `_end_of_part` is the start of the line
        end = data.find(b"\n", start)
        self._is_line_over = end >= 0
        line = data[start:end] if end >= 0 else data[start:]
        return data if line.isascii() else data[:start] + percent_encode(line) + data[start + len(line) :]

    def _end_of_part(self, data: bytes, start: int) -> int:
        """Return where the head, a piece of the body, or all data ends: a request begins only at the start of a part.

        So `_with_ascii_line` sees each request line, also of a request that was sent ahead.
        """
        if self._body_left > 0:
            return start + self._body_left
        empty = _LINE_ENDS.match(data, start)
        if empty is not None:
            return empty.end()
        found = data.find(b"\n\r\n", start)
        return found + 3 if found >= 0 else len(data)

    def _head_without_upgrade(self) -> bytes:
        """Return the head of a request for another protocol as one that does not ask for it."""
        version = self._parser.get_http_version().encode("ascii")
        line = b"%b %b HTTP/%b\r\n" % (self._parser.get_method(), self._target, version)
        headers = [b"%b: %b\r\n" % header for header in self._headers if header[0] != b"upgrade"]
        self._parser = self._make_parser()
        return line + b"".join(headers) + b"\r\n"

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._is_in_message = True
        self._wants_upgrade = False
        self._target = b""
        self._headers = []

    def on_url(self, url: bytes) -> None:
        """Add a part of the target."""
        self._target += url
        if len(self._target) > self._limits.request_line:
            raise Rejected(rejections.URI_TOO_LONG)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header, or a trailer, which nobody reads."""
        headers = self._headers
        if len(headers) >= self._most_headers or len(name) + len(value) > self._most_header_bytes:
            raise Rejected(rejections.HEADERS_TOO_LARGE)
        headers.append((name.lower(), value.rstrip()))

    def on_headers_complete(self) -> None:
        """Serve the request, of which the body may be still to come."""
        method = self._parser.get_method()
        if len(method) + len(self._target) + _LINE_EXTRA > self._limits.request_line:
            raise Rejected(rejections.URI_TOO_LONG)
        if self._parser.should_upgrade() and method != b"CONNECT":
            self._wants_upgrade = True
            return
        if len(self._exchanges) > MOST_WAITING_REQUESTS:
            self._exchanges[-1].keeps_alive = False
            self._ignores_input = True
            raise Rejected(rejections.INVALID_HTTP)
        framing = read_framing(self._headers)
        exchange = self._receiving = self._make_exchange(method.decode("ascii"), framing)
        self._body_left = int(framing.get(b"content-length", 0))
        self._headers = []
        self._exchanges.append(exchange)
        if len(self._exchanges) == 1:
            exchange.start()
        else:
            self._pause()

    def _make_exchange(self, method: str, framing: Mapping[bytes, bytes]) -> Exchange:
        version = self._parser.get_http_version()
        if version not in _VERSIONS or (version == "1.0" and b"transfer-encoding" in framing):
            raise Rejected(rejections.INVALID_HTTP)
        try:
            path, raw_path, query = parse_target(self._target)
        except ValueError:
            raise Rejected(rejections.INVALID_HTTP) from None
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": version,
            "method": method,
            "scheme": self._host.scheme,
            "path": path,
            "raw_path": raw_path,
            "query_string": query,
            "root_path": "",
            "headers": [header for header in self._headers if b"_" not in header[0]],
            "state": self._host.app_state.copy(),
            **self._addresses,
        }
        return Exchange(
            self._host,
            self,
            scope,
            keeps_alive=self._parser.should_keep_alive(),
            expects_continue=b"expect" in framing and version == "1.1",
        )

    def on_body(self, body: bytes) -> None:
        """Add a part of the body."""
        self._has_body_part = True
        self._body_left -= len(body)
        assert self._receiving is not None
        self._receiving.feed(body)
        if self._receiving.waiting_bytes > MOST_WAITING_BYTES:
            self._pause()

    def on_message_complete(self) -> None:
        """Finish the request that was being received."""
        self._is_in_message = self._is_line_over = False
        self._unparsed = self._body_left = 0
        if self._wants_upgrade:
            return
        exchange, self._receiving = self._receiving, None
        assert exchange is not None
        exchange.finish()
        if exchange.is_answered:
            self.advance()


def _address(found: Any) -> tuple[str, int] | None:
    """Return the host and the port of a socket's address; None for a local socket."""
    return (found[0], found[1]) if isinstance(found, tuple) else None


def _rejection_of(error: HttpParserError) -> Rejection:
    cause = error.__context__
    if isinstance(cause, Rejected):
        return cause.rejection
    if isinstance(error, HttpParserCallbackError) and cause is not None:
        log.error("a request failed: %s", describe_unexpected(cause))
        return rejections.INTERNAL_ERROR
    reason = str(error)
    is_coding = "Transfer-Encoding" in reason and "Content-Length" not in reason
    return rejections.UNSUPPORTED_TRANSFER_CODING if is_coding else rejections.INVALID_HTTP
