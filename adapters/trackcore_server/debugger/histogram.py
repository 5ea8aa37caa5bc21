"""Histograms of messages over time: exact counts by sequence numbers, and sources and clock skew by samples.

Theory.  The count of a bucket is the difference of two sequence numbers, found by bisecting the log for the times at
which it begins and ends.  Its sources come from a sample of up to 20 of its messages, its clock skew from up to 5.
Buckets begin at multiples of their width, and a bucket that ended a while ago never changes, so it is counted only
once.
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
from trackcore.support import EPOCH
from trackcore_server.debugger.deadline import Deadline

_SAMPLED = 20
_SKEWS = 5
_REMEMBERED = 5_000
_SECONDS_AT_ONCE = 30
"""How many buckets are counted at once: those of this time, whose messages are close together, and at least one.
For a wide bucket each message of the sample may have to be read from disk."""

_SETTLED = timedelta(seconds=10)
"""How long after its end a bucket may still get messages: they are committed after they are received."""


@attrs.frozen
class Bucket:
    """The number of messages of each source, and the clock skew in seconds: minimum, median, maximum, of how many."""

    sources: Mapping[str, float]
    skew: tuple[float, float, float, int] | None


@attrs.define
class MessageHistogram:
    """Counts messages, and caches the sequence numbers of times and the buckets between two of them."""

    _log: SqliteBrowser
    _seqs: dict[int, int] = attrs.field(init=False, factory=dict)
    _counted: dict[tuple[int, int], Bucket] = attrs.field(init=False, factory=dict)
    _counted_at: datetime = attrs.field(init=False, default=EPOCH)

    def count(self, width: int, places: Sequence[int], now: datetime, deadline: Deadline) -> Mapping[int, Bucket]:
        """Count the buckets of `width` seconds at these places, up to now, the last first, until the deadline.

        The result always has the cached buckets and those that may still grow.  Each call makes progress on one more.
        """
        is_put_back = now < self._counted_at  # the clock was set back: cached counts of future times are wrong
        self._counted_at = now
        if is_put_back or max(len(self._seqs), len(self._counted)) > _REMEMBERED:
            self._counted.clear()
            self._seqs.clear()
        bounds = self._log.first_seq() - 1, self._log.ends()["messages"]
        # A bucket is cached by the sequence numbers at its edges, and an edge only once it is settled.  So a bucket
        # with an unknown edge counts as missing.  The newest bucket ends at the end of the log, and is counted again
        # whenever the log has grown: the end is a new number, under which no bucket is cached.
        seqs = {edge: self._seqs[edge] for place in (*places, places[-1] + 1) if (edge := place * width) in self._seqs}
        rest = [place for place in reversed(places) if self._pair(place, width, seqs) not in self._counted]
        settled = (now - _SETTLED - EPOCH).total_seconds()
        count = max(_SECONDS_AT_ONCE // width, 1)
        seqs[(places[-1] + 1) * width] = bounds[1]
        while rest:
            group, rest = rest[:count], rest[count:]
            # The newest buckets, which may still grow, are counted whatever the deadline: a chart without them would
            # look as if nothing arrived.  `rest` starts with them, so the deadline can only cut off older ones; those
            # are null in this answer, and the next one finds more of them cached.
            may_stop = (group[0] + 1) * width < settled
            edges = {edge * width for place in group for edge in (place, place + 1)}
            # Bisecting may take all the time by itself.  Stopping after it loses nothing, since the edges are cached
            # now: the next call finds them there, `_find` returns False, and the group is sampled even if its deadline
            # is over.  Without that exception a slow disk could keep every call from counting anything.
            if self._find(edges, seqs, settled, bounds) and may_stop and deadline.is_spent():
                break
            self._sample([(seqs[place * width], seqs[(place + 1) * width]) for place in group])
            if may_stop and deadline.is_spent():
                break
        counted = {place: self._counted.get(self._pair(place, width, seqs)) for place in places}
        return {place: bucket for place, bucket in counted.items() if bucket is not None}

    @staticmethod
    def _pair(place: int, width: int, seqs: Mapping[int, int]) -> tuple[int, int]:
        """Return the sequence numbers at the edges of a bucket, -1 for an edge that is not known yet."""
        return seqs.get(place * width, -1), seqs.get((place + 1) * width, -1)

    def _find(self, seconds: set[int], seqs: dict[int, int], settled: float, bounds: tuple[int, int]) -> bool:
        """Find the sequence numbers of times (seconds since 1970), and cache those that cannot change any more.

        Return whether anything had to be searched.
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

    def _sample(self, pairs: Sequence[tuple[int, int]]) -> None:
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
    """Choose a sample: pairs of neighbours, which are mostly read together."""
    if to - after <= _SAMPLED:
        return [*range(after + 1, to + 1)]
    return [seq for first in spread(after, to - 1, _SAMPLED // 2) for seq in (first, first + 1)]


def _divided(count: int, sources: Sequence[str]) -> Mapping[str, float]:
    """Divide a count among sources in proportion to a sample."""
    return {source: round(count * share / len(sources), 1) for source, share in Counter(sources).items()}


def _skew(sample: Sequence[Sampled]) -> tuple[float, float, float, int] | None:
    known = [skew.total_seconds() for skew in map(_clock_skew, sample) if skew is not None]
    return (min(known), median(known), max(known), len(known)) if known else None


def _clock_skew(sampled: Sampled) -> timedelta | None:
    sent_at = parse_timestamp(sampled.sent_at)
    return correct_clock_skew(received_at=sampled.received_at, sent_at=sent_at, original_timestamp=None).clock_skew
