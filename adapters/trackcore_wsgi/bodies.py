"""Reading the body of a request from `wsgi.input`."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from trackcore_http import CUT_OFF, UNREADABLE, BodyReader, UnterminatedBody
from werkzeug.exceptions import ClientDisconnected
from werkzeug.wsgi import get_input_stream

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

log = logging.getLogger("trackcore.http")


def read_into(reader: BodyReader, environ: WSGIEnvironment) -> str | None:
    """Read the body of a request, and return why it was not read to its end, if it was not.

    Raises `UnterminatedBody` if its length is not known and the server does not mark its end.
    """
    stream = get_input_stream(_with_end(reader, environ))
    try:
        while (wanted := reader.wanted) and (chunk := stream.read(wanted)):
            reader.feed(chunk)
    except (ClientDisconnected, OSError):
        return CUT_OFF
    except Exception as error:  # noqa: BLE001 - each server has its own exceptions for a malformed chunk
        log.info("a body could not be read: %s", type(error).__name__)
        return UNREADABLE
    return None


def _with_end(reader: BodyReader, environ: WSGIEnvironment) -> WSGIEnvironment:
    """Return the environment, without a length where the server marks the end of the body."""
    if reader.announced is not None or not _has_body_without_length(environ):
        return environ
    if not environ.get("wsgi.input_terminated"):
        raise UnterminatedBody
    return {name: value for name, value in environ.items() if name != "CONTENT_LENGTH"}


def _has_body_without_length(environ: WSGIEnvironment) -> bool:
    """Return whether a body may follow whose length is not announced.  Those of HTTP/2 are not chunked."""
    coding: str = environ.get("HTTP_TRANSFER_ENCODING", "")
    version: str = environ.get("SERVER_PROTOCOL", "")
    return coding.strip().lower() == "chunked" or version.startswith(("HTTP/2", "HTTP/3"))
