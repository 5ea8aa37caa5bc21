"""Counting messages in buckets of time: exactly, by sequence numbers, and what they are like, by a sample of each.

Theory.  A bucket begins where the messages of an earlier time end: two sequence numbers, found by bisection, give its
count.  How it divides among sources, and its clock skew, come from up to 20 and up to 5 of its messages.  Buckets begin
at multiples of their width, and one that has been over for a while never changes, so it is counted once, for all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import chain
from statistics import median

import attrs
from trackcore_sqlite import Sampled, SqliteBrowser, spread

from trackcore import correct_clock_skew, parse_timestamp
from trackcore.timestamps import EPOCH
from trackcore_server.debugger.deadline import Deadline

_SAMPLED = 20
_SKEWS = 5
_REMEMBERED = 5_000
_LEAST_AT_ONCE = 1
_SECONDS_AT_ONCE = 30
"""How many buckets are counted at once: of this time, whose messages lie together and were written just now, or one at
least.  Of a wide bucket each message of the sample may have to be read from disk."""

_SETTLED = timedelta(seconds=10)
"""How long after its end a bucket may still get messages: they are received before they are committed."""


@attrs.frozen
class Bucket:
    """The messages of each source, and the least, median and largest clock skew in seconds."""

    sources: Mapping[str, float]
    skew: tuple[float, float, float] | None


@attrs.define
class MessageHistogram:
    """Counts, and remembers: where times lie in the log, and what is between two places in it."""

    _log: SqliteBrowser
    _seqs: dict[int, int] = attrs.field(init=False, factory=dict)
    _counted: dict[tuple[int, int], Bucket] = attrs.field(init=False, factory=dict)
    _counted_at: datetime = attrs.field(init=False, default=EPOCH)

    def count(self, width: int, places: Sequence[int], now: datetime, budget: Deadline) -> Mapping[int, Bucket]:
        """Count the buckets of `width` seconds at these places, up to now, the last first, until the time is over.

        Those that are known already are always among them, those that may still grow, and one more at least.
        """
        is_put_back = now < self._counted_at  # what was remembered of times that are yet to come is wrong
        self._counted_at = now
        if is_put_back or max(len(self._seqs), len(self._counted)) > _REMEMBERED:
            self._counted.clear()
            self._seqs.clear()
        bounds = self._log.first_seq() - 1, self._log.ends()["messages"]
        seqs = {edge: self._seqs[edge] for place in (*places, places[-1] + 1) if (edge := place * width) in self._seqs}
        rest = [place for place in reversed(places) if self._pair(place, width, seqs) not in self._counted]
        settled = (now - _SETTLED - EPOCH).total_seconds()
        count = max(_SECONDS_AT_ONCE // width, _LEAST_AT_ONCE)
        seqs[(places[-1] + 1) * width] = bounds[1]
        while rest:
            group, rest = rest[:count], rest[count:]
            may_stop = (group[0] + 1) * width < settled
            edges = {edge * width for place in group for edge in (place, place + 1)}
            if self._find(edges, seqs, settled, bounds) and may_stop and budget.is_spent():
                break
            self._look_into([(seqs[place * width], seqs[(place + 1) * width]) for place in group])
            if may_stop and budget.is_spent():
                break
        counted = {place: self._counted.get(self._pair(place, width, seqs)) for place in places}
        return {place: bucket for place, bucket in counted.items() if bucket is not None}

    @staticmethod
    def _pair(place: int, width: int, seqs: Mapping[int, int]) -> tuple[int, int]:
        """Give where a bucket begins and ends; -1 is where that is not known yet."""
        return seqs.get(place * width, -1), seqs.get((place + 1) * width, -1)

    def _find(self, seconds: set[int], seqs: dict[int, int], settled: float, bounds: tuple[int, int]) -> bool:
        """Find where these times lie, in seconds since 1970, and remember for good what cannot change any more.

        Return whether anything had to be looked for.
        """
        missing = sorted(seconds - seqs.keys())
        if not missing:
            return False
        later = min((seq for second, seq in seqs.items() if second > missing[-1]), default=bounds[1])
        times = [EPOCH + timedelta(seconds=second) for second in missing]
        for second, seq in zip(missing, self._log.seqs_at(times, low=bounds[0], high=later), strict=True):
            seqs[second] = seq
            if second < settled:
                self._seqs[second] = seq
        return True

    def _look_into(self, pairs: Sequence[tuple[int, int]]) -> None:
        self._counted.update({pair: _EMPTY for pair in pairs if pair[0] >= pair[1]})
        missing = [pair for pair in pairs if pair not in self._counted]
        if not missing:
            return
        spreads = {pair: _spread(*pair) for pair in missing}
        skewed = [seq for seqs in spreads.values() for seq in seqs[:: max(len(seqs) // _SKEWS, 1)][:_SKEWS]]
        sample = {one.seq: one for one in self._log.sampled([*chain.from_iterable(spreads.values())], skewed)}
        for pair, seqs in spreads.items():
            found = [sample[seq] for seq in seqs if seq in sample]
            self._counted[pair] = Bucket(_divided(pair[1] - pair[0], [one.source for one in found]), _skew(found))


_EMPTY = Bucket({}, None)


def _spread(after: int, to: int) -> list[int]:
    """Choose a sample: pairs of neighbours, since these are mostly read at once."""
    if to - after <= _SAMPLED:
        return [*range(after + 1, to + 1)]
    return [seq for first in spread(after, to - 1, _SAMPLED // 2) for seq in (first, first + 1)]


def _divided(count: int, sources: Sequence[str]) -> Mapping[str, float]:
    """Divide a count among sources as they are among a sample."""
    return {source: round(count * share / len(sources), 1) for source, share in Counter(sources).items()}


def _skew(sample: Sequence[Sampled]) -> tuple[float, float, float] | None:
    known = [skew.total_seconds() for skew in map(_clock_skew, sample) if skew is not None]
    return (min(known), median(known), max(known)) if known else None


def _clock_skew(sampled: Sampled) -> timedelta | None:
    sent_at = parse_timestamp(sampled.sent_at)
    return correct_clock_skew(received_at=sampled.received_at, sent_at=sent_at, original_timestamp=None).clock_skew
