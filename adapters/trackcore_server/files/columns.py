"""The columns of a message in a table: those of the view `events` of the log in SQLite, or paths in the message."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import attrs

from trackcore import JSONObject
from trackcore.support import event_of
from trackcore.text import encode_json

Read = Callable[[JSONObject], object]

_KEY = re.compile(r"[^.\[\]]+|\[\d+\]")
_PATH = re.compile(r"[^.\[\],]+(?:\.[^.\[\],]+|\[\d+\])*")


@attrs.frozen
class MessageColumn:
    """A column.  `read` takes a line of `trackcore events`, and returns None if the message has no such value."""

    name: str
    read: Read

    def text(self, record: JSONObject) -> str:
        """Return the value as text: a string as it is, anything else as JSON, and nothing for None."""
        value = self.read(record)
        if isinstance(value, str):
            return value
        return "" if value is None else encode_json(value).decode()


def _in_message(*keys: str | int) -> Read:
    def read(record: JSONObject) -> object:
        value: object = record["message"]
        for key in keys:
            if isinstance(key, int) and isinstance(value, list):
                value = value[key] if key < len(value) else None
            elif isinstance(key, str) and isinstance(value, dict):
                value = value.get(key)
            else:
                return None
        return value

    return read


def _event(record: JSONObject) -> object:
    return event_of(record["message"]["type"], record["message"])


_NAMED: Mapping[str, Read] = {
    "seq": lambda record: record["seq"],
    "time": _in_message("timestamp"),
    "received_at": _in_message("receivedAt"),
    "source": lambda record: record["source"],
    "call": _in_message("type"),
    "event": _event,
    "user_id": _in_message("userId"),
    "anonymous_id": _in_message("anonymousId"),
    "properties": _in_message("properties"),
    "traits": _in_message("traits"),
    "context": _in_message("context"),
    "message_id": _in_message("messageId"),
    "destinations": lambda record: record["destinations"],
    "warnings": lambda record: record["warnings"] or None,
}

ALL_COLUMNS: Sequence[MessageColumn] = tuple(MessageColumn(name, read) for name, read in _NAMED.items())
"""The columns of the view `events`, in its order."""


def parse_columns(text: str) -> tuple[MessageColumn, ...]:
    """Parse names of columns, separated by commas.  Raises `ValueError`."""
    names = [name.strip() for name in text.split(",")]
    if any(not _PATH.fullmatch(name) for name in names):
        raise ValueError(
            f"expected names separated by commas, such as time,event,properties.price; there are {', '.join(_NAMED)},"
            " and every path in a message"
        )
    return tuple(MessageColumn(name, _NAMED.get(name) or _in_message(*_keys(name))) for name in names)


def _keys(path: str) -> list[str | int]:
    return [int(key[1:-1]) if key.startswith("[") else key for key in _KEY.findall(path)]


def selected(columns: Sequence[MessageColumn], record: JSONObject) -> JSONObject:
    """Return an object with the values of some columns."""
    return {column.name: column.read(record) for column in columns}
