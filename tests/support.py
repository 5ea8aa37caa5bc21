"""Helpers of most tests: a fixed time, predictable ids, and the shortest way to receive a body."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from itertools import count
from typing import Any, TypeVar

from trackcore import (
    DEFAULT_LIMITS,
    Collector,
    Destination,
    Endpoint,
    Envelope,
    IntakeResult,
    Invalid,
    JSONObject,
    Limits,
    MemorySink,
    Origin,
    Pipelines,
    Rejection,
    Sink,
    Source,
    SourceRegistry,
    WriteKey,
    receive,
)

T = TypeVar("T")

RECEIVED_AT = datetime(2020, 1, 1, 12, 0, 0, 500_000, tzinfo=UTC)
RECEIVED_TEXT = "2020-01-01T12:00:00.500Z"
KEY = WriteKey("abc123")
SOURCE = Source(name="website", write_keys=[KEY])
WITH_KEY = Origin(header_key=KEY)
DESTINATIONS = (Destination(name="Mixpanel"), Destination(name="KISSmetrics"), Destination(name="Google Analytics"))


class CountingIds:
    """Makes predictable message ids: `server-1`, `server-2`, ..."""

    def __init__(self) -> None:
        self._numbers = count(1)

    def __call__(self) -> str:
        return f"server-{next(self._numbers)}"


def json_bytes(value: Any) -> bytes:
    """Write JSON as a client would, without spaces."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def strict_json(text: bytes) -> Any:
    """Read JSON by the letter of RFC 8259: UTF-8, no NaN, no infinity."""
    return json.loads(text.decode("utf-8"), parse_constant=_refuse)


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


def outcome(function: Callable[[], T]) -> T | Invalid:
    """Return the result of a function, or the `Invalid` that it raises.  Any other error is a bug, and passes."""
    try:
        return function()
    except Invalid as error:
        return error


def take_in(
    body: bytes | JSONObject,
    *,
    endpoint: Endpoint = "batch",
    origin: Origin = WITH_KEY,
    sources: Iterable[Source] = (SOURCE,),
    destinations: Iterable[Destination] = (),
    received_at: datetime = RECEIVED_AT,
    limits: Limits = DEFAULT_LIMITS,
) -> IntakeResult:
    """Receive a body, given as text or as the object to send, for the source `website`."""
    pipelines = Pipelines(
        sources=SourceRegistry(sources), destinations=destinations, new_message_id=CountingIds(), limits=limits
    )
    return receive(
        body if isinstance(body, bytes) else json_bytes(body),
        pipelines=pipelines,
        endpoint=endpoint,
        origin=origin,
        received_at=received_at,
    )


def accept(
    item: bytes | JSONObject,
    *,
    origin: Origin = WITH_KEY,
    destinations: Iterable[Destination] = (),
    limits: Limits = DEFAULT_LIMITS,
    **envelope: Any,
) -> Envelope:
    """Receive a batch of one message, with other fields of the batch, and expect it to be accepted."""
    intake = take_in(_batch_of(item, envelope), origin=origin, destinations=destinations, limits=limits)
    assert intake.rejections == []
    return intake.envelopes[0]


def reject(item: bytes | JSONObject, *, limits: Limits = DEFAULT_LIMITS, **envelope: Any) -> Rejection:
    """Receive a batch of one message and expect it to be rejected."""
    intake = take_in(_batch_of(item, envelope), limits=limits)
    assert intake.envelopes == []
    return intake.rejections[0]


def stored(item: bytes | JSONObject, *, origin: Origin = WITH_KEY, **envelope: Any) -> JSONObject:
    """Receive a batch of one message and return the message that would be stored."""
    return read_payload(accept(item, origin=origin, **envelope))


def read_payload(envelope: Envelope) -> JSONObject:
    """Return the stored message."""
    message = strict_json(envelope.payload)
    assert isinstance(message, dict)
    return message


def warned(envelope: Envelope) -> list[str]:
    """Return the codes of the warnings."""
    return [str(warning.code) for warning in envelope.warnings]


def make_collector(
    sink: Sink | None = None,
    *,
    sources: Iterable[Source] = (SOURCE,),
    destinations: Iterable[Destination] = (),
    received_at: datetime = RECEIVED_AT,
    limits: Limits = DEFAULT_LIMITS,
) -> Collector:
    """Make a collector whose clock stands still."""
    return Collector(
        sources=sources,
        sink=MemorySink() if sink is None else sink,
        clock=lambda: received_at,
        new_message_id=CountingIds(),
        destinations=destinations,
        limits=limits,
    )


def _batch_of(item: bytes | JSONObject, envelope: JSONObject) -> bytes:
    members = [json_bytes(name) + b":" + json_bytes(value) for name, value in envelope.items()]
    text = item if isinstance(item, bytes) else json_bytes(item)
    return b"{" + b",".join([*members, b'"batch":[' + text + b"]"]) + b"}"
