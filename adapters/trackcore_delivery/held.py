"""Held users: those whose messages a destination fails to take while it takes those of others.

Theory.  Order is promised for each (source, user), so nobody but the user has to wait for a message that fails.  The
user's messages, the failing one and those that come after it, are moved out of the way: into the state file, in the
transaction that moves the destination's position past them.  From then on they are a lane of their own, with its own
backoff and its own retry window; when the last of them is settled the user is released, in that same transaction.  So
no later message of the user can overtake an earlier one, and a process that is killed at any moment leaves each message
either before the position and held, or behind the position.

They are copied, as dead letters are, and not remembered by their positions: so they need no protection from `keep` and
`prune`, they survive a log that is replaced, and no number of them can stop the log from becoming shorter.

What is held is bounded for each destination, in users, messages and bytes.  When it is full, what would have to be held
waits in the log, and with it what lies behind: the lane is blocked until a held message is settled, at the latest
because its retry window ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import attrs

from trackcore_delivery.feed import FedMessage
from trackcore_delivery.lanes import Lane, Waiting, fitting
from trackcore_delivery.patience import Place
from trackcore_delivery.records import HeldUser, Settled
from trackcore_delivery.state import State
from trackcore_delivery.state_rows import held_size

HELD_USERS = 100
HELD_MESSAGES = 10_000
HELD_BYTES = 16 << 20


@attrs.define
class HeldLane(Lane):
    """The messages of one held user."""

    _destination: str
    _state: State
    user: HeldUser
    _taken: Sequence[int] = attrs.field(init=False, default=())

    @property
    def name(self) -> str:
        """See `Lane.name`."""
        return self.user.lane

    def take(self, *, count: int, size: int, now: datetime) -> Sequence[Waiting]:
        """See `Lane.take`."""
        del now
        held = self._state.held_messages(self.user, limit=count)
        held = held[: fitting([message for _, message in held], size)]
        self._taken = [number for number, _ in held]
        return [Waiting(message, Place("", number)) for number, message in held]

    def settle(self, settled: Settled) -> None:
        """See `Lane.settle`."""
        count = len(settled.messages)
        self._state.settle_held(self._destination, self.user, self._taken[:count], settled)
        self._taken = self._taken[count:]

    def ends(self) -> Mapping[str, int]:
        """See `Lane.ends`."""
        return {"": self._state.last_held(self.user)}


@attrs.define
class Room:
    """How much more may be held."""

    users: int
    messages: int
    size: int

    @classmethod
    def beside(cls, held: Sequence[HeldUser]) -> Room:
        """Return what is left beside these users."""
        return cls(
            users=HELD_USERS - len(held),
            messages=HELD_MESSAGES - sum(user.messages for user in held),
            size=HELD_BYTES - sum(user.size for user in held),
        )

    @property
    def is_left(self) -> bool:
        """Whether one more user can be held."""
        return self.users > 0 and self.messages > 0 and self.size > 0

    def takes(self, message: FedMessage) -> bool:
        """Return whether one more message fits, and take its room."""
        self.messages -= 1
        self.size -= held_size(message)
        return self.messages >= 0 and self.size >= 0
