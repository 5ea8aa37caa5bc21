"""Control: reading, waiting and faults over HTTP, below `/test/`, for tests in other languages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import TypeAlias
from urllib.parse import parse_qsl

import attrs
import msgspec
from trackcore_http import BodyReader, HttpRequest, Response

from trackcore import JSONObject, StoredMessage, StoredQuarantined, StoredRejected, format_timestamp, mask_write_key
from trackcore.support import failure_body, mask_write_keys
from trackcore.text import encode_json
from trackcore_testing.control_bodies import FaultRequest, WaitRequest, add_fault
from trackcore_testing.control_openapi import control_document
from trackcore_testing.face import ReadInto
from trackcore_testing.tracking import Tracking

PREFIX = "/test/"
_MAX_BODY_BYTES = 1 << 20
_FILTERS = frozenset({"type", "event", "userId", "since"})

_DELETE_TOO = ("Access-Control-Allow-Methods", "DELETE")
"""Lets a page use DELETE; the header with the methods of the tracking API stands beside it."""

_Action: TypeAlias = Callable[[Tracking, HttpRequest, bytes], Response]


def is_control(request: HttpRequest) -> bool:
    """Return whether a request is for `control` and not for the tracking API."""
    return request.path.startswith(PREFIX)


def control(tracking: Tracking, request: HttpRequest, read: ReadInto) -> Response:
    """Respond to a request below `/test/`."""
    actions = _ROUTES.get(request.path.rstrip("/"))
    if actions is None:
        return _failure(HTTPStatus.NOT_FOUND, "not_found", "Not found; see /test/openapi.json.")
    if request.method == "OPTIONS":
        return attrs.evolve(_success(), headers=(_DELETE_TOO,))
    action = actions.get(request.method)
    if action is None:
        allowed = ("Allow", ", ".join((*actions, "OPTIONS")))
        failure = _failure(HTTPStatus.METHOD_NOT_ALLOWED, "method_not_allowed", "Method not allowed; see Allow.")
        return attrs.evolve(failure, headers=(allowed,))
    body = read(BodyReader(request, _MAX_BODY_BYTES)).content
    try:
        return action(tracking, request, body)
    except (msgspec.DecodeError, ValueError) as error:
        return _failure(HTTPStatus.BAD_REQUEST, "invalid_request", str(error))


# Reading


def _messages(tracking: Tracking, request: HttpRequest, _: bytes) -> Response:
    given = dict(parse_qsl(request.query, keep_blank_values=True))
    if given.keys() - _FILTERS:
        raise ValueError(f"unknown filter {min(given.keys() - _FILTERS)!r}; there are: {', '.join(sorted(_FILTERS))}")
    since = int(given.pop("since", "0"))
    found = [
        stored
        for stored in tracking.stored
        if stored.seq > since and all(stored.message.get(name) == value for name, value in given.items())
    ]
    return _success(messages=[_message(stored) for stored in found])


def _rejected(tracking: Tracking, _: HttpRequest, __: bytes) -> Response:
    return _success(
        rejected=[_rejected_record(record) for record in tracking.rejected],
        quarantined=[_quarantined_record(request) for request in tracking.quarantined],
    )


def _summary(tracking: Tracking, _: HttpRequest, __: bytes) -> Response:
    stored = tracking.stored
    return _success(
        messages=len(stored),
        types=Counter(one.call for one in stored),
        events=Counter(one.message["event"] for one in stored if one.call == "track"),
        rejected=len(tracking.rejected),
        quarantined=len(tracking.quarantined),
        requests=len(tracking.requests),
    )


def _openapi(_: Tracking, __: HttpRequest, ___: bytes) -> Response:
    return Response(encode_json(control_document()))


def _message(stored: StoredMessage) -> JSONObject:
    return {
        "seq": stored.seq,
        "source": stored.source,
        "destinations": stored.destinations,
        "warnings": stored.warnings,
        "message": stored.message,
    }


def _rejected_record(record: StoredRejected) -> JSONObject:
    return {
        "seq": record.seq,
        "source": record.source,
        "receivedAt": format_timestamp(record.received_at),
        "code": record.code,
        "message": record.message,
        "path": record.path,
        "payload": _text(record.payload),
    }


def _quarantined_record(request: StoredQuarantined) -> JSONObject:
    return {
        "seq": request.seq,
        "receivedAt": format_timestamp(request.received_at),
        "writeKey": None if request.write_key is None else mask_write_key(request.write_key),
        "payload": _text(request.payload),
    }


def _text(payload: bytes) -> str:
    return mask_write_keys(payload).decode("utf-8", "replace")


# Changing and waiting


def _clear(tracking: Tracking, _: HttpRequest, __: bytes) -> Response:
    tracking.clear()
    return _success()


def _wait(tracking: Tracking, _: HttpRequest, body: bytes) -> Response:
    wanted = msgspec.json.decode(body, type=WaitRequest)
    try:
        found = tracking.find(wanted.expectation(), wanted.count, wanted.timeout)
    except AssertionError as error:
        everything = {"messages": [_message(stored) for stored in tracking.stored]}
        return _json(failure_body("not_received", str(error)) | everything, HTTPStatus.REQUEST_TIMEOUT)
    return _success(messages=[_message(stored) for stored in found])


def _add_fault(tracking: Tracking, _: HttpRequest, body: bytes) -> Response:
    add_fault(tracking, msgspec.json.decode(body, type=FaultRequest))
    return _success()


def _lift_faults(tracking: Tracking, _: HttpRequest, __: bytes) -> Response:
    tracking.faults.lift()
    return _success()


_ROUTES: Mapping[str, Mapping[str, _Action]] = {
    "/test/messages": {"GET": _messages, "DELETE": _clear},
    "/test/rejected": {"GET": _rejected},
    "/test/summary": {"GET": _summary},
    "/test/wait": {"POST": _wait},
    "/test/faults": {"POST": _add_fault, "DELETE": _lift_faults},
    "/test/openapi.json": {"GET": _openapi},
}


def _success(**content: object) -> Response:
    return _json({"success": True, **content})


def _failure(status: HTTPStatus, code: str, sentence: str) -> Response:
    return _json(failure_body(code, sentence), status)


def _json(body: JSONObject, status: HTTPStatus = HTTPStatus.OK) -> Response:
    return Response(encode_json(body), status)
