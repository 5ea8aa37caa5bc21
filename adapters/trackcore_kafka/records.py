"""What a message, a rejected message and a quarantined request look like in Kafka: a contract with other consumers.

- value: the message as JSON; of the rejected and the quarantined, the bytes as received.
- key: a JSON array of source and user, `["website","019mr8mf4r"]`: the userId, else the anonymousId.  Equal keys are in
  one partition, in order.  The partition is Kafka's own choice for a key (murmur2), as of any Java producer.
- headers: text in UTF-8.  Of a message: `source`, `call`, `messageId`, `destinations` (a JSON array of names),
  `cautions` (a JSON array of `{code, message, path}`), `inherited` (one of wire paths; both left out if empty) and
  `foundBy` (a `KeyLocation`; left out if nobody has said it) and `receivedAt`.  Of a rejected message also `endpoint`:
  what the request was sent as, or `import`; and where that is a batch or an import, `batch`: a JSON object of what it
  said for all.
- timestamp: receivedAt, in milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple, TypeAlias, cast

import attrs
import msgspec
from confluent_kafka import Message

from trackcore import (
    Call,
    Endpoint,
    Envelope,
    JSONObject,
    QuarantinedRequest,
    RejectedRecord,
    StoredQuarantined,
    StoredRejected,
    WriteKey,
    format_timestamp,
)
from trackcore.timestamps import EPOCH, MILLISECOND
from trackcore.typing import SentAs

Headers: TypeAlias = list[tuple[str, str | bytes | None]]
"""As the client takes them; ours are all bytes."""


class Record(NamedTuple):
    """A record to be produced. `timestamp` is in milliseconds since 1970."""

    topic: str
    key: bytes | None
    value: bytes
    headers: Headers
    timestamp: int

    @property
    def size(self) -> int:
        """About how many bytes it takes while it waits, what Kafka adds to it among them."""
        headers = sum(len(value or b"") for _, value in self.headers)
        return len(self.value) + len(self.key or b"") + headers + _RECORD_OVERHEAD_BYTES


@attrs.frozen(kw_only=True)
class StoredMessage:
    """A message as it lies in the log.

    `message` is the wire object, `warnings` are `{code, message, path}`, `inherited` names what of it came from its
    batch.  `seq` is where it is: `partition-offset`.
    """

    partition: int
    offset: int
    source: str
    call: Call
    received_at: datetime
    destinations: tuple[str, ...]
    warnings: tuple[JSONObject, ...]
    inherited: tuple[str, ...] = ()
    found_by: str | None = None
    message: JSONObject

    @property
    def seq(self) -> str:
        """Its place: `3-1042`.  Within a partition offsets rise; places of different partitions do not compare."""
        return f"{self.partition}-{self.offset}"


class StoredPayload(NamedTuple):
    """A message as it lies in the log, its text not decoded: for those who pass it on.

    `user` is its userId, else its anonymousId.
    """

    partition: int
    offset: int
    source: str
    message_id: str
    call: Call
    user: str | None
    received_at: datetime
    destinations: tuple[str, ...]
    payload: bytes


def message_record(topic: str, envelope: Envelope) -> Record:
    """Make the record of a message."""
    headers: Headers = [
        ("source", envelope.source.encode()),
        ("call", envelope.call.encode()),
        ("messageId", envelope.message_id.encode()),
        ("destinations", _encode(envelope.destinations)),
        ("receivedAt", format_timestamp(envelope.received_at).encode()),
    ]
    if envelope.warnings:
        headers.append(("cautions", _encode(envelope.warnings)))
    if envelope.inherited:
        headers.append(("inherited", _encode(envelope.inherited)))
    if envelope.found_by is not None:
        headers.append(("foundBy", envelope.found_by.encode()))
    return Record(topic, message_key(envelope), envelope.payload, headers, _milliseconds(envelope.received_at))


def message_key(envelope: Envelope) -> bytes:
    """Give the key that keeps a user's messages together and in order."""
    return user_key(envelope.source, envelope.anonymous_id if envelope.user_id is None else envelope.user_id)


