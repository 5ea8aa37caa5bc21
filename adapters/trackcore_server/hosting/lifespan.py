"""The lifespan of an ASGI app in a worker: it starts before the first request, and ends after the last.

https://asgi.readthedocs.io/en/latest/specs/lifespan.html
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from trackcore_asgi import App

from trackcore.text import describe_unexpected, visible
from trackcore_server.hosting.http_host import Event

log = logging.getLogger("trackcore.server")


class StartFailed(Exception):
    """The app could not start."""


class Lifespan:
    """The start and the end of an app.  `state` is what it passes on to its requests."""

    def __init__(self, app: App) -> None:
        self.state: dict[str, Any] = {}
        self._app = app
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._started = asyncio.Event()
        self._is_ready = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the app.  Raises `StartFailed` if it cannot start."""
        self._events.put_nowait({"type": "lifespan.startup"})
        self._task = asyncio.get_running_loop().create_task(self._run())
        await self._started.wait()
        if not self._is_ready:
            raise StartFailed

    async def stop(self) -> None:
        """Stop the app, and wait until it has ended."""
        assert self._task is not None
        self._events.put_nowait({"type": "lifespan.shutdown"})
        await self._task

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        try:
            await self._app(scope, self._events.get, self._send)
        except Exception as error:  # noqa: BLE001 - of any app
            log.error("the app failed: %s", describe_unexpected(error))  # noqa: TRY400 - the text may quote a setting
        finally:
            self._started.set()

    async def _send(self, event: Event) -> None:
        if event["type"].endswith(".failed"):
            log.error("the app reports: %s", visible(event.get("message", "")))
        self._is_ready = self._is_ready or event["type"] == "lifespan.startup.complete"
        self._started.set()
