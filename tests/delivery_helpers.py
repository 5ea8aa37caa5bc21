"""Helpers of the delivery tests: endpoints that misbehave on request, logs with messages, a clock to turn."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import attrs
from patience import PATIENCE
from trackcore_delivery import (
    DeliveredDestination,
    DeliveryBatch,
    FedMessage,
    LogFeed,
    MessageRefused,
    Sender,
    SenderContext,
    State,
    make_feed,
)
from trackcore_delivery.destination_worker import DestinationWorker
from trackcore_delivery.queues import make_queues
from trackcore_sqlite import SqliteLog, SqliteSink

from trackcore import Call, Destination, Envelope, JSONObject, Source, format_timestamp

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


# An endpoint


@attrs.frozen(kw_only=True)
class Received:
    """A received request, and when it arrived."""

    at: float
    path: str
    headers: Mapping[str, str]
    raw: bytes

    @property
    def body(self) -> bytes:
        """The body, decompressed."""
        return gzip.decompress(self.raw) if self.headers.get("content-encoding") == "gzip" else self.raw

    @property
    def messages(self) -> list[JSONObject]:
        """The messages in it: of an array, or of a batch."""
        document = json.loads(self.body)
        messages: list[JSONObject] = document["batch"] if isinstance(document, dict) else document
        return messages


@attrs.frozen(kw_only=True)
class Reply:
    """The reply to a request.  `close` closes the connection without a response; `stall` waits for the test to end."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = attrs.field(factory=dict)
    close: bool = False
    stall: bool = False
    announced: int | None = None


OK = Reply()
Behaviour = Callable[[Received], Reply]


