"""ASGI apps that a worker cannot start, or that show what they get."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


async def failing(scope: Message, receive: Receive, send: Send) -> None:
    """An app that reports that it cannot start."""
    del scope
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no\nluck"})


async def raising(scope: Message, receive: Receive, send: Send) -> None:
    """An app that raises when it starts."""
    del scope, receive, send
    raise ValueError("a secret")


async def plain(scope: Message, receive: Receive, send: Send) -> None:
    """An app that answers with the process, the scheme and the state, and writes a file when it ends."""
    if scope["type"] == "lifespan":
        await receive()
        scope["state"]["started"] = "yes"
        await send({"type": "lifespan.startup.complete"})
        await receive()
        Path("ended").touch()  # noqa: ASYNC240 - the last thing that it does
        await send({"type": "lifespan.shutdown.complete"})
        return
    body = f"{os.getpid()} {scope['scheme']} {scope['state']['started']}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
