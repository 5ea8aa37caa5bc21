"""Values and messages as short texts, for reports."""

from __future__ import annotations

import json
from typing import Any, Final

from trackcore import JSONObject
from trackcore.text import visible

_MOST_CHARS = 80


class _Absent:
    """The value of a field that a message does not have."""


ABSENT: Final = _Absent()


def as_text(value: Any) -> str:
    """Return a value as JSON, which shows a number and a text of digits apart."""
    if value is ABSENT:
        return "(absent)"
    return visible(json.dumps(value, ensure_ascii=False, default=repr))


def shortened(text: str, most: int = _MOST_CHARS) -> str:
    """Return a text, cut to a number of characters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: `1 message`, `2 messages`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def summary(message: JSONObject) -> str:
    """Return a message in one line: its call, its name, its user, and its properties or traits."""
    name = message.get("event") or message.get("name")
    identity = {
        "user": message.get("userId"),
        "anonymous": None if message.get("userId") else message.get("anonymousId"),
        "group": message.get("groupId"),
        "previous": message.get("previousId"),
    }
    parts = [
        f"{message['type']:8}",
        *([as_text(name)] if name else []),
        *(f"{label} {visible(value)}" for label, value in identity.items() if value),
        *(as_text(message[field]) for field in ("properties", "traits") if message.get(field)),
    ]
    return shortened("  ".join(parts), 2 * _MOST_CHARS)
