"""The worker of one destination: when it tries which messages, and what happens to a rejected one.

Theory of operation.  A worker has one batch in flight, and takes the next only when every message of it is settled:
delivered, held back, or among the dead letters.  All promises of delivery follow from that.

- Order.  A destination gets its messages in the order of the feed, except for those of held users, which follow in
  their own order; so the messages of one user arrive in order (see `held_queue`).
- Independence.  Each destination has its own worker, thread and position; a hanging destination delays no other.
- Bounded memory: one batch for each destination.  The backlog stays in the log.
- After a crash at most the batch in flight is sent again, and the probes of a search (see `isolation`): the position
  moves in the transaction that settles.

A batch that is rejected is bisected until the messages at fault are known; the rest is delivered.  A batch that fails
is retried after a backoff, smaller each time.  If the destination may fail because of one user's messages, that user is
searched for and held back (see `isolation`).  Messages that have waited for longer than the retry window, while the
destination failed all the time, go to the dead letters (see `retry_window`).

Each queue counts its own failures, so that a dead letter or a replay that is not accepted delays only its own queue.
While the destination as a whole cannot be reached, or has asked for a pause, no queue is tried (see `queue_state`).

A worker has no thread and no clock.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Protocol

import attrs

from trackcore import Clock
from trackcore.text import describe_unexpected
from trackcore_delivery.backoff import FIRST_SECONDS, backoff_seconds, capped_retry_after
from trackcore_delivery.destination import DeliveredDestination
from trackcore_delivery.feed import FedMessage, FeedUnavailable
from trackcore_delivery.held_queue import HeldCapacity, HeldQueue
from trackcore_delivery.isolation import Isolation, Key, key_of
from trackcore_delivery.queue_state import OUTAGE, Outage, QueueState
from trackcore_delivery.queues import DeliveryQueue, ErasureQueue, Waiting
from trackcore_delivery.results import Attempts, DeliveryResult, HeldUser
from trackcore_delivery.sending import (
    Cursor,
    CursorKeepingSender,
    CursorMoved,
    DeliveryBatch,
    MessageRefused,
    PermanentError,
    RetryLater,
    Sender,
)
from trackcore_delivery.state import State

POLL_SECONDS = 0.2

DELIVERED, PARTIAL, REJECTED, RETRY_LATER = "delivered", "partial", "rejected", "retry"
"""The results of a request to a destination: all messages accepted, some or all rejected permanently, or no answer."""

_ISOLATE_AFTER = 2
"""After this many failures of a batch that one user's messages may cause, that user is searched for."""

_HELD_PAUSE_SECONDS = 5.0
"""The time between attempts for held users while they fail, however many users there are."""

_EVICTED = "given up before its retry window has ended: too much is held back"

_log = logging.getLogger("trackcore.delivery")


class OnAttempt(Protocol):
    """Called after each request to a destination."""

    def __call__(self, *, destination: str, result: str, seconds: float) -> None:
        """Take note of a request."""


