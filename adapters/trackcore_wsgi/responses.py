"""The answers, and the one table that says which failure gets which status.

Why so few statuses: SDKs react to them in ways that lose data.  Anything but 200 is no success for Python, PHP and
.NET; 201 and 204 make PHP send for ever; 401, 404, 413 and 415 make Node retry ten times; a body that is not a JSON
object with `code` and `message` makes Python and Ruby retry.  Retry-After is in whole seconds, as not all SDKs read a
date; X-RateLimit-Reset repeats it for those that read only that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeAlias

import attrs

from trackcore import Cause, InvalidRequest, JSONObject, Receipt, Rejection, SinkUnavailable
from trackcore.text.jsontext import encode_json
from trackcore_wsgi.pixel import GIF

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

OK = b'{"success": true}'
_JSON = "application/json"

Headers: TypeAlias = tuple[tuple[str, str], ...]


@attrs.frozen(kw_only=True)
class Failure:
    """One kind of failure: its status, stable code, and a sentence that shows no internals."""

    status: HTTPStatus
    code: str
    message: str


NOT_FOUND = Failure(
    status=HTTPStatus.NOT_FOUND, code="not_found", message="There is nothing here; messages go to /v1/batch."
)
METHOD_NOT_ALLOWED = Failure(
    status=HTTPStatus.METHOD_NOT_ALLOWED,
    code="method_not_allowed",
    message="This path does not take this method; see the Allow header.",
)
UNKNOWN_SOURCE = Failure(
    status=HTTPStatus.UNAUTHORIZED,
    code="unknown_source",
    message="The write key is missing or belongs to no source; the request is in quarantine.",
)
INTERNAL_ERROR = Failure(
    status=HTTPStatus.INTERNAL_SERVER_ERROR,
    code="internal_error",
    message="Something failed here, and nothing of the request is known to be stored; try again.",
)
UNSUPPORTED_TRANSFER_CODING = Failure(
    status=HTTPStatus.NOT_IMPLEMENTED,
    code="unsupported_transfer_coding",
    message="Transfer-Encoding may only be chunked; compress with Content-Encoding.",
)
INPUT_NOT_TERMINATED = Failure(
    status=HTTPStatus.SERVICE_UNAVAILABLE,
    code="input_not_terminated",
    message="This server cannot read a body without Content-Length; see `input_terminated` in the README.",
)
UNAVAILABLE: Mapping[Cause, Failure] = {
    Cause.FULL: Failure(
        status=HTTPStatus.INSUFFICIENT_STORAGE,
        code="disk_full",
        message="There is no room to store anything; try again later.",
    ),
    Cause.OVERLOADED: Failure(
        status=HTTPStatus.TOO_MANY_REQUESTS,
        code="overloaded",
        message="Too much is waiting to be stored; slow down and try again.",
    ),
    Cause.UNAVAILABLE: Failure(
        status=HTTPStatus.SERVICE_UNAVAILABLE,
        code="unavailable",
        message="Nothing can be stored at the moment; try again later.",
    ),
}


@attrs.frozen
class ErrorResponse:
    """What a request is answered with.  (A Werkzeug response does more than we need, and takes longer than intake.)"""

    body: bytes
    status: HTTPStatus = HTTPStatus.OK
    media_type: str = _JSON
    headers: Headers = ()

    def send(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request, from whatever origin."""
        start_response(
            f"{self.status.value} {self.status.phrase}",
            [
                ("Content-Type", self.media_type),
                ("Content-Length", str(len(self.body))),
                *self.headers,
                *_cross_origin(environ),
            ],
        )
        return () if environ["REQUEST_METHOD"] == "HEAD" else (self.body,)


def json_answer(body: JSONObject, status: HTTPStatus = HTTPStatus.OK) -> ErrorResponse:
    """Answer with a JSON object."""
    return ErrorResponse(encode_json(body), status)


SUCCESS = ErrorResponse(OK)
"""All of a request is stored."""


def failure_answer(failure: Failure) -> ErrorResponse:
    """Answer with an entry of the table."""
    return json_answer({"success": False, "code": failure.code, "message": failure.message}, failure.status)


def unknown_source(hint: str) -> ErrorResponse:
    """Answer that nothing could be accepted, with what the receipt says of the write key."""
    message = UNKNOWN_SOURCE.message.removesuffix("." if hint else "")
    return failure_answer(attrs.evolve(UNKNOWN_SOURCE, message=message + hint))


