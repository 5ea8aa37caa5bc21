"""What the charts of the debugger show: rates by source, rejections by code, and clock skew, over a time in buckets.

Theory.  An answer has a time, whatever there is to count.  What was not counted within it is null, and is counted for
the next answer; all pages share what has been counted.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

import attrs
from trackcore_sqlite import SqliteBrowser

from trackcore import JSONObject, format_timestamp
from trackcore.timestamps import EPOCH
from trackcore_server.buckets import Bucket, Buckets
from trackcore_server.budget import Budget
from trackcore_server.lags import Lags
from trackcore_server.refusals import MOST, Refusals

BUCKETS = 60
SECONDS = 0.02
"""How long is counted for one answer.  A bucket that was begun is ended."""

_FRESH = timedelta(seconds=2)
_FRESH_PARTIAL = timedelta(seconds=0.2)


@attrs.define
class Charts:
    """Counts what is in a log, and remembers."""

    _log: SqliteBrowser
    _clock: Callable[[], datetime]
    _lags: Lags
    _budget: Callable[[], Budget] = lambda: Budget(SECONDS)
    _buckets: Buckets = attrs.field(init=False)
    _refusals: Refusals = attrs.field(init=False)
    _answers: dict[int, tuple[datetime, JSONObject]] = attrs.field(init=False, factory=dict)
    _lock: threading.Lock = attrs.field(init=False, factory=threading.Lock)

    def __attrs_post_init__(self) -> None:
        self._buckets = Buckets(self._log)
        self._refusals = Refusals(self._log)

    def of_last(self, seconds: int) -> JSONObject:
        """Count over about the last so many seconds.  All pages of a process share an answer for two seconds."""
        with self._lock:
            now = self._clock()
            fresh_until, charts = self._answers.get(seconds, (EPOCH, {}))
            if now >= fresh_until:
                charts = self._charts(max(seconds // BUCKETS, 1), now)
                if len(self._answers) >= BUCKETS:
                    self._answers.clear()
                self._answers[seconds] = now + (_FRESH_PARTIAL if charts["isPartial"] else _FRESH), charts
            return charts

    def _charts(self, width: int, now: datetime) -> JSONObject:
        budget = self._budget()
        last = int((now - EPOCH) / timedelta(seconds=width))
        places = range(last - BUCKETS + 1, last + 1)
        since = EPOCH + timedelta(seconds=places[0] * width)
        counted = self._buckets.count(width, places, now, budget)
        buckets = [counted.get(place) for place in places]
        rejected, is_whole = self._refusals.since(since, self._log.ends()["rejected"], budget)
        return {
            "since": format_timestamp(since),
            "bucketSeconds": width,
            "isPartial": len(counted) < BUCKETS or not is_whole,
            "messages": _by_source(buckets),
            "rejected": _by_code(rejected, since, timedelta(seconds=width)),
            "rejectedAreCut": len(rejected) == MOST,
            "delivery": self._lags.at(now),
            "clockSkew": [bucket and bucket.skew for bucket in buckets],
        }


def _by_source(buckets: Sequence[Bucket | None]) -> Mapping[str, list[float | None]]:
    names = sorted({name for bucket in buckets if bucket for name in bucket.sources})
    return {name: [None if bucket is None else bucket.sources.get(name, 0) for bucket in buckets] for name in names}


def _by_code(rejected: Sequence[tuple[datetime, str]], since: datetime, width: timedelta) -> Mapping[str, list[int]]:
    counts: dict[str, list[int]] = defaultdict(lambda: [0] * BUCKETS)
    for received_at, code in rejected:
        counts[code][min((received_at - since) // width, BUCKETS - 1)] += 1
    return counts
