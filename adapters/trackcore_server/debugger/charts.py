"""The charts of the debugger: rates by source, rejections by code, and clock skew, as histograms over time.

Theory.  An answer has a deadline, however much there is to count.  Buckets not counted by then are null, and are
counted for the next answer; all pages share the counted buckets.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta

import attrs
from trackcore_forks import renew_in_forks
from trackcore_sqlite import Head, SqliteBrowser

from trackcore import JSONObject, format_timestamp
from trackcore.support import EPOCH
from trackcore_server.debugger.deadline import Deadline
from trackcore_server.debugger.delivery_lag import DeliveryLag
from trackcore_server.debugger.histogram import Bucket, MessageHistogram
from trackcore_server.debugger.rejection_counts import MAX_REJECTIONS, RecentRejections

BUCKETS = 60
SECONDS = 0.02
"""How long to count for one answer.  A bucket that was begun is finished."""

_WAIT_SECONDS = 0.03
"""How long an answer waits for the counting thread before it returns without: a read may hang on a busy disk."""

_FRESH_SECONDS = 2.0
_FRESH_PARTIAL_SECONDS = 0.2


@attrs.define(eq=False)
class Charts:
    """Counts the records of a log, and caches the counts."""

    _log: SqliteBrowser
    _clock: Callable[[], datetime]
    _lags: DeliveryLag
    _deadline: Callable[[], Deadline] = lambda: Deadline(SECONDS)
    _monotonic: Callable[[], float] = time.monotonic
    _histogram: MessageHistogram = attrs.field(init=False)
    _rejections: RecentRejections = attrs.field(init=False)
    _answers: dict[int, tuple[float, JSONObject]] = attrs.field(init=False, factory=dict)
    _counting: dict[int, Future[JSONObject]] = attrs.field(init=False, factory=dict)
    _counter: ThreadPoolExecutor = attrs.field(init=False, factory=lambda: ThreadPoolExecutor(1, "charts"))
    _lock: threading.Lock = attrs.field(init=False, factory=threading.Lock)

    _head: Head | None = attrs.field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self._forget()
        renew_in_forks(self)

    def renew_after_fork(self) -> None:
        """Reset after a fork: the child must not use the lock and the counting thread of its parent."""
        self._lock = threading.Lock()
        self._counter = ThreadPoolExecutor(1, "charts")
        self._counting = {}

    def of_last(self, seconds: int) -> JSONObject:
        """Return the charts of about the last `seconds`.  All pages of a process share an answer for two seconds."""
        with self._lock:
            now = self._clock()
            fresh_until, charts = self._answers.get(seconds, (0.0, None))
            if charts is not None and self._monotonic() < fresh_until:
                return charts
            counting = self._counting.get(seconds)
            if counting is None:
                counting = self._counting[seconds] = self._counter.submit(self._count, seconds, now)
        try:
            return counting.result(_WAIT_SECONDS)
        except TimeoutError:
            return {**(charts or self._nothing(_width(seconds), now)), "isPartial": True}

    def _count(self, seconds: int, now: datetime) -> JSONObject:
        """Count in the counting thread: one answer at a time, for as long as the disk takes."""
        try:
            charts = self._charts(_width(seconds), now)
            with self._lock:
                if len(self._answers) >= BUCKETS:
                    self._answers.clear()
                fresh = _FRESH_PARTIAL_SECONDS if charts["isPartial"] else _FRESH_SECONDS
                self._answers[seconds] = self._monotonic() + fresh, charts
        finally:
            with self._lock:
                del self._counting[seconds]
        return charts

    def _check_log(self) -> None:
        """Clear the counts if the log was replaced or rewound since."""
        before, self._head = self._head, self._log.head()
        if before is not None and not self._log.has_grown_from(before.stretch, before.ends):
            self._forget()

    def _forget(self) -> None:
        self._histogram = MessageHistogram(self._log)
        self._rejections = RecentRejections(self._log)

    @staticmethod
    def _nothing(width: int, now: datetime) -> JSONObject:
        """Return the charts while nothing is counted."""
        return {
            "since": format_timestamp(EPOCH + timedelta(seconds=_places(width, now)[0] * width)),
            "bucketSeconds": width,
            "isPartial": True,
            "messages": {},
            "rejected": {},
            "rejectedAreCut": False,
            "delivery": [],
            "clockSkew": [None] * BUCKETS,
        }

    def _charts(self, width: int, now: datetime) -> JSONObject:
        deadline = self._deadline()
        places = _places(width, now)
        since = EPOCH + timedelta(seconds=places[0] * width)
        self._check_log()
        counted = self._histogram.count(width, places, now, deadline)
        buckets = [counted.get(place) for place in places]
        rejected, is_whole = self._rejections.since(since, self._log.ends()["rejected"], deadline)
        return {
            **self._nothing(width, now),
            "isPartial": len(counted) < BUCKETS or not is_whole,
            "messages": _by_source(buckets),
            "rejected": _by_code(rejected, since, timedelta(seconds=width)),
            "rejectedAreCut": len(rejected) == MAX_REJECTIONS,
            "delivery": self._lags.at(now),
            "clockSkew": [bucket and bucket.skew for bucket in buckets],
        }


def _width(seconds: int) -> int:
    return max(seconds // BUCKETS, 1)


def _places(width: int, now: datetime) -> range:
    last = int((now - EPOCH) / timedelta(seconds=width))
    return range(last - BUCKETS + 1, last + 1)


def _by_source(buckets: Sequence[Bucket | None]) -> Mapping[str, list[float | None]]:
    names = sorted({name for bucket in buckets if bucket for name in bucket.sources})
    return {name: [None if bucket is None else bucket.sources.get(name, 0) for bucket in buckets] for name in names}


def _by_code(rejected: Sequence[tuple[datetime, str]], since: datetime, width: timedelta) -> Mapping[str, list[int]]:
    counts: dict[str, list[int]] = defaultdict(lambda: [0] * BUCKETS)
    for received_at, code in rejected:
        counts[code][min((received_at - since) // width, BUCKETS - 1)] += 1
    return counts
