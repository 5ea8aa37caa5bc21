"""The records of messages, rejected messages and quarantined requests in Kafka: a contract with other consumers.

- value: the message as JSON; of the rejected and the quarantined, the bytes as received.
- key: a JSON array of source and user, `["website","019mr8mf4r"]`: the userId, else the anonymousId.  Equal keys are in
  one partition, in order.  The partition is Kafka's own choice for a key (murmur2), as of any Java producer.
- headers: text in UTF-8.  Of a message: `source`, `call`, `messageId`, `destinations` (a JSON array of names),
  `cautions` (a JSON array of `{code, message, path}`), `inherited` (one of wire paths; both left out if empty),
  `foundBy` (a `KeyLocation`; left out if it is not known), `retryCount` (left out for 0) and `receivedAt`.  Of a
  rejected message also `endpoint`: the endpoint of the request, or `import`; and for a batch or an import, `batch`: a
  JSON object of its fields for all messages.
- timestamp: receivedAt, in milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from typing import NamedTuple, TypeAlias, cast

import msgspec
from confluent_kafka import Message

from trackcore import (
    Call,
    Endpoint,
    Envelope,
    QuarantinedRequest,
    RejectedRecord,
    StoredMessage,
    StoredPayload,
    StoredQuarantined,
    StoredRejected,
    WriteKey,
    format_timestamp,
)
from trackcore.support import EPOCH, MILLISECOND, SentAs

Headers: TypeAlias = list[tuple[str, str | bytes | None]]
"""As the client accepts them; the values here are all bytes."""


class Record(NamedTuple):
    """A record to be produced. `timestamp` is in milliseconds since 1970."""

    topic: str
    key: bytes | None
    value: bytes
    headers: Headers
    timestamp: int

    @property
    def size(self) -> int:
        """About how many bytes it takes while it waits, including the overhead of Kafka."""
        size = len(self.value) + len(self.key or b"") + _RECORD_OVERHEAD_BYTES
        for _, value in self.headers:
            size += len(value or b"")
        return size


def seq_of(partition: int, offset: int) -> int:
    """Return the number of a message: its partition and its offset in one.

    Within a partition numbers rise with the offsets; numbers of different partitions do not compare.
    """
    return partition << _OFFSET_BITS | offset


def partition_of(seq: int) -> int:
    """Return the partition of a message by its number."""
    return seq >> _OFFSET_BITS


def offset_of(seq: int) -> int:
    """Return the offset of a message by its number."""
    return seq & ((1 << _OFFSET_BITS) - 1)


def place_of(seq: int) -> str:
    """Return the place of a message by its number, as people read it: `partition-offset`."""
    return f"{partition_of(seq)}-{offset_of(seq)}"


_OFFSET_BITS = 44
"""A number has at most 63 bits."""


def message_record(topic: str, envelope: Envelope) -> Record:
    """Build the record of a message."""
    received, milliseconds = _reception(envelope.received_at)
    headers: Headers = [
        ("source", envelope.source.encode()),
        ("call", envelope.call.encode()),
        ("messageId", envelope.message_id.encode()),
        ("destinations", msgspec.json.encode(envelope.destinations)),
        received,
    ]
    if envelope.warnings:
        headers.append(("cautions", msgspec.json.encode(envelope.warnings)))
    if envelope.inherited:
        headers.append(("inherited", msgspec.json.encode(envelope.inherited)))
    if envelope.found_by is not None:
        headers.append(("foundBy", envelope.found_by.encode()))
    if envelope.retry_count:
        headers.append(("retryCount", b"%d" % envelope.retry_count))
    key = user_key(envelope.source, envelope.anonymous_id if envelope.user_id is None else envelope.user_id)
    return Record(topic, key, envelope.payload, headers, milliseconds)


def user_key(source: str, user: str | None) -> bytes:
    """Return the key that keeps the messages of a user of a source together and in order."""
    return msgspec.json.encode((source, user))


def rejected_record(topic: str, rejected: RejectedRecord) -> Record:
    """Build the record of a rejected message."""
    received, milliseconds = _reception(rejected.received_at)
    headers: Headers = [
        ("source", rejected.source.encode()),
        ("code", rejected.code.encode()),
        ("message", rejected.message.encode()),
        ("path", rejected.path.encode()),
        received,
    ]
    if rejected.batch is not None:
        headers.append(("batch", rejected.batch))
    if rejected.endpoint is not None:
        headers.append(("endpoint", rejected.endpoint.encode()))
    return Record(topic, rejected.source.encode(), rejected.payload, headers, milliseconds)


def quarantined_record(topic: str, request: QuarantinedRequest) -> Record:
    """Build the record of a quarantined request.  A header without a value is left out."""
    received, milliseconds = _reception(request.received_at)
    headers: Headers = [
        ("endpoint", request.endpoint.encode()),
        ("clientSide", b"true" if request.client_side else b"false"),
        received,
    ]
    if request.write_key is not None:
        headers.append(("writeKey", request.write_key.encode()))
    if request.client_ip is not None:
        headers.append(("clientIp", request.client_ip.encode()))
    return Record(topic, None, request.payload, headers, milliseconds)


def message_identity(found: Message) -> tuple[str, str]:
    """Return source and message id, by which duplicates are found."""
    headers = _headers(found)
    return headers["source"], headers["messageId"]


def stored_message(found: Message) -> StoredMessage:
    """Read a message from its record."""
    headers = _headers(found)
    return StoredMessage(
        seq=seq_of(*place_in_topic(found)),
        source=headers["source"],
        call=cast("Call", headers["call"]),
        received_at=received_at(found),
        destinations=tuple(msgspec.json.decode(headers["destinations"])),
        warnings=tuple(msgspec.json.decode(headers.get("cautions", "[]"))),
        inherited=tuple(msgspec.json.decode(headers.get("inherited", "[]"))),
        found_by=headers.get("foundBy"),
        retry_count=int(headers.get("retryCount", 0)),
        message=msgspec.json.decode(_value(found)),
    )


def stored_payload(found: Message) -> StoredPayload:
    """Read a message from its record, without decoding its text."""
    headers = _headers(found)
    _, user = msgspec.json.decode(found.key() or b"")
    return StoredPayload(
        seq=seq_of(*place_in_topic(found)),
        source=headers["source"],
        message_id=headers["messageId"],
        call=cast("Call", headers["call"]),
        user=user,
        received_at=received_at(found),
        destinations=tuple(msgspec.json.decode(headers["destinations"])),
        payload=_value(found),
    )


def stored_rejected(found: Message) -> StoredRejected:
    """Read a rejected message from its record."""
    headers = _headers(found)
    return StoredRejected(
        seq=_number(found),
        source=headers["source"],
        received_at=received_at(found),
        code=headers["code"],
        message=headers["message"],
        path=headers["path"],
        payload=_value(found),
        batch=headers["batch"].encode() if "batch" in headers else None,
        endpoint=cast("SentAs | None", headers.get("endpoint")),
    )


def stored_quarantined(found: Message) -> StoredQuarantined:
    """Read a quarantined request from its record."""
    headers = _headers(found)
    write_key = headers.get("writeKey")
    return StoredQuarantined(
        seq=_number(found),
        received_at=received_at(found),
        endpoint=cast("Endpoint", headers["endpoint"]),
        write_key=None if write_key is None else WriteKey(write_key),
        client_ip=headers.get("clientIp"),
        client_side=headers["clientSide"] == "true",
        payload=_value(found),
    )


def received_at(found: Message) -> datetime:
    """Return the time of reception."""
    return EPOCH + timedelta(milliseconds=found.timestamp()[1])


_RECORD_OVERHEAD_BYTES = 512


@lru_cache(maxsize=1)  # the messages of a batch were received at the same time
def _reception(time: datetime) -> tuple[tuple[str, bytes], int]:
    """Return the header and the timestamp of a record for the time of reception."""
    return ("receivedAt", format_timestamp(time).encode()), (time - EPOCH) // MILLISECOND


def _headers(found: Message) -> Mapping[str, str]:
    return {name: (value or b"").decode() for name, value in cast("list[tuple[str, bytes]]", found.headers() or ())}


def _value(found: Message) -> bytes:
    return found.value() or b""  # Kafka's client returns None for an empty one


def place_in_topic(found: Message) -> tuple[int, int]:
    """Return partition and offset, which every record has that was read."""
    return cast("int", found.partition()), cast("int", found.offset())


def _number(found: Message) -> int:
    """Number records from one on, as the embedded log does: these topics have one partition."""
    return place_in_topic(found)[1] + 1
