"""The server under test: `trackcore serve`, with a recorder around its app and a sink that can be made to fail.

`python -m sdk.serving serve ...` is the command itself apart from that; gunicorn with uvicorn's worker hosts the same
app, `sdk.serving:application()`, for TLS, for which the command has no option.  Beside its log the server writes
`requests.jsonl`, one line for each request, before the client gets its answer.  While `outage.json` exists the sink
rejects everything; while `delay.json` exists each request waits before it is processed.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import time
from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

from trackcore_asgi import App, Receive, Scope, Send
from trackcore_debugger import OneTimeToken
from trackcore_server import Configuration, create_asgi_app, load_configuration
from trackcore_server.cli._main import main

from trackcore import (
    AsyncSink,
    Cause,
    Envelope,
    JSONObject,
    Outcome,
    QuarantinedRequest,
    RejectedRecord,
    SinkUnavailable,
)
from trackcore.metrics import Metrics
from trackcore.plans import PlanInForce

REQUESTS = "requests.jsonl"
OUTAGE = "outage.json"
DELAY = "delay.json"
_UNRECORDED = frozenset({"/health", "/ready"})


def recorded_app(
    configuration: Configuration,
    one_time_token: OneTimeToken | None = None,
    plans: Mapping[str, PlanInForce] | None = None,
    metrics: Metrics | None = None,
) -> Recorder:
    """Make the app as `trackcore serve` makes it, with the recorder and the sink of the tests."""
    app = create_asgi_app(configuration, one_time_token, plans, metrics)
    folder = configuration.folder
    sink: AsyncSink = app.collector.sink  # type: ignore[assignment]  # that of a log is asynchronous
    app.collector.sink = RefusingSink(sink, folder / OUTAGE)
    return Recorder(app, folder)


def application() -> Recorder:
    """Make the app for gunicorn, with the configuration that TRACKCORE_CONFIG names."""
    return recorded_app(load_configuration(Path(os.environ["TRACKCORE_CONFIG"])))


class RefusingSink:
    """A sink that passes everything on, except during an outage."""

    def __init__(self, sink: AsyncSink, outage: Path) -> None:
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

    async def store_async(
        self,
        envelopes: Sequence[Envelope] = (),
        *,
        rejected: Sequence[RejectedRecord] = (),
        quarantined: Sequence[QuarantinedRequest] = (),
    ) -> Sequence[Outcome]:
        """See `AsyncSink.store_async`."""
        self._refuse()
        return await self._sink.store_async(envelopes, rejected=rejected, quarantined=quarantined)

    async def check_ready_async(self) -> None:
        """See `AsyncSink.check_ready_async`."""
        self._refuse()
        await self._sink.check_ready_async()

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

    def __init__(self, app: App, folder: Path) -> None:
        self._app = app
        self._file = folder / REQUESTS
        self._delay = folder / DELAY

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request as the app does; its line is written before the end of its answer is sent."""
        if scope["type"] != "http" or scope["path"] in _UNRECORDED:
            await self._app(scope, receive, send)
            return
        if self._delay.exists():
            await asyncio.sleep(json.loads(self._delay.read_bytes()))
        body = bytearray()
        line = _describe(scope)

        async def receive_copied() -> MutableMapping[str, Any]:
            event = await receive()
            body.extend(event.get("body", b""))
            return event

        async def send_recorded(event: MutableMapping[str, Any]) -> None:
            if event["type"] == "http.response.start":
                headers = {name.decode().lower(): value.decode() for name, value in event["headers"]}
                line.update(status=event["status"], retry_after=headers.get("retry-after"))
            elif not event.get("more_body"):
                self._write({**line, "message_ids": _message_ids(bytes(body), line["content_encoding"])})
            await send(event)

        await self._app(scope, receive_copied, send_recorded)

    def _write(self, line: JSONObject) -> None:
        """Append in one write, so that lines of several workers do not interleave."""
        descriptor = os.open(self._file, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, json.dumps(line).encode() + b"\n")
        finally:
            os.close(descriptor)


def _describe(scope: Scope) -> JSONObject:
    headers = {name.decode().lower(): value.decode("latin-1") for name, value in scope["headers"]}
    names = {
        "origin": "origin",
        "user_agent": "user-agent",
        "authorization": "authorization",
        "content_type": "content-type",
        "content_encoding": "content-encoding",
        "retry_count": "x-retry-count",
        "asked_headers": "access-control-request-headers",
    }
    described: JSONObject = {name: headers.get(header) or None for name, header in names.items()}
    return {
        "method": scope["method"],
        "path": scope["path"],
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
    with patch("trackcore_server.hosting.application.create_asgi_app", recorded_app):
        main()
