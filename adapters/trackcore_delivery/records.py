"""What the state of delivery is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import attrs

from trackcore_delivery.feed import FedMessage, Selection


@attrs.frozen(kw_only=True)
class Settled:
    """What became of messages that were sent, or given up: those in `refused`, by place, go to the dead letters.

    `answered` says that the destination works: it took messages, or refused them, but it did answer.
    """

    messages: Sequence[FedMessage]
    refused: Mapping[int, str]
    now: datetime
    answered: bool = True

    @property
    def delivered(self) -> int:
        """How many arrived."""
        return len(self.messages) - len(self.refused)


@attrs.frozen(kw_only=True)
class Standing:
    """How a destination is doing.  `rate` is in messages a second over about the last minute."""

    name: str
    position: int = 0
    delivered: int = 0
    delivered_at: datetime | None = None
    rate: float = 0.0
    failures: int = 0
    failing_since: datetime | None = None
    next_try_at: datetime | None = None
    last_error: str | None = None
    last_error_at: datetime | None = None
    dead_letters: int = 0
    dead_dropped: int = 0


@attrs.frozen(kw_only=True)
class DeadLetter:
    """A message that was given up, why and when.  `retried_at` is set while it waits to be sent once more."""

    id: int
    destination: str
    died_at: datetime
    reason: str
    retried_at: datetime | None
    message: FedMessage


@attrs.frozen(kw_only=True)
class Replay:
    """Messages of the past that are to be sent again.  `position` is how far it has come, on the way to `last`."""

    id: int
    destination: str
    asked_at: datetime
    selection: Selection
    position: int
    last: int
    sent: int
    refused: int
    finished_at: datetime | None
