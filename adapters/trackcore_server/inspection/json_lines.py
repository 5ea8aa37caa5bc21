"""Lines of JSON about a stored message, a rejected one, or a quarantined request."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from trackcore import (
    JSONObject,
    Part,
    StoredMessage,
    StoredQuarantined,
    StoredRejected,
    format_timestamp,
    mask_write_key,
)
from trackcore.support import mask_write_keys

if TYPE_CHECKING:
    from trackcore_sqlite import SqliteBrowser

    from trackcore_server.inspection.explainer import Explainer


def event_record(stored: StoredMessage, place: int | str) -> JSONObject:
    """Return a line of `trackcore events`; `place` is its number as people read it."""
    return {
        "seq": place,
        "source": stored.source,
        "destinations": stored.destinations,
        "warnings": stored.warnings,
        "message": stored.message,
    }


def rejected_record(stored: StoredRejected) -> JSONObject:
    """Return a line of `trackcore rejected`; write keys are masked."""
    return {
        "seq": stored.seq,
        "source": stored.source,
        "receivedAt": format_timestamp(stored.received_at),
        "code": stored.code,
        "message": stored.message,
        "path": stored.path,
        **payload_text(mask_write_keys(stored.payload)),
        **({"batch": mask_write_keys(stored.batch).decode()} if stored.batch not in _NOTHING else {}),
    }


_NOTHING = (None, b"", b"{}")


def quarantined_record(stored: StoredQuarantined) -> JSONObject:
    """Return a line of `trackcore rejected --quarantine`; write keys are masked."""
    return {
        "seq": stored.seq,
        "receivedAt": format_timestamp(stored.received_at),
        "endpoint": stored.endpoint,
        "writeKey": None if stored.write_key is None else mask_write_key(stored.write_key),
        "clientIp": stored.client_ip,
        **payload_text(mask_write_keys(stored.payload)),
    }


def explained_record(
    part: Part, stored: Any, explainer: Explainer, log: SqliteBrowser, *, shows_key: bool = False
) -> JSONObject:
    """Return a record with its explanation.  A duplicate has the number of the message that it repeats, if any.

    With `shows_key` a quarantined request has its write key in full, so that its sender can be found.
    """
    if part == "rejected":
        return rejected_record(stored) | explainer.rejected(stored).as_json() | {"part": part}
    if part == "quarantine":
        return quarantined_record(stored) | explainer.quarantined(stored).as_json(shows_key=shows_key) | {"part": part}
    explanation = {"part": part, "seq": stored.seq, **explainer.message(stored).as_json()}
    if part == "messages":
        return explanation
    original = log.seq_of(stored.source, stored.message["messageId"])
    return explanation | {"outcome": "duplicate", "duplicateOf": original}


def payload_text(payload: bytes) -> JSONObject:
    """Return a payload as text, or in base64 with the field `encoding` if it is not UTF-8."""
    try:
        return {"payload": payload.decode("utf-8")}
    except UnicodeDecodeError:
        return {"payload": base64.b64encode(payload).decode("ascii"), "encoding": "base64"}
