"""The search for the user whose messages a destination fails to accept.

Theory.  A 500, or no response in time, may be caused by one message or by the destination as a whole; the response does
not show which.  A message of another user separates the two: if that one is accepted at the same time, the destination
works.  So after a few failures of a batch

1. its first message is sent alone.  If that fails, the first message of another user is sent alone, as a probe.  If the
   probe fails too, the destination is taken to fail as a whole, and the next attempt waits; else the first message's
   user is held, and so are up to seven more that are found at once.
2. If the first message was accepted, the destination works, and the batch is bisected until the first message that
   fails is known: its user is held.  The messages before it are delivered on the way.

So while the destination fails as a whole an attempt costs two requests of one message each, whatever the size of the
batch; and one user is found by at most log2(n) + 2 requests.  The user of the probe changes from attempt to attempt,
until one is found whose messages are accepted; that one is probed first from then on.  It is chosen from as much as
eight batches, and after some failures from 64, since a batch may have messages of a single user, or of users with the
same fault alone.

A probe that was accepted is not sent again when its turn comes, if this process lives until then; it was the first
waiting message of its user, so that user's order holds.  After a crash it is sent again, so there are never more than
50 such messages: beyond that, the last of them is sent once more as the probe.
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
"""From how many batches the probe is chosen, and how often that is doubled while no probe is accepted."""

_MAX_ARRIVED = 50
"""The limit of messages sent before their turn, which only this process remembers."""

_TRUST = 8
"""For how many users in a row one accepted probe proves that the fault is theirs.  Any wait ends that."""

_STRIDE = 0.618034
"""The golden ratio: moving on by this fraction of the candidates spreads few choices evenly, and skips none."""

Key: TypeAlias = tuple[str, str]


def key_of(message: FedMessage) -> Key:
    """Return source and user, the unit for which order is promised."""
    return message.source, message.user


@attrs.define(kw_only=True)
class Isolation:
    """Searches for users to hold.

    Args:
        send: sends messages, and settles nothing.
        deliver: sends messages, and settles them in order; when it raises, it may have settled the first of them.
        settled: how many messages of the batch are settled.
        hold: settles messages, the user of the last of which is held from then on.
        peek: returns messages further ahead than a batch reaches, by a factor.
        is_held: whether a message belongs to a user who is held already.
    """

    send: Callable[[Sequence[FedMessage]], Sequence[MessageRefused]]
    deliver: Callable[[QueueState, Sequence[FedMessage]], None]
    settled: Callable[[], int]
    hold: Callable[[QueueState, Sequence[FedMessage], int], None]
    peek: Callable[[QueueState, int], Sequence[FedMessage]]
    is_held: Callable[[FedMessage], bool]
    _arrived: dict[tuple[str, str], FedMessage] = attrs.field(init=False, factory=dict)
    _trust: int = attrs.field(init=False, default=0)
    _probe_first: Key | None = attrs.field(init=False, default=None)
    _doublings: int = attrs.field(init=False, default=0)

    def has_arrived(self, message: FedMessage) -> bool:
        """Return whether a message that is not settled yet was accepted as a probe."""
        return _identity(message) in self._arrived

    def forget(self, messages: Iterable[FedMessage]) -> None:
        """Forget messages that are settled."""
        for message in messages:
            self._arrived.pop(_identity(message), None)

    def end_trust(self) -> None:
        """Stop relying on the last probe: an attempt has failed, and the next one waits."""
        self._trust = 0

    def is_skipped(self, message: FedMessage) -> bool:
        """Return whether a message is not sent when its turn comes: it has arrived, or its user is held."""
        return self.has_arrived(message) or self.is_held(message)

    def run(self, queue_state: QueueState, messages: Sequence[FedMessage]) -> None:
        """Search a batch that has failed for one user, and hold that user.

        Raises `RetryLater` if the destination fails as a whole, as far as is known.
        """
        first = next((index for index, message in enumerate(messages) if not self.is_skipped(message)), None)
        if first is None:
            self.deliver(queue_state, messages)
            return
        try:
            self.deliver(queue_state, messages[: first + 1])
        except RetryLater as error:
            if error.is_outage or not self._is_working(queue_state, key_of(messages[first])):
                raise
            self.hold(queue_state, messages[: first + 1], queue_state.ambiguous_failures)
        else:
            self._trust = _TRUST
            self._doublings = 0
            self._bisect(queue_state, messages[first + 1 :])

    def _is_working(self, queue_state: QueueState, user: Key) -> bool:
        """Return whether the destination accepts messages of users other than this one, probing it if needed."""
        if self._trust == 0:
            if not self._probe_succeeds(queue_state, user):
                return False
            self._trust = _TRUST
        self._trust -= 1
        return True

    def _bisect(self, queue_state: QueueState, messages: Sequence[FedMessage]) -> None:
        """Deliver the messages before the first one that fails alone, and hold its user."""
        while messages:
            half = messages[: max(1, len(messages) // 2)]
            before = self.settled()
            try:
                self.deliver(queue_state, half)
            except RetryLater as error:
                if error.is_outage:
                    raise
                messages = half[self.settled() - before :]
                if len(messages) == 1:
                    self.hold(queue_state, messages, 0)
                    return
            else:
                messages = messages[len(half) :]

    def _probe_succeeds(self, queue_state: QueueState, user: Key) -> bool:
        """Send a message of another user than this one, and return whether the destination answers for it."""
        others = self._probe_candidates(self.peek(queue_state, _BATCHES_AHEAD << self._doublings), user)
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
        """Return the first waiting message of each user except one."""
        found: dict[Key, FedMessage] = {}
        for message in messages:
            if key_of(message) != user and not self.is_skipped(message):
                found.setdefault(key_of(message), message)
        return [*found.values()]


def _identity(message: FedMessage) -> tuple[str, str]:
    """Return the identity of a message; its position may belong to another one after the log was replaced."""
    return message.source, message.message_id
