"""Rows: the entries of the debugger's list, for records of each part of the log."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import msgspec
from trackcore_sqlite import Listed

from trackcore import InvalidRequest, JSONObject, StoredQuarantined, StoredRejected, format_timestamp
from trackcore.text import clean_text, parse

_CHARS = 120


class _Fields(msgspec.Struct, rename="camel"):
    """The fields that a row shows of a message, which may be malformed."""

    type: Any = None
    event: Any = None
    name: Any = None
    group_id: Any = None
    previous_id: Any = None
    user_id: Any = None
    anonymous_id: Any = None


class _Coded(msgspec.Struct):
    code: str


_fields_decoder = msgspec.json.Decoder(_Fields)
_codes = msgspec.json.Decoder(list[_Coded]).decode


def _listed_row(part: str, outcome: str, listed: Listed) -> JSONObject:
    codes = [warning.code for warning in _codes(listed.warnings)] if listed.warnings else []
    return _row(part, listed, outcome, source=listed.source, payload=listed.payload.encode(), codes=codes)


def _rejected_row(stored: StoredRejected) -> JSONObject:
    row = _row("rejected", stored, "rejected", source=stored.source, payload=stored.payload, codes=[stored.code])
    return row | {"path": stored.path}


def _quarantined_row(stored: StoredQuarantined) -> JSONObject:
    """Make the row of a quarantined request; it has its write key, which no source has, instead of a source."""
    key = "no write key" if stored.write_key is None else stored.write_key[:_CHARS]
    row = _row("quarantine", stored, "quarantined", source=key, payload=stored.payload, codes=["unknown_source"])
    return row | {"type": stored.endpoint}


def _row(part: str, record: Any, outcome: str, *, source: str, payload: bytes, codes: list[str]) -> JSONObject:
    message = _fields(payload)
    return {
        "part": part,
        "seq": record.seq,
        "outcome": outcome,
        "source": source,
        "type": _text(message.type),
        "name": _first(message.event, message.name, message.group_id, message.previous_id),
        "user": _first(message.user_id, message.anonymous_id),
        "codes": codes,
        "at": format_timestamp(record.received_at),
    }


def _fields(payload: bytes) -> _Fields:
    """Return fields of a message as intake would read them; empty if it is not a JSON object."""
    try:
        return parse(_fields_decoder, clean_text(payload))[0]
    except (msgspec.MsgspecError, InvalidRequest):
        return _NO_FIELDS


_NO_FIELDS = _Fields()


def _first(*values: Any) -> str | None:
    for value in values:
        if value is not None and (text := _text(value)):
            return text
    return None


def _text(value: Any) -> str | None:
    if value.__class__ is str:  # nearly always
        return str(value[:_CHARS])
    return str(value)[:_CHARS] if isinstance(value, str | int | float) and not isinstance(value, bool) else None


ROWS: Mapping[str, Callable[[Any], JSONObject]] = {
    "messages": partial(_listed_row, "messages", "accepted"),
    "duplicates": partial(_listed_row, "duplicates", "duplicate"),
    "rejected": _rejected_row,
    "quarantine": _quarantined_row,
}
"""The function that makes the row of a record, for each part of the log."""
