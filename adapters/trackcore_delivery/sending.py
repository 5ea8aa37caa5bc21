"""What a kind of destination has to do: send a batch, or say why not.

There are three ways to fail, and what follows from each is the worker's business, not the kind's:

- `TryLater`: nothing is wrong with the messages; the same batch is sent again after a while.
- `Refused`: the destination will never take this batch as it is.  The batch is divided to find which message it is.
- a `Refusal` of single messages, where a destination answers for each: the others of the batch have arrived.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import attrs

from trackcore import Clock, TrackcoreError
from trackcore_delivery.feed import FedMessage


@attrs.frozen(kw_only=True)
class Batch:
    """Messages that are sent together, in order."""

    destination: str
    messages: Sequence[FedMessage]

    @property
    def delivery_id(self) -> str:
        """Give a name that is the same when the same messages are sent again."""
        return f"{self.messages[0].position}-{self.messages[-1].position}-{len(self.messages)}"


@attrs.frozen
class Refusal:
    """One message of a batch, by its place, that a destination refused while it took the others."""

    index: int
    detail: str


@attrs.define(kw_only=True, eq=False)
class Refused(TrackcoreError):
    """The destination refuses the batch for good.

    `divisible` says that the fault may lie in one of its messages; a wrong address or credential does not.
    """

    detail: str
    divisible: bool = True

    def __str__(self) -> str:
        return self.detail


@attrs.define(kw_only=True, eq=False)
class TryLater(TrackcoreError):
    """The destination cannot take a batch now.  `retry_after` is for how many seconds it asks, None if it does not."""

    detail: str
    retry_after: float | None = None

    def __str__(self) -> str:
        return self.detail


class Sender(Protocol):
    """Sends batches to one destination, one after the other, from one thread."""

    def send(self, batch: Batch) -> Sequence[Refusal]:
        """Send a batch, and return when the destination has it as safely as it can tell.

        Gives the messages that were refused by themselves: none, for most.

        Raises:
            Refused: nothing of it was taken, and never will be as it is.
            TryLater: it is not known that all of it was taken.
        """

    def close(self) -> None:
        """Let go of connections and files."""


@attrs.frozen(kw_only=True)
class Surroundings:
    """What a kind may need of the outside.  A relative path in its settings is relative to `folder`."""

    clock: Clock
    environ: Mapping[str, str]
    folder: Path
