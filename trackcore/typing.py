"""The few types that every other module speaks of.

A *wire object* is a message as JSON gave it: a dict with the API's own camelCase names. It is what travels between
the bytes and the sink; the attrs classes of `trackcore.messages` are made from it on request.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal, NewType, TypeAlias

JSONObject: TypeAlias = dict[str, Any]
"""A JSON object: string keys, and JSON values all the way down."""

WriteKey = NewType("WriteKey", str)
"""The credential of a source. It sits in web pages, so it names a source rather than protecting it."""

Call: TypeAlias = Literal["identify", "track", "page", "screen", "group", "alias"]
"""The kind of one message, as `type` on the wire says it."""

Endpoint: TypeAlias = Literal["identify", "track", "page", "screen", "group", "alias", "batch"]
"""What a request body is: one message of that call, or a batch of any."""

SentAs: TypeAlias = Endpoint | Literal["import"]
"""What a message, or a request, came as: to an endpoint, or out of a file that was imported."""

Clock: TypeAlias = Callable[[], datetime]
"""Gives the time now, as an aware datetime."""

NewMessageId: TypeAlias = Callable[[], str]
"""Makes a unique message id. A callable, since how many are needed is known only after decoding."""
