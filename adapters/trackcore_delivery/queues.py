"""Lanes: where a destination's messages wait.  A worker takes from a lane, sends, and settles what it took.

Every destination of a feed has three: what comes in, dead letters that are to be tried once more, and replays.  Nothing
is changed by taking; only settling moves a lane on, for good.  (A consumer group is one more lane: taking is polling
it, settling is committing its offsets.)
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

import attrs

from trackcore import LogChanged, Mark
from trackcore_delivery.destination import NEWEST, DeliveredDestination
from trackcore_delivery.feed import FedMessage, Feed, Page
from trackcore_delivery.patience import Place
from trackcore_delivery.results import INCOMING, REPLAY, RETRY, DeadLetter, DeliveryResult, Replay
from trackcore_delivery.state import State

_NOTED_STEPS = 1_000
"""How many positions without a message for the destination are passed before that is worth a write."""


_log = logging.getLogger("trackcore.delivery")


class Waiting(NamedTuple):
    """A message, and its place in the lane, by which it is known for how long it has been tried."""

    message: FedMessage
    place: Place


class DeliveryQueue(Protocol):
    """Messages that wait for one destination, in order.

    `name` is the lane's among those of its destination.  `can_hold` says that the state keeps what is held of it.
    """

    @property
    def name(self) -> str:
        """What it is called in the state."""
        return INCOMING

    @property
    def can_hold(self) -> bool:
        """Whether messages of a single user may be held back, for the others to pass."""
        return False

    def take(self, *, count: int, size: int, now: datetime) -> Sequence[Waiting]:
        """Give the next messages; none when there are none, or when more are worth waiting for."""

    def settle(self, settled: DeliveryResult) -> None:
        """Note what became of the first of the messages that were taken last."""

    def rest(self, now: datetime) -> None:
        """Be told that the destination is not tried at this time; most lanes need not care."""
        del now

    def ahead(self, *, count: int, size: int) -> Sequence[FedMessage]:
        """Return what `take` may take next, as a look ahead that changes nothing; most lanes need not look."""
        del count, size
        return ()

    def ends(self) -> Mapping[str, int]:
        """Return how far each of its parts reaches now: the number of the last place there is.

        Raises:
            FeedUnavailable: that cannot be known now.
        """
        return {}

    def close(self) -> None:
        """Release what it holds, at the end of delivery; most queues hold nothing."""
        return


@attrs.define
class BatchWait:
    """How long a batch waits to be filled: until its first message is old enough, by its time or by our own.

    A message that came "in the future", before a clock was put right, waits for `batch_wait` from when it was seen.
    """

    _longest: timedelta
    _monotonic: Callable[[], float]
    _first: Place | None = attrs.field(init=False, default=None)
    _seen_at: float = attrs.field(init=False, default=0.0)

    def is_over(self, first: Waiting, now: datetime) -> bool:
        """Return whether a batch that begins with this message need not wait for more."""
        ticks = self._monotonic()
        if first.place != self._first:
            self._first, self._seen_at = first.place, ticks
        longest = self._longest
        return now - first.message.received_at >= longest or ticks - self._seen_at >= longest.total_seconds()


@attrs.define
class IncomingQueue(DeliveryQueue):
    """What comes in: the feed, behind the destination's position.

    With each look at the feed it is checked that it is still the one in which that position was reached.  Where the log
    was replaced or rewound, the lane goes on from where both agree: what is sent twice by that can be told by its
    messageId, what was left out could not be told by anyone.
    """

    _destination: DeliveredDestination
    _feed: Feed
    _state: State
    _monotonic: Callable[[], float] = time.monotonic
    _wait: BatchWait = attrs.field(init=False)
    _mark: Mark | None = attrs.field(init=False, default=None)
    _part: str = attrs.field(init=False, default="")
    _noted: int = attrs.field(init=False, default=0)
    _page: Page | None = attrs.field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self._wait = BatchWait(self._destination.batch_wait, self._monotonic)

    @property
    def can_hold(self) -> bool:
        """See `DeliveryQueue.can_hold`."""
        return True

    def take(self, *, count: int, size: int, now: datetime) -> Sequence[Waiting]:
        """See `DeliveryQueue.take`.  A batch that is not full waits until its first message is `batch_wait` old."""
        page = self._read(count, size, now)
        while not page.messages:
            self._pass(page.mark_at_end())
            if not page.has_more:
                return ()
            page = self._read(count, size, now)
        waiting = [Waiting(message, Place(self._part, message.position)) for message in page.messages]
        if not page.has_more and not self._wait.is_over(waiting[0], now):
            return ()
        self._page = page
        return waiting

    def ahead(self, *, count: int, size: int) -> Sequence[FedMessage]:
        """See `DeliveryQueue.ahead`."""
        if self._mark is None:
            return ()
        try:
            name, mark = self._destination.name, self._mark
            return self._feed.read(name, after=mark.position, count=count, size=size, mark=mark).messages
        except LogChanged:
            return ()  # the next `take` finds out where to go on

    def ends(self) -> Mapping[str, int]:
        """See `DeliveryQueue.ends`."""
        return {self._part: self._feed.end()}

    def settle(self, settled: DeliveryResult) -> None:
        """See `DeliveryQueue.settle`."""
        assert self._page is not None
        mark = self._page.mark(settled.messages[-1])
        self._state.settle(self._destination.name, settled, mark)
        self._mark, self._noted = mark, mark.position

    def _read(self, count: int, size: int, now: datetime) -> Page:
        """Read behind the mark, and move that to where the log agrees with what was read, if it is another one now."""
        name = self._destination.name
        while True:
            try:
                mark = self._mark or self._begin()
                page = self._feed.read(name, after=mark.position, count=count, size=size, mark=mark)
            except LogChanged as change:
                _log.warning("%s: %s", name, change)
                self._state.change_log(name, change, now)
                self._mark, self._noted, self._part = change.found, change.found.position, self._part_of_log()
            else:
                self._mark = mark
                return page

    def _begin(self) -> Mark:
        name = self._destination.name
        mark = self._state.mark(name)
        if mark is None:
            mark = self._feed.mark() if self._destination.start == NEWEST else Mark()
            self._state.begin(name, mark.position, mark)
        elif not mark.is_proven:
            mark = self._feed.check(mark)
            self._state.skip(name, mark)
        self._noted, self._part = mark.position, self._part_of_log()
        return mark

    def _part_of_log(self) -> str:
        """Return the part of the lane that this log is: positions in the log before it say nothing about its own."""
        change = self._state.log_change(self._destination.name)
        return "" if change is None else change[1].isoformat()

    def _pass(self, mark: Mark) -> None:
        self._mark = mark
        if mark.position - self._noted >= _NOTED_STEPS:
            self._state.skip(self._destination.name, mark)
            self._noted = mark.position


@attrs.define
class RetryQueue(DeliveryQueue):
    """Dead letters that somebody wants to be sent once more."""

    _destination: DeliveredDestination
    _state: State
    _taken: Sequence[DeadLetter] = attrs.field(init=False, default=())

    @property
    def name(self) -> str:
        """See `DeliveryQueue.name`."""
        return RETRY

    def take(self, *, count: int, size: int, now: datetime) -> Sequence[Waiting]:
        """See `DeliveryQueue.take`."""
        del now
        letters = self._state.dead_letters(self._destination.name, limit=count, to_retry=True)
        self._taken = letters[: fitting([letter.message for letter in letters], size)]
        return [Waiting(letter.message, _place(letter)) for letter in self._taken]

    def ends(self) -> Mapping[str, int]:
        """See `DeliveryQueue.ends`: each request to retry makes all dead letters wait, as one place."""
        letters = self._state.dead_letters(self._destination.name, limit=1, to_retry=True)
        return dict(map(_place, letters))

    def settle(self, settled: DeliveryResult) -> None:
        """See `DeliveryQueue.settle`."""
        count = len(settled.messages)
        ids = [letter.id for letter in self._taken[:count]]
        self._state.settle_retried(self._destination.name, ids, settled)
        self._taken = self._taken[count:]


@attrs.define
class ReplayQueue(DeliveryQueue):
    """Messages of the past that somebody wants to be sent again, one replay after the other."""

    _destination: DeliveredDestination
    _feed: Feed
    _state: State
    _replay: Replay | None = attrs.field(init=False, default=None)

    @property
    def name(self) -> str:
        """See `DeliveryQueue.name`."""
        return REPLAY

    def take(self, *, count: int, size: int, now: datetime) -> Sequence[Waiting]:
        """See `DeliveryQueue.take`."""
        while replay := self._state.next_replay(self._destination.name):
            self._replay = replay
            page = self._read(replay, count, size)
            if page is None:
                continue
            messages = [message for message in page.messages if message.position <= replay.last]
            if messages:
                return [Waiting(message, Place(str(replay.id), 0)) for message in messages]
            self._state.advance_replay(replay, page.end if page.has_more else replay.last, now)
        return ()

    def settle(self, settled: DeliveryResult) -> None:
        """See `DeliveryQueue.settle`."""
        assert self._replay is not None
        self._state.settle_replay(self._replay, settled)

    def ends(self) -> Mapping[str, int]:
        """See `DeliveryQueue.ends`.  All messages of a replay wait since it is the first that is not finished."""
        replay = self._state.next_replay(self._destination.name)
        return {} if replay is None else {str(replay.id): 0}

    def _read(self, replay: Replay, count: int, size: int) -> Page | None:
        """Read on; None where the log is another one by now: then the replay goes on in that, from where both agree."""
        try:
            return self._feed.read(
                replay.destination,
                after=replay.position,
                count=count,
                size=size,
                selection=replay.selection,
                mark=replay.mark,
            )
        except LogChanged as change:
            _log.warning("%s: replay %d: %s", replay.destination, replay.id, change)
            self._state.change_log_of_replay(replay, change, self._feed.mark())
            return None


def make_queues(
    destination: DeliveredDestination, feed: Feed, state: State, monotonic: Callable[[], float] = time.monotonic
) -> tuple[DeliveryQueue, ...]:
    """Make the lanes of a destination."""
    return (
        IncomingQueue(destination, feed, state, monotonic),
        RetryQueue(destination, state),
        ReplayQueue(destination, feed, state),
    )


def fitting(messages: Sequence[FedMessage], size: int) -> int:
    """Count how many of the first messages are within a size; at least one."""
    total = 0
    for index, message in enumerate(messages):
        total += len(message.payload)
        if index and total > size:
            return index
    return len(messages)


def _place(letter: DeadLetter) -> Place:
    return Place(str(letter.retried_at), 0)
