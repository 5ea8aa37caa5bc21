"""What the charts of the debugger show: rates by source, rejections by code, and clock skew, over a time in buckets.

Counts come from differences of sequence numbers, exactly; how a bucket divides among sources comes from up to 60 of its
messages, and clock skew from up to 5.  All pages of a process share an answer for a second.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import median

import attrs
from trackcore_sqlite import SqliteBrowser, spread

from trackcore import JSONObject, format_timestamp
from trackcore.explain import explain_time

BUCKETS = 60
_SAMPLED = 60
_SKEWS = 5
_REJECTED = 5_000
_FRESH = timedelta(seconds=1)


@attrs.define
class Charts:
    """Counts what is in a log, and remembers for a second."""

    _log: SqliteBrowser
    _clock: Callable[[], datetime]
    _remembered: dict[int, tuple[datetime, JSONObject]] = attrs.field(init=False, factory=dict)
    _lock: threading.Lock = attrs.field(init=False, factory=threading.Lock)

    def of_last(self, seconds: int) -> JSONObject:
        """Count over the last so many seconds."""
        now = self._clock()
        with self._lock:
            made_at, charts = self._remembered.get(seconds, (now - 2 * _FRESH, {}))
            if now - made_at > _FRESH:
                if len(self._remembered) >= BUCKETS:
                    self._remembered.clear()
                charts = self._count(seconds, now)
                self._remembered[seconds] = now, charts
            return charts

    def _count(self, seconds: int, now: datetime) -> JSONObject:
        width = timedelta(seconds=seconds) / BUCKETS
        start = now - timedelta(seconds=seconds)
        edges = [start + width * place for place in range(BUCKETS)]
        seqs = [*self._log.seqs_at(edges), self._log.ends()["messages"]]
        rejected = self._log.count_rejected(start, _REJECTED)
        return {
            "since": format_timestamp(start),
            "seconds": seconds,
            "bucketSeconds": width.total_seconds(),
            "messages": self._by_source(seqs),
            "rejected": _by_code(rejected, start, width),
            "rejectedAreCut": len(rejected) == _REJECTED,
            "clockSkew": self._skews(seqs),
        }

    def _by_source(self, seqs: Sequence[int]) -> Mapping[str, list[float]]:
        """Divide the count of each bucket among the sources, as they are among a sample of it."""
        samples = [spread(low, high, _SAMPLED) for low, high in pairwise(seqs)]
        source_of = self._log.sources_of([seq for sample in samples for seq in sample])
        counts: dict[str, list[float]] = defaultdict(lambda: [0.0] * BUCKETS)
        for bucket, (sample, (low, high)) in enumerate(zip(samples, pairwise(seqs), strict=True)):
            found = Counter(source_of[seq] for seq in sample if seq in source_of)
            for source, share in found.items():
                counts[source][bucket] = round((high - low) * share / found.total(), 1)
        return counts

    def _skews(self, seqs: Sequence[int]) -> list[list[float] | None]:
        """Give the least, the median and the largest skew of a sample of each bucket, in seconds."""
        samples = [spread(low, high, _SKEWS) for low, high in pairwise(seqs)]
        messages = self._log.sample([seq for sample in samples for seq in sample])
        skew_of = {stored.seq: explain_time(stored.message).clock_skew for stored in messages}
        return [_spread_of([skew_of.get(seq) for seq in sample]) for sample in samples]


def _spread_of(skews: Sequence[timedelta | None]) -> list[float] | None:
    known = [skew.total_seconds() for skew in skews if skew is not None]
    return [min(known), median(known), max(known)] if known else None


def _by_code(
    rejected: Sequence[tuple[datetime, str]], start: datetime, width: timedelta
) -> Mapping[str, Sequence[int]]:
    counts: dict[str, list[int]] = defaultdict(lambda: [0] * BUCKETS)
    for received_at, code in rejected:
        counts[code][min((received_at - start) // width, BUCKETS - 1)] += 1
    return counts
