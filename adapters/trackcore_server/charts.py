"""What the charts of the debugger show: rates by source, rejections by code, and clock skew, over a time in buckets.

Theory.  Counts come from differences of sequence numbers, exactly; how a bucket divides among sources, and its clock
skew, come from up to 20 and up to 5 of its messages.  Buckets begin at multiples of their width, so one that is over
never changes and is counted once, for all pages.  A long time that was not looked at before is counted bucket by
bucket, newest first, a few in each answer; the others are null until then.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from statistics import median

import attrs
from trackcore_sqlite import SqliteBrowser, spread

from trackcore import JSONObject, format_timestamp
from trackcore.explain import explain_time
from trackcore.timestamps import EPOCH
from trackcore_server.lags import Lags

BUCKETS = 60
_AT_ONCE = 20
_AT_ONCE_WIDE = 4
_WIDE_SECONDS = 120
"""How many buckets are counted in one answer: few of those whose messages lie far apart in the file."""

_SAMPLED = 20
_SKEWS = 5
_REJECTED = 4_000
_REMEMBERED = 5_000
_FRESH = timedelta(seconds=2)
_SETTLED = timedelta(seconds=10)
"""How long after its end a bucket may still get messages: they are received before they are committed."""


@attrs.frozen
class _Bucket:
    """The messages of each source, and the least, median and largest clock skew in seconds."""

    sources: Mapping[str, float]
    skew: tuple[float, float, float] | None


@attrs.define
class Charts:
    """Counts what is in a log, and remembers."""

    _log: SqliteBrowser
    _clock: Callable[[], datetime]
    _lags: Lags
    _buckets: dict[tuple[int, int], _Bucket] = attrs.field(init=False, factory=dict)
    _answers: dict[int, tuple[datetime, JSONObject]] = attrs.field(init=False, factory=dict)
    _lock: threading.Lock = attrs.field(init=False, factory=threading.Lock)

    def of_last(self, seconds: int) -> JSONObject:
        """Count over about the last so many seconds.  All pages of a process share an answer for two seconds."""
        with self._lock:
            now = self._clock()
            made_at, charts = self._answers.get(seconds, (EPOCH, {}))
            if now - made_at > _FRESH:
                charts = self._charts(max(seconds // BUCKETS, 1), now)
                if len(self._answers) >= BUCKETS:
                    self._answers.clear()
                if not charts["isPartial"]:
                    self._answers[seconds] = now, charts
            return charts

    def _charts(self, width: int, now: datetime) -> JSONObject:
        last = int((now - EPOCH) / timedelta(seconds=width))
        places = range(last - BUCKETS + 1, last + 1)
        counted = self._counted(width, places, now)
        buckets = [counted.get(place) for place in places]
        since = EPOCH + timedelta(seconds=places[0] * width)
        rejected = self._log.count_rejected(since, _REJECTED)
        return {
            "since": format_timestamp(since),
            "bucketSeconds": width,
            "isPartial": None in buckets,
            "messages": _by_source(buckets),
            "rejected": _by_code(rejected, since, timedelta(seconds=width)),
            "rejectedAreCut": len(rejected) == _REJECTED,
            "delivery": self._lags.at(now),
            "clockSkew": [bucket and bucket.skew for bucket in buckets],
        }

    def _counted(self, width: int, places: Sequence[int], now: datetime) -> dict[int, _Bucket]:
        """Give the buckets that are counted by now: those that were, and the newest few of the others."""
        known = {place: self._buckets[width, place] for place in places if (width, place) in self._buckets}
        most = _AT_ONCE if width < _WIDE_SECONDS else _AT_ONCE_WIDE
        missing = [place for place in places if place not in known][-most:]
        fresh = self._count(width, missing)
        if len(self._buckets) > _REMEMBERED:
            self._buckets.clear()
        for place, bucket in fresh.items():
            if EPOCH + timedelta(seconds=(place + 1) * width) < now - _SETTLED:
                self._buckets[width, place] = bucket
        return known | fresh

    def _count(self, width: int, places: Sequence[int]) -> dict[int, _Bucket]:
        edges = sorted({edge for place in places for edge in (place, place + 1)})
        times = [EPOCH + timedelta(seconds=edge * width) for edge in edges]
        seq_at = dict(zip(edges, self._log.seqs_at(times), strict=True))
        samples = {place: spread(seq_at[place], seq_at[place + 1], _SAMPLED) for place in places}
        source_of = self._log.sources_of([seq for sample in samples.values() for seq in sample])
        skewed = {place: sample[:: max(len(sample) // _SKEWS, 1)][:_SKEWS] for place, sample in samples.items()}
        messages = self._log.sample([seq for sample in skewed.values() for seq in sample])
        skew_of = {stored.seq: explain_time(stored.message).clock_skew for stored in messages}
        return {
            place: _Bucket(
                _divided(seq_at[place + 1] - seq_at[place], [source_of[seq] for seq in sample if seq in source_of]),
                _skew([skew_of.get(seq) for seq in skewed[place]]),
            )
            for place, sample in samples.items()
        }


def _divided(count: int, sources: Sequence[str]) -> Mapping[str, float]:
    """Divide a count among sources as they are among a sample."""
    return {source: round(count * share / len(sources), 1) for source, share in Counter(sources).items()}


def _skew(skews: Sequence[timedelta | None]) -> tuple[float, float, float] | None:
    known = [skew.total_seconds() for skew in skews if skew is not None]
    return (min(known), median(known), max(known)) if known else None


def _by_source(buckets: Sequence[_Bucket | None]) -> Mapping[str, list[float | None]]:
    names = sorted({name for bucket in buckets if bucket for name in bucket.sources})
    return {name: [None if bucket is None else bucket.sources.get(name, 0) for bucket in buckets] for name in names}


def _by_code(rejected: Sequence[tuple[datetime, str]], since: datetime, width: timedelta) -> Mapping[str, list[int]]:
    counts: dict[str, list[int]] = defaultdict(lambda: [0] * BUCKETS)
    for received_at, code in rejected:
        counts[code][min((received_at - since) // width, BUCKETS - 1)] += 1
    return counts