@attrs.define(kw_only=True)
class DestinationWorker:
    """Delivers the messages of one destination.  `jitter` draws evenly from 0 to 1; `on_attempt`: see `Delivery`."""

    destination: DeliveredDestination
    sender: Sender
    queues: Sequence[DeliveryQueue]
    state: State
    clock: Clock
    monotonic: Callable[[], float]
    jitter: Callable[[], float]
    on_attempt: OnAttempt | None = None
    _queue_states: deque[QueueState] = attrs.field(init=False)
    _outage: Outage = attrs.field(init=False, factory=Outage)
    _done: int = attrs.field(init=False, default=0)
    _pending: tuple[DeliveryQueue, DeliveryResult] | None = attrs.field(init=False, default=None)
    _isolation: Isolation = attrs.field(init=False)
    _held: set[Key] = attrs.field(init=False, factory=set)
    _capacity: HeldCapacity = attrs.field(init=False)
    _held_next_try: float = attrs.field(init=False, default=0.0)
    _must_reload_held: bool = attrs.field(init=False, default=True)
    _must_resume: bool = attrs.field(init=False, default=True)

    def __attrs_post_init__(self) -> None:
        self._queue_states = deque(QueueState(queue, self.destination.batch_messages) for queue in self.queues)
        self._isolation = Isolation(
            send=self._send,
            deliver=self._deliver,
            settled=lambda: self._done,
            hold=self._hold,
            peek=self._peek,
            is_held=lambda message: key_of(message) in self._held,
        )
        now, ticks = self.clock(), self.monotonic()
        attempts = self.state.attempts(self.destination.name)
        for queue_state in self._queue_states:
            if queue_state.queue.name in attempts:
                queue_state.resume(attempts[queue_state.queue.name], now=now, ticks=ticks)
        if OUTAGE in attempts:
            self._outage.resume(attempts[OUTAGE], now=now, ticks=ticks)
        self._reload_held_users()

    def step(self) -> float:
        """Do the work that is due, and return the seconds to wait before the next step.

        Raises `FeedUnavailable` or `UnusableState` if the feed or the state cannot be used now; nothing is lost.
        """
        self._settle_pending()
        now, ticks = self.clock(), self.monotonic()
        pause = POLL_SECONDS
        for queue_state in tuple(self._queue_states):
            self._queue_states.rotate(-1)
            if (wait := self._wait_seconds(queue_state, ticks)) > 0:
                queue_state.queue.keep_alive(now)
                pause = min(pause, wait)
                continue
            count = self.destination.batch_messages if self._must_isolate(queue_state) else queue_state.count
            if waiting := self._take(queue_state, count, now):
                self._attempt(queue_state, waiting)
                return 0.0
        return pause

    def _wait_seconds(self, queue_state: QueueState, ticks: float) -> float:
        """Return for how many seconds a queue must not be tried."""
        times = [self._outage.next_try, queue_state.next_try]
        if isinstance(queue_state.queue, HeldQueue):
            # While the incoming queue fails, that queue is the one that detects recovery.
            times += [self._held_next_try, *(other.next_try for other in self._queue_states if other.queue.can_hold)]
        return max((time - ticks for time in times if time is not None), default=0.0)

    def _must_isolate(self, queue_state: QueueState) -> bool:
        return queue_state.queue.can_hold and queue_state.ambiguous_failures >= _ISOLATE_AFTER

    def _take(self, queue_state: QueueState, count: int, now: datetime) -> Sequence[Waiting]:
        """Take waiting messages, only as many as the held users among them can be held."""
        waiting = queue_state.queue.take(count=count, size=self.destination.batch_bytes, now=now)
        if not waiting or not queue_state.queue.can_hold:
            return waiting
        if self._must_hold(queue_state, waiting[0].message):
            self._make_room(waiting[0].message)
        capacity = self._capacity.copy()
        for index, (message, _) in enumerate(waiting):
            if self._must_hold(queue_state, message):
                if capacity.user_to_evict(message) is not None:
                    return waiting[:index]
                capacity.add(message)
        return waiting

    def _must_hold(self, queue_state: QueueState, message: FedMessage) -> bool:
        """Return whether a message waits for others of its user, and has not arrived as a probe."""
        is_held = queue_state.queue.can_hold and key_of(message) in self._held
        return is_held and not self._isolation.has_arrived(message)

    def _attempt(self, queue_state: QueueState, waiting: Sequence[Waiting]) -> None:
        self._done = 0
        messages = [message for message, _ in waiting]
        tried = len(messages)
        try:
            if self._must_resume and self._resume():
                return  # what was taken may have arrived already
            if self._must_isolate(queue_state):
                tried = 1
                self._isolation.run(queue_state, messages)
            else:
                self._deliver(queue_state, messages)
        except CursorMoved:
            self._must_resume = True
        except RetryLater as error:
            self._fail(queue_state, waiting[self._done : self._done + tried], error)

    def _resume(self) -> bool:
        """Let the queues go on from the cursors that the destination keeps; return whether any was elsewhere."""
        cursors = self.sender.cursors() if isinstance(self.sender, CursorKeepingSender) else None
        self._must_resume = False
        return cursors is not None and sum(queue.resume(cursors) for queue in self.queues) > 0

    def _peek(self, queue_state: QueueState, factor: int) -> Sequence[FedMessage]:
        count, size = self.destination.batch_messages * factor, self.destination.batch_bytes * factor
        return queue_state.queue.peek(count=count, size=size)

    def _deliver(self, queue_state: QueueState, messages: Sequence[FedMessage]) -> None:
        """Send messages, bisecting them if they are rejected, and settle them in order.  Raises `RetryLater`.

        Messages that are held back, or have arrived already, are settled with the others but not sent.
        """
        sent = self._to_send(queue_state, messages)
        try:
            refusals = (
                self._send([messages[index] for index in sent], self._cursors(queue_state, messages)) if sent else ()
            )
        except PermanentError as error:
            if error.divisible and len(sent) > 1:
                middle = sent[len(sent) // 2]
                self._deliver(queue_state, messages[:middle])
                self._deliver(queue_state, messages[middle:])
            else:
                self._settle(queue_state, messages, dict.fromkeys(sent, error.detail))
        else:
            refused = {sent[refusal.index]: refusal.detail for refusal in refusals}
            self._settle(queue_state, messages, refused, is_answer=bool(sent))

    def _to_send(self, queue_state: QueueState, messages: Sequence[FedMessage]) -> list[int]:
        """Return the indices of the messages that neither are held back nor have arrived already."""
        skips = queue_state.queue.can_hold
        return [index for index, one in enumerate(messages) if not (skips and self._isolation.is_skipped(one))]

    def _cursors(self, queue_state: QueueState, messages: Sequence[FedMessage]) -> Sequence[Cursor]:
        return queue_state.queue.cursors(messages) if isinstance(self.sender, CursorKeepingSender) else ()

    def _send(self, messages: Sequence[FedMessage], cursors: Sequence[Cursor] = ()) -> Sequence[MessageRefused]:
        started = self.monotonic()
        result = RETRY_LATER
        batch = DeliveryBatch(destination=self.destination.name, messages=messages, cursors=cursors)
        try:
            refusals = self.sender.send(batch)
            result = PARTIAL if refusals else DELIVERED
        except PermanentError:
            result = REJECTED
            raise
        except RetryLater:
            raise
        except Exception as error:  # noqa: BLE001 - a bug in a kind, or in a callable, loses nothing
            _log.error("%s: the sender failed: %s", self.destination.name, describe_unexpected(error))
            raise RetryLater(detail=f"the sender failed ({type(error).__name__})") from None
        finally:
            if self.on_attempt is not None:
                name, seconds = self.destination.name, self.monotonic() - started
                self.on_attempt(destination=name, result=result, seconds=seconds)
        return refusals

    def _hold(self, queue_state: QueueState, messages: Sequence[FedMessage], ambiguous_failures: int) -> None:
        """Hold back the user of the last of these messages; those before it are held or have arrived.

        `ambiguous_failures` is the count to go on with: it decides how soon another such user is searched for.
        """
        *passed, message = messages
        if passed:
            self._settle(queue_state, passed, {}, is_answer=False)
        self._make_room(message)
        _log.warning(
            "%s: accepts messages, but not those of one user of source %s; they are held back",
            self.destination.name,
            message.source,
        )
        self._held.add(key_of(message))
        self._settle(queue_state, [message], {})
        queue_state.ambiguous_failures = ambiguous_failures

    def _make_room(self, message: FedMessage) -> None:
        """Evict held users until one more message can be held."""
        while (user := self._capacity.user_to_evict(message)) is not None:
            _log.warning(
                "%s: %d messages of a user of source %s moved to the dead letters: %s",
                self.destination.name,
                user.messages,
                user.source,
                _EVICTED,
            )
            HeldQueue(self.destination.name, self.state, user).give_up(_EVICTED, self.clock())
            self._must_reload_held = True
            self._reload_held_users()

    def _settle(
        self,
        queue_state: QueueState,
        messages: Sequence[FedMessage],
        refused: Mapping[int, str],
        *,
        is_answer: bool = True,
    ) -> None:
        """Settle messages; `is_answer` means that the destination has just answered for them, or for others."""
        if is_answer:
            if queue_state.failures and not isinstance(queue_state.queue, HeldQueue):
                _log.info("%s: accepts messages again, after %d s", self.destination.name, queue_state.window.seconds)
            queue_state.reset()
            self._outage = Outage()
            queue_state.count = min(2 * queue_state.count, self.destination.batch_messages)
        self._write(queue_state, messages, refused, is_answer=is_answer)
        self._done += len(messages)

    def _fail(self, queue_state: QueueState, waiting: Sequence[Waiting], error: RetryLater) -> None:
        """Record a failed attempt, schedule the next one, and give up messages that have been tried for long enough."""
        now, ticks = self.clock(), self.monotonic()
        is_held_user = isinstance(queue_state.queue, HeldQueue) and not error.is_outage
        queue_state.failures += 1
        self._isolation.end_trust()
        queue_state.window.count(ticks, self.destination.retry_window, lambda: _ends(queue_state.queue))
        pause = self._pause(queue_state, error, ticks, len(waiting))
        if queue_state.failures == 1 and not is_held_user:
            _log.warning("%s: %s; retrying", self.destination.name, error.detail)
        attempts = [queue_state.attempts(now=now, pause=pause)]
        if error.is_outage:
            attempts.append(Attempts(OUTAGE, self._outage.failures, 0.0, "[]", now.timestamp(), pause))
        self.state.fail(
            self.destination.name,
            error.detail,
            now=now,
            attempts=attempts,
            failures=None if is_held_user else queue_state.failures,
            next_try_at=now + timedelta(seconds=pause),
        )
        self._give_up(queue_state, waiting, error, now)

    def _pause(self, queue_state: QueueState, error: RetryLater, ticks: float, count: int) -> float:
        """Decide how long to pause: all queues if the whole destination fails, else this one."""
        seconds = queue_state.window.seconds
        if error.is_outage:
            self._outage.failures += 1
            pause = backoff_seconds(self._outage.failures, failing_seconds=seconds, jitter=self.jitter())
            if error.retry_after is not None:
                pause = capped_retry_after(error.retry_after)
            self._outage.next_try = ticks + pause
            return pause
        pause = backoff_seconds(queue_state.failures, failing_seconds=seconds, jitter=self.jitter())
        queue_state.ambiguous_failures += 1
        queue_state.count = max(1, min(queue_state.count, count) // 2)
        queue_state.next_try = ticks + pause
        if isinstance(queue_state.queue, HeldQueue):
            self._held_next_try = ticks + min(pause, _HELD_PAUSE_SECONDS)
        return pause

    def _give_up(self, queue_state: QueueState, waiting: Sequence[Waiting], error: RetryLater, now: datetime) -> None:
        """Dead-letter messages whose retry window is over: first only the tried ones, which may be at fault.

        If the next attempt fails as well they were not at fault, and then every message that has waited as long goes
        too, so that the backlog does not grow for as long as the destination fails.
        """
        reason = f"not delivered within {self.destination.retry_window}; last: {error.detail}"
        while expired := self._expired(queue_state, waiting):
            refused = dict.fromkeys(self._to_send(queue_state, expired), reason)
            self._write(queue_state, expired, refused, is_answer=False)
            if isinstance(queue_state.queue, HeldQueue):  # each of its messages gets its own attempt
                queue_state.next_try = self._held_next_try = self.monotonic() + FIRST_SECONDS
                return
            if not queue_state.gave_up or len(expired) < len(waiting):
                queue_state.gave_up = True
                return
            waiting = self._take(queue_state, self.destination.batch_messages, now)

    def _expired(self, queue_state: QueueState, waiting: Sequence[Waiting]) -> list[FedMessage]:
        """Return the first messages, up to one whose retry window is not over."""
        window = self.destination.retry_window
        return [one.message for one in takewhile(lambda one: queue_state.window.is_over(one.place, window), waiting)]

    def _write(
        self, queue_state: QueueState, messages: Sequence[FedMessage], refused: Mapping[int, str], *, is_answer: bool
    ) -> None:
        """Settle, or keep the result for later if the state is not writable: no message that arrived is sent twice."""
        held = frozenset(index for index, message in enumerate(messages) if self._must_hold(queue_state, message))
        result = DeliveryResult(messages=messages, refused=refused, now=self.clock(), answered=is_answer, held=held)
        self._pending = queue_state.queue, result
        self._settle_pending()
        if refused and queue_state.queue.has_dead_letters:
            reason = next(iter(refused.values()))
            _log.warning("%s: %d moved to the dead letters: %s", self.destination.name, len(refused), reason)

    def _settle_pending(self) -> None:
        if self._pending is not None:
            queue, result = self._pending
            # An erasure may have deleted held messages.
            self._must_reload_held |= bool(result.held) or isinstance(queue, HeldQueue | ErasureQueue)
            queue.settle(result)
            self._pending = None
            if queue.can_hold:
                self._isolation.forget(result.messages)
        if self._must_reload_held:
            self._reload_held_users()

    def _reload_held_users(self) -> None:
        """Keep a queue state for each user that is held, and for no other."""
        users = {user.id: user for user in self.state.held_users(self.destination.name)}
        kept: deque[QueueState] = deque()
        for queue_state in self._queue_states:
            if not isinstance(queue_state.queue, HeldQueue):
                kept.append(queue_state)
            elif (user := users.get(queue_state.queue.user.id)) is not None:
                queue_state.queue.user = user
                kept.append(queue_state)
        known = {queue_state.queue.name for queue_state in kept}
        attempts = self.state.attempts(self.destination.name) if len(kept) < len(self.queues) + len(users) else {}
        kept.extend(self._state_of_held(user, attempts) for user in users.values() if user.queue_name not in known)
        self._queue_states = kept
        self._held = {user.key for user in users.values()}
        self._capacity = HeldCapacity({user.key: user for user in users.values()})
        self._must_reload_held = False

    def _state_of_held(self, user: HeldUser, attempts: Mapping[str, Attempts]) -> QueueState:
        """Build the state of a user who was held by another process, or just now, since an attempt has failed."""
        queue_state = QueueState(HeldQueue(self.destination.name, self.state, user), count=1, failures=1)
        ticks = self.monotonic()
        if user.queue_name in attempts:
            queue_state.resume(attempts[user.queue_name], now=self.clock(), ticks=ticks)
        else:
            queue_state.window.count(ticks, self.destination.retry_window, queue_state.queue.ends)
            queue_state.next_try = ticks + backoff_seconds(1, failing_seconds=0.0, jitter=self.jitter())
        return queue_state


def _ends(queue: DeliveryQueue) -> Mapping[str, int]:
    """Return how far a queue reaches; nothing if that is unknown now: the next failure asks again."""
    try:
        return queue.ends()
    except FeedUnavailable:
        return {}
