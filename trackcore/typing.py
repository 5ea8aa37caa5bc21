"""The few types that every other module uses.

A *wire object* is a message as parsed from JSON: a dict with the API's camelCase names. The attrs classes of
`trackcore.messages` are made from it on request.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal, NewType, TypeAlias

JSONObject: TypeAlias = dict[str, Any]
"""A JSON object: string keys, and JSON values all the way down."""

WriteKey = NewType("WriteKey", str)
"""The credential of a source. It is public in web pages, so it identifies a source rather than protecting it."""

Call: TypeAlias = Literal["identify", "track", "page", "screen", "group", "alias"]
"""The kind of one message: its `type` on the wire."""

Endpoint: TypeAlias = Literal["identify", "track", "page", "screen", "group", "alias", "batch"]
"""The content of a request body: one message of that call, or a batch of messages of any call."""

SentAs: TypeAlias = Endpoint | Literal["import"]
"""How a message or a request was sent: to an endpoint, or in a file that was imported."""

Clock: TypeAlias = Callable[[], datetime]
"""Returns the current time as an aware datetime."""

NewMessageId: TypeAlias = Callable[[], str]
"""Makes a unique message id. It is a callable, since the number of ids is known only after decoding."""
