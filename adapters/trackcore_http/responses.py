"""The responses, and the one table of failures with their statuses.

Why so few statuses: SDKs react to them in ways that lose data.  Python, PHP and .NET treat any status except 200 as a
failure; 201 and 204 make PHP send for ever; 401, 404, 413 and 415 make Node retry ten times; a body that is not a JSON
object with `code` and `message` makes Python and Ruby retry.  Retry-After is in whole seconds, as not all SDKs read a
date; X-RateLimit-Reset repeats it for those that read only that header.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from itertools import count
from typing import TypeAlias

import attrs

from trackcore import Cause, InvalidRequest, JSONObject, Receipt, Rejection, SinkUnavailable
from trackcore.plans import PLAN_WARNINGS
from trackcore.support import failure_body
from trackcore.text import encode_json
from trackcore_http.options import Script
from trackcore_http.pixel import GIF
from trackcore_http.request import HttpRequest

Headers: TypeAlias = tuple[tuple[str, str], ...]


@attrs.frozen
class Failure:
    """One kind of failure: its status, its stable code, and a sentence without internals."""

    status: HTTPStatus = attrs.field(converter=HTTPStatus)
    code: str
    message: str


NOT_FOUND = Failure(404, "not_found", "Not found; send messages to /v1/batch.")
METHOD_NOT_ALLOWED = Failure(405, "method_not_allowed", "Method not allowed; see the Allow header.")
UNKNOWN_SOURCE = Failure(
    401, "unknown_source", "The write key is missing or belongs to no source; the request is in quarantine."
)
INTERNAL_ERROR = Failure(500, "internal_error", "Internal error; the request may not have been stored. Retry it.")
UNSUPPORTED_TRANSFER_CODING = Failure(
    501, "unsupported_transfer_coding", "Transfer-Encoding may only be chunked; compress with Content-Encoding."
)
INPUT_NOT_TERMINATED = Failure(
    503,
    "input_not_terminated",
    "This server cannot read a body without Content-Length; see `input_terminated` in the documentation.",
)
UNAVAILABLE: Mapping[Cause, Failure] = {
    Cause.FULL: Failure(507, "disk_full", "No space is left to store messages; retry later."),
    Cause.OVERLOADED: Failure(429, "overloaded", "Too many requests are waiting to be stored; slow down and retry."),
    Cause.UNAVAILABLE: Failure(503, "unavailable", "Nothing can be stored at the moment; retry later."),
}


@attrs.frozen
class Response:
    """The response to a request."""

    body: bytes
    status: HTTPStatus = HTTPStatus.OK
    media_type: str = "application/json"
    headers: Headers = ()

    def headers_for(self, request: HttpRequest) -> Headers:
        """Return all headers of the response to a request, with those that let pages of any origin read it."""
        allowed = _cross_origin(_one_line(request.headers.get("origin")))
        if request.method == "OPTIONS":
            allowed += _preflight(_one_line(request.headers.get("access-control-request-headers")))
        if self.status == HTTPStatus.NOT_MODIFIED:  # its length would be that of the unchanged body
            return self.headers + allowed
        own = (("Content-Type", self.media_type), ("Content-Length", str(len(self.body))))
        return own + self.headers + allowed


def json_response(body: JSONObject, status: HTTPStatus = HTTPStatus.OK) -> Response:
    """Build a response with a JSON object."""
    return Response(encode_json(body), status)


SUCCESS = Response(b'{"success": true}')
"""All of a request is stored."""


def failure_response(failure: Failure) -> Response:
    """Build the response for an entry of the table."""
    return json_response(failure_body(failure.code, failure.message), failure.status)


def unknown_source(hint: str) -> Response:
    """Build the response for an unknown write key, with the hint of the receipt."""
    message = UNKNOWN_SOURCE.message.removesuffix("." if hint else "")
    return failure_response(attrs.evolve(UNKNOWN_SOURCE, message=message + hint))


def invalid_request(error: InvalidRequest) -> Response:
    """Build the response for a request that is unusable as a whole."""
    body = failure_body(
        error.reason,
        error.detail,
        path=error.path or None,
        limit=error.limit,
        actual=error.actual,
        position=error.position,
    )
    return json_response(body, HTTPStatus.BAD_REQUEST)


def unavailable(error: SinkUnavailable, status: int = HTTPStatus.SERVICE_UNAVAILABLE) -> Response:
    """Build the response for a request of which nothing was stored, with the time to retry after.

    With the `status` 429 that is the status whatever the cause is.
    """
    failure = UNAVAILABLE[error.cause]
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        failure = attrs.evolve(failure, status=status)
    return retry_later(failure, error.retry_after)


def not_ready(error: SinkUnavailable) -> Response:
    """Build the response of `/ready` when nothing can be stored, with the reason in one word."""
    failure = UNAVAILABLE[error.cause]
    body = failure_body(failure.code, failure.message) | {"reason": error.reason}
    return attrs.evolve(unavailable(error), body=encode_json(body))


def retry_later(failure: Failure, retry_after: int) -> Response:
    """Build the response for an entry of the table, with the seconds to retry after."""
    seconds = str(retry_after)
    return attrs.evolve(failure_response(failure), headers=(("Retry-After", seconds), ("X-RateLimit-Reset", seconds)))


def for_receipt(receipt: Receipt, *, strict: bool) -> Response:
    """Build the response for a request of a known source.  In strict mode violations of a plan are a failure too."""
    is_failure = strict or (receipt.source is not None and receipt.source.strict)
    violations = list(_violations(receipt)) if is_failure else []
    if not receipt.rejections and not violations:
        return SUCCESS
    code = receipt.rejections[0].error.reason if receipt.rejections else violations[0]["code"]
    return json_response(
        {
            "success": not is_failure,
            "code": code if is_failure else "partial",
            "message": _summary(receipt.accepted, receipt.rejections, violations),
            "accepted": receipt.accepted,
            "rejected": [_rejected(rejection) for rejection in receipt.rejections],
            **({"violations": violations} if violations else {}),
        },
        HTTPStatus.BAD_REQUEST if is_failure else HTTPStatus.OK,
    )


def method_not_allowed(methods: Iterable[str]) -> Response:
    """Build the response for a method that the path does not allow."""
    return attrs.evolve(failure_response(METHOD_NOT_ALLOWED), headers=(("Allow", ", ".join(methods)),))


def script(found: Script, *, if_none_match: str | None) -> Response:
    """Build the response with a script; without it if the client has it already."""
    headers = (("Cache-Control", "public, max-age=300"), ("ETag", found.etag))
    if if_none_match is not None and (found.etag in if_none_match or if_none_match.strip() == "*"):
        return Response(b"", HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(found.content, media_type="text/javascript; charset=utf-8", headers=headers)


_NO_STORE = ("Cache-Control", "no-store, no-cache, must-revalidate, private")
IMAGE = Response(GIF, media_type="image/gif", headers=(_NO_STORE, ("Expires", "0"), ("Pragma", "no-cache")))


def _cross_origin(origin: str | None) -> Headers:
    """Return headers that let pages of any origin send requests and read the responses.

    A write key is public and cookies are not used, so nothing needs protection from another origin.
    """
    if not origin:
        return _ANY_ORIGIN
    allowed = ("Access-Control-Allow-Origin", origin)
    return allowed, _EXPOSED, ("Access-Control-Allow-Credentials", "true"), ("Vary", "Origin")


def _preflight(asked: str | None) -> Headers:
    """Return headers that allow what a page asks for.  They are echoed: a literal `*` does not cover Authorization."""
    return (
        ("Access-Control-Allow-Methods", "GET, HEAD, POST, OPTIONS"),
        ("Access-Control-Allow-Headers", asked or "Authorization, Content-Type, Content-Encoding"),
        ("Access-Control-Max-Age", "86400"),
    )


_EXPOSED = ("Access-Control-Expose-Headers", "Retry-After, X-RateLimit-Reset")
_ANY_ORIGIN: Headers = (("Access-Control-Allow-Origin", "*"), _EXPOSED)


def _one_line(header: str | None) -> str | None:
    """Return a header that can be echoed; None for one with control characters: a line break could begin another."""
    return header if header is not None and header.isascii() and header.isprintable() else None


def _summary(accepted: int, rejections: Sequence[Rejection], violations: Sequence[JSONObject]) -> str:
    if not rejections:
        first = violations[0]
        where = f"message {first['index']} at {first['path']}"
        return f"{accepted} accepted, {len(violations)} violations of the plan; first: {where}: {first['message']}"
    rejection = rejections[0]
    where = f"message {rejection.index}" + (f" at {rejection.error.path}" if rejection.error.path else "")
    return f"{accepted} accepted, {len(rejections)} rejected; first: {where}: {rejection.error.detail}"


def _violations(receipt: Receipt) -> Iterator[JSONObject]:
    """Yield the violations of a tracking plan in accepted messages."""
    rejected = {rejection.index for rejection in receipt.rejections}
    accepted = (index for index in count() if index not in rejected)
    for index, envelope in zip(accepted, receipt.envelopes, strict=False):
        for warning in envelope.warnings:
            if warning.code in PLAN_WARNINGS:
                found = {"code": warning.code, "message": warning.message, "path": warning.path}
                yield {"index": index, "messageId": envelope.message_id, **found}


def _rejected(rejection: Rejection) -> JSONObject:
    error = rejection.error
    known = {"limit": error.limit, "actual": error.actual}
    return {
        "index": rejection.index,
        "messageId": rejection.message_id,
        "code": error.reason,
        "message": error.detail,
        "path": error.path,
        **{name: value for name, value in known.items() if value is not None},
    }
