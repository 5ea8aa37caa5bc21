"""A clock that is stepped back: the order of the log is that of the commits, whatever the clock."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import attrs
import pytest
from fault_helpers import batch
from support import SOURCE, WITH_KEY
from trackcore_sqlite import SqliteLog, SqliteSink

from trackcore import Collector, Query

NOON = datetime(2026, 5, 6, 12, tzinfo=UTC)
STEPS = [timedelta(hours=1), timedelta(days=400), timedelta(milliseconds=1)]


@attrs.define
class SteppedClock:
    """A clock that the test sets."""

    now: datetime = NOON

    def __call__(self) -> datetime:
        return self.now


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_stepped_back(log_path: Path, step: timedelta) -> None:
    """Sequence numbers keep rising, a cursor misses nothing, and each time is stored as the clock returned it."""
    clock, sink = SteppedClock(), SqliteSink(log_path)
    collector = _collector(clock, sink)
    collector.receive(json.dumps(batch("a", "b")).encode(), origin=WITH_KEY)
    log = SqliteLog(log_path)
    seen = [entry.seq for entry in log.messages()]
    clock.now -= step
    receipt = collector.receive(json.dumps(batch("c", "a")).encode(), origin=WITH_KEY)
    sink.close()
    assert [str(outcome) for outcome in receipt.outcomes] == ["stored", "duplicate"]
    (late,) = log.messages(after=seen[-1])
    assert (late.seq, late.message["messageId"], late.received_at) == (3, "c", NOON - step)
    assert [entry.seq for entry in log.messages()] == [1, 2, 3]
    assert [entry.seq for entry in log.messages(Query(since=NOON))] == [1, 2]
    assert [entry.seq for entry in log.messages(Query(limit=1))] == [3], "the newest is what came last"


def test_the_rate_of_a_source_is_counted_anew(log_path: Path) -> None:
    """A count of a second in the future is not increased."""
    clock, sink = SteppedClock(), SqliteSink(log_path)
    collector = _collector(clock, sink)
    counts = []
    for step in (0, 0, 5, 5):
        clock.now = NOON - timedelta(seconds=step)
        counts.append(collector.receive(json.dumps(batch("a")).encode(), origin=WITH_KEY).requests_this_second)
    sink.close()
    assert counts == [1, 2, 1, 2]


def _collector(clock: SteppedClock, sink: SqliteSink) -> Collector:
    numbers = count(1)
    return Collector(sources=[SOURCE], sink=sink, clock=clock, new_message_id=lambda: f"server-{next(numbers)}")
