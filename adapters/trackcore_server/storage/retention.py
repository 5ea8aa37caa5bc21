"""Retention by configuration: records older than `log.keep` are deleted while the server runs.

Each worker checks the log now and then, in a separate thread.  Two at once do no harm: each deletes the records that
are the oldest at that moment.

Theory.  A clock that is a year ahead makes everything a year old, and deleting cannot be undone.  So a clock that has
jumped ahead by more than a day is not believed before it has stood there for a day: until then time goes on from where
it was.  A process that starts reads that time from the log: it is the time of the newest message.  If a gap of more
than a day is followed by messages of less than a day, the log does not show yet that the clock was right about the gap;
then the time is that before the gap, plus the time since.  A clock that is set back is believed at once, so messages
that are later than the newest one do not count.

The price is that after a quiet time, or a stop, of more than a day it takes up to a day until everything that is old
enough is deleted.  If the server restarts more often than that, it takes until messages of more than a day have come.
"""

from __future__ import annotations

import logging
import threading
import time
from bisect import bisect_left
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs
from trackcore_sqlite import SqliteBrowser, prune

from trackcore import TrackcoreError

_DAY = timedelta(days=1)

log = logging.getLogger("trackcore.retention")

EVERY = timedelta(minutes=10)


def start_retention(
    path: Path, keep: timedelta, *, up_to: Callable[[], int | None] = lambda: None, every: timedelta = EVERY
) -> Callable[[], None]:
    """Start to delete records received longer ago than `keep`, repeatedly; return the function that stops it.

    Messages behind the sequence number that `up_to` returns are kept, whatever their age.
    """
    stopped = threading.Event()
    believed = BelievedTime(time_of_log(path) or datetime.now(UTC), time.monotonic())

    def run() -> None:
        while not stopped.wait(every.total_seconds()):
            now = believed.at(datetime.now(UTC), time.monotonic())
            _prune_once(path, now - keep, up_to, stopped)

    thread = threading.Thread(target=run, name="trackcore-retention", daemon=True)
    thread.start()

    def stop() -> None:
        stopped.set()
        thread.join()

    return stop


@attrs.define
class BelievedTime:
    """The time by which ages are measured, see above.  `_ticks` and `_doubted_since` are of the monotonic clock."""

    _time: datetime
    _ticks: float
    _doubted_since: float | None = attrs.field(init=False, default=None)

    def at(self, now: datetime, ticks: float) -> datetime:
        """Return the time that is believed when the wall clock shows `now`."""
        expected = self._time + timedelta(seconds=ticks - self._ticks)
        if now - expected <= _DAY:
            self._doubted_since = None
        elif self._doubted_since is None:
            self._doubted_since = ticks
            log.warning(
                "the clock is %s ahead of the log; for a day nothing is deleted because of that", now - expected
            )
        is_doubted = self._doubted_since is not None and ticks - self._doubted_since < _DAY.total_seconds()
        self._time, self._ticks = expected if is_doubted else now, ticks
        return self._time


def time_of_log(path: Path) -> datetime | None:
    """Return the time up to which a log shows that its clock was right; None if it has no messages."""
    try:
        browser = SqliteBrowser(path)
        end = browser.ends()["messages"]
        newest = browser.time_before("messages", end + 1)
        if newest is None:
            return None
        last, first = _around(browser, newest, end)
    except TrackcoreError:
        return None  # the next deletion reports the reason
    if last is None or first - last <= _DAY:
        return newest
    return last + (newest - first)


def _around(browser: SqliteBrowser, newest: datetime, end: int) -> tuple[datetime | None, datetime]:
    """Return the times of the last message from before the day that ends with the newest one, and of the first since.

    Messages of a time after the newest one, of a clock that was ahead and was corrected, are skipped: bisection takes
    them for messages of that day, even if messages from before that day follow them.
    """
    known = browser.first_seq() - 1
    while True:
        (known,) = browser.seqs_at([newest - _DAY], low=known, high=end)
        last = browser.time_before("messages", known + 1)
        following = _first_up_to(browser, newest, known + 1, end)
        first = browser.time_after("messages", following - 1) or newest
        if first >= newest - _DAY:
            return last, first
        known = following


def _first_up_to(browser: SqliteBrowser, newest: datetime, low: int, high: int) -> int:
    """Return the number of the first message that is not later than the newest one; there may be a block of later ones.

    It is found by bisection.  With several blocks it may be one behind the last: then the gap seems the longer.
    """

    def is_in_order(seq: int) -> bool:
        at = browser.time_after("messages", seq - 1)
        return at is None or at <= newest

    if low >= high or is_in_order(low):
        return low
    return bisect_left(range(high), True, low + 1, key=is_in_order)  # noqa: FBT003 - the value to look for


def _prune_once(path: Path, before: datetime, up_to: Callable[[], int | None], stopped: threading.Event) -> None:
    deleted = 0
    try:
        for step in prune(path, before, up_to=up_to()):
            deleted += step.deleted
            if stopped.is_set():
                break
    except (TrackcoreError, OSError) as error:
        log.warning("cannot delete what was received before %s: %s", before, error)
    if deleted:
        log.info("deleted %d records received before %s", deleted, before)
