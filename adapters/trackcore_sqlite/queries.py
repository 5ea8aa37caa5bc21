"""The rows of each part of the log: how they are selected, by which conditions, and how they are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import attrs
import msgspec

from trackcore import Part, Query, StoredMessage, StoredPayload, StoredQuarantined, StoredRejected
from trackcore_sqlite.times import from_milliseconds, milliseconds

WITH_SOURCE = "JOIN sources ON sources.id = source_id"
_MESSAGE = "seq, name, call, received_at, destinations, cautions, payload, inherited, found_by, retry_count"
_REJECTED = ("seq", "name", "received_at", "code", "message", "path", "payload", "batch", "endpoint")
_QUARANTINED = ("seq", "received_at", "endpoint", "write_key", "client_ip", "client_side", "payload")

MESSAGES = f"SELECT {_MESSAGE} FROM messages {WITH_SOURCE}"
SELECT: Mapping[Part, str] = {
    "messages": MESSAGES,
    "duplicates": f"SELECT {_MESSAGE} FROM duplicates {WITH_SOURCE}",
    "rejected": f"SELECT {', '.join(_REJECTED)} FROM rejected {WITH_SOURCE}",
    "quarantine": f"SELECT {', '.join(_QUARANTINED)} FROM quarantine",
}
"""The query for the rows of each part; `READ` reads them."""

PAYLOADS = f"""
    SELECT seq, name, message_id, call, coalesce(nullif(user_id, ''), anonymous_id), received_at, destinations, payload
    FROM messages {WITH_SOURCE}
"""
"""The rows that `read_payload` reads."""


def where(part: Part, query: Query, *, after: int, last: int | None = None) -> tuple[str, list[Any]]:
    """Return the condition for the rows of a part that match a query with `after < seq <= last`, the limit aside.

    Its values follow; the first is `after`.
    """
    columns = CONDITIONS[part]
    wanted = [(columns.get(name, _IN_PAYLOAD), value) for name, value in _values(query).items()]
    given = [(sql, value) for sql, value in [("seq > ?", after), ("seq <= ?", last), *wanted] if value is not None]
    return f"WHERE {' AND '.join(sql for sql, _ in given)}", [value for _, value in given]


def _values(query: Query) -> Mapping[str, object]:
    """Return the values of the conditions in a query as the log keeps them."""
    return attrs.asdict(query, filter=lambda field, _: field.name != "limit") | {
        # A JSON array of strings: a quoted name is found nowhere else in it.
        "destination": None if query.destination is None else msgspec.json.encode(query.destination).decode(),
        "since": None if query.since is None else milliseconds(query.since),
        "until": None if query.until is None else milliseconds(query.until),
    }


_IN_PAYLOAD = "instr(payload, CAST(? AS BLOB)) > 0"
"""A condition that a part has no column for is applied to its payload."""

NOTHING = "? IS NULL"
_OF_SOURCE = "source_id = (SELECT id FROM sources WHERE name = ?)"
_IN_TIME = {"since": "received_at >= ?", "until": "received_at < ?"}
EVENT = """json_extract(CAST(payload AS TEXT),
        CASE call WHEN 'track' THEN '$.event' WHEN 'page' THEN '$.name' WHEN 'screen' THEN '$.name' END)"""
"""The event of a track message, or the name of a page or a screen; else NULL."""

_OF_MESSAGES = {
    **_IN_TIME,
    "source": _OF_SOURCE,
    "destination": "instr(destinations, ?) > 0",
    "call": "call = ?",
    "user": "? IN (user_id, anonymous_id)",
    "event": f"? = {EVENT}",
    "code": "instr(cautions, '\"' || ? || '\"') > 0",
}
IN_ARRAY = "seq IN (SELECT value FROM json_each(?))"
CONDITIONS: Mapping[Part, Mapping[str, str]] = {
    "messages": _OF_MESSAGES,
    "duplicates": _OF_MESSAGES,
    "rejected": {**_IN_TIME, "source": _OF_SOURCE, "destination": NOTHING, "code": "code = ?"},
    "quarantine": {**_IN_TIME, "source": NOTHING, "destination": NOTHING, "code": "? = 'unknown_source'"},
}


def read_message(row: tuple[Any, ...]) -> StoredMessage:
    """Read a row of the messages, or of the duplicates."""
    seq, name, call, received_at, destinations, warnings, payload, inherited, found_by, retry_count = row
    return StoredMessage(
        seq=seq,
        source=name,
        call=call,
        received_at=from_milliseconds(received_at),
        destinations=_names(destinations),
        warnings=tuple(msgspec.json.decode(warnings)) if warnings else (),
        message=msgspec.json.decode(payload),
        inherited=tuple(msgspec.json.decode(inherited)) if inherited else (),
        found_by=found_by,
        retry_count=retry_count or 0,
    )


def read_payload(row: tuple[Any, ...]) -> StoredPayload:
    """Read a row of `PAYLOADS`."""
    received_at, destinations, payload = row[5:]
    decoded = from_milliseconds(received_at), _names(destinations), payload
    return StoredPayload._make(row[:5] + decoded)


@lru_cache(maxsize=1_000)
def _names(destinations: str) -> tuple[str, ...]:
    """Cached, since most messages of a source have the same names."""
    return tuple(msgspec.json.decode(destinations))


def _read_rejected(row: tuple[Any, ...]) -> StoredRejected:
    values = dict(zip(_REJECTED, row, strict=True))
    received_at = from_milliseconds(values.pop("received_at"))
    return StoredRejected(source=values.pop("name"), received_at=received_at, **values)


def _read_quarantined(row: tuple[Any, ...]) -> StoredQuarantined:
    values = dict(zip(_QUARANTINED, row, strict=True))
    received_at, client_side = from_milliseconds(values.pop("received_at")), bool(values.pop("client_side"))
    return StoredQuarantined(received_at=received_at, client_side=client_side, **values)


READ: Mapping[Part, Callable[[tuple[Any, ...]], Any]] = {
    "messages": read_message,
    "duplicates": read_message,
    "rejected": _read_rejected,
    "quarantine": _read_quarantined,
}


def json_array(values: Sequence[object]) -> str:
    """Return values as a JSON array, which a statement reads as many rows."""
    return msgspec.json.encode(list(values)).decode()
