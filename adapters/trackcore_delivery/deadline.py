"""Connections with one deadline for a whole request: looking up the host, connecting, TLS, sending and the response.

The timeouts of sockets, and so those of urllib3, start again with each byte: a server that sends one byte of a header a
second never times out.  Here every socket operation gets the time that is left of the request as its timeout.  This
needs no watching thread, and shuts down no socket from outside.

- `http.client` uses `recv_into` and the `send` calls; both kinds of socket set the timeout before each.
- The TLS handshake is one operation to Python: the timeout that the socket has before it bounds it as a whole.
- Each address of a host is tried with the time that is left.
- A host look-up cannot be interrupted, so it runs in a thread, which is abandoned when the time is over.  The thread
  ends by the resolver's own timeouts.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, cast

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError
from urllib3.util import parse_url

CONNECT_SECONDS = 10.0


class NotConnectedInTime(ConnectTimeoutError):
    """The deadline passed before anything was sent.  The text names what is missing."""


class Deadline:
    """The end of the current request."""

    def __init__(self) -> None:
        self._end = 0.0

    def start(self, seconds: float) -> None:
        """Start a request that may take so many seconds."""
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds that are left.  Raises `TimeoutError` when the time is over."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


def make_pool(url: str, deadline: Deadline) -> HTTPConnectionPool:
    """Build a pool of one connection to the host of a URL.  `deadline` is the one of each request."""
    parsed = parse_url(url)
    if parsed.scheme == "https":
        context = ssl.create_default_context()
        context.sslsocket_class = _TlsSocket
        return _HttpsPool(parsed.host or "", parsed.port, maxsize=1, ssl_context=context, deadline=deadline)
    return _HttpPool(parsed.host or "", parsed.port, maxsize=1, deadline=deadline)


class _Timed:
    """The part that both kinds of socket share: their operations end with the request."""

    deadline: Deadline | None = None
    settimeout: Callable[[float | None], None]

    def recv_into(self, *arguments: Any, **options: Any) -> int:
        self._limit()
        received: int = super().recv_into(*arguments, **options)  # type: ignore[misc]
        return received

    def send(self, *arguments: Any, **options: Any) -> int:
        self._limit()
        sent: int = super().send(*arguments, **options)  # type: ignore[misc]
        return sent

    def sendall(self, *arguments: Any, **options: Any) -> None:
        self._limit()
        super().sendall(*arguments, **options)  # type: ignore[misc]

    def _limit(self) -> None:
        if self.deadline is not None:
            self.settimeout(self.deadline.left())


class _Socket(_Timed, socket.socket):
    pass


class _TlsSocket(_Timed, ssl.SSLSocket):
    pass


class _Connecting:
    """The part that both kinds of connection share: they connect within the request."""

    host: str
    port: int
    sock: Any
    _dns_host: str
    socket_options: Any

    def __init__(self, *arguments: Any, deadline: Deadline, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._deadline = deadline

    def _new_conn(self) -> socket.socket:
        """Connect; urllib3 calls this hook.  Raises its errors, which mean that nothing was sent yet."""
        try:
            connected = _connect(self._dns_host.strip("[]"), self.port, self._deadline, self.socket_options or ())
        except TimeoutError as error:
            raise NotConnectedInTime("no connection") from error
        except OSError as error:
            raise NewConnectionError(cast("HTTPConnection", self), "no connection") from error
        connected.deadline = self._deadline
        return connected

    def connect(self) -> None:
        try:
            super().connect()  # type: ignore[misc]
        except TimeoutError as error:  # of the handshake: `_new_conn` raises its own
            raise NotConnectedInTime("no TLS connection") from error
        self.sock.deadline = self._deadline


class _HttpConnection(_Connecting, HTTPConnection):
    pass


class _HttpsConnection(_Connecting, HTTPSConnection):
    pass


class _HttpPool(HTTPConnectionPool):
    ConnectionCls = _HttpConnection


class _HttpsPool(HTTPSConnectionPool):
    ConnectionCls = _HttpsConnection


def _connect(host: str, port: int, deadline: Deadline, options: Any) -> _Socket:
    """Connect to the first address of a host that answers.  Raises `OSError` and `TimeoutError`."""
    failure: OSError = OSError("the host has no address")
    for family, kind, protocol, _, address in _addresses(host, port, deadline):
        connection = _Socket(family, kind, protocol)
        try:
            for option in options:
                connection.setsockopt(*option)
            connection.settimeout(min(CONNECT_SECONDS, deadline.left()))
            connection.connect(address)
            connection.settimeout(deadline.left())
        except OSError as error:
            connection.close()
            failure = error
        else:
            return connection
    raise failure


def _addresses(host: str, port: int, deadline: Deadline) -> list[tuple[Any, Any, int, str, Any]]:
    """Look up a host.  Raises `socket.gaierror`, and `NotConnectedInTime` when that takes too long."""
    with suppress(OSError):  # an address needs no look-up
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    found: SimpleQueue[list[tuple[Any, Any, int, str, Any]] | OSError] = SimpleQueue()

    def look_up() -> None:
        try:
            found.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            found.put(error if isinstance(error, OSError) else socket.gaierror(socket.EAI_NONAME, "no such host"))

    threading.Thread(target=look_up, name="look-up", daemon=True).start()
    try:
        result = found.get(timeout=deadline.left())
    except Empty:
        raise NotConnectedInTime("no address of the host") from None
    if isinstance(result, OSError):
        raise result
    return result
