"""Charts are counted until a deadline; the next answer counts the rest."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import attrs
import pytest
from adapter_helpers import envelope
from patience import PATIENCE
from trackcore_server.config.configuration import parse_configuration
from trackcore_server.debugger.charts import Charts
from trackcore_server.debugger.deadline import Deadline
from trackcore_server.debugger.delivery_lag import DeliveryLag
from trackcore_server.debugger.histogram import MessageHistogram
from trackcore_server.debugger.rejection_counts import MAX_REJECTIONS, RecentRejections
from trackcore_sqlite import SqliteBrowser, SqliteSink, UnusableLog, prune

from trackcore import JSONObject, Part, RejectedRecord

START = datetime(2026, 1, 31, 12, tzinfo=UTC)
WIDTH = 60
FIRST = int(START.timestamp()) // WIDTH
PLACES = range(FIRST, FIRST + 10)
NOW = START + timedelta(minutes=10)


def ticks(seconds: float) -> Deadline:
    """Make a deadline after so many seconds, whose clock advances by one at each reading."""
    return Deadline(seconds, count().__next__)


def running_clock() -> Callable[[], datetime]:
    """Make a clock that shows `NOW` at first."""
    began = time.monotonic()
    return lambda: NOW + timedelta(seconds=time.monotonic() - began)


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    """A log with ten messages in each minute, of which every fifth is of the app."""
    path = tmp_path / "log.db"
    sink = SqliteSink(path)
    messages = []
    for number in range(100):
        at = START + timedelta(seconds=6 * number)
        payload = json.dumps({"sentAt": (at - timedelta(seconds=2)).isoformat()}).encode()
        source = "website" if number % 5 else "app"
        messages.append(envelope(f"m{number}", source=source, received_at=at, payload=payload))
    sink.store(messages)
    sink.close()
    return path


class TestBuckets:
    def test_they_are_counted(self, path: Path) -> None:
        buckets = MessageHistogram(SqliteBrowser(path)).count(WIDTH, PLACES, NOW, Deadline(1_000))
        assert [*sorted(buckets)] == [*PLACES]
        assert all(bucket.sources == {"app": 2, "website": 8} for bucket in buckets.values())
        assert {bucket.skew for bucket in buckets.values()} == {(-2.0, -2.0, -2.0, 5)}

    def test_the_newest_come_first_and_each_answer_gets_further(self, path: Path) -> None:
        buckets = MessageHistogram(SqliteBrowser(path))
        answers = [sorted(buckets.count(WIDTH, PLACES, NOW, ticks(0))) for _ in range(30)]
        assert all(found == [*PLACES[-len(found) :]] for found in answers)
        assert [len(found) for found in answers] == sorted(len(found) for found in answers)
        assert (len(answers[0]), len(answers[-1])) == (1, 10)

    def test_a_deadline_ends_counting(self, path: Path) -> None:
        assert [
            len(MessageHistogram(SqliteBrowser(path)).count(WIDTH, PLACES, NOW, ticks(n))) for n in (0, 4, 8, 99)
        ] == [
            1,
            3,
            5,
            10,
        ]

    def test_a_settled_bucket_is_counted_once(self, path: Path) -> None:
        buckets = MessageHistogram(SqliteBrowser(path))
        counted = buckets.count(WIDTH, PLACES, NOW, Deadline(1_000))
        again = buckets.count(WIDTH, PLACES, NOW, Deadline(1_000))
        assert all(again[place] is counted[place] for place in PLACES)

    def test_a_late_message_is_counted(self, path: Path) -> None:
        """A message is committed after it is received, so a bucket may grow for a moment after its end."""
        now = START + timedelta(minutes=10, seconds=3)
        buckets = MessageHistogram(SqliteBrowser(path))
        places = range(FIRST + 1, FIRST + 11)
        assert sum(buckets.count(WIDTH, places, now, Deadline(1_000))[FIRST + 9].sources.values()) == 10
        late = envelope("late", received_at=START + timedelta(minutes=9, seconds=59))
        with closing(SqliteSink(path)) as sink:
            sink.store([late])
        assert sum(buckets.count(WIDTH, places, now, Deadline(1_000))[FIRST + 9].sources.values()) == 11

    def test_a_log_without_messages(self, tmp_path: Path) -> None:
        with closing(SqliteSink(tmp_path / "log.db")) as sink:
            sink.check_ready()
        buckets = MessageHistogram(SqliteBrowser(tmp_path / "log.db")).count(WIDTH, PLACES, NOW, Deadline(1_000))
        assert all(bucket.sources == {} and bucket.skew is None for bucket in buckets.values())


class TestRefusals:
    @pytest.fixture(name="sink")
    def _sink(self, tmp_path: Path) -> Iterator[SqliteSink]:
        with closing(SqliteSink(tmp_path / "log.db")) as sink:
            yield sink

    def refuse(self, sink: SqliteSink, numbers: range) -> None:
        record = RejectedRecord(source="website", received_at=START, code="c", message="m", path="", payload=b"{}")
        sink.store(rejected=[attrs.evolve(record, received_at=START + timedelta(seconds=n)) for n in numbers])

    def test_step_by_step_further_back(self, sink: SqliteSink, tmp_path: Path) -> None:
        self.refuse(sink, range(1_200))
        rejections = RecentRejections(SqliteBrowser(tmp_path / "log.db"))
        codes, is_whole = rejections.since(START, 1_200, ticks(0))
        assert (len(codes), is_whole) == (1_000, False)
        codes, is_whole = rejections.since(START, 1_200, ticks(0))
        assert (len(codes), is_whole) == (1_200, True)
        assert codes == sorted(codes, reverse=True)

    def test_new_rejections_are_added_and_known_ones_not_read_again(self, sink: SqliteSink, tmp_path: Path) -> None:
        self.refuse(sink, range(700))
        rejections = RecentRejections(SqliteBrowser(tmp_path / "log.db"))
        assert len(rejections.since(START, 700, Deadline(1_000))[0]) == 700
        self.refuse(sink, range(700, 710))
        assert len(rejections.since(START, 710, ticks(0))[0]) == 710
        assert len(rejections.since(START + timedelta(seconds=700), 710, ticks(0))[0]) == 10

    def test_very_many_at_once_and_no_more_than_are_counted(self, sink: SqliteSink, tmp_path: Path) -> None:
        self.refuse(sink, range(100))
        rejections = RecentRejections(SqliteBrowser(tmp_path / "log.db"))
        assert len(rejections.since(START, 100, Deadline(1_000))[0]) == 100
        self.refuse(sink, range(100, 5_000))
        codes, is_whole = rejections.since(START, 5_000, Deadline(1_000))
        assert (len(codes), is_whole) == (MAX_REJECTIONS, True)
        assert len(set(codes)) == MAX_REJECTIONS

    def test_all_of_them_pruned(self, sink: SqliteSink, tmp_path: Path) -> None:
        self.refuse(sink, range(3))
        log = SqliteBrowser(tmp_path / "log.db")
        for _ in prune(log.path, START + timedelta(days=1)):
            pass
        assert RecentRejections(log).since(START, log.ends()["rejected"], Deadline(1_000)) == ([], True)

    def test_none(self, sink: SqliteSink, tmp_path: Path) -> None:
        sink.check_ready()
        assert RecentRejections(SqliteBrowser(tmp_path / "log.db")).since(START, 0, Deadline(1_000)) == ([], True)


def whole(charts: Charts) -> JSONObject:
    """Request charts until everything is counted."""
    while (found := charts.of_last(600))["isPartial"]:
        pass
    return found


class TestAnswers:
    def test_an_answer_does_not_wait_for_a_disk_that_hangs(self, path: Path) -> None:
        goes_on = threading.Event()

        class Hanging(SqliteBrowser):
            def ends(self) -> dict[Part, int]:
                goes_on.wait(PATIENCE)
                return super().ends()

        log = Hanging(path)
        charts = Charts(log, running_clock(), DeliveryLag(parse_configuration(""), log))
        first, second = charts.of_last(600), charts.of_last(600)
        assert first["messages"] == second["messages"]
        assert (first["isPartial"], first["messages"], first["bucketSeconds"]) == (True, {}, 10)
        goes_on.set()
        assert sum(whole(charts)["messages"]["website"]) == pytest.approx(80, abs=8), "the time goes on meanwhile"

    def test_a_failure_is_raised_and_the_next_call_counts_again(self, path: Path) -> None:
        log = SqliteBrowser(path)
        charts = Charts(log, running_clock(), DeliveryLag(parse_configuration(""), log))
        moved = path.rename(path.with_name("away"))
        with pytest.raises(UnusableLog):
            whole(charts)
        moved.rename(path)
        assert whole(charts)["messages"]

    def test_counts_made_while_the_clock_was_ahead_are_dropped(self, path: Path) -> None:
        """When the clock is set back, messages still arrive at times that were counted as past."""
        log = SqliteBrowser(path)
        buckets = MessageHistogram(log)
        ahead = range(FIRST + 10, FIRST + 20)
        buckets.count(WIDTH, ahead, NOW + timedelta(hours=1), Deadline(1_000))
        sink = SqliteSink(path)
        sink.store([envelope(f"late{number}", received_at=NOW + timedelta(seconds=number)) for number in range(50)])
        sink.close()
        counted = buckets.count(WIDTH, ahead, NOW + timedelta(minutes=1), Deadline(1_000))
        assert sum(sum(bucket.sources.values()) for bucket in counted.values()) == pytest.approx(50)

    def test_an_answer_is_not_shown_for_as_long_as_the_clock_was_ahead(self, path: Path) -> None:
        now = NOW + timedelta(days=1)
        log = SqliteBrowser(path)
        lags = DeliveryLag(parse_configuration(""), log)
        charts = Charts(log, lambda: now, lags, monotonic=count(0, 0.3).__next__)
        assert whole(charts)["messages"] == {}
        now = NOW
        assert any(charts.of_last(600)["messages"] for _ in range(200))
