"""Reading the log in windows: nothing is missed or repeated at their edges, and the progress is known."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from adapter_helpers import NOON, envelope
from trackcore_sqlite import SqliteLog, SqliteSink, pages

from trackcore import Query

MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of 7 numbers, pages of 5 rows, and 8 places to look at."""
    for name, value in {"_WINDOW": 7, "_FIRST_PAGE": 2, "_PAGE": 5, "_PLACES": 8}.items():
        monkeypatch.setattr(pages, name, value)


def stored(path: Path, minutes: Sequence[int]) -> SqliteLog:
    """Store messages received at these minutes after noon; every tenth is of Bob."""
    sink = SqliteSink(path)
    users = ["bob" if number % 10 == 0 else "ann" for number in range(len(minutes))]
    sink.store(
        [
            envelope(str(number), user_id=user, received_at=NOON + minute * MINUTE)
            for number, (minute, user) in enumerate(zip(minutes, users, strict=True))
        ]
    )
    sink.close()
    return SqliteLog(path)


def seqs(log: SqliteLog, query: Query, **bounds: int) -> list[int]:
    return [message.seq for message in log.payloads(query, **bounds)]


@pytest.mark.parametrize("limit", [None, 1, 3, 100])
@pytest.mark.parametrize(("after", "last"), [(0, 64), (1, 64), (20, 41), (30, 30), (63, 64), (64, 64)])
def test_what_matches_is_found_once_in_its_order(tmp_path: Path, limit: int | None, after: int, last: int) -> None:
    log = stored(tmp_path / "log.db", range(64))
    found = seqs(log, Query(user="bob", limit=limit), after=after, last=last)
    matching = [seq for seq in range(1, 65, 10) if after < seq <= last]
    assert found == matching[-(limit or 100) :]


def test_what_comes_meanwhile_is_read_too(tmp_path: Path) -> None:
    log = stored(tmp_path / "log.db", range(20))
    reading = iter(log.messages())
    first = next(reading)
    sink = SqliteSink(tmp_path / "log.db")
    sink.store([envelope("later")])
    sink.close()
    assert [message.seq for message in (first, *reading)] == list(range(1, 22))


class TestSince:
    """Reading begins before the first of some places, spread evenly, that is new enough."""

    @pytest.mark.parametrize("minute", [0, 1, 31, 32, 33, 62, 63, 64])
    def test_nothing_is_missed(self, tmp_path: Path, minute: int) -> None:
        log = stored(tmp_path / "log.db", range(64))
        assert seqs(log, Query(since=NOON + minute * MINUTE)) == list(range(minute + 1, 65))

    def test_reprocessed_messages_keep_their_time_and_hide_no_other(self, tmp_path: Path) -> None:
        minutes = [*range(40), *([3] * 20), *range(40, 44)]
        log = stored(tmp_path / "log.db", minutes)
        expected = [seq for seq, minute in enumerate(minutes, 1) if minute >= 30]
        assert seqs(log, Query(since=NOON + 30 * MINUTE)) == expected

    def test_the_messages_before_are_not_examined(self, tmp_path: Path) -> None:
        stored(tmp_path / "log.db", range(64))
        progress: list[tuple[int, int]] = []
        log = SqliteLog(tmp_path / "log.db", on_progress=lambda *found: progress.append(found))
        assert len(seqs(log, Query(since=NOON + 60 * MINUTE))) == 4
        assert progress[-1][1] <= 64 // 8 * 2


@pytest.mark.parametrize("limit", [None, 3])
def test_the_progress_rises_to_the_end(tmp_path: Path, limit: int | None) -> None:
    stored(tmp_path / "log.db", range(64))
    progress: list[tuple[int, int]] = []
    log = SqliteLog(tmp_path / "log.db", on_progress=lambda *found: progress.append(found))
    assert seqs(log, Query(user="nobody", limit=limit)) == []
    assert len(progress) > 5
    assert all(one[0] < other[0] for one, other in pairwise(progress))
    assert progress[-1] == (64, 64)
