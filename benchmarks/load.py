"""A closed-loop HTTP load, generated in a process of its own.

Each connection has one request in flight, and sends the next when the answer has arrived: so the server sets the pace,
and a slow one is not flooded.  At the end no request is cut off: those in flight are awaited, so the number of
acknowledged messages is exact, and can be compared with that of the stored ones.  Each message gets a new random id,
written into prepared bytes: equal ids would be duplicates, and rising ones would spare an index the work that real ids
cause.
"""

from __future__ import annotations

import re
import selectors
import socket
import time
from base64 import b64encode
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from itertools import cycle
from multiprocessing import get_context
from os import urandom

import attrs

PATIENCE_SECONDS = 30.0
"""How long the answers to requests in flight are awaited at the end."""

_READ_BYTES = 65_536
_ERROR = 300
_UUID = rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
_CLOSES = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)


@attrs.frozen
class Request:
    """The bytes of a request, divided at the ids of its messages."""

    parts: tuple[bytes, ...]

    @property
    def messages(self) -> int:
        """The number of messages in it."""
        return len(self.parts) - 1

    def with_new_ids(self) -> bytes:
        """Build the bytes to send, with a new random UUID for each message."""
        digits = urandom(16 * self.messages).hex()
        pieces = [b""] * (2 * self.messages + 1)
        pieces[::2] = self.parts
        pieces[1::2] = [_uuid(digits[start : start + 32]) for start in range(0, len(digits), 32)]
        return b"".join(pieces)


@attrs.frozen(kw_only=True)
class Plan:
    """A load to be generated: the requests are sent in turn, each over the next connection that is free."""

    address: tuple[str, int]
    requests: Sequence[Request]
    connections: int
    seconds: float


@attrs.frozen(kw_only=True)
class Tally:
    """The result of a load.  `seconds` end with the last answer; the other times are in milliseconds.

    A request is acknowledged by a 2xx; `requests` and `messages` count only these.  A refused one has another status.
    A broken one has no answer, because the connection ended or time ran out, so it may be stored or not.
    """

    seconds: float
    requests: int
    messages: int
    refused: int
    broken: int
    p50: float
    p99: float
    longest: float
    first_refusal: str


def make_request(
    target: str, body: bytes, *, key: str, host: str = "127.0.0.1", id_field: str = "messageId"
) -> Request:
    """Prepare a POST of a JSON body.

    Args:
        target: the path, with or without a query.
        body: compact JSON, in which the UUIDs in fields named `id_field` are replaced.
        key: the write key, sent as the user name of Basic.
        host: the header Host.
        id_field: the name of the id of a message.
    """
    user = b64encode(f"{key}:".encode()).decode()
    head = (
        f"POST {target} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nAuthorization: Basic {user}\r\n"
    )
    whole = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    return Request(tuple(re.split(rb'(?<="%b":")%b(?=")' % (id_field.encode(), _UUID), whole)))


