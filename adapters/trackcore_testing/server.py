"""The server for tests: a real HTTP server on a free port of loopback, whose `Tracking` is exchanged for each test.

Requests between two tests, from an SDK that sends late, are accepted and belong to nobody.
"""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from types import TracebackType
from typing import Self
from uuid import uuid4

from trackcore_http import HttpRequest

from trackcore import DEFAULT_LIMITS, Collector, Destination, Limits, Source, SourceRegistry
from trackcore.plans import Plan, PlanInForce
from trackcore_testing.arrivals import Arrivals, Watch
from trackcore_testing.connection import Connection
from trackcore_testing.control import control, is_control
from trackcore_testing.face import Face, ReadInto, Reply
from trackcore_testing.listener import Listener
from trackcore_testing.tracking import Tracking

TEST_SOURCES = (Source(name="test", write_keys=["test-write-key"]),)
WAIT_SECONDS = 5.0
_LAST_REQUESTS_SECONDS = 5.0


class TrackingServer:
    """Listens from its creation on, until it is closed or its `with` block ends.

    Args:
        sources: the sources; each has a write key.
        destinations: the names of destinations, for tests of `integrations`.
        limits: the limits of the API.
        host, port: the address to listen on; port 0 takes a free one.
        timeout: the most seconds that an assertion waits for what it asserts.
        plan: the tracking plan of all sources; its violations are reported like rejections.
        watch: called with what each request has added, one after another.

    Raises `OSError` if it cannot listen, and `ValueError` for sources that cannot be told apart by their write keys.
    """

    def __init__(
        self,
        *,
        sources: Iterable[Source] = TEST_SOURCES,
        destinations: Iterable[str] = (),
        limits: Limits = DEFAULT_LIMITS,
        host: str = "127.0.0.1",
        port: int = 0,
        timeout: float = WAIT_SECONDS,
        plan: Plan | None = None,
        watch: Watch | None = None,
    ) -> None:
        self._sources = SourceRegistry(sources)
        self._destinations = tuple(Destination(name=name) for name in destinations)
        self._limits = limits
        self._timeout = timeout
        self._watch = watch
        names = [source.name for source in self._sources.sources]
        self._plans = {} if plan is None else dict.fromkeys(names, PlanInForce(plan=plan))
        if not self._sources.sources or not all(source.write_keys for source in self._sources.sources):
            raise ValueError("there must be a source, and each source needs a write key")
        self._listener = Listener(host, port, self._serve)
        self._tracking = self._new_tracking()
        self._listener.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.close()

    @property
    def url(self) -> str:
        """The address of the server, as SDKs take it for their host."""
        return self._listener.url

    @property
    def write_key(self) -> str:
        """The write key of the first source."""
        return self._tracking.write_key

    @property
    def tracking(self) -> Tracking:
        """The tracking that receives requests now."""
        return self._tracking

    @contextmanager
    def collecting(self, *, strict: bool = True, allow_rejections: Collection[str] = ()) -> Iterator[Tracking]:
        """Collect in an empty `Tracking` within the `with` block.

        Raises `AssertionError` at its end if something was rejected or had an unknown write key, unless its code is
        allowed, or `strict` is false.
        """
        __tracebackhide__ = True
        tracking = self._tracking = self._new_tracking()
        try:
            yield tracking
        finally:
            self._tracking = self._new_tracking()
            tracking.faults.lift()
            tracking.arrivals.wait_until(lambda: not tracking.arrivals.in_progress, _LAST_REQUESTS_SECONDS)
        report = tracking.unexpected_rejections(allow_rejections) if strict else ""
        if report:
            raise AssertionError(report)

    def close(self) -> None:
        """Stop listening, and close all connections."""
        self._tracking.faults.lift()
        self._listener.close()

    def _new_tracking(self) -> Tracking:
        arrivals = Arrivals(self._watch)
        collector = Collector(
            sources=self._sources,
            destinations=self._destinations,
            limits=self._limits,
            sink=arrivals,
            clock=lambda: datetime.now(UTC),
            new_message_id=lambda: str(uuid4()),
            plans=self._plans,
        )
        return Tracking(url=self.url, collector=collector, arrivals=arrivals, timeout=self._timeout)

    def _serve(self, client: socket.socket) -> None:
        Connection(client).serve(self._respond)

    def _respond(self, request: HttpRequest, read: ReadInto) -> Reply | None:
        tracking = self._tracking
        if is_control(request):
            return Reply(control(tracking, request, read))
        return Face(tracking.collector, tracking.arrivals, tracking.faults).respond(request, read)


@contextmanager
def collecting(*, strict: bool = True, allow_rejections: Collection[str] = ()) -> Iterator[Tracking]:
    """Collect on a server of its own within the `with` block; see `TrackingServer.collecting`.

    For other settings than the default ones, make a `TrackingServer`.
    """
    __tracebackhide__ = True
    with TrackingServer() as server, server.collecting(strict=strict, allow_rejections=allow_rejections) as tracking:
        yield tracking
