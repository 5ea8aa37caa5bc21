"""Properties of every response, for any request, and of every decoding, for any bytes."""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

from faces import FACES
from fuzz.raw import RawRequest
from trackcore_sqlite import SqliteSink

from trackcore import (
    Call,
    Collector,
    Destination,
    Invalid,
    InvalidMessage,
    NewMessageId,
    Source,
    decode_batch,
    decode_message,
    encode_batch,
    encode_message,
)

STATUSES = frozenset({200, 400, 401, 404, 405, 501, 503})
"""The statuses that a client can get while the log can be written: SDKs lose data on anything else."""

_UNREAD = {501: "unsupported_transfer_coding", 503: "input_not_terminated"}
"""The one reason for which a body is not read at all: its end cannot be found."""

_CALLS: tuple[Call | None, ...] = ("identify", "track", "page", "screen", "group", "alias", None)


class Finding(AssertionError):
    """An answer, or a decoding, that breaks a promise."""


class _Errors(logging.Handler):
    """Turns a logged error into a finding: the app answers 500 to an unexpected failure."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.last: logging.LogRecord | None = None

    def emit(self, record: logging.LogRecord) -> None:
        self.last = record


class Oracle:
    """The whole app on a real log in `folder`, called by one of its faces, with a check of each answer."""

    def __init__(self, folder: Path, face: str = "WSGI", new_message_id: NewMessageId | None = None) -> None:
        self.sink = SqliteSink(folder / "trackcore.db", rejected_bytes=1 << 20, quarantine_bytes=1 << 20)
        ids = count()
        self._face = FACES[face](
            Collector(
                sources=[
                    Source(name="website", write_keys=("WRITEKEY123",), destinations=("Mixpanel",)),
                    Source(name="app", write_keys=("app1",)),
                    Source(name="ci", write_keys=("strict1",), strict=True),
                ],
                destinations=[Destination(name="Mixpanel"), Destination(name="KISSmetrics")],
                sink=self.sink,
                clock=lambda: datetime(2024, 5, 6, 12, tzinfo=UTC),
                new_message_id=new_message_id or (lambda: f"server-{next(ids)}"),
            )
        )
        self._errors = _Errors()
        logger = logging.getLogger("trackcore")
        logger.handlers = [self._errors]
        logger.propagate = False

    def close(self) -> None:
        """Close the log."""
        self._face.close()
        self.sink.close()

    def check(self, request: RawRequest) -> int:
        """Send a request, check the response and return its status.  Raises `Finding`."""
        self._errors.last = None
        reply = self._face.ask(request)
        status, headers, body = reply.status, reply.headers, reply.body
        if self._errors.last is not None:
            raise Finding(f"an error was logged: {self._errors.last.getMessage()}")
        _require(status in STATUSES, f"the status is {status}")
        lines = [part for pair in headers for part in pair]
        _require(not any(bad in line for line in lines for bad in "\r\n\0"), "a header holds a line break")
        if request.method != "HEAD":
            _check_body(status, dict(headers)["content-type"], body)
        return status


def check_codec(data: bytes) -> None:
    """Decode any bytes in every way; only our errors may be raised, and decoded messages must survive a round trip."""
    for call in _CALLS:
        with suppress(Invalid):
            _check_round_trip(decode_message(data, call))
    with suppress(Invalid):
        batch = decode_batch(data)
        _require(decode_batch(encode_batch(batch)).messages == batch.messages, "a batch changed on its way")


def _check_round_trip(message: Any) -> None:
    try:
        written = encode_message(message)
    except InvalidMessage as error:
        raise Finding("a decoded message cannot be encoded") from error
    _require(decode_message(written) == message, "a message changed on its way")


def _check_body(status: int, content_type: str, body: bytes) -> None:
    if content_type == "image/gif":
        _require(status == 200 and body.startswith(b"GIF"), "an image that is none")
        return
    _require(content_type == "application/json", f"the answer is {content_type}")
    answer = json.loads(body, parse_constant=_no_constant)
    _require(isinstance(answer, dict), "the answer is not an object")
    if status != 200:
        _require(answer["success"] is False, "success is not false")
        _require(_UNREAD.get(status, answer["code"]) == answer["code"], f"a {status} is {answer['code']}")
        _require(isinstance(answer["code"], str) and isinstance(answer["message"], str), "no code or no message")
    _require(b"Traceback" not in body and b"site-packages" not in body, "internals are shown")


def _no_constant(constant: str) -> None:
    raise Finding(f"{constant} is not JSON")


def _require(condition: object, detail: str) -> None:
    if not condition:
        raise Finding(detail)
