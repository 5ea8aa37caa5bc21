"""The shape of a sink: what the core hands over to be stored, and what it hears back.

Storing is an adapter's business (`trackcore_sqlite`); this module holds only the protocol and the values that cross it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Protocol

import attrs
import msgspec

from trackcore.errors import MessageWarning, TrackcoreError
from trackcore.typing import Call, Endpoint, SentAs, WriteKey


class KeyLocation(StrEnum):
    """How the source of a message was found: where its write key stood, or what stood for one.

    `PROCESS`: it was made in this process.  `FILE`: it was imported.  `RECORD`: it was received again from what had
    been kept of it.
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

    `payload` is the whole message as JSON text; the other fields are what a sink needs to file it without reading it.
    `inherited` names what of `context` and `integrations` came from the batch and not from the message, by wire path.
    `found_by` is a `KeyLocation` as plain text, None where nobody has said it.  `received` is the message's own source
    text, which nobody has to store: a view of the body of its request, so who keeps it copies it (`bytes(received)`).
    (No attrs class: one is made for each message, and a frozen attrs object of this size costs ten times as much.)
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
    received: bytes | msgspec.Raw = b""


@attrs.frozen(kw_only=True)
class RejectedRecord:
    """What is kept of a rejected message, or of a whole request of a known source: the bytes as received, and why.

    `batch` is for a message that came in a batch: a JSON object of what the batch said for all its messages
    (`Request.batch_fields`), without which the message could not be received again as what it was.  `endpoint` is what
    the request was sent as, which a single message need not say itself; None where nobody has said it.

    Where `endpoint` is `import`, the message was read from a file.  There `batch` has its `type` too, if that was said
    for all of the file, and the `messageId` that was made for a message without one.  It is empty where not all was
    kept that it takes to import the message again.
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
    """A whole request whose write key belongs to no source, with what it takes to receive it once more."""

    received_at: datetime
    endpoint: Endpoint
    write_key: WriteKey | None
    client_ip: str | None
    client_side: bool
    payload: bytes


class Outcome(StrEnum):
    """What became of one message."""

    STORED = "stored"
    DUPLICATE = "duplicate"  # this source has sent this messageId before: a success, nothing was added


class Cause(StrEnum):
    """Why a sink cannot store."""

    FULL = "full"
    OVERLOADED = "overloaded"
    UNAVAILABLE = "unavailable"


@attrs.define(eq=False)
class SinkUnavailable(TrackcoreError):
    """Nothing of this call was stored, and trying again after `retry_after` seconds (1 to 300) makes sense.

    `reason` is one word that `/ready` shows to anybody, such as `locked` or `damaged`; the `detail` is for the log.
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
    """Where messages are stored.  Called from many threads at once."""

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
        """Return when a message could be stored now, else raise `SinkUnavailable`."""
