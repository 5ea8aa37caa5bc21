"""Faults: failures of the server and of the network, on request, for the next requests with messages.

A fault applies where a real server would store: the request was received and read, and its source is known.  So CORS
preflights, settings documents and health checks never meet one.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from enum import StrEnum
from http import HTTPStatus
from types import TracebackType
from typing import Self

import attrs
from trackcore_http import Response

from trackcore.support import failure_body
from trackcore.text import encode_json


class FaultKind(StrEnum):
    """The kinds of fault.

    `FAIL`: nothing is stored, and a status of failure is answered.  `DELAY`: the request is processed later.  `DROP`:
    nothing is stored, and the connection is closed without an answer.  `TRUNCATE`: the messages are stored, and the
    connection is closed in the middle of the answer, so the client must send them again.
    """

    FAIL = "fail"
    DELAY = "delay"
    DROP = "drop_connection"
    TRUNCATE = "truncate_answer"


def _as_failure(status: int) -> HTTPStatus:
    found = HTTPStatus(status)
    if found < HTTPStatus.BAD_REQUEST:
        raise ValueError(f"a failure has a status from 400 on, not {status}")
    return found


@attrs.define(kw_only=True, eq=False)
class Fault:
    """A fault that waits for its requests.  As a context manager it ends with the `with` block.

    Attributes:
        kind: what happens.
        times: for how many requests; None for all until it is lifted.
        source: the name of a source, for its requests alone.
        status, retry_after: of a `FAIL`, the status and the seconds in Retry-After; None for no such header.
        seconds: of a `DELAY`.
        hits: how many requests it has met.
    """

    kind: FaultKind
    times: int | None = attrs.field(default=None, validator=attrs.validators.optional(attrs.validators.ge(1)))
    source: str | None = None
    status: HTTPStatus = attrs.field(default=HTTPStatus.SERVICE_UNAVAILABLE, converter=_as_failure)
    retry_after: int | None = attrs.field(default=None, validator=attrs.validators.optional(attrs.validators.ge(0)))
    seconds: float = attrs.field(default=0, validator=attrs.validators.ge(0))
    hits: int = attrs.field(init=False, default=0)
    _lifted: threading.Event = attrs.field(init=False, factory=threading.Event, repr=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.lift()

    def lift(self) -> None:
        """End it; requests that it delays go on."""
        self._lifted.set()

    @property
    def is_over(self) -> bool:
        """Whether it will meet no more requests."""
        return self._lifted.is_set() or self.hits == self.times

    def wait(self) -> None:
        """Wait as long as it delays, or until it is lifted."""
        self._lifted.wait(self.seconds)

    def response(self) -> Response:
        """Return the failure that it answers, in the form of the server's own."""
        body = failure_body("test_fault", "This failure was requested by the test.")
        seconds = str(self.retry_after)
        headers = (("Retry-After", seconds), ("X-RateLimit-Reset", seconds)) if self.retry_after is not None else ()
        return Response(encode_json(body), self.status, headers=headers)


@attrs.define
class Faults:
    """The faults of a server, the oldest first."""

    _faults: list[Fault] = attrs.field(init=False, factory=list)
    _lock: threading.Lock = attrs.field(init=False, factory=threading.Lock, repr=False)

    def add(self, fault: Fault) -> Fault:
        """Let a fault wait for its requests."""
        with self._lock:
            self._faults.append(fault)
        return fault

    def lift(self) -> None:
        """End all faults."""
        with self._lock:
            for fault in self._faults:
                fault.lift()
            self._faults.clear()

    def meet(self, source: str | None) -> Fault | None:
        """Return the fault that a request of a source meets, after all delays; None if it meets none."""
        with self._lock:
            met = list(self._met_by(source))
        delays = [fault for fault in met if fault.kind is FaultKind.DELAY]
        for delay in delays:
            delay.wait()
        return next((fault for fault in met if fault not in delays), None)

    def _met_by(self, source: str | None) -> Iterator[Fault]:
        """Yield the faults that a request meets, and count them: every delay, and the first one of another kind."""
        decided = False
        for fault in self._faults:
            is_delay = fault.kind is FaultKind.DELAY
            if fault.is_over or fault.source not in (None, source) or (decided and not is_delay):
                continue
            decided = decided or not is_delay
            fault.hits += 1
            yield fault
