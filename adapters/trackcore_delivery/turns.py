"""Turns: the processes that fill the tables of one destination share them, and one at a time may have them alone.

Batches of delivery, and those of a rebuild, are stored in shared turns.  Persons are forgotten, and tables are swapped,
in a turn alone: no batch that was read from the log before is under way then.

Two locks on files, which the system releases however a process ends.  A process that takes a turn holds the first lock
until it has the second; so one that waits for a turn alone is passed by no other, however many take shared ones.

A child of a fork closes the files without unlocking them, which would take the locks from its parent.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import attrs
from trackcore_forks import delay_forks, renew_in_forks

from trackcore_delivery.erasures import ErasureRequest, Forgetting
from trackcore_delivery.sending import CursorKeepingSender, DeliveryBatch, MessageRefused, RetryLater, Sender

PATIENCE_SECONDS = 5.0
"""How long a batch of delivery waits for its turn before it is reported as waiting."""

ERASURE_PATIENCE_SECONDS = 60.0
"""How long a request to forget persons waits: batches under way may be large."""

_POLL_SECONDS = 0.02


@attrs.define(eq=False)
class Turns:
    """The turns of one destination; `path` is the first of the two files, beside which the second is."""

    path: Path
    _descriptors: set[int] = attrs.field(init=False, factory=set)

    def __attrs_post_init__(self) -> None:
        renew_in_forks(self)

    @contextmanager
    def shared(self, patience: float | None = None) -> Iterator[None]:
        """Take a turn beside others.  Raises `RetryLater` after `patience` seconds, if that is given."""
        deadline = _deadline(patience)
        with self._lock(self.path, fcntl.LOCK_EX, deadline) as first:
            second = self._locked(self._second, fcntl.LOCK_SH, deadline)
            self._close(first)
            try:
                yield
            finally:
                self._close(second)

    @contextmanager
    def alone(self, patience: float | None = None) -> Iterator[None]:
        """Take a turn alone.  Raises `RetryLater` after `patience` seconds, if that is given."""
        deadline = _deadline(patience)
        with self._lock(self.path, fcntl.LOCK_EX, deadline), self._lock(self._second, fcntl.LOCK_EX, deadline):
            yield

    def renew_after_fork(self) -> None:
        """Close the files of the parent in a child."""
        for descriptor in tuple(self._descriptors):
            self._close(descriptor)

    @property
    def _second(self) -> Path:
        return self.path.with_name(f"{self.path.name}.alone")

    @contextmanager
    def _lock(self, path: Path, operation: int, deadline: float | None) -> Iterator[int]:
        descriptor = self._locked(path, operation, deadline)
        try:
            yield descriptor
        finally:
            self._close(descriptor)

    def _locked(self, path: Path, operation: int, deadline: float | None) -> int:
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with delay_forks():  # a child must know of each open file
                descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
                self._descriptors.add(descriptor)
        except OSError as error:
            raise RetryLater(detail=f"{path}: {error.strerror}", of_destination=True) from error
        try:
            _wait_for_lock(descriptor, operation, deadline)
        except BaseException:
            self._close(descriptor)
            raise
        return descriptor

    def _close(self, descriptor: int) -> None:
        if descriptor in self._descriptors:
            self._descriptors.discard(descriptor)
            os.close(descriptor)


@attrs.frozen
class TurnTakingSender:
    """Passes batches and requests to a sender whose destination can forget, each in its turn."""

    _sender: ForgettingSender
    _turns: Turns

    def send(self, batch: DeliveryBatch) -> Sequence[MessageRefused]:
        """See `Sender.send`."""
        with self._turns.shared(PATIENCE_SECONDS):
            return self._sender.send(batch)

    def forget(self, request: ErasureRequest) -> None:
        """See `Forgetting.forget`."""
        with self._turns.alone(ERASURE_PATIENCE_SECONDS):
            self._sender.forget(request)

    def close(self) -> None:
        """See `Sender.close`."""
        self._sender.close()


@attrs.frozen
class TurnTakingCursorKeeper(TurnTakingSender):
    """The same, to a destination that keeps cursors."""

    _cursor_keeper: CursorKeepingSender

    def cursors(self) -> Mapping[str, str]:
        """See `CursorKeepingSender.cursors`."""
        return self._cursor_keeper.cursors()


class ForgettingSender(Sender, Forgetting, Protocol):
    """A sender whose destination can forget persons."""


def taking_turns(sender: ForgettingSender, turns: Turns) -> ForgettingSender:
    """Return a sender that does everything in its turn."""
    if isinstance(sender, CursorKeepingSender):
        return TurnTakingCursorKeeper(sender, turns, sender)
    return TurnTakingSender(sender, turns)


def _deadline(patience: float | None) -> float | None:
    return None if patience is None else time.monotonic() + patience


def _wait_for_lock(descriptor: int, operation: int, deadline: float | None) -> None:
    while True:
        try:
            fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
        except BlockingIOError:
            if deadline is not None and time.monotonic() >= deadline:
                detail = "its tables are being swapped after a rebuild, or persons forgotten in them"
                raise RetryLater(detail=detail, of_destination=True) from None
            time.sleep(_POLL_SECONDS)
        else:
            return