def user_key(source: str, user: str | None) -> bytes:
    """Give the key of a user of a source."""
    return _encode((source, user))


def rejected_record(topic: str, rejected: RejectedRecord) -> Record:
    """Make the record of a rejected message."""
    headers: Headers = [
        ("source", rejected.source.encode()),
        ("code", rejected.code.encode()),
        ("message", rejected.message.encode()),
        ("path", rejected.path.encode()),
        ("receivedAt", format_timestamp(rejected.received_at).encode()),
    ]
    if rejected.batch is not None:
        headers.append(("batch", rejected.batch))
    if rejected.endpoint is not None:
        headers.append(("endpoint", rejected.endpoint.encode()))
    return Record(topic, rejected.source.encode(), rejected.payload, headers, _milliseconds(rejected.received_at))


def quarantined_record(topic: str, request: QuarantinedRequest) -> Record:
    """Make the record of a quarantined request.  A header that has nothing to say is left out."""
    headers: Headers = [
        ("endpoint", request.endpoint.encode()),
        ("clientSide", b"true" if request.client_side else b"false"),
        ("receivedAt", format_timestamp(request.received_at).encode()),
    ]
    if request.write_key is not None:
        headers.append(("writeKey", request.write_key.encode()))
    if request.client_ip is not None:
        headers.append(("clientIp", request.client_ip.encode()))
    return Record(topic, None, request.payload, headers, _milliseconds(request.received_at))


def message_identity(found: Message) -> tuple[str, str]:
    """Give source and message id: what duplicates are found by."""
    headers = _headers(found)
    return headers["source"], headers["messageId"]


def stored_message(found: Message) -> StoredMessage:
    """Read a message from its record."""
    headers = _headers(found)
    return StoredMessage(
        partition=cast("int", found.partition()),
        offset=cast("int", found.offset()),
        source=headers["source"],
        call=cast("Call", headers["call"]),
        received_at=received_at(found),
        destinations=tuple(msgspec.json.decode(headers["destinations"])),
        warnings=tuple(msgspec.json.decode(headers.get("cautions", "[]"))),
        inherited=tuple(msgspec.json.decode(headers.get("inherited", "[]"))),
        found_by=headers.get("foundBy"),
        message=msgspec.json.decode(_value(found)),
    )


def stored_payload(found: Message) -> StoredPayload:
    """Read a message from its record, without decoding it."""
    headers = _headers(found)
    _, user = msgspec.json.decode(found.key() or b"")
    return StoredPayload(
        partition=cast("int", found.partition()),
        offset=cast("int", found.offset()),
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
        seq=_seq(found),
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
        seq=_seq(found),
        received_at=received_at(found),
        endpoint=cast("Endpoint", headers["endpoint"]),
        write_key=None if write_key is None else WriteKey(write_key),
        client_ip=headers.get("clientIp"),
        client_side=headers["clientSide"] == "true",
        payload=_value(found),
    )


def received_at(found: Message) -> datetime:
    """Give when it was received."""
    return EPOCH + timedelta(milliseconds=found.timestamp()[1])


_RECORD_OVERHEAD_BYTES = 512


def _encode(value: Any) -> bytes:
    return msgspec.json.encode(value)


def _milliseconds(time: datetime) -> int:
    return (time - EPOCH) // MILLISECOND


def _headers(found: Message) -> Mapping[str, str]:
    return {name: (value or b"").decode() for name, value in cast("list[tuple[str, bytes]]", found.headers() or ())}


def _value(found: Message) -> bytes:
    """Give the value; Kafka's client does not tell an empty one from none."""
    return found.value() or b""


def _seq(found: Message) -> int:
    """Number from one on, as the embedded log does: these topics have one partition."""
    return cast("int", found.offset()) + 1
