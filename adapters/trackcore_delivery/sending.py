"""The interface of a kind of destination: send a batch, or report why it was not accepted.

There are three ways to fail; the worker, not the kind, decides what follows from each:

- `RetryLater`: the batch may not have been accepted; it is sent again after a wait.  Unless the destination as a whole
  cannot be reached, one user's messages may be the cause, and are searched for.
- `PermanentError`: the destination will never accept this batch as it is.  The batch is bisected to find the message at
  fault.
- a `MessageRefused` for single messages, where a destination answers for each: the others of the batch have arrived.

Details of failures are written to logs and terminals, and may quote a response: control characters in them are escaped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import attrs

from trackcore import Clock, TrackcoreError
from trackcore.text import visible
from trackcore_delivery.feed import FedMessage


@attrs.frozen(kw_only=True)
class Cursor:
    """How far the messages of a lane have come: a queue's text for it, which only that queue reads.

    `is_exclusive` means that this process alone reads the lane, so that its cursor moves only here.
    """

    lane: str
    text: str
    is_exclusive: bool = True


@attrs.frozen(kw_only=True)
class DeliveryBatch:
    """Messages that are sent together, in order.

    `cursors` are those to which the lanes of the messages have come with them.  A destination may store them together
    with the messages (see `CursorKeepingSender`).
    """

    destination: str
    messages: Sequence[FedMessage]
    cursors: Sequence[Cursor] = ()

    @property
    def delivery_id(self) -> str:
        """Return an id that is the same when the same messages are sent again."""
        return f"{self.messages[0].position}-{self.messages[-1].position}-{len(self.messages)}"


@attrs.frozen
class MessageRefused:
    """One message of a batch, by its index, that a destination rejected while it accepted the others."""

    index: int
    detail: str = attrs.field(converter=visible)


@attrs.define(kw_only=True, eq=False)
class PermanentError(TrackcoreError):
    """The destination rejects the batch permanently.

    `divisible` means that one of its messages may be at fault; with a wrong address or credential none is.
    """

    detail: str = attrs.field(converter=visible)
    divisible: bool = True


@attrs.define(kw_only=True, eq=False)
class RetryLater(TrackcoreError):
    """The destination cannot accept a batch now.  `retry_after` is the wait in seconds that it asks for, or None.

    `of_destination` means that it would not accept any other batch now either; a `retry_after` implies that.
    """

    detail: str = attrs.field(converter=visible)
    retry_after: float | None = None
    of_destination: bool = False

    @property
    def is_outage(self) -> bool:
        """Whether the destination as a whole cannot accept anything."""
        return self.of_destination or self.retry_after is not None


@attrs.define(kw_only=True, eq=False)
class CursorMoved(RetryLater):
    """Nothing was stored, since a cursor is not where this process left it: see `CursorKeepingSender`."""


class Sender(Protocol):
    """Sends batches to one destination, one after the other, from one thread."""

    def send(self, batch: DeliveryBatch) -> Sequence[MessageRefused]:
        """Send a batch, and return when the destination has stored it as safely as it can report.

        Returns the messages that were rejected individually, usually none.

        Raises:
            PermanentError: the destination accepted nothing of the batch, and never will as it is.
            RetryLater: the batch may not have been accepted completely.
        """

    def close(self) -> None:
        """Release connections and files."""


@runtime_checkable
class CursorKeepingSender(Sender, Protocol):
    """A sender whose destination stores cursors in one transaction with the messages.

    They say exactly which messages have arrived, also after a crash, or after the destination was restored from a
    backup; so delivery begins at them, not at the positions of the state.
    """

    def cursors(self) -> Mapping[str, str]:
        """Return the text of each cursor by its lane.  Raises `RetryLater`."""


@attrs.frozen(kw_only=True)
class SenderContext:
    """Runtime dependencies of a destination: clocks, environment, base folder for relative paths in its settings.

    `privacy_key` is the key of masks that hash.
    """

    clock: Clock
    environ: Mapping[str, str]
    folder: Path
    monotonic: Callable[[], float] = time.monotonic
    privacy_key: bytes = attrs.field(default=b"", repr=False)
