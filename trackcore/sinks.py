"""The shape of a sink: the values that the core passes to it to be stored, and those that it returns."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Protocol, SupportsBytes

import attrs
import msgspec

from trackcore.errors import MessageWarning, TrackcoreError
from trackcore.typing import Call, Endpoint, SentAs, WriteKey


class KeyLocation(StrEnum):
    """How the source of a message was found: the place of its write key, or the origin of a message without one.

    `PROCESS`: it was made in this process.  `FILE`: it was imported.  `RECORD`: it was reprocessed from the record of
    its rejection.
    """

    HEADER = "header"
    BODY = "body"
    MESSAGE = "message"
    QUERY = "query"
    PROCESS = "process"
    FILE = "file"
    RECORD = "record"


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """A message that is ready to be stored.

    `payload` is the whole message as JSON text; a sink needs the other fields to store it without decoding it.
    `inherited` lists the wire paths in `context` and `integrations` that came from the batch and not from the message.
    `found_by` is a `KeyLocation` as plain text, None if it is not known.  `received` is the source text of the message,
    which need not be stored: it refers to the request body, so code that keeps it must copy it (`bytes(received)`).
    `retry_count` is that of the `Origin` of its request.
    (A msgspec struct, since one is made for each message: a frozen attrs object of this size costs ten times as much.)
    """

    source: str
    message_id: str
    call: Call
    user_id: str | None
    anonymous_id: str | None
    received_at: datetime
    destinations: tuple[str, ...]
    warnings: tuple[MessageWarning, ...]
    payload: bytes
    inherited: tuple[str, ...] = ()
    found_by: str | None = None
    received: SupportsBytes = b""
    retry_count: int = 0


@attrs.frozen(kw_only=True)
class RejectedRecord:
    """The record of a rejected message, or of a whole request of a known source: the bytes as received, and the reason.

    `batch` is for a message that came in a batch: a JSON object of the batch-level fields (`Request.batch_fields`),
    which are needed to reprocess the message.  `endpoint` is the endpoint of the request, which a single message need
    not contain itself; None if it is not known.

    If `endpoint` is `import`, the message was read from a file.  Then `batch` also has its `type`, if that was
    specified for the whole file, and the `messageId` that was made for a message without one.  It is empty if some of
    the fields that are needed to import the message again were not stored.
    """

    source: str
    received_at: datetime
    code: str
    message: str
    path: str
    payload: bytes
    batch: bytes | None = None
    endpoint: SentAs | None = None


@attrs.frozen(kw_only=True)
class QuarantinedRequest:
    """A whole request whose write key belongs to no source, with all that is needed to reprocess it."""

    received_at: datetime
    endpoint: Endpoint
    write_key: WriteKey | None
    client_ip: str | None
    client_side: bool
    payload: bytes


class Outcome(StrEnum):
    """The outcome of one message."""

    STORED = "stored"
    DUPLICATE = "duplicate"  # this source has sent this messageId before: a success, and nothing was added
    SUPPRESSED = "suppressed"  # messages of this person are not kept: a success, and nothing was added


class Cause(StrEnum):
    """Why a sink cannot store."""

    FULL = "full"
    OVERLOADED = "overloaded"
    UNAVAILABLE = "unavailable"


@attrs.define(eq=False)
class SinkUnavailable(TrackcoreError):
    """Nothing was stored; retry after `retry_after` seconds (1 to 300).

    `reason` is one word that `/ready` shows to everybody, such as `locked` or `damaged`; the `detail` is for the log.
    A sink of your own raises `SinkUnavailable("the queue is down")`.
    """

    detail: str = "the sink cannot store now"
    cause: Cause = attrs.field(default=Cause.UNAVAILABLE, kw_only=True)
    retry_after: int = attrs.field(
        default=5, kw_only=True, validator=[attrs.validators.ge(1), attrs.validators.le(300)]
    )
    reason: str = attrs.field(kw_only=True, validator=attrs.validators.matches_re("[a-z_]{1,40}"))

    @reason.default
    def _usual_reason(self) -> str:
        return "disk_full" if self.cause is Cause.FULL else str(self.cause)

    def __str__(self) -> str:
        return self.detail


class Sink(Protocol):
    """Stores messages.  Its methods are called from many threads at once."""

    def store(
        self,
        envelopes: Sequence[Envelope] = (),
        *,
        rejected: Sequence[RejectedRecord] = (),
        quarantined: Sequence[QuarantinedRequest] = (),
    ) -> Sequence[Outcome]:
        """Store everything or nothing, and return only when it will survive a crash.

        Returns one outcome for each envelope, in their order.  A message whose (source, message id) is stored already,
        or came earlier in the same call, is a duplicate.  Raises `SinkUnavailable`.
        """

    def check_ready(self) -> None:
        """Return if a message could be stored now, else raise `SinkUnavailable`."""


class AsyncSink(Sink, Protocol):
    """A sink that also stores messages for event loops, without blocking them."""

    async def store_async(
        self,
        envelopes: Sequence[Envelope] = (),
        *,
        rejected: Sequence[RejectedRecord] = (),
        quarantined: Sequence[QuarantinedRequest] = (),
    ) -> Sequence[Outcome]:
        """Store everything or nothing, as `Sink.store` does.

        A call that is cancelled may be stored nevertheless, as one whose answer is lost.
        """

    async def check_ready_async(self) -> None:
        """Return if a message could be stored now, else raise `SinkUnavailable`."""