def invalid_request(error: InvalidRequest) -> ErrorResponse:
    """Answer that a request is of no use as a whole."""
    found = {"path": error.path or None, "limit": error.limit, "actual": error.actual, "position": error.position}
    told = {name: value for name, value in found.items() if value is not None}
    return json_answer({"success": False, "code": error.reason, "message": error.detail} | told, HTTPStatus.BAD_REQUEST)


def unavailable(error: SinkUnavailable) -> ErrorResponse:
    """Answer that nothing was stored, and when to try again."""
    return try_later(UNAVAILABLE[error.cause], error.retry_after)


def not_ready(error: SinkUnavailable) -> ErrorResponse:
    """Answer that nothing can be stored now, and why in one word."""
    failure = UNAVAILABLE[error.cause]
    body = {"success": False, "code": failure.code, "message": failure.message, "reason": error.reason}
    return attrs.evolve(unavailable(error), body=encode_json(body))


def try_later(failure: Failure, retry_after: int) -> ErrorResponse:
    """Answer with an entry of the table, and after how many seconds to try again."""
    seconds = str(retry_after)
    return attrs.evolve(failure_answer(failure), headers=(("Retry-After", seconds), ("X-RateLimit-Reset", seconds)))


def for_receipt(receipt: Receipt, *, strict: bool) -> ErrorResponse:
    """Answer with what became of a request whose source is known."""
    if not receipt.rejections:
        return SUCCESS
    first = receipt.rejections[0].error
    refused = strict or (receipt.source is not None and receipt.source.strict)
    return json_answer(
        {
            "success": not refused,
            "code": first.reason if refused else "partial",
            "message": _summary(receipt.accepted, receipt.rejections),
            "accepted": receipt.accepted,
            "rejected": [_verdict(rejection) for rejection in receipt.rejections],
        },
        HTTPStatus.BAD_REQUEST if refused else HTTPStatus.OK,
    )


def method_not_allowed(methods: Iterable[str]) -> ErrorResponse:
    """Answer that a path does not take the method, but these."""
    return attrs.evolve(failure_answer(METHOD_NOT_ALLOWED), headers=(("Allow", ", ".join(methods)),))


IMAGE = ErrorResponse(
    GIF,
    media_type="image/gif",
    headers=(
        ("Cache-Control", "no-store, no-cache, must-revalidate, private"),
        ("Expires", "0"),
        ("Pragma", "no-cache"),
    ),
)
"""The pixel, which nobody may cache."""


def _cross_origin(environ: WSGIEnvironment) -> Headers:
    """Let pages of any origin send, and read the answer, whatever it is.

    A write key is public and there are no cookies, so there is nothing to protect from another origin.  The headers
    that a preflight asks for are echoed: a literal `*` does not cover Authorization.
    """
    origin = _one_line(environ.get("HTTP_ORIGIN"))
    headers = _ANY_ORIGIN
    if origin:
        allowed = ("Access-Control-Allow-Origin", origin)
        headers = (allowed, _EXPOSED, ("Access-Control-Allow-Credentials", "true"), ("Vary", "Origin"))
    if environ["REQUEST_METHOD"] == "OPTIONS":
        asked = _one_line(environ.get("HTTP_ACCESS_CONTROL_REQUEST_HEADERS"))
        headers += (
            ("Access-Control-Allow-Methods", "GET, HEAD, POST, OPTIONS"),
            ("Access-Control-Allow-Headers", asked or "Authorization, Content-Type, Content-Encoding"),
            ("Access-Control-Max-Age", "86400"),
        )
    return headers


_EXPOSED = ("Access-Control-Expose-Headers", "Retry-After, X-RateLimit-Reset")
_ANY_ORIGIN: Headers = (("Access-Control-Allow-Origin", "*"), _EXPOSED)


def _one_line(header: str | None) -> str | None:
    """Give a header that can be echoed: one with a line break, or any other control character, could be another."""
    return header if header is not None and header.isascii() and header.isprintable() else None


def _summary(accepted: int, rejections: Sequence[Rejection]) -> str:
    first = rejections[0]
    where = f"message {first.index}" + (f" at {first.error.path}" if first.error.path else "")
    return f"{accepted} accepted, {len(rejections)} rejected; first: {where}: {first.error.detail}"


def _verdict(rejection: Rejection) -> JSONObject:
    error = rejection.error
    verdict: JSONObject = {
        "index": rejection.index,
        "messageId": rejection.message_id,
        "code": error.reason,
        "message": error.detail,
        "path": error.path,
    }
    if error.limit is not None:
        verdict["limit"] = error.limit
    if error.actual is not None:
        verdict["actual"] = error.actual
    return verdict
