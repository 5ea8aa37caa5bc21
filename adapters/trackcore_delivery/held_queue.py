"""Held users: those whose messages a destination fails to accept while it accepts those of others.

Theory.  Order is promised for each (source, user), so only the user has to wait for a message that fails.  The user's
messages, the failing one and those that follow it, are moved out of the way: into the state file, in the transaction
that moves the destination's position past them.  From then on they form a queue of their own, with its own backoff and
its own retry window; when the last of them is settled the user is released, in that same transaction.  So no later
message of the user can overtake an earlier one, and a process that is killed at any moment leaves each message either
before the position and held, or after the position.

They are copied, as dead letters are, and not referenced by their positions: so they need no protection from `keep` and
`prune`, they survive a log that is replaced, and no number of them can keep the log from shrinking.

The amount held is bounded for each destination, in users, messages and bytes, and a single user has a share of that.  A
user who exceeds the share is evicted.  When the whole capacity is used up another user is evicted: the one held for the
longest if there are too many users, else the one with the most messages or bytes.  The messages of an evicted user go
to the dead letters, in order, before their window has ended, and the user is treated as any other again.  So a full
capacity never makes anybody else wait.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import attrs

from trackcore_delivery.feed import FedMessage
from trackcore_delivery.isolation import Key, key_of
from trackcore_delivery.queues import DeliveryQueue, Waiting, count_within
from trackcore_delivery.results import DeliveryResult, HeldUser
from trackcore_delivery.retry_window import Place
from trackcore_delivery.state import State
from trackcore_delivery.state_rows import copy_size

HELD_USERS = 100
HELD_MESSAGES = 10_000
HELD_BYTES = 16 << 20

_SHARE = 4
"""One user may use a fourth of the capacity."""


@attrs.define
class HeldQueue(DeliveryQueue):
    """The messages of one held user."""

    _destination: str
    _state: State
    user: HeldUser
    _taken: Sequence[int] = attrs.field(init=False, default=())

    @property
    def name(self) -> str:
        """See `DeliveryQueue.name`."""
        return self.user.queue_name

    def take(self, *, count: int, size: int, now: datetime) -> Sequence[Waiting]:
        """See `DeliveryQueue.take`."""
        del now
        held = self._state.held_messages(self.user, limit=count)
        held = held[: count_within([message for _, message in held], size)]
        self._taken = [number for number, _ in held]
        return [Waiting(message, Place("", number)) for number, message in held]

    def settle(self, result: DeliveryResult) -> None:
        """See `DeliveryQueue.settle`."""
        count = len(result.messages)
        self._state.settle_held(self._destination, self.user, self._taken[:count], result)
        self._taken = self._taken[count:]

    def give_up(self, reason: str, now: datetime) -> None:
        """Move all held messages of the user to the dead letters, and release the user."""
        held = self._state.held_messages(self.user, limit=self.user.messages)
        messages = [message for _, message in held]
        refused = dict.fromkeys(range(len(held)), reason)
        result = DeliveryResult(messages=messages, refused=refused, now=now, answered=False)
        self._state.settle_held(self._destination, self.user, [number for number, _ in held], result)

    def ends(self) -> Mapping[str, int]:
        """See `DeliveryQueue.ends`."""
        return {"": self._state.last_held(self.user)}


@attrs.define
class HeldCapacity:
    """The messages that are held, against the limits.  The user who has been held for the longest is first."""

    _users: dict[Key, HeldUser]

    def copy(self) -> HeldCapacity:
        """Return a copy, to try out what can be added."""
        return HeldCapacity(dict(self._users))

    def add(self, message: FedMessage) -> None:
        """Count one more message of a user who is held."""
        user, size = self._users[key_of(message)], copy_size(message)
        self._users[user.key] = user._replace(messages=user.messages + 1, size=user.size + size)

    def user_to_evict(self, message: FedMessage) -> HeldUser | None:
        """Return the user to evict before a message is held; None if it can be held now, or nobody else is held."""
        if not self._users:
            return None
        users, size = self._users.values(), copy_size(message)
        own = self._users.get(key_of(message))
        if own and (own.messages >= HELD_MESSAGES // _SHARE or own.size + size > HELD_BYTES // _SHARE):
            return own
        if own is None and len(users) >= HELD_USERS:
            return next(iter(users))
        if sum(user.messages for user in users) >= HELD_MESSAGES:
            return max(users, key=lambda user: user.messages)
        if sum(user.size for user in users) + size > HELD_BYTES:
            return max(users, key=lambda user: user.size)
        return None
