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

Each lane counts its own failures, so that a dead letter or a replay that cannot be taken holds up only its like.

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


@attrs.define
class _Track:
    """A lane, and how it is doing.  `count` is how many messages are tried at once."""

    lane: Lane
    count: int
    failures: int = 0
    failing_since: datetime | None = None
    next_try_at: datetime | None = None
    gave_up: bool = False


@attrs.define(kw_only=True)
class Worker:
    """Delivers the messages of one destination.  `chance` draws evenly from 0 to 1."""

    destination: DeliveredDestination
    sender: Sender
    lanes: Sequence[Lane]
    state: State
    clock: Clock
    chance: Callable[[], float]
    _tracks: deque[_Track] = attrs.field(init=False)
    _done: int = attrs.field(init=False, default=0)
    _unsettled: tuple[Lane, Settled] | None = attrs.field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self._tracks = deque(_Track(lane, self.destination.batch_messages) for lane in self.lanes)
        standing = self.state.standing(self.destination.name, self.clock())
        if standing is not None:
            for track in self._tracks:
                track.failures = standing.failures
                track.failing_since = standing.failing_since
                track.next_try_at = standing.next_try_at

    def step(self) -> float:
        """Do what is due, and give how many seconds there is nothing to do then.

        Raises:
            FeedUnavailable, UnusableState: the feed or the state cannot be used now; nothing is lost.
        """
        self._settle_what_is_left()
        now = self.clock()
        pause = POLL_SECONDS
        for track in tuple(self._tracks):
            self._tracks.rotate(-1)
            if track.next_try_at is not None and track.next_try_at > now:
                track.lane.rest(now)
                pause = min(pause, (track.next_try_at - now).total_seconds())
                continue
            waiting = track.lane.take(count=track.count, size=self.destination.batch_bytes, now=now)
            if waiting:
                self._attempt(track, waiting)
                return 0.0
        return pause

    def _attempt(self, track: _Track, waiting: Sequence[Waiting]) -> None:
        self._done = 0
        try:
            self._deliver(track, [message for message, _ in waiting])
        except TryLater as error:
            self._fail(track, waiting[self._done :], error)

    def _deliver(self, track: _Track, messages: Sequence[FedMessage]) -> None:
        """Send messages, dividing them where they are refused, and settle them in order.  Raises `TryLater`."""
        try:
            refusals = self._send(messages)
        except Refused as error:
            if error.divisible and len(messages) > 1:
                middle = len(messages) // 2
                self._deliver(track, messages[:middle])
                self._deliver(track, messages[middle:])
            else:
                self._settle(track, messages, dict.fromkeys(range(len(messages)), error.detail))
        else:
            self._settle(track, messages, {refusal.index: refusal.detail for refusal in refusals})

    def _send(self, messages: Sequence[FedMessage]) -> Sequence[Refusal]:
        try:
            return self.sender.send(Batch(destination=self.destination.name, messages=messages))
        except (Refused, TryLater):
            raise
        except Exception as error:
            # A fault in a kind of destination, or in the callable of who embeds, is no reason to lose anything.
            _log.exception("%s: the sender failed", self.destination.name)
            raise TryLater(detail=f"the sender failed ({type(error).__name__})") from error

    def _settle(self, track: _Track, messages: Sequence[FedMessage], refused: Mapping[int, str]) -> None:
        """Settle messages that the destination has answered for."""
        if track.failing_since is not None:
            lasted = self.clock() - track.failing_since
            _log.info("%s: takes messages again, after %d s", self.destination.name, lasted.total_seconds())
        track.failures = 0
        track.failing_since = track.next_try_at = None
        track.gave_up = False
        track.count = min(2 * track.count, self.destination.batch_messages)
        self._write(track.lane, Settled(messages=messages, refused=refused, now=self.clock()))
        self._done += len(messages)

    def _fail(self, track: _Track, waiting: Sequence[Waiting], error: TryLater) -> None:
        """Note a failed attempt, decide when to try again, and give up what has been tried for long enough."""
        now = self.clock()
        track.failures += 1
        if track.failing_since is None:
            track.failing_since = now
        if error.retry_after is None:
            failing = (now - track.failing_since).total_seconds()
            pause = backoff_seconds(track.failures, failing_seconds=failing, chance=self.chance())
            track.count = max(1, track.count // 2)
            track.next_try_at = now + timedelta(seconds=pause)
        else:
            for each in self._tracks:  # it is the destination that asks, so it is meant for all
                each.next_try_at = now + timedelta(seconds=asked_seconds(error.retry_after))
        if track.failures == 1:
            _log.warning("%s: %s; trying again", self.destination.name, error.detail)
        next_try_at = track.next_try_at or now
        name = self.destination.name
        self.state.fail(name, error.detail, now=now, failures=track.failures, next_try_at=next_try_at)
        if now - track.failing_since >= self.destination.retry_window:
            self._give_up(track, waiting, error, now)

    def _give_up(self, track: _Track, waiting: Sequence[Waiting], error: TryLater, now: datetime) -> None:
        """Bury what is older than the retry window: first of this batch only, since it may be its fault.

        If the next batch fails as well it is not, and then everything of that age goes, so that what waits does not
        grow for as long as the destination fails.
        """
        window = self.destination.retry_window
        reason = f"not taken within {window}; last: {error.detail}"
        expired = _expired(waiting, now - window)
        while expired:
            refused = dict.fromkeys(range(len(expired)), reason)
            self._write(track.lane, Settled(messages=expired, refused=refused, now=now, answered=False))
            if not track.gave_up or len(expired) < len(waiting):
                break
            count, size = self.destination.batch_messages, self.destination.batch_bytes
            waiting = track.lane.take(count=count, size=size, now=now)
            expired = _expired(waiting, now - window)
        track.gave_up = True

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
