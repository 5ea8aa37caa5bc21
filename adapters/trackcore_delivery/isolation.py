"""The search for the user whose messages a destination fails to take.

Theory.  A 500, or no answer in time, may be because of one message or because of the destination as a whole; the answer
does not say which.  What tells them apart is a message of somebody else: if that is taken at the same time, the
destination works.  So after a few failures of a batch

1. its first message is sent alone.  If that fails, the first message of another user is sent alone.  If it fails too,
   the destination is taken to fail as a whole, and the next attempt waits; else the first message's user is held, and
   so are up to seven more that are found at once.
2. If the first message was taken, the destination works, and the batch is halved until the first message that fails is
   known: its user is held.  What lies before it is delivered on the way.

So while the destination fails as a whole an attempt costs two requests of one message each, whatever the size of the
batch; and one user is found by at most log2(n) + 2 requests.  Who the other user is changes from attempt to attempt,
until one is found whose messages are taken; that one is asked first from then on.  It is chosen from as much as eight
batches, and after some failures from 64, since a batch may have messages of a single user, or of users like the first
alone.

A message of another user that was taken in step 1 is not sent again when its turn comes, if this process lives that
long; it was the first of its user that waits, so that user's order holds.  After a crash it is sent again, so there are
never more than 50 such: beyond that, the last of them is sent once more to learn whether the destination works.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

import attrs

from trackcore_delivery.feed import FedMessage
from trackcore_delivery.queue_state import QueueState
from trackcore_delivery.sending import MessageRefused, PermanentError, RetryLater

_BATCHES_AHEAD = 8
_MAX_DOUBLINGS = 3
"""From how many batches the other user is chosen, and how often that is doubled while none is found whose messages are
taken: many users with such messages may stand one behind the other."""

_MAX_ARRIVED = 50
"""So many messages may have been sent before their turn, which only this process knows."""

_TRUST = 8
"""Of how many users in a row it is believed, once a message of another was taken, that the fault is theirs.

Any wait ends that.  For one of them the other was asked."""

_STRIDE = 0.618034
"""By which part of the others the choice moves on: the golden ratio spreads few choices evenly, and misses none."""

Key: TypeAlias = tuple[str, str]


def key_of(message: FedMessage) -> Key:
    """Return source and user: that for which order is promised."""
    return message.source, message.user


@attrs.define(kw_only=True)
class Isolation:
    """Looks for users to be held.

    Args:
        send: sends messages, and settles nothing.
        deliver: sends messages, and settles them.
        hold: settles messages, the user of the last of which is held from then on.
        is_held: whether a message is of a user who is held already.
    """

    send: Callable[[Sequence[FedMessage]], Sequence[MessageRefused]]
    deliver: Callable[[QueueState, Sequence[FedMessage]], None]
    hold: Callable[[QueueState, Sequence[FedMessage], int], None]
    is_held: Callable[[FedMessage], bool]
    _arrived: dict[tuple[str, str], FedMessage] = attrs.field(init=False, factory=dict)
    _trust: int = attrs.field(init=False, default=0)
    _probe_first: Key | None = attrs.field(init=False, default=None)
    _doublings: int = attrs.field(init=False, default=0)

    def has_arrived(self, message: FedMessage) -> bool:
        """Return whether a message that is not settled yet was taken in a search."""
        return _identity(message) in self._arrived

    def forget(self, messages: Iterable[FedMessage]) -> None:
        """Forget messages that are result."""
        for message in messages:
            self._arrived.pop(_identity(message), None)

    def end_trust(self) -> None:
        """Believe no longer that the destination works: an attempt has failed, and the next one waits."""
        self._trust = 0

    def run(
        self, queue_state: QueueState, messages: Sequence[FedMessage], look_ahead: Callable[[int], Sequence[FedMessage]]
    ) -> None:
        """Look for one user in a batch that has failed, and hold it.

        Raises:
            RetryLater: the destination fails as a whole, as far as is known.
        """
        first = next((index for index, message in enumerate(messages) if not self._is_skipped(message)), None)
        if first is None:
            self.deliver(queue_state, messages)
            return
        try:
            self.deliver(queue_state, messages[: first + 1])
        except RetryLater as error:
            if error.is_outage or not self._is_working(queue_state, messages[first:], look_ahead):
                raise
            self.hold(queue_state, messages[: first + 1], queue_state.ambiguous_failures)
        else:
            self._trust = _TRUST
            self._doublings = 0
            self._bisect(queue_state, messages[first + 1 :])

    def _is_working(
        self, queue_state: QueueState, messages: Sequence[FedMessage], look_ahead: Callable[[int], Sequence[FedMessage]]
    ) -> bool:
        """Return whether the destination takes messages of others than the first one's user, asking it if needed."""
        if self._trust == 0:
            if not self._probe_succeeds(queue_state, messages, look_ahead):
                return False
            self._trust = _TRUST
        self._trust -= 1
        return True

    def _bisect(self, queue_state: QueueState, messages: Sequence[FedMessage]) -> None:
        """Deliver what lies before the first message that fails alone, and hold its user."""
        while messages:
            half = messages[: max(1, len(messages) // 2)]
            try:
                self.deliver(queue_state, half)
            except RetryLater as error:
                if error.is_outage:
                    raise
                if len(half) == 1:
                    self.hold(queue_state, half, 0)
                    return
                messages = half
            else:
                messages = messages[len(half) :]

    def _probe_succeeds(
        self, queue_state: QueueState, messages: Sequence[FedMessage], look_ahead: Callable[[int], Sequence[FedMessage]]
    ) -> bool:
        """Send a message of another user than that of the first, and return whether the destination answers for it."""
        others = self._probe_candidates(look_ahead(_BATCHES_AHEAD << self._doublings), key_of(messages[0]))
        if not others:
            return False
        chosen = others[int(queue_state.failures * _STRIDE * len(others)) % len(others)]
        other = next((message for message in others if key_of(message) == self._probe_first), chosen)
        if len(self._arrived) >= _MAX_ARRIVED:
            other = next(reversed(self._arrived.values()))
        self._probe_first = None
        try:
            refusals = self.send([other])
        except PermanentError:
            return True
        except RetryLater as error:
            if error.is_outage:
                raise
            self._doublings = min(self._doublings + 1, _MAX_DOUBLINGS)
            return False
        if not refusals:
            self._arrived[_identity(other)] = other
            self._probe_first = key_of(other)
        return True

    def _probe_candidates(self, messages: Sequence[FedMessage], user: Key) -> list[FedMessage]:
        """Return the first message that waits of each user but one."""
        found: dict[Key, FedMessage] = {}
        for message in messages:
            if key_of(message) != user and not self._is_skipped(message):
                found.setdefault(key_of(message), message)
        return [*found.values()]

    def _is_skipped(self, message: FedMessage) -> bool:
        return self.has_arrived(message) or self.is_held(message)


def _identity(message: FedMessage) -> tuple[str, str]:
    """Return what tells a message from others; its position may be another's once the log was replaced."""
    return message.source, message.message_id
