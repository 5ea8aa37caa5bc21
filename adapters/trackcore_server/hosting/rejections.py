"""The answers to requests that do not reach the app, in one table for all workers.

SDKs retry a request unless its answer is a JSON object with `code` and `message`, so these are answered as the app
answers.  The connection is closed afterwards: what follows on it cannot be trusted.
"""

from __future__ import annotations

from http import HTTPStatus

import attrs

from trackcore.support import failure_body
from trackcore.text import encode_json


@attrs.frozen
class Rejection:
    """The answer to a request that does not reach the app."""

    status: HTTPStatus
    code: str
    message: str

    def response(self) -> bytes:
        """Return the whole response, as it is sent."""
        body = encode_json(failure_body(self.code, self.message))
        head = (
            f"HTTP/1.1 {self.status.value} {self.status.phrase}\r\n"
            "Connection: close\r\n"
            "Access-Control-Allow-Origin: *\r\n"
            "Content-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode("ascii") + body


class Rejected(Exception):
    """A request does not reach the app.  It ends the parsing of the request."""

    def __init__(self, rejection: Rejection) -> None:
        super().__init__(rejection.code)
        self.rejection = rejection


URI_TOO_LONG = Rejection(
    HTTPStatus.REQUEST_URI_TOO_LONG, "uri_too_long", "The address of the request is too long; use POST."
)
HEADERS_TOO_LARGE = Rejection(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    "headers_too_large",
    "The request has too many headers, or a header is too large.",
)
UNSUPPORTED_TRANSFER_CODING = Rejection(
    HTTPStatus.NOT_IMPLEMENTED, "unsupported_transfer_coding", "Transfer-Encoding may only be chunked."
)
EXPECTATION_FAILED = Rejection(HTTPStatus.EXPECTATION_FAILED, "expectation_failed", "Expect may only be 100-continue.")
FORBIDDEN = Rejection(HTTPStatus.FORBIDDEN, "forbidden", "The connection is not allowed.")
INVALID_HTTP = Rejection(HTTPStatus.BAD_REQUEST, "invalid_http", "Malformed HTTP request.")
INTERNAL_ERROR = Rejection(HTTPStatus.INTERNAL_SERVER_ERROR, "internal_error", "Internal error; retry the request.")
