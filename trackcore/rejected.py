"""The rejected messages of a request, and the records that are kept of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

import attrs
import msgspec

from trackcore.credentials import Source
from trackcore.errors import Invalid, InvalidMessage
from trackcore.sinks import RejectedRecord
from trackcore.text.blanks import is_blank
from trackcore.typing import SentAs
from trackcore.wire.request import peek
from trackcore.wire.rules import decimal_text, too_many_messages

_MAX_EXCESS_LISTED = 100


@attrs.frozen(kw_only=True)
class Rejection:
    """One rejected message: its place in the batch, its id if it has one, the error, and its source text."""

    index: int
    message_id: str | None
    error: InvalidMessage
    payload: bytes


def rejection_of(
    index: int, item: bytes | msgspec.Raw, received: bytes | msgspec.Raw, error: InvalidMessage
) -> Rejection:
    """Keep a message as it was received; `item` is the text that could be parsed, which may have been repaired."""
    message_id = peek(item, "messageId")
    if message_id.__class__ in (int, float):
        message_id = decimal_text(message_id)
    return Rejection(
        index=index,
        message_id=message_id if isinstance(message_id, str) and not is_blank(message_id) else None,
        error=error,
        payload=bytes(received),
    )


def record_of(
    error: Invalid,
    payload: bytes,
    *,
    source: Source,
    received_at: datetime,
    batch: bytes | None = None,
    endpoint: SentAs | None = None,
) -> RejectedRecord:
    """Return the record of a rejected message or request; the arguments are those of `RejectedRecord`."""
    return RejectedRecord(
        source=source.name,
        received_at=received_at,
        code=error.reason,
        message=error.detail,
        path=error.path,
        payload=payload,
        batch=batch,
        endpoint=endpoint,
    )


def reject_excess(
    items: Sequence[bytes | msgspec.Raw], received: Sequence[bytes | msgspec.Raw], limit: int
) -> Iterator[Rejection]:
    """Reject the messages of a batch beyond its limit.

    A hostile batch can hold a hundred times the limit, so the answer must be bounded: at most as many again, and no
    more than a hundred, are listed one by one, and the last of these represents all the rest.
    """
    error = too_many_messages(limit, len(items))
    last = limit + min(limit, _MAX_EXCESS_LISTED) - 1
    for index in range(limit, min(last, len(items))):
        yield rejection_of(index, items[index], received[index], error)
    rest = received[last:]
    if len(rest) == 1:
        yield rejection_of(last, items[last], rest[0], error)
    elif rest:
        detail = f"{error.detail}; this represents the last {len(rest)}"
        yield Rejection(
            index=last,
            message_id=None,
            error=attrs.evolve(error, detail=detail),
            payload=b"[%b]" % b",".join(map(bytes, rest)),
        )
