"""The server under test: `trackcore serve`, with a recorder around its app and a sink that can be made to fail.

`python -m sdk.serving serve ...` is the command itself apart from that; `gunicorn 'sdk.serving:application()'` is the
same app for TLS, for which the command has no option.  Beside its log the server writes `requests.jsonl`, one line for
each request, before the client gets its answer.  While `outage.json` exists the sink rejects everything; while
`delay.json` exists each request waits before it is processed.
"""

from __future__ import annotations

import gzip
import json
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from unittest.mock import patch

from trackcore_debugger import OneTimeToken
from trackcore_server import Configuration, create_app, load_configuration
from trackcore_server.cli._main import main

from trackcore import (
    Cause,
    Envelope,
    JSONObject,
    Outcome,
    QuarantinedRequest,
    RejectedRecord,
    Sink,
    SinkUnavailable,
)

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

REQUESTS = "requests.jsonl"
OUTAGE = "outage.json"
DELAY = "delay.json"
_UNRECORDED = frozenset({"/health", "/ready"})


def recorded_app(configuration: Configuration, one_time_token: OneTimeToken | None = None) -> Recorder:
    """Make the app as `trackcore serve` makes it, with the recorder and the sink of the tests."""
    app = create_app(configuration, one_time_token)
    folder = configuration.folder
    app.collector.sink = RefusingSink(app.collector.sink, folder / OUTAGE)
    return Recorder(app, folder)


def application() -> WSGIApplication:
    """Make the app for gunicorn, with the configuration that TRACKCORE_CONFIG names."""
    return recorded_app(load_configuration(Path(os.environ["TRACKCORE_CONFIG"])))


class RefusingSink:
    """A sink that passes everything on, except during an outage."""

    def __init__(self, sink: Sink, outage: Path) -> None:
        self._sink = sink
        self._outage = outage

    def store(
        self,
        envelopes: Sequence[Envelope] = (),
        *,
        rejected: Sequence[RejectedRecord] = (),
        quarantined: Sequence[QuarantinedRequest] = (),
    ) -> Sequence[Outcome]:
        """See `Sink.store`."""
        self._refuse()
        return self._sink.store(envelopes, rejected=rejected, quarantined=quarantined)

    def check_ready(self) -> None:
        """See `Sink.check_ready`."""
        self._refuse()
        self._sink.check_ready()

    def _refuse(self) -> None:
        try:
            outage = json.loads(self._outage.read_bytes())
        except FileNotFoundError:
            return
        raise SinkUnavailable(
            cause=Cause(outage["cause"]), detail="an outage for the test", retry_after=outage["retry_after"]
        )


class Recorder:
    """Records each request and its response, and changes neither."""

    def __init__(self, app: WSGIApplication, folder: Path) -> None:
        self._app = app
        self._file = folder / REQUESTS
        self._delay = folder / DELAY

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request as the app does."""
        if environ["PATH_INFO"] in _UNRECORDED:
            return self._app(environ, start_response)
        if self._delay.exists():
            time.sleep(json.loads(self._delay.read_bytes()))
        received = _CopiedInput(environ["wsgi.input"])
        environ["wsgi.input"] = received
        line = _describe(environ)

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            line["status"] = int(status[:3])
            line["retry_after"] = dict(headers).get("Retry-After")
            return start_response(status, headers, exc_info)

        answer = self._app(environ, start)
        line["message_ids"] = _message_ids(bytes(received.copy), line["content_encoding"])
        self._write(line)
        return answer

    def _write(self, line: JSONObject) -> None:
        """Append in one write, so that lines of several workers do not interleave."""
        descriptor = os.open(self._file, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, json.dumps(line).encode() + b"\n")
        finally:
            os.close(descriptor)


class _CopiedInput:
    """The body of a request, with a copy of the bytes that were read."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.copy = bytearray()

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self.copy += data
        return data

    def readline(self, size: int = -1) -> bytes:
        data = self._stream.readline(size)
        self.copy += data
        return data


def _describe(environ: WSGIEnvironment) -> JSONObject:
    names = {
        "origin": "HTTP_ORIGIN",
        "user_agent": "HTTP_USER_AGENT",
        "authorization": "HTTP_AUTHORIZATION",
        "content_type": "CONTENT_TYPE",
        "content_encoding": "HTTP_CONTENT_ENCODING",
        "retry_count": "HTTP_X_RETRY_COUNT",
        "asked_headers": "HTTP_ACCESS_CONTROL_REQUEST_HEADERS",
    }
    described: JSONObject = {name: environ.get(variable) or None for name, variable in names.items()}
    return {
        "method": environ["REQUEST_METHOD"],
        "path": environ["PATH_INFO"],
        "at": time.monotonic(),  # one clock for all processes of a machine
        **described,
    }


def _message_ids(body: bytes, encoding: str | None) -> list[str]:
    try:
        document = json.loads(gzip.decompress(body) if encoding == "gzip" else body)
    except (ValueError, OSError, EOFError):
        return []
    messages = document.get("batch", [document]) if isinstance(document, dict) else []
    return [str(message.get("messageId")) for message in messages if isinstance(message, dict)]


if __name__ == "__main__":
    with patch("trackcore_server.hosting.application.create_app", recorded_app):
        main()
