"""Lanes: where a destination's messages wait.  A worker takes from a lane, sends, and settles what it took.

Every destination of a feed has three: what comes in, dead letters that are to be tried once more, and replays.  Nothing
is changed by taking; only settling moves a lane on, for good.  (A consumer group is one more lane: taking is polling
it, settling is committing its offsets.)
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

import attrs

from trackcore_delivery.destination import NEWEST, DeliveredDestination
from trackcore_delivery.feed import FedMessage, Feed
from trackcore_delivery.records import DeadLetter, Replay, Settled
from trackcore_delivery.state import State

_NOTED_STEPS = 1_000
"""How many positions without a message for the destination are passed before that is worth a write."""


_log = logging.getLogger("trackcore.delivery")


class Waiting(NamedTuple):
    """A message, and the time from which its retry window counts."""

    message: FedMessage
    since: datetime


class Lane(Protocol):
    """Messages that wait for one destination, in order."""

    def take(self, *, count: int, size: int, now: datetime) -> Sequence[Waiting]:
        """Give the next messages; none when there are none, or when more are worth waiting for."""

    def settle(self, settled: Settled) -> None:
        """Note what became of the first of the messages that were taken last."""

    def rest(self, now: datetime) -> None:
        """Be told that the destination is not tried at this time; most lanes need not care."""
        del now


@attrs.define
class IncomingLane(Lane):
    """What comes in: the feed, behind the destination's position."""

    _destination: DeliveredDestination
    _feed: Feed
    _state: State
    _position: int | None = attrs.field(init=False, default=None)
    _noted: int = attrs.field(init=False, default=0)

    def take(self, *, count: int, size: int, now: datetime) -> Sequence[Waiting]:
        """See `Lane.take`.  A batch that is not full waits until its first message is `batch_wait` old."""
        name = self._destination.name
        if self._position is None:
            self._position = self._noted = self._begin()
        page = self._feed.read(name, after=self._position, count=count, size=size)
        while not page.messages:
            self._pass(page.end)
            if not page.has_more:
                return ()
            page = self._feed.read(name, after=page.end, count=count, size=size)
        if not page.has_more and now - page.messages[0].received_at < self._destination.batch_wait:
            return ()
        return [Waiting(message, message.received_at) for message in page.messages]

    def settle(self, settled: Settled) -> None:
        """See `Lane.settle`."""
        self._state.settle(self._destination.name, settled)
        self._position = self._noted = settled.messages[-1].position

    def _begin(self) -> int:
        name = self._destination.name
        position = self._state.position(name)
        if position is None:
            position = self._feed.end() if self._destination.start == NEWEST else 0
            self._state.begin(name, position)
        elif position > self._feed.end():
            _log.warning("%s: the log is another one than before; beginning with its oldest message", name)
            position = 0
            self._state.skip(name, position)
        return position

    def _pass(self, end: int) -> None:
        self._position = end
        if end - self._noted >= _NOTED_STEPS:
            self._state.skip(self._destination.name, end)
            self._noted = end


@attrs.define
class RetryLane(Lane):
    """Dead letters that somebody wants to be sent once more."""

    _destination: DeliveredDestination
    _state: State
    _taken: Sequence[DeadLetter] = attrs.field(init=False, default=())

    def take(self, *, count: int, size: int, now: datetime) -> Sequence[Waiting]:
        """See `Lane.take`."""
        del now
        letters = self._state.dead_letters(self._destination.name, limit=count, to_retry=True)
        self._taken = letters[: _fitting([letter.message for letter in letters], size)]
        return [Waiting(letter.message, letter.retried_at or letter.died_at) for letter in self._taken]

    def settle(self, settled: Settled) -> None:
        """See `Lane.settle`."""
        count = len(settled.messages)
        ids = [letter.id for letter in self._taken[:count]]
        self._state.settle_retried(self._destination.name, ids, settled)
        self._taken = self._taken[count:]


@attrs.define
class ReplayLane(Lane):
    """Messages of the past that somebody wants to be sent again, one replay after the other."""

    _destination: DeliveredDestination
    _feed: Feed
    _state: State
    _replay: Replay | None = attrs.field(init=False, default=None)

    def take(self, *, count: int, size: int, now: datetime) -> Sequence[Waiting]:
        """See `Lane.take`."""
        while replay := self._state.next_replay(self._destination.name):
            self._replay = replay
            page = self._feed.read(
                replay.destination, after=replay.position, count=count, size=size, selection=replay.selection
            )
            messages = [message for message in page.messages if message.position <= replay.last]
            if messages:
                return [Waiting(message, max(message.received_at, replay.asked_at)) for message in messages]
            self._state.advance_replay(replay, page.end if page.has_more else replay.last, now)
        return ()

    def settle(self, settled: Settled) -> None:
        """See `Lane.settle`."""
        assert self._replay is not None
        self._state.settle_replay(self._replay, settled)


def make_lanes(destination: DeliveredDestination, feed: Feed, state: State) -> tuple[Lane, ...]:
    """Make the lanes of a destination."""
    return (
        IncomingLane(destination, feed, state),
        RetryLane(destination, state),
        ReplayLane(destination, feed, state),
    )


def _fitting(messages: Sequence[FedMessage], size: int) -> int:
    """Count how many of the first messages are within a size; at least one."""
    total = 0
    for index, message in enumerate(messages):
        total += len(message.payload)
        if index and total > size:
            return index
    return len(messages)
