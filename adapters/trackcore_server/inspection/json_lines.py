"""Lines of JSON about a stored message, a rejected one, or a quarantined request."""

from __future__ import annotations

import base64

from trackcore import JSONObject, StoredMessage, StoredQuarantined, StoredRejected, format_timestamp, mask_write_key
from trackcore.support import mask_write_keys
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


def duplicate_record(stored: StoredMessage, explainer: Explainer, original: int | None) -> JSONObject:
    """Explain a duplicate, with the number of the message that it repeats; None if that is gone."""
    explanation = explainer.message(stored).as_json()
    return {"part": "duplicates", "seq": stored.seq, **explanation, "outcome": "duplicate", "duplicateOf": original}


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


def payload_text(payload: bytes) -> JSONObject:
    """Return a payload as text, or in base64 with the field `encoding` if it is not UTF-8."""
    try:
        return {"payload": payload.decode("utf-8")}
    except UnicodeDecodeError:
        return {"payload": base64.b64encode(payload).decode("ascii"), "encoding": "base64"}
