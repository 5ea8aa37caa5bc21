"""The worker of one destination: what is tried when, and what becomes of a message that is not taken.

Theory of operation.  A worker has one batch in flight, and takes the next only when every message of it is settled:
delivered, or among the dead letters.  Everything that delivery promises follows from that.

- Order.  A destination gets its messages in the order of the feed, so those of one user in theirs.
- Independence.  Each destination has its own worker, thread and position; one that hangs keeps nobody waiting.
- Bounded memory: one batch for each destination.  What waits, waits in the log.
- After a crash at most the batch in flight is sent again: the position moves in the transaction that settles.

A batch that is refused is divided until it is known which messages it is because of; the rest is delivered. A batch
that fails is tried again after a while, and smaller each time: should one message be what makes the destination fail,
it ends up alone, with those before it delivered.  What has been waiting for longer than the retry window, while the
destination failed all the time, goes to the dead letters.

A worker has no thread and no clock of its own.  `step` does what is due and says how long there is nothing to do.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import takewhile

import attrs

from trackcore import Clock
from trackcore_delivery.backoff import asked_seconds, backoff_seconds
from trackcore_delivery.destination import DeliveredDestination
from trackcore_delivery.feed import FedMessage
from trackcore_delivery.lanes import Lane, Waiting
from trackcore_delivery.records import Settled
from trackcore_delivery.sending import Batch, Refusal, Refused, Sender, TryLater
from trackcore_delivery.state import State

POLL_SECONDS = 0.2
"""How often it is looked whether something has come."""

_log = logging.getLogger("trackcore.delivery")


@attrs.define(kw_only=True)
class Worker:
    """Delivers the messages of one destination.  `chance` draws evenly from 0 to 1."""

    destination: DeliveredDestination
    sender: Sender
    lanes: deque[Lane]
    state: State
    clock: Clock
    chance: Callable[[], float]
    _count: int = attrs.field(init=False)
    _failures: int = attrs.field(init=False, default=0)
    _failing_since: datetime | None = attrs.field(init=False, default=None)
    _next_try_at: datetime | None = attrs.field(init=False, default=None)
    _done: int = attrs.field(init=False, default=0)
    _gave_up: bool = attrs.field(init=False, default=False)
    _unsettled: tuple[Lane, Settled] | None = attrs.field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self._count = self.destination.batch_messages
        standing = self.state.standing(self.destination.name, self.clock())
        if standing is not None:
            self._failures = standing.failures
            self._failing_since = standing.failing_since
            self._next_try_at = standing.next_try_at

    def step(self) -> float:
        """Do what is due, and give how many seconds there is nothing to do then.

        Raises:
            FeedUnavailable, UnusableState: the feed or the state cannot be used now; nothing is lost.
        """
        self._settle_what_is_left()
        now = self.clock()
        if self._next_try_at is not None and self._next_try_at > now:
            return min((self._next_try_at - now).total_seconds(), POLL_SECONDS)
        for _ in range(len(self.lanes)):
            lane = self.lanes[0]
            waiting = lane.take(count=self._count, size=self.destination.batch_bytes, now=now)
            self.lanes.rotate(-1)
            if waiting:
                self._attempt(lane, waiting)
                return 0.0
        return POLL_SECONDS

    def _attempt(self, lane: Lane, waiting: Sequence[Waiting]) -> None:
        self._done = 0
        try:
            self._deliver(lane, [message for message, _ in waiting])
        except TryLater as error:
            self._fail(lane, waiting[self._done :], error)

    def _deliver(self, lane: Lane, messages: Sequence[FedMessage]) -> None:
        """Send messages, dividing them where they are refused, and settle them in order.  Raises `TryLater`."""
        try:
            refusals = self._send(messages)
        except Refused as error:
            if error.divisible and len(messages) > 1:
                middle = len(messages) // 2
                self._deliver(lane, messages[:middle])
                self._deliver(lane, messages[middle:])
            else:
                self._settle(lane, messages, dict.fromkeys(range(len(messages)), error.detail))
        else:
            self._settle(lane, messages, {refusal.index: refusal.detail for refusal in refusals})

    def _send(self, messages: Sequence[FedMessage]) -> Sequence[Refusal]:
        try:
            return self.sender.send(Batch(destination=self.destination.name, messages=messages))
        except (Refused, TryLater):
            raise
        except Exception as error:
            # A fault in a kind of destination, or in the callable of who embeds, is no reason to lose anything.
            _log.exception("%s: the sender failed", self.destination.name)
            raise TryLater(detail=f"the sender failed ({type(error).__name__})") from error

    def _settle(self, lane: Lane, messages: Sequence[FedMessage], refused: Mapping[int, str]) -> None:
        """Settle messages that the destination has answered for."""
        if self._failing_since is not None:
            lasted = self.clock() - self._failing_since
            _log.info("%s: takes messages again, after %d s", self.destination.name, lasted.total_seconds())
        self._failures = 0
        self._failing_since = self._next_try_at = None
        self._gave_up = False
        self._count = min(2 * self._count, self.destination.batch_messages)
        self._write(lane, Settled(messages=messages, refused=refused, now=self.clock()))
        self._done += len(messages)

    def _fail(self, lane: Lane, waiting: Sequence[Waiting], error: TryLater) -> None:
        """Note a failed attempt, decide when to try again, and give up what has been tried for long enough."""
        now = self.clock()
        self._failures += 1
        if self._failing_since is None:
            self._failing_since = now
        failing = (now - self._failing_since).total_seconds()
        if error.retry_after is None:
            pause = backoff_seconds(self._failures, failing_seconds=failing, chance=self.chance())
            self._count = max(1, self._count // 2)
        else:
            pause = asked_seconds(error.retry_after)
        self._next_try_at = now + timedelta(seconds=pause)
        if self._failures == 1:
            _log.warning("%s: %s; trying again", self.destination.name, error.detail)
        name = self.destination.name
        self.state.fail(name, error.detail, now=now, failures=self._failures, next_try_at=self._next_try_at)
        if now - self._failing_since >= self.destination.retry_window:
            self._give_up(lane, waiting, error, now)

    def _give_up(self, lane: Lane, waiting: Sequence[Waiting], error: TryLater, now: datetime) -> None:
        """Bury what is older than the retry window: first of this batch only, since it may be its fault.

        If the next batch fails as well it is not, and then everything of that age goes, so that what waits does not
        grow for as long as the destination fails.
        """
        window = self.destination.retry_window
        reason = f"not taken within {window}; last: {error.detail}"
        expired = _expired(waiting, now - window)
        while expired:
            refused = dict.fromkeys(range(len(expired)), reason)
            self._write(lane, Settled(messages=expired, refused=refused, now=now, answered=False))
            if not self._gave_up or len(expired) < len(waiting):
                break
            waiting = lane.take(count=self.destination.batch_messages, size=self.destination.batch_bytes, now=now)
            expired = _expired(waiting, now - window)
        self._gave_up = True

    def _write(self, lane: Lane, settled: Settled) -> None:
        """Settle, and remember to do so where the state cannot be written now: what has arrived must not go twice."""
        self._unsettled = lane, settled
        self._settle_what_is_left()
        if settled.refused:
            reason = next(iter(settled.refused.values()))
            _log.warning("%s: %d to the dead letters: %s", self.destination.name, len(settled.refused), reason)

    def _settle_what_is_left(self) -> None:
        if self._unsettled is not None:
            lane, settled = self._unsettled
            lane.settle(settled)
            self._unsettled = None


def _expired(waiting: Sequence[Waiting], limit: datetime) -> list[FedMessage]:
    """Give the first messages, up to one that waits since later than `limit`."""
    return [message for message, _ in takewhile(lambda item: item.since <= limit, waiting)]