class EndpointServer:
    """A real HTTP server on loopback.  `behaviour` decides its replies; `taken` has the messages accepted with 2xx."""

    def __init__(self, behaviour: Behaviour = lambda _: OK, port: int = 0) -> None:
        self.behaviour = behaviour
        self.requests: list[Received] = []
        self.taken: list[JSONObject] = []
        self._ended = threading.Event()
        self._lock = threading.Lock()
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                endpoint.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, *_: object) -> None:
                """A client that went away is what some tests are about."""

        self._server = Server(("127.0.0.1", port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        raw = handler.rfile.read(int(handler.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in handler.headers.items()}
        received = Received(at=time.monotonic(), path=handler.path, headers=headers, raw=raw)
        with self._lock:
            self.requests.append(received)
            reply = self.behaviour(received)
            if reply.status // 100 == 2 and not (reply.close or reply.stall):
                self.taken.extend(received.messages)
        if reply.stall:
            self._ended.wait(PATIENCE)
        if reply.close or reply.stall:
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)
            return
        handler.send_response(reply.status)
        for name, value in reply.headers.items():
            handler.send_header(name, value)
        length = len(reply.body) if reply.announced is None else reply.announced
        handler.send_header("Content-Length", str(length))
        handler.end_headers()
        handler.wfile.write(reply.body)
        if length != len(reply.body):
            handler.close_connection = True

    @property
    def ids(self) -> list[str]:
        """The ids of the accepted messages, in order."""
        return [message["messageId"] for message in self.taken]

    def stop(self) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


# Messages


def envelopes(
    count: int,
    *,
    destinations: Sequence[str] = ("There",),
    users: int = 3,
    first: int = 0,
    received_at: datetime = NOON,
    source: str = "website",
    call: Call = "track",
    pad: int = 0,
) -> list[Envelope]:
    """Build messages `m0`, `m1`, ... of users in turn."""
    made = []
    for number in range(first, first + count):
        message_id, user = f"m{number}", f"user-{number % users}"
        message = {
            "type": call,
            "messageId": message_id,
            "userId": user,
            "event": "E",
            "properties": {"number": number, "pad": "x" * pad},
            "timestamp": format_timestamp(received_at),
            "receivedAt": format_timestamp(received_at),
        }
        payload = json.dumps(message).encode()
        made.append(Envelope(source, message_id, call, user, None, received_at, tuple(destinations), (), payload))
    return made


def store(path: Path, made: Iterable[Envelope]) -> None:
    """Store messages in a log."""
    sink = SqliteSink(path)
    sink.store(list(made))
    sink.close()


def fed(count: int, *, first: int = 0, pad: int = 0) -> list[FedMessage]:
    """Build messages in the form in which a sender gets them."""
    return [
        FedMessage(
            position,
            envelope.source,
            envelope.user_id or "",
            envelope.call,
            envelope.message_id,
            envelope.received_at,
            envelope.payload,
        )
        for position, envelope in enumerate(envelopes(count, first=first, pad=pad), first + 1)
    ]


# A worker without a thread

SOURCES = (
    Source(name="website", write_keys=("web",)),
    Source(name="elsewhere", write_keys=("else",), destinations=("Other",)),
)
DESTINATIONS = (Destination(name="There", max_age=timedelta(days=1)), Destination(name="Other"))


@attrs.define
class TurnedClock:
    """A clock that stands still until it is turned, with a monotonic clock, which never jumps."""

    now: datetime = NOON
    ticks: float = 0.0

    def __call__(self) -> datetime:
        return self.now

    def monotonic(self) -> float:
        return self.ticks

    def turn(self, **by: float) -> None:
        """Let time pass."""
        self.now += timedelta(**by)
        self.ticks += timedelta(**by).total_seconds()

    def jump(self, **by: float) -> None:
        """Set the wall clock."""
        self.now += timedelta(**by)


@attrs.define
class Recipient:
    """A sender with a given behaviour, which records its attempts."""

    behaviour: Callable[[list[str]], Sequence[MessageRefused]] = lambda _: ()
    attempts: list[list[str]] = attrs.field(init=False, factory=list)
    taken: list[str] = attrs.field(init=False, factory=list)

    def send(self, batch: DeliveryBatch) -> Sequence[MessageRefused]:
        ids = [message.message_id for message in batch.messages]
        self.attempts.append(ids)
        refusals = self.behaviour(ids)
        refused = {refusal.index for refusal in refusals}
        self.taken.extend(message_id for index, message_id in enumerate(ids) if index not in refused)
        return refusals

    def close(self) -> None:
        pass


@attrs.define
class Bench:
    """A worker on a real log and a real state, advanced step by step."""

    folder: Path
    clock: TurnedClock = attrs.field(factory=TurnedClock)
    jitter: float = 1.0
    feed: LogFeed = attrs.field(init=False)
    state: State = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.feed = make_feed(SqliteLog(self.log), SOURCES, DESTINATIONS)
        self.state = State(self.folder / "state.db", dead_letter_bytes=100_000)

    @property
    def log(self) -> Path:
        return self.folder / "log.db"

    def worker(self, sender: Sender, **settings: Any) -> DestinationWorker:
        settings = {"name": "There", "batch_wait": timedelta(), **settings}
        destination = DeliveredDestination(**settings)
        return DestinationWorker(
            destination=destination,
            sender=sender,
            queues=make_queues(destination, self.feed, self.state, self.clock.monotonic),
            state=self.state,
            clock=self.clock,
            monotonic=self.clock.monotonic,
            jitter=lambda: self.jitter,
        )

    def run(self, worker: DestinationWorker) -> None:
        """Make steps until there is nothing to do at this time."""
        while worker.step() == 0.0:
            pass

    @property
    def dead(self) -> dict[str, str]:
        """The dead letters: message id to reason."""
        return {letter.message.message_id: letter.reason for letter in self.state.dead_letters()}


def sender_context(folder: Path, environ: Mapping[str, str] | None = None, clock: Any = None) -> SenderContext:
    """Return the runtime dependencies of a destination."""
    return SenderContext(clock=clock or TurnedClock(), environ=environ or {}, folder=folder)
