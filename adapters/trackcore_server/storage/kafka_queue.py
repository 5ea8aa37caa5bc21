"""Delivery from a log in Kafka: a queue that is a member of a consumer group, one group for each destination.

To take messages is to poll the group; to settle them is to commit its offsets, once the state file has the outcome.  So
delivery is spread over as many processes as there are partitions: each delivers its partitions in order.

- A partition changes hands only while nothing of this destination is in flight here: the group is polled only between
  batches.  Messages of a revoked partition that were taken but not settled are dropped; its new owner gets them.
- At least once.  The state file comes first and the offsets second, so a crash between the two sends a batch again.
- Each group reads the whole topic, since nothing else can select messages.  Those for other destinations are skipped,
  and their offsets are committed now and then.
- While a destination is not tried the group rests, so that it keeps its partitions for as long as the destination
  fails.
- No user is held back: a partition may go to another process at any time, which would then send the user's later
  messages before those that are held here.  So a message that fails alone blocks the partitions of its process until
  the retry window ends.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from math import inf

import attrs
from trackcore_delivery import (
    BatchWait,
    Cursor,
    DeliveredDestination,
    DeliveryQueue,
    DeliveryResult,
    FedMessage,
    FeedUnavailable,
    Place,
    State,
    Waiting,
    fed_message,
)
from trackcore_kafka import KafkaGroupReader, offset_of, partition_of

from trackcore import StoredPayload, TrackcoreError

_LOOKED_AT = 20_000
"""How many messages are examined before other queues have their turn, if few are for the destination."""

_CONTACT_SECONDS = 5.0
"""How often the group is contacted while it need not be polled."""

_COMMIT_SECONDS = 5.0
"""How long messages that were only skipped may stay uncommitted."""

_log = logging.getLogger("trackcore.delivery")


@attrs.define(eq=False)
class ConsumerGroupQueue(DeliveryQueue):
    """The messages for one destination, from the partitions of this process.

    `join` builds the reader; the thread that takes messages calls it when it first does.
    """

    _destination: DeliveredDestination
    _state: State
    _join: Callable[[], KafkaGroupReader]
    _monotonic: Callable[[], float] = time.monotonic
    _reader: KafkaGroupReader | None = attrs.field(init=False, default=None)
    _turns: Mapping[int, int] = attrs.field(init=False, factory=dict)
    _waiting: list[StoredPayload] = attrs.field(init=False, factory=list)
    _seen: dict[int, StoredPayload] = attrs.field(init=False, factory=dict)
    _uncommitted: dict[int, StoredPayload] = attrs.field(init=False, factory=dict)
    _contacted_at: float = attrs.field(init=False, default=-inf)
    _committed_at: float = attrs.field(init=False, default=-inf)
    _has_failed: bool = attrs.field(init=False, default=False)
    _wait: BatchWait = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._wait = BatchWait(self._destination.batch_wait, self._monotonic)

    def take(self, *, count: int, size: int, now: datetime) -> Sequence[Waiting]:
        """See `DeliveryQueue.take`.  A batch that is not full waits until its first message is `batch_wait` old."""
        try:
            self._fill(count, now)
        except TrackcoreError as error:
            raise FeedUnavailable(detail=str(error)) from error
        if self._monotonic() - self._committed_at >= _COMMIT_SECONDS:
            self._commit()
        taken, is_full = self._first(count, size)
        places = [Place(str(partition_of(stored.seq)), offset_of(stored.seq)) for stored in taken]
        waiting = [Waiting(fed_message(stored), place) for stored, place in zip(taken, places, strict=True)]
        return waiting if waiting and (is_full or self._wait.is_over(waiting[0], now)) else ()

    def ends(self) -> Mapping[str, int]:
        """See `DeliveryQueue.ends`."""
        if self._reader is None:
            return {}
        try:
            return {str(partition): end - 1 for partition, end in self._reader.ends().items()}
        except TrackcoreError as error:
            raise FeedUnavailable(detail=str(error)) from error

    def cursors(self, messages: Sequence[FedMessage]) -> Sequence[Cursor]:
        """See `DeliveryQueue.cursors`.  There is a lane for each partition, which another process may read next."""
        last = {partition_of(message.position): offset_of(message.position) for message in messages}
        return [Cursor(lane=str(partition), text=str(offset), is_exclusive=False) for partition, offset in last.items()]

    def settle(self, settled: DeliveryResult) -> None:
        """See `DeliveryQueue.settle`."""
        self._state.settle(self._destination.name, settled)
        count = len(settled.messages)
        done, self._waiting = self._waiting[:count], self._waiting[count:]
        self._uncommitted |= {partition_of(stored.seq): stored for stored in done}
        self._pass(partition_of(stored.seq) for stored in done)
        self._commit()

    def keep_alive(self, now: datetime) -> None:
        """See `DeliveryQueue.keep_alive`."""
        if self._reader is None:
            return
        del now
        self._contacted_at = self._monotonic()
        try:
            self._reader.rest()
        except TrackcoreError as error:
            raise FeedUnavailable(detail=str(error)) from error
        self._drop_revoked()

    def close(self) -> None:
        """See `DeliveryQueue.close`.  It leaves the group; others take over at once."""
        if self._reader is not None:
            self._commit()
            self._reader.close()

    def _fill(self, count: int, now: datetime) -> None:
        """Read enough messages for a batch, if there are so many."""
        if self._reader is None:
            self._state.begin(self._destination.name, 0)  # its counters are there; the group has the positions
            self._reader = self._join()
        looked_at = 0
        while len(self._waiting) < count and looked_at < _LOOKED_AT:
            self._contacted_at = self._monotonic()
            found = self._reader.poll(count - len(self._waiting), timeout=0)
            self._drop_revoked()
            if not found:
                return
            self._add(found)
            looked_at += len(found)
        if self._monotonic() - self._contacted_at >= _CONTACT_SECONDS:
            self.keep_alive(now)

    def _add(self, found: Sequence[StoredPayload]) -> None:
        name = self._destination.name
        self._waiting += [stored for stored in found if name in stored.destinations]
        self._seen |= {partition_of(stored.seq): stored._replace(payload=b"") for stored in found}
        self._pass({partition_of(stored.seq) for stored in found})

    def _drop_revoked(self) -> None:
        """Forget the messages of partitions that were revoked, even if they were assigned again."""
        assert self._reader is not None
        turns = self._reader.turns
        if turns == self._turns:
            return
        kept = {number for number, turn in turns.items() if self._turns.get(number) == turn}
        self._waiting = [stored for stored in self._waiting if partition_of(stored.seq) in kept]
        for marks in (self._seen, self._uncommitted):
            for number in marks.keys() - kept:
                del marks[number]
        self._turns = turns
        _log.info("%s: delivers partitions %s", self._destination.name, ", ".join(map(str, sorted(turns))) or "none")

    def _pass(self, partitions: Iterable[int]) -> None:
        """Advance to the last message that was seen in partitions without a waiting message."""
        waiting = Counter(partition_of(stored.seq) for stored in self._waiting)
        self._uncommitted |= {number: self._seen[number] for number in partitions if not waiting[number]}

    def _commit(self) -> None:
        """Commit the settled messages.  A failure is retried later: delivered messages must not be sent twice."""
        self._committed_at = self._monotonic()
        if self._reader is None or not self._uncommitted:
            return
        try:
            self._reader.commit(self._uncommitted.values())
        except TrackcoreError as error:
            if not self._has_failed:
                _log.warning("%s: offsets are not committed: %s; trying again", self._destination.name, error)
            self._has_failed = True
        else:
            self._has_failed = False
            self._uncommitted = {}

    def _first(self, count: int, size: int) -> tuple[list[StoredPayload], bool]:
        """Return the first waiting messages within both bounds, and whether they reach one of these."""
        total = 0
        for index, stored in enumerate(self._waiting[:count]):
            total += len(stored.payload) + 1
            if index and total > size:
                return self._waiting[:index], True
        return self._waiting[:count], len(self._waiting) >= count
