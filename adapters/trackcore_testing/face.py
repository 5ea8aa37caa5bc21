"""The face: performs the steps of an exchange, applies faults, and records each request with its answer."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any, TypeAlias

import attrs
from trackcore_http import BodyReader, HttpRequest, ReadBody, Response, Step, Store, TrackingApi

from trackcore import Collector, Outcome, PendingReceipt, Receipt
from trackcore_testing.arrivals import Arrivals
from trackcore_testing.faults import Fault, FaultKind, Faults
from trackcore_testing.requests import RecordedRequest, decompressed, shown_headers


@attrs.frozen
class ReceivedBody:
    """The body of a request as it was received, and why it was not read to its end, if it was not."""

    content: bytes
    failure: str | None


ReadInto: TypeAlias = Callable[[BodyReader], ReceivedBody]
"""Reads the body of a request into a reader."""


@attrs.frozen
class Reply:
    """A response, and whether the connection is to be closed in the middle of it."""

    response: Response
    is_truncated: bool = False


@attrs.frozen
class Face:
    """Responds to the requests of a tracking API."""

    collector: Collector
    arrivals: Arrivals
    faults: Faults

    def respond(self, request: HttpRequest, read: ReadInto) -> Reply | None:
        """Respond to a request, and record it.  None: the connection is to be closed without a response."""
        with self.arrivals.request():
            return _Exchanging(self, request, read).run()


@attrs.define
class _Interrupted(Exception):
    """A fault has ended the exchange: its response, None for none."""

    response: Response | None


@attrs.define
class _Exchanging:
    """One request on its way, and what is known of it so far."""

    _face: Face
    _request: HttpRequest
    _read: ReadInto
    _received_at: datetime = attrs.field(init=False, factory=lambda: datetime.now(UTC))
    _body: bytes = attrs.field(init=False, default=b"")
    _source: str | None = attrs.field(init=False, default=None)
    _fault: Fault | None = attrs.field(init=False, default=None)
    _outcomes: tuple[Outcome, ...] = attrs.field(init=False, default=())
    _until_recorded: ExitStack = attrs.field(init=False, factory=ExitStack)

    def run(self) -> Reply | None:
        with self._until_recorded:
            response = self._response()
            with self._face.arrivals.changing():
                self._face.arrivals.requests.append(self._record(response))
        if response is None:
            return None
        return Reply(response, is_truncated=self._fault is not None and self._fault.kind is FaultKind.TRUNCATE)

    def _response(self) -> Response | None:
        exchange = TrackingApi(self._face.collector).exchange(self._request)
        try:
            step = next(exchange)
            while True:
                try:
                    result = self._perform(step)
                except _Interrupted as interrupted:
                    return interrupted.response
                except Exception as error:  # noqa: BLE001 - the exchange decides
                    step = exchange.throw(error)
                else:
                    step = exchange.send(result)
        except StopIteration as done:
            response: Response = done.value
            return response

    def _perform(self, step: Step) -> Any:
        if isinstance(step, ReadBody):
            received = self._read(step.reader)
            self._body = received.content
            return received.failure
        if isinstance(step, Store):
            return self._store(step.pending)
        return self._face.arrivals.check_ready()

    def _store(self, pending: PendingReceipt) -> Receipt:
        self._source = None if pending.source is None else pending.source.name
        self._fault = self._face.faults.meet(self._source)
        if self._fault is not None and self._fault.kind is FaultKind.FAIL:
            raise _Interrupted(self._fault.response())
        if self._fault is not None and self._fault.kind is FaultKind.DROP:
            raise _Interrupted(None)
        self._until_recorded.enter_context(self._face.arrivals.changing())
        receipt = self._face.collector.store(pending)
        self._outcomes = tuple(receipt.outcomes)
        return receipt

    def _record(self, response: Response | None) -> RecordedRequest:
        return RecordedRequest(
            method=self._request.method,
            path=self._request.path,
            query=self._request.query,
            headers=shown_headers(self._request),
            body=decompressed(self._body),
            received_at=self._received_at,
            source=self._source,
            outcomes=self._outcomes,
            status=None if response is None else response.status.value,
            answer=b"" if response is None else response.body,
            fault=None if self._fault is None else str(self._fault.kind),
        )
