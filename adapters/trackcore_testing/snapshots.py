"""Snapshots: messages as canonical JSON in which everything that differs from run to run has a placeholder.

Placeholders replace ids and times that an SDK makes, its version, and that of the browser or the runtime.  An
anonymous id has a number, so that one person remains one person.  Ids that a test chooses, such as the userId, stay.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from copy import deepcopy
from typing import Any

from trackcore import JSONObject

_PLACEHOLDERS = {
    "messageId": "<messageId>",
    "timestamp": "<time>",
    "originalTimestamp": "<time>",
    "sentAt": "<time>",
    "receivedAt": "<time>",
    "context.library.version": "<version>",
    "context.userAgent": "<userAgent>",
    "context.userAgentData": "<userAgent>",
    "_metadata.nodeVersion": "<version>",
}
_ANONYMOUS = ("anonymousId", "previousId")


def snapshot(messages: Sequence[JSONObject], normalize: Iterable[str] = ()) -> str:
    """Return messages as JSON with sorted keys; `normalize` has further paths, such as `properties.orderId`."""
    placeholders = _PLACEHOLDERS | {path: f"<{path.rpartition('.')[2]}>" for path in normalize}
    numbered = {message["anonymousId"]: "" for message in messages if message.get("anonymousId")}
    numbered = {found: f"<anonymousId {number}>" for number, found in enumerate(numbered, 1)}
    normalized = [_normalized(message, placeholders, numbered) for message in messages]
    return json.dumps(normalized, ensure_ascii=False, indent=2, sort_keys=True)


def _normalized(message: JSONObject, placeholders: dict[str, str], anonymous: dict[str, str]) -> JSONObject:
    copy = deepcopy(message)
    for path, placeholder in placeholders.items():
        _replace(copy, path.split("."), placeholder)
    for name in _ANONYMOUS:
        if copy.get(name) in anonymous:
            copy[name] = anonymous[copy[name]]
    return copy


def _replace(value: Any, path: Sequence[str], placeholder: str) -> None:
    *parents, name = path
    for parent in parents:
        value = value.get(parent) if isinstance(value, dict) else None
    if isinstance(value, dict) and value.get(name) is not None:
        value[name] = placeholder
