"""The values that the state of delivery stores and returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import attrs

from trackcore import Mark
from trackcore_delivery.feed import FedMessage, Selection

INCOMING, RETRY, REPLAY = "incoming", "retry", "replay"
"""The names of the queues that every destination has; failed attempts are stored under them."""


@attrs.frozen(kw_only=True)
class DeliveryResult:
    """The result for messages that were sent, or given up: those in `refused`, by index, become dead letters.

    Those in `held` are held back, because of their user.  `answered` means that the destination works: it answered, by
    accepting messages or rejecting them.
    """

    messages: Sequence[FedMessage]
    refused: Mapping[int, str]
    now: datetime
    answered: bool = True
    held: frozenset[int] = frozenset()

    @property
    def delivered(self) -> int:
        """The number of messages that arrived."""
        return len(self.messages) - len(self.refused) - len(self.held)


@attrs.frozen(kw_only=True)
class DestinationStatus:
    """How delivery to a destination is going.  `rate` is in messages a second, over about the last minute."""

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
    held_users: int = 0
    held_messages: int = 0


@attrs.frozen(kw_only=True)
class DeadLetter:
    """A message that was given up, why and when.  `retried_at` is set while it waits to be sent again."""

    id: int
    destination: str
    died_at: datetime
    reason: str
    retried_at: datetime | None
    message: FedMessage


@attrs.frozen(kw_only=True)
class Replay:
    """Messages of the past to send again.  `position` is the progress so far, on the way to `last`.

    `mark` is that of `last`, so it also proves that `position` is one in the same log.
    """

    id: int
    destination: str
    asked_at: datetime
    selection: Selection
    position: int
    last: int
    sent: int
    refused: int
    finished_at: datetime | None
    mark: Mark


class Attempts(NamedTuple):
    """The failed attempts of a queue, as they are stored.

    The planned wait is `pause` seconds, from `paused_at` on, a time in seconds since 1970.  `seconds` and `marks` are
    those of its `RetryWindow`.
    """

    queue: str
    failures: int
    seconds: float
    marks: str
    paused_at: float
    pause: float


class HeldUser(NamedTuple):
    """A user whose messages are held back from a destination, with their number and size."""

    id: int
    source: str
    user: str
    messages: int
    size: int

    @property
    def key(self) -> tuple[str, str]:
        """Source and user."""
        return self.source, self.user

    @property
    def queue_name(self) -> str:
        """The name of the queue of its messages."""
        return f"held {self.id}"
