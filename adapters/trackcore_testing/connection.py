"""One connection of a client: HTTP/1.1 by h11, over a socket.

h11 knows the protocol and does no IO; here are the reads, the writes, and the ways to end a connection at the wrong
moment.  Each answer is written at once, since two small writes would wait for an acknowledgement between them.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from typing import TypeAlias
from urllib.parse import unquote_to_bytes, urlsplit

import h11
from trackcore_http import CUT_OFF, UNREADABLE, BodyReader, HttpRequest, Response

from trackcore.support import failure_body
from trackcore.text import encode_json
from trackcore_testing.face import ReadInto, ReceivedBody, Reply

Respond: TypeAlias = Callable[[HttpRequest, ReadInto], Reply | None]

_CHUNK = 1 << 16
_MAX_HEAD_BYTES = 1 << 16
"""Bytes of a request line and headers.  A pixel carries its message in the address."""


class Connection:
    """A connection, and the requests on it, one after another."""

    def __init__(self, client: socket.socket) -> None:
        self._socket = client
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEAD_BYTES)
        self._is_at_end = False

    def serve(self, respond: Respond) -> None:
        """Respond to requests until one side closes the connection."""
        with suppress(OSError):  # the client has gone
            try:
                while self._serve_one(respond):
                    self._http.start_next_cycle()
            except h11.RemoteProtocolError as error:
                self._refuse(error)

    def _serve_one(self, respond: Respond) -> bool:
        """Respond to a request; return whether another one may follow."""
        head = self._next_event()
        if not isinstance(head, h11.Request):
            return False
        request = self._request(head)
        reply = respond(request, self._read_into)
        if reply is None:
            return False
        self._skip_body()
        self._send(request, reply)
        return self._http.our_state is h11.DONE and self._http.their_state is h11.DONE

    def _request(self, head: h11.Request) -> HttpRequest:
        path, _, query = _target(head.target.decode("latin-1")).partition("?")
        headers: dict[str, str] = {}
        for raw_name, raw_value in head.headers:
            name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
            headers[name] = f"{headers[name]},{value}" if name in headers else value
        host, port, *_ = self._socket.getsockname()
        return HttpRequest(
            method=head.method.decode("latin-1"),
            path=unquote_to_bytes(path).decode("utf-8", "replace"),
            query=query,
            headers=headers,
            server=(host, port),
            client=self._socket.getpeername()[0],
        )

    def _read_into(self, reader: BodyReader) -> ReceivedBody:
        """Read the body of the current request."""
        received = bytearray()
        try:
            while reader.wanted and isinstance(event := self._next_event(), h11.Data):
                chunk = bytes(event.data)
                received += chunk
                reader.feed(chunk)
        except h11.RemoteProtocolError:
            return ReceivedBody(bytes(received), CUT_OFF if self._is_at_end else UNREADABLE)
        except OSError:
            return ReceivedBody(bytes(received), CUT_OFF)
        return ReceivedBody(bytes(received), None)

    def _skip_body(self) -> None:
        """Read the rest of the body, so that the client gets the answer, unless it has not begun to send it."""
        while self._http.their_state is h11.SEND_BODY and not self._http.they_are_waiting_for_100_continue:
            self._next_event()

    def _next_event(self) -> h11.Event | type[h11.NEED_DATA | h11.PAUSED]:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            if self._http.they_are_waiting_for_100_continue:
                self._socket.sendall(_bytes(self._http.send(h11.InformationalResponse(status_code=100, headers=[]))))
            data = self._socket.recv(_CHUNK)
            self._is_at_end = not data
            self._http.receive_data(data)
        return event

    def _send(self, request: HttpRequest, reply: Reply) -> None:
        response = reply.response
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in response.headers_for(request)]
        head = h11.Response(status_code=response.status, headers=headers, reason=response.status.phrase.encode())
        written = _bytes(self._http.send(head))
        body = b"" if request.method == "HEAD" else response.body
        if reply.is_truncated:
            self._socket.sendall(written + body[: len(body) // 2])
            self._http.send_failed()
            return
        written += _bytes(self._http.send(h11.Data(data=body))) + _bytes(self._http.send(h11.EndOfMessage()))
        self._socket.sendall(written)

    def _refuse(self, error: h11.RemoteProtocolError) -> None:
        """Answer what is not HTTP, in JSON as any other failure."""
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        body = encode_json(failure_body("invalid_http", f"The request is not valid HTTP: {error}."))
        nobody = HttpRequest(method="GET", path="", query="", headers={})
        self._send(nobody, Reply(Response(body, HTTPStatus(error.error_status_hint))))


def _target(target: str) -> str:
    """Return the path and the query of a request target, which a proxy's client sends as a whole address."""
    if target.startswith("/"):
        return target
    address = urlsplit(target)
    return f"{address.path}?{address.query}"


def _bytes(data: bytes | None) -> bytes:
    """Return what h11 wants to be sent, which may be nothing."""
    return data or b""
