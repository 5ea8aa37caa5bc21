"""Delivery queues: where a destination's messages wait.  A worker takes from a queue, sends, and settles what it took.

Every destination of a feed has three: incoming messages, dead letters to retry, and replays.  `take` has no side
effects; only `settle` advances a queue, permanently.  (A consumer group is another queue: `take` polls it, `settle`
commits its offsets.)
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import ClassVar, NamedTuple, Protocol

import attrs

from trackcore import LogChanged, Mark
from trackcore.support import decode_mark, encode_mark
from trackcore_delivery.destination import NEWEST, OLDEST, DeliveredDestination
from trackcore_delivery.erasures import ERASURE, NOT_SUPPORTED, Erasure, ErasureStatus, as_message
from trackcore_delivery.feed import FedMessage, Feed, Page
from trackcore_delivery.results import INCOMING, REPLAY, RETRY, DeadLetter, DeliveryResult, Replay
from trackcore_delivery.retry_window import Place
from trackcore_delivery.sending import Cursor
from trackcore_delivery.state import State

_SKIP_STEPS = 1_000
"""How many positions without a message for the destination are passed before the position is written."""

_log = logging.getLogger("trackcore.delivery")


class Waiting(NamedTuple):
    """A message, and its place in the queue, which shows for how long it has been tried."""

    message: FedMessage
    place: Place


class DeliveryQueue(Protocol):
    """Messages that wait for one destination, in order.

    `name` is unique among the queues of its destination.  If `can_hold`, messages of a single user may be held back, to
    let the others pass.  If it `has_dead_letters`, refused messages become those.
    """

    can_hold: ClassVar[bool] = False
    has_dead_letters: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """The name in the state."""
        return INCOMING

    def take(self, *, count: int, size: int, now: datetime) -> Sequence[Waiting]:
        """Return the next messages; none if the queue is empty, or waits for a batch to fill."""

    def settle(self, result: DeliveryResult) -> None:
        """Store the result of the first of the messages that were taken last."""

    def keep_alive(self, now: datetime) -> None:
        """Called while the destination is backing off; usually a no-op."""
        del now

    def peek(self, *, count: int, size: int) -> Sequence[FedMessage]:
        """Return messages that `take` may return next, without side effects; optional."""
        del count, size
        return ()

    def ends(self) -> Mapping[str, int]:
        """Return the number of the last place in each part of the queue.  Raises `FeedUnavailable` if unknown now."""
        return {}

    def cursors(self, messages: Sequence[FedMessage]) -> Sequence[Cursor]:
        """Return the cursors behind some of the messages that were taken last; optional."""
        del messages
        return ()

    def resume(self, cursors: Mapping[str, str]) -> bool:
        """Go on from the cursors that the destination has stored; return whether the queue was elsewhere."""
        del cursors
        return False

    def close(self) -> None:
        """Release what it holds, at the end of delivery; most queues hold nothing."""
        return


@attrs.define
class BatchWait:
    """How long a batch waits to be filled: until its first message is old enough, by its time or by the monotonic one.

    A message that came "in the future", before a clock was corrected, waits for `batch_wait` from when it was seen.
    """

    _longest: timedelta
    _monotonic: Callable[[], float]
    _first: Place | None = attrs.field(init=False, default=None)
    _seen_at: float = attrs.field(init=False, default=0.0)

    def is_over(self, first: Waiting, now: datetime) -> bool:
        """Return whether a batch that begins with this message has waited long enough."""
        ticks = self._monotonic()
        if first.place != self._first:
            self._first, self._seen_at = first.place, ticks
        longest = self._longest
        return now - first.message.received_at >= longest or ticks - self._seen_at >= longest.total_seconds()


class _Filling(NamedTuple):
    """A batch that waits to be filled: its first message, and up to where the feed must reach for it to be full."""

    first: Waiting
    wanted: int
    examined: int
    full_at: int


@attrs.define
class _IncomingQueue(DeliveryQueue):
    """Incoming messages: the feed, after the destination's position.

    Each read of the feed checks that it is still the feed in which that position was reached.  If the log was replaced
    or rewound, the queue goes on from the point up to which both logs agree: receivers can detect messages that are
    sent twice by their messageId, but nobody could detect omitted ones.
    """

    can_hold = True

    _destination: DeliveredDestination
    _feed: Feed
    _state: State
    _monotonic: Callable[[], float]
    _wait: BatchWait = attrs.field(init=False)
    _mark: Mark | None = attrs.field(init=False, default=None)
    _part: str = attrs.field(init=False, default="")
    _noted: int = attrs.field(init=False, default=0)
    _page: Page | None = attrs.field(init=False, default=None)
    _filling: _Filling | None = attrs.field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self._wait = BatchWait(self._destination.batch_wait, self._monotonic)

    def take(self, *, count: int, size: int, now: datetime) -> Sequence[Waiting]:
        """Return the next messages; a batch that is not full waits until its first message is `batch_wait` old.

        While it waits it is not read again: a batch may be large, and wait for minutes.
        """
        if self._is_filling(count, now):
            return ()
        self._filling = None
        page = self._read(count, size, now)
        while not page.messages:
            self._pass(page.mark_at_end())
            if not page.has_more:
                return ()
            page = self._read(count, size, now)
        waiting = [Waiting(message, Place(self._part, message.position)) for message in page.messages]
        if not page.has_more and not self._wait.is_over(waiting[0], now):
            self._filling = _Filling(waiting[0], count, page.end, page.end + _missing(page.messages, count, size))
            return ()
        self._page = page
        return waiting

    def _is_filling(self, count: int, now: datetime) -> bool:
        """Return whether the batch that was read last still waits, and cannot be full yet."""
        filling = self._filling
        if filling is None or filling.wanted != count or self._wait.is_over(filling.first, now):
            return False
        return filling.examined <= self._feed.end() < filling.full_at

    def peek(self, *, count: int, size: int) -> Sequence[FedMessage]:
        if self._mark is None:
            return ()
        try:
            name, mark = self._destination.name, self._mark
            return self._feed.read(name, after=mark.position, count=count, size=size, mark=mark).messages
        except LogChanged:
            return ()  # the next `take` finds the position to go on from

    def ends(self) -> Mapping[str, int]:
        return {self._part: self._feed.end()}

    def settle(self, result: DeliveryResult) -> None:
        assert self._page is not None
        mark = self._page.mark(result.messages[-1])
        self._state.settle(self._destination.name, result, mark)
        self._mark, self._noted = mark, mark.position

    def cursors(self, messages: Sequence[FedMessage]) -> Sequence[Cursor]:
        assert self._page is not None
        mark = self._page.mark(messages[-1])
        return [Cursor(lane=INCOMING, text=json.dumps([mark.position, encode_mark(mark)]))]

    def resume(self, cursors: Mapping[str, str]) -> bool:
        name = self._destination.name
        known = self._state.mark(name)
        stored = self._stored_mark(cursors.get(INCOMING), known)
        if stored is None or (known is not None and stored.position == known.position):
            return False
        _log.warning("%s: going on from its own cursor, at %d", name, stored.position)
        self._state.begin(name, stored.position, stored)
        self._state.skip(name, stored)
        self._mark = self._page = None
        return True

    def _stored_mark(self, text: str | None, known: Mark | None) -> Mark | None:
        """Return the mark that a destination has stored.  One that has none, such as a new database, begins again."""
        if text is not None:
            return decode_mark(*json.loads(text))
        return Mark() if known is not None and self._destination.start == OLDEST else None

    def _read(self, count: int, size: int, now: datetime) -> Page:
        """Read after the mark; if the log was replaced, move the mark to where it agrees with the old one first."""
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
        """Return the part of the queue that belongs to this log: positions in an earlier log are not comparable."""
        change = self._state.log_change(self._destination.name)
        return "" if change is None else change[1].isoformat()

    def _pass(self, mark: Mark) -> None:
        self._mark = mark
        if mark.position - self._noted >= _SKIP_STEPS:
            self._state.skip(self._destination.name, mark)
            self._noted = mark.position


@attrs.define
class RetryQueue(DeliveryQueue):
    """Dead letters that an operator wants to be sent again."""

    name = RETRY

    _destination: DeliveredDestination
    _state: State
    _taken: Sequence[DeadLetter] = attrs.field(init=False, default=())

    def take(self, *, count: int, size: int, now: datetime) -> Sequence[Waiting]:
        """See `DeliveryQueue.take`."""
        del now
        letters = self._state.dead_letters(self._destination.name, limit=count, to_retry=True)
        self._taken = letters[: count_within([letter.message for letter in letters], size)]
        return [Waiting(letter.message, _place(letter)) for letter in self._taken]

    def ends(self) -> Mapping[str, int]:
        """See `DeliveryQueue.ends`: each request to retry makes all dead letters wait, as one place."""
        letters = self._state.dead_letters(self._destination.name, limit=1, to_retry=True)
        return dict(map(_place, letters))

    def settle(self, result: DeliveryResult) -> None:
        """See `DeliveryQueue.settle`."""
        count = len(result.messages)
        ids = [letter.id for letter in self._taken[:count]]
        self._state.settle_retried(self._destination.name, ids, result)
        self._taken = self._taken[count:]


@attrs.define
class ErasureQueue(DeliveryQueue):
    """Requests to the destination to forget persons, one at a time."""

    name = ERASURE
    has_dead_letters = False

    _destination: DeliveredDestination
    _state: State
    _taken: Erasure | None = attrs.field(init=False, default=None)

    def take(self, *, count: int, size: int, now: datetime) -> Sequence[Waiting]:
        """See `DeliveryQueue.take`."""
        del count, size, now
        self._taken = self._state.next_erasure(self._destination.name)
        return () if self._taken is None else [Waiting(as_message(self._taken), Place(str(self._taken.number), 0))]

    def ends(self) -> Mapping[str, int]:
        """See `DeliveryQueue.ends`."""
        erasure = self._state.next_erasure(self._destination.name)
        return {} if erasure is None else {str(erasure.number): 0}

    def settle(self, result: DeliveryResult) -> None:
        """See `DeliveryQueue.settle`.  A request that was refused has failed, or cannot be met at all."""
        assert self._taken is not None
        detail = result.refused.get(0, "")
        failed = ErasureStatus.UNSUPPORTED if detail == NOT_SUPPORTED else ErasureStatus.FAILED
        self._state.settle_erasure(self._taken, failed if detail else ErasureStatus.DONE, detail)


@attrs.define
class _ReplayQueue(DeliveryQueue):
    """Messages of the past that an operator wants to be sent again, one replay after the other."""

    name = REPLAY

    _destination: DeliveredDestination
    _feed: Feed
    _state: State
    _replay: Replay | None = attrs.field(init=False, default=None)

    def take(self, *, count: int, size: int, now: datetime) -> Sequence[Waiting]:
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

    def settle(self, result: DeliveryResult) -> None:
        assert self._replay is not None
        self._state.settle_replay(self._replay, result)

    def ends(self) -> Mapping[str, int]:
        """Return the first unfinished replay as one place: all its messages have waited since it became that."""
        replay = self._state.next_replay(self._destination.name)
        return {} if replay is None else {str(replay.id): 0}

    def _read(self, replay: Replay, count: int, size: int) -> Page | None:
        """Read on; None if the log was replaced: then the replay goes on in the new log, from where both agree."""
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
    """Build the queues of a destination."""
    return (
        _IncomingQueue(destination, feed, state, monotonic),
        RetryQueue(destination, state),
        ErasureQueue(destination, state),
        _ReplayQueue(destination, feed, state),
    )


def _missing(messages: Sequence[FedMessage], count: int, size: int) -> int:
    """Return how many messages fill a batch, as far as the size of those that it has can tell."""
    total = sum(len(message.payload) + 1 for message in messages)
    return max(1, min(count - len(messages), (size - total) * len(messages) // total))


def count_within(messages: Sequence[FedMessage], size: int) -> int:
    """Count how many of the first messages are within a size; at least one."""
    total = 0
    for index, message in enumerate(messages):
        total += len(message.payload)
        if index and total > size:
            return index
    return len(messages)


def _place(letter: DeadLetter) -> Place:
    return Place(str(letter.retried_at), 0)
