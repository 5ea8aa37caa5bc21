"""The answers, and the one table that says which failure gets which status.

Why so few statuses: SDKs react to them in ways that lose data.  Anything but 200 is no success for Python, PHP and
.NET; 201 and 204 make PHP send for ever; 401, 404, 413 and 415 make Node retry ten times; a body that is not a JSON
object with `code` and `message` makes Python and Ruby retry.  Retry-After is in whole seconds, as not all SDKs read a
date; X-RateLimit-Reset repeats it for those that read only that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus

import attrs
from werkzeug.wrappers import Request, Response

from trackcore import Cause, InvalidRequest, JSONObject, Receipt, Rejection, SinkUnavailable
from trackcore.jsontext import encode_json
from trackcore_wsgi.pixel import GIF

OK = b'{"success": true}'
_JSON = "application/json"


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


def json_response(body: JSONObject, status: HTTPStatus = HTTPStatus.OK) -> Response:
    """Answer with a JSON object."""
    return Response(encode_json(body), status, content_type=_JSON)


def success() -> Response:
    """Answer that all of a request is stored."""
    return Response(OK, content_type=_JSON)


def failure_response(failure: Failure) -> Response:
    """Answer with an entry of the table."""
    return json_response({"success": False, "code": failure.code, "message": failure.message}, failure.status)


def invalid_request(error: InvalidRequest) -> Response:
    """Answer that a request is of no use as a whole."""
    found = {"path": error.path or None, "limit": error.limit, "actual": error.actual, "position": error.position}
    told = {name: value for name, value in found.items() if value is not None}
    return json_response(
        {"success": False, "code": error.reason, "message": error.detail} | told, HTTPStatus.BAD_REQUEST
    )


def unavailable(error: SinkUnavailable) -> Response:
    """Answer that nothing was stored, and when to try again."""
    response = failure_response(UNAVAILABLE[error.cause])
    response.headers["Retry-After"] = response.headers["X-RateLimit-Reset"] = str(error.retry_after)
    return response


def for_receipt(receipt: Receipt, *, strict: bool) -> Response:
    """Answer with what became of a request whose source is known."""
    if not receipt.rejections:
        return success()
    first = receipt.rejections[0].error
    refused = strict or (receipt.source is not None and receipt.source.strict)
    return json_response(
        {
            "success": not refused,
            "code": first.reason if refused else "partial",
            "message": _summary(receipt.accepted, receipt.rejections),
            "accepted": receipt.accepted,
            "rejected": [_verdict(rejection) for rejection in receipt.rejections],
        },
        HTTPStatus.BAD_REQUEST if refused else HTTPStatus.OK,
    )


def image() -> Response:
    """Answer with the pixel, which nobody may cache."""
    response = Response(GIF, content_type="image/gif")
    response.headers["Cache-Control"] = "no-store, no-cache, must-revalidate, private"
    response.headers["Expires"] = "0"
    response.headers["Pragma"] = "no-cache"
    return response


def allow_cross_origin(request: Request, response: Response) -> None:
    """Let pages of any origin send, and read the answer, whatever it is.

    A write key is public and there are no cookies, so there is nothing to protect from another origin.  The headers
    that a preflight asks for are echoed: a literal `*` does not cover Authorization.
    """
    headers = response.headers
    origin = _one_line(request.headers.get("Origin"))
    headers["Access-Control-Allow-Origin"] = origin or "*"
    headers["Access-Control-Expose-Headers"] = "Retry-After, X-RateLimit-Reset"
    if origin:
        headers["Access-Control-Allow-Credentials"] = "true"
        headers["Vary"] = "Origin"
    if request.method == "OPTIONS":
        asked = _one_line(request.headers.get("Access-Control-Request-Headers"))
        headers["Access-Control-Allow-Methods"] = "GET, HEAD, POST, OPTIONS"
        headers["Access-Control-Allow-Headers"] = asked or "Authorization, Content-Type, Content-Encoding"
        headers["Access-Control-Max-Age"] = "86400"


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
