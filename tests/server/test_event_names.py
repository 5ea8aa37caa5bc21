"""Suggestions of events: bounded, and the same for all pages."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pytest
from trackcore_server.debugger import event_names
from trackcore_server.debugger.deadline import Deadline
from trackcore_server.debugger.event_names import EventNames
from trackcore_sqlite import SqliteBrowser, SqliteSink

from trackcore import Envelope

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
NEVER = Deadline(1_000)


def envelope(number: int, payload: bytes) -> Envelope:
    return Envelope(
        source="website",
        message_id=f"m{number}",
        call="track",
        user_id="u",
        anonymous_id=None,
        received_at=NOW,
        destinations=(),
        warnings=(),
        payload=payload,
    )


@pytest.fixture(name="sink")
def _sink(tmp_path: Path) -> Iterator[SqliteSink]:
    sink = SqliteSink(tmp_path / "log.db")
    store(sink, 1, "Old", 200)
    yield sink
    sink.close()


def store(sink: SqliteSink, first: int, event: str, count: int) -> None:
    sink.store([envelope(first + number, b'{"event":"%s"}' % event.encode()) for number in range(count)])


class TestCounts:
    def test_events_and_names_of_pages_the_most_frequent_first(self, sink: SqliteSink) -> None:
        sink.store([envelope(900, b'{"name":"Home"}'), envelope(901, b'{"userId":"u"}'), envelope(902, b'{"name":5}')])
        names = EventNames(SqliteBrowser(sink.path), lambda: NEVER)
        assert names.like("") == {"names": [("Old", 200), ("5", 1), ("Home", 1)], "counted": 203, "isPartial": False}
        assert names.like("OM")["names"] == [("Home", 1)]

    def test_each_answer_gets_further_back_until_its_deadline(self, sink: SqliteSink) -> None:
        names = EventNames(SqliteBrowser(sink.path), lambda: Deadline(0))
        answers = [names.like("") for _ in range(4)]
        assert [answer["counted"] for answer in answers] == [50, 100, 150, 200]
        assert [answer["isPartial"] for answer in answers] == [True, True, True, False]

    def test_new_messages_are_added_and_the_oldest_make_room(
        self, sink: SqliteSink, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(event_names, "MOST_COUNTED", 200)
        times = count(step=event_names.FRESH_SECONDS)
        names = EventNames(SqliteBrowser(sink.path), lambda: NEVER, lambda: next(times))
        assert names.like("")["names"] == [("Old", 200)]
        store(sink, 900, "New", 120)
        assert names.like("") == {"names": [("New", 120), ("Old", 80)], "counted": 200, "isPartial": False}
        store(sink, 2_000, "Newest", 500)
        assert names.like("") == {"names": [("Newest", 200)], "counted": 200, "isPartial": False}

    def test_pages_share_whole_counts_for_a_while(self, sink: SqliteSink) -> None:
        now = [0.0]
        names = EventNames(SqliteBrowser(sink.path), lambda: NEVER, lambda: now[0])
        assert names.like("")["names"] == [("Old", 200)]
        store(sink, 900, "New", 1)
        assert names.like("")["names"] == [("Old", 200)]
        now[0] = event_names.FRESH_SECONDS
        assert names.like("")["names"] == [("Old", 200), ("New", 1)]
