"""Bounded queries: they find all matches within their bounds, and read no further."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trackcore_sqlite import SqliteBrowser, SqliteSink, UnusableLog, prune, spread

from trackcore import Envelope, MessageWarning, QuarantinedRequest, Query, RejectedRecord, WarningCode

START = datetime(2026, 1, 31, 12, tzinfo=UTC)
WARNING = MessageWarning(code=WarningCode.ID_FROM_NUMBER, message="the number was kept as '5'", path="userId")


def envelope(number: int, source: str = "website", call: str = "track", user: str = "u1", **more: object) -> Envelope:
    return Envelope(
        source=source,
        message_id=f"m{number}",
        call=call,  # type: ignore[arg-type]
        user_id=user,
        anonymous_id=None,
        received_at=START + timedelta(seconds=number),
        destinations=(),
        warnings=(WARNING,) if more.get("warned") else (),
        payload=b'{"type":"%s","messageId":"m%d"}' % (call.encode(), number),
    )


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    path = tmp_path / "log.db"
    sink = SqliteSink(path)
    sink.store([envelope(number) for number in range(1, 101)])
    sink.store([envelope(101, "app", "page", "u2", warned=True)])
    rejected = RejectedRecord(
        source="app", received_at=START, code="no_type", message="m", path="type", payload=b'{"userId":"u2"}'
    )
    quarantined = QuarantinedRequest(
        received_at=START, endpoint="batch", write_key=None, client_ip=None, client_side=False, payload=b"{}"
    )
    sink.store(rejected=[rejected], quarantined=[quarantined])
    sink.close()
    return path


@pytest.fixture(name="browser")
def _browser(path: Path) -> SqliteBrowser:
    return SqliteBrowser(path)


def found(browser: SqliteBrowser, **wanted: Any) -> list[int]:
    window = browser.between("messages", Query(**wanted, limit=5), after=0, to=1_000)
    return [row.seq for row in window.rows]


class TestWindows:
    def test_the_newest_come_first(self, browser: SqliteBrowser) -> None:
        window = browser.between("messages", Query(limit=3), after=0, to=50)
        assert [row.seq for row in window.rows] == [50, 49, 48]
        assert window.reached == 48, "the rest was not searched"

    def test_a_window_without_more_was_looked_at_as_a_whole(self, browser: SqliteBrowser) -> None:
        window = browser.between("messages", Query(user="nobody", limit=3), after=40, to=50)
        assert (window.rows, window.reached) == ([], 41)

    def test_each_filter(self, browser: SqliteBrowser) -> None:
        assert found(browser, source="app") == [101]
        assert found(browser, call="page") == [101]
        assert found(browser, user="u2") == [101]
        assert found(browser, code="id_from_number") == [101]
        assert found(browser, code="number") == []
        assert found(browser, text='"m77"') == [77]
        assert found(browser, source="website", text="m10") == [100, 10]

    @pytest.mark.parametrize(("wanted", "count"), [({}, 1), ({"code": "no_type"}, 1), ({"code": "no_ty"}, 0)])
    def test_rejected(self, browser: SqliteBrowser, wanted: dict[str, Any], count: int) -> None:
        assert len(browser.between("rejected", Query(**wanted, limit=5), after=0, to=9).rows) == count

    @pytest.mark.parametrize(
        ("wanted", "count"), [({}, 1), ({"source": "app"}, 0), ({"code": "unknown_source"}, 1), ({"text": "x"}, 0)]
    )
    def test_quarantined(self, browser: SqliteBrowser, wanted: dict[str, Any], count: int) -> None:
        assert len(browser.between("quarantine", Query(**wanted, limit=5), after=0, to=9).rows) == count

    def test_one_row(self, browser: SqliteBrowser) -> None:
        assert browser.one("messages", 7).message["messageId"] == "m7"
        assert browser.one("messages", 102) is None
        assert browser.one("rejected", 1).code == "no_type"

    def test_ids(self, browser: SqliteBrowser) -> None:
        assert [stored.seq for stored in browser.with_message_id("m7")] == [7]
        assert browser.with_message_id("none") == []
        assert browser.seq_of("website", "m7") == 7
        assert browser.seq_of("app", "m7") is None

    def test_ends_and_sources(self, browser: SqliteBrowser) -> None:
        assert browser.ends() == {"messages": 101, "duplicates": 0, "rejected": 1, "quarantine": 1}
        assert browser.sources() == ["website", "app"]

    def test_what_is_deleted_was_there(self, browser: SqliteBrowser) -> None:
        """No number is used twice: the counter keeps the last one when its record is pruned, and continues from it."""
        for _ in prune(browser.path, START + timedelta(days=1)):
            pass
        assert browser.ends() == {"messages": 101, "duplicates": 0, "rejected": 1, "quarantine": 1}
        assert browser.first_seq() == 102
        assert browser.seqs_at([START]) == [101]

    def test_no_log(self, tmp_path: Path) -> None:
        with pytest.raises(UnusableLog):
            SqliteBrowser(tmp_path / "none.db").ends()


class TestTimes:
    """Sequence numbers rise with the time of reception, so a time is found by bisection."""

    def test_the_numbers_of_times(self, browser: SqliteBrowser) -> None:
        times = [START + timedelta(seconds=second) for second in (-5, 1, 2, 50.5, 101, 500)]
        assert browser.seqs_at(times) == [0, 0, 1, 50, 100, 101]
        assert browser.seqs_at(times, low=20, high=60) == [20, 20, 20, 50, 60, 60]
        assert browser.seqs_at(times[:1], low=60, high=20) == [60]

    def test_counting(self, browser: SqliteBrowser) -> None:
        groups = browser.counted(90, 101)
        assert sorted((group.source, group.call, group.count) for group in groups) == [
            ("app", "page", 1),
            ("website", "track", 10),
        ]
        sampled = browser.sampled([1, 101, 999], [101])
        assert [(one.seq, one.source, one.received_at) for one in sampled] == [
            (1, "website", START + timedelta(seconds=1)),
            (101, "app", START + timedelta(seconds=101)),
        ]
        assert browser.time_before("messages", 3) == START + timedelta(seconds=2)
        assert browser.time_before("messages", 1) is None
        assert browser.time_after("messages", 3) == START + timedelta(seconds=4)
        assert browser.time_after("messages", 101) is None
        assert [stored.seq for stored in browser.sample([3, 1, 999])] == [1, 3]
        assert browser.sizes([1]) == [len(b'{"type":"track","messageId":"m1"}')]
        assert browser.refused(START) == {"no_type": 1, "unknown_source": 1}
        assert browser.refused(START + timedelta(seconds=1)) == {}
        assert browser.codes(0, 1, 10) == [(1, START, "no_type")]
        assert browser.codes(1, 9, 10) == []

    @given(after=st.integers(0, 100), count=st.integers(0, 500), most=st.integers(1, 50))
    def test_a_spread_is_even_and_within(self, after: int, count: int, most: int) -> None:
        seqs = spread(after, after + count, most)
        assert len(seqs) == len(set(seqs)) == min(count, most)
        assert all(after < seq <= after + count for seq in seqs)
        gaps = [high - low for low, high in itertools.pairwise(seqs)]
        assert not gaps or max(gaps) - min(gaps) <= 1
