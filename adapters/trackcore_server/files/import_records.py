"""The records of messages that an import rejected, and importing them again.

Importing a record must have the same result as importing its file under the current limits: with the message's own
times, with the batch-level fields, as the call named by `--type`, and under the id that was derived from its content
and from its position among equal messages.  Everything that is not in the text of the message is kept in the field
`batch` of the record, as `RejectedRecord` describes.
"""

from __future__ import annotations

import sys
from datetime import datetime
from typing import cast

import attrs
import msgspec

from trackcore import (
    Call,
    IntakeResult,
    Invalid,
    KeyLocation,
    Limits,
    Pipeline,
    Reception,
    RejectedRecord,
    Resolver,
    Source,
)
from trackcore.privacy import PrivacyRules
from trackcore.support import record_of
from trackcore.text import clean_text, encode_json, parse, raw_fields
from trackcore.wire import Request, parse_request

NOT_KEPT = b""
"""The `batch` of a record that lacks something, so that only its file can be imported again."""


def examine_history(
    request: Request,
    *,
    source: Source,
    resolver: Resolver,
    received_at: datetime,
    message_id: str | None,
    limits: Limits,
    privacy: PrivacyRules | None = None,
) -> IntakeResult:
    """Make an envelope of each message of a file.  `message_id` is for one without an id, None if each has one."""

    def new_message_id() -> str:
        assert message_id is not None, "every message has an id here"
        return message_id

    pipeline = Pipeline(
        source=source,
        resolver=resolver,
        new_message_id=new_message_id,
        limits=attrs.evolve(limits, batch_messages=sys.maxsize),
        privacy=privacy,
    )
    return pipeline.run(request, Reception(received_at=received_at, found_by=KeyLocation.FILE, is_history=True))


def extra_fields(batch_fields: bytes | None, *, call: Call | None, message_id: str | None) -> bytes:
    """Return the fields of a message that are not in its text, as a JSON object.

    These are the fields of its batch, the call given by `--type`, and the id that was made for it if it has none.
    """
    if batch_fields == NOT_KEPT:
        return NOT_KEPT
    own = {name: value for name, value in (("type", call), ("messageId", message_id)) if value is not None}
    return b"{%b}" % b",".join(filter(None, ((batch_fields or b"{}")[1:-1], encode_json(own)[1:-1])))


def import_record(
    error: Invalid, payload: bytes, extra: bytes, *, source: Source, received_at: datetime, limits: Limits
) -> RejectedRecord:
    """Make the record of a rejected message; no more of it is kept than of a request.  `extra` is `extra_fields`."""
    return record_of(
        error,
        payload[: limits.request_bytes],
        source=source,
        received_at=received_at,
        batch=extra if len(payload) + len(extra) <= limits.request_bytes else NOT_KEPT,
        endpoint="import",
    )


def batch_of_one(batch_fields: bytes, message: bytes) -> bytes:
    """Rebuild the batch around this one message, or around an array of messages."""
    messages = message if message.lstrip().startswith(b"[") else b"[%b]" % message
    return b'{"batch":%b%b' % (messages, b"}" if batch_fields == b"{}" else b"," + batch_fields[1:])


def request_of(record: RejectedRecord, limits: Limits) -> tuple[Request, str | None]:
    """Return the request of a complete record, and the id of its message if that has none itself.

    Raises `InvalidRequest` if the record is damaged.
    """
    extra = record.batch or b"{}"
    fields, _ = parse(raw_fields, clean_text(extra))
    body = batch_of_one(extra, b"[%b]" % record.payload)
    request = parse_request(body, "batch", attrs.evolve(limits, request_bytes=sys.maxsize))
    return msgspec.structs.replace(request, call=cast("Call | None", _text(fields, "type"))), _text(fields, "messageId")


def _text(fields: dict[str, msgspec.Raw], name: str) -> str | None:
    return msgspec.json.decode(fields[name], type=str) if name in fields else None
