"""What a kind of destination has to do: send a batch, or say why not.

There are three ways to fail, and what follows from each is the worker's business, not the kind's:

- `RetryLater`: it is not known that the batch was taken; it is sent again after a while.  Unless the destination as a
  whole cannot be reached, one user's messages may be the reason: these are looked for.
- `PermanentError`: the destination will never take this batch as it is.  The batch is divided to find which message it
  is.
- a `MessageRefused` of single messages, where a destination answers for each: the others of the batch have arrived.

What is told of a failure goes to logs and terminals, and may quote what a destination answered: control characters in
it become escapes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import attrs

from trackcore import Clock, TrackcoreError
from trackcore_delivery.feed import FedMessage
from trackcore_delivery.visible import visible


@attrs.frozen(kw_only=True)
class DeliveryBatch:
    """Messages that are sent together, in order."""

    destination: str
    messages: Sequence[FedMessage]

    @property
    def delivery_id(self) -> str:
        """Give a name that is the same when the same messages are sent again."""
        return f"{self.messages[0].position}-{self.messages[-1].position}-{len(self.messages)}"


@attrs.frozen
class MessageRefused:
    """One message of a batch, by its place, that a destination refused while it took the others."""

    index: int
    detail: str = attrs.field(converter=visible)


@attrs.define(kw_only=True, eq=False)
class PermanentError(TrackcoreError):
    """The destination refuses the batch for good.

    `divisible` says that the fault may lie in one of its messages; a wrong address or credential does not.
    """

    detail: str = attrs.field(converter=visible)
    divisible: bool = True


@attrs.define(kw_only=True, eq=False)
class RetryLater(TrackcoreError):
    """The destination cannot take a batch now.  `retry_after` is for how many seconds it asks, None if it does not.

    `of_destination` says that it would not take any other batch now either; so does a `retry_after`.
    """

    detail: str = attrs.field(converter=visible)
    retry_after: float | None = None
    of_destination: bool = False

    @property
    def is_outage(self) -> bool:
        """Whether it is the destination as a whole that cannot take anything."""
        return self.of_destination or self.retry_after is not None


class Sender(Protocol):
    """Sends batches to one destination, one after the other, from one thread."""

    def send(self, batch: DeliveryBatch) -> Sequence[MessageRefused]:
        """Send a batch, and return when the destination has it as safely as it can tell.

        Gives the messages that were refused by themselves: none, for most.

        Raises:
            PermanentError: nothing of it was taken, and never will be as it is.
            RetryLater: it is not known that all of it was taken.
        """

    def close(self) -> None:
        """Let go of connections and files."""


@attrs.frozen(kw_only=True)
class SenderContext:
    """What a kind may need of the outside.  A relative path in its settings is relative to `folder`.

    `monotonic` gives seconds by a clock that nobody sets: what is waited for is measured by it.
    """

    clock: Clock
    environ: Mapping[str, str]
    folder: Path
    monotonic: Callable[[], float] = time.monotonic