def put_load(plan: Plan) -> Tally:
    """Generate the load in another process, so that its work is not mixed with that of this one."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        return executor.submit(generate, plan).result()


def generate(plan: Plan) -> Tally:
    """Generate the load in this process."""
    with closing(_Generator(plan)) as generator:
        return generator.run(plan.seconds)


class _Generator:
    """One thread that serves all connections."""

    def __init__(self, plan: Plan) -> None:
        self._address = plan.address
        self._requests = cycle(plan.requests)
        self._selector = selectors.DefaultSelector()
        self._connections = [_Connection() for _ in range(plan.connections)]
        self._in_flight = 0
        self._messages = self._refused = self._broken = 0
        self._times: list[float] = []
        self._first_refusal = b""

    def run(self, seconds: float) -> Tally:
        """Send until `seconds` have passed, then wait for what is in flight."""
        for connection in self._connections:
            self._open(connection)
        began = last = time.perf_counter()
        until = began + seconds
        for connection in self._connections:
            self._send_next(connection)
        while self._in_flight and last < until + PATIENCE_SECONDS:
            for key, events in self._selector.select(1.0):
                self._go_on(key.data, events, until)
            last = time.perf_counter()
        self._broken += self._in_flight
        return self._tally(last - began)

    def close(self) -> None:
        """Close all connections."""
        for key in tuple(self._selector.get_map().values()):
            key.data.socket.close()
        self._selector.close()

    def _go_on(self, connection: _Connection, events: int, until: float) -> None:
        """Send the rest of a request, or read its answer and send the next one."""
        try:
            if events & selectors.EVENT_WRITE and connection.send_rest():
                self._selector.modify(connection.socket, selectors.EVENT_READ, connection)
            if not (events & selectors.EVENT_READ and connection.receive()):
                return
        except BlockingIOError:
            return
        except OSError:
            self._broken += 1
            connection.is_over = True
        else:
            self._count(connection)
        self._in_flight -= 1
        has_time = time.perf_counter() < until
        if connection.is_over:
            self._selector.unregister(connection.socket)
            connection.socket.close()
            if has_time:
                self._open(connection)
        if has_time:
            self._send_next(connection)

    def _open(self, connection: _Connection) -> None:
        connection.open(self._address)
        self._selector.register(connection.socket, selectors.EVENT_READ, connection)

    def _send_next(self, connection: _Connection) -> None:
        self._in_flight += 1
        if not connection.send(next(self._requests)):
            self._selector.modify(connection.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, connection)

    def _count(self, connection: _Connection) -> None:
        if connection.status < _ERROR:
            self._times.append(time.perf_counter() - connection.started)
            self._messages += connection.messages
            return
        self._refused += 1
        self._first_refusal = self._first_refusal or connection.answer

    def _tally(self, seconds: float) -> Tally:
        times = sorted(self._times) or [0.0]
        return Tally(
            seconds=seconds,
            requests=len(self._times),
            messages=self._messages,
            refused=self._refused,
            broken=self._broken,
            p50=1e3 * times[len(times) // 2],
            p99=1e3 * times[len(times) * 99 // 100],
            longest=1e3 * times[-1],
            first_refusal=self._first_refusal.decode(errors="replace"),
        )


class _Connection:
    """A connection, and the request that it sent last."""

    socket: socket.socket
    started: float
    messages: int
    status: int
    answer: bytes
    is_over: bool
    """Whether the connection ends with this answer, because the server ends it or has not read the whole request."""

    def open(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, PATIENCE_SECONDS)
        self.socket.settimeout(0)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, request: Request) -> bool:
        """Send a request with new ids, and return whether all of it was sent."""
        self.messages = request.messages
        self.answer = b""
        self._unsent = request.with_new_ids()
        self.started = time.perf_counter()
        return self.send_rest()

    def send_rest(self) -> bool:
        """Send what can be sent at once, and return whether that was all."""
        try:
            self._unsent = self._unsent[self.socket.send(self._unsent) :]
        except BlockingIOError:
            return False
        except OSError:  # the connection has ended; there may be an answer, otherwise reading fails too
            return True
        return not self._unsent

    def receive(self) -> bool:
        """Read what has arrived, and return whether the answer is complete.

        Raises:
            OSError: the connection has ended.
        """
        data = self.socket.recv(_READ_BYTES)
        if not data:
            raise ConnectionResetError
        self.answer += data
        head, end, body = self.answer.partition(b"\r\n\r\n")
        if not end:
            return False
        if length := _LENGTH.search(head):
            is_complete = len(body) >= int(length[1])
        else:
            is_complete = not _CHUNKED.search(head) or body.endswith(b"0\r\n\r\n")
        self.status = int(head[9:12])
        self.is_over = bool(self._unsent) or _CLOSES.search(head) is not None
        return is_complete


def _uuid(digits: str) -> bytes:
    """Write 32 random digits as a UUID of version 4."""
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-8{digits[17:20]}-{digits[20:]}".encode()
