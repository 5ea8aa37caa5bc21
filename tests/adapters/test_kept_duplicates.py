"""Duplicates are a bounded part of the log: for all processes, across restarts, and at little cost."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import attrs
from adapter_helpers import envelope
from trackcore_sqlite import Listed, SqliteBrowser, SqliteLog, SqliteSink
from trackcore_sqlite.duplicate_records import AT_ONCE, PER_SECOND, DuplicateKeeper
from trackcore_sqlite.tables import open_for_writing

from trackcore import Query


@attrs.define
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def kept(path: Path) -> list[Listed]:
    browser = SqliteBrowser(path)
    return list(browser.listed("duplicates", Query(limit=1_000_000), after=0, to=1_000_000).rows)


def counter(path: Path, name: str) -> int:
    connection = open_for_writing(path, 5)
    try:
        (value,) = connection.execute("SELECT value FROM counters WHERE name = ?", (name,)).fetchone()
    finally:
        connection.close()
    return int(value)


class TestWhatIsKept:
    def test_what_was_sent_the_second_time(self, tmp_path: Path) -> None:
        path = tmp_path / "log.db"
        with closing(SqliteSink(path)) as sink:
            sink.store([envelope("a", payload=b'{"n":1}')])
            sink.store([envelope("b"), envelope("a", payload=b'{"n":2}'), envelope("b")])
        assert [row.payload for row in kept(path)] == ['{"messageId": "b", "type": "track"}', '{"n":2}']
        assert SqliteBrowser(path).payload("duplicates", 1) == b'{"n":2}'
        assert SqliteBrowser(path).ends() == {"messages": 2, "duplicates": 2, "rejected": 0, "quarantine": 0}

    def test_by_whichever_process_and_before_a_restart(self, tmp_path: Path) -> None:
        path = tmp_path / "log.db"
        for user in ("ann", "bob", "carl"):
            sink = SqliteSink(path)
            sink.store([envelope("a", user_id=user)])
            sink.close()
        assert [(row.seq, row.user) for row in kept(path)] == [(2, "carl"), (1, "bob")]

    def test_nothing_of_what_is_no_duplicate(self, tmp_path: Path) -> None:
        path = tmp_path / "log.db"
        with closing(SqliteSink(path)) as sink:
            sink.store([envelope("a"), envelope("b"), envelope("a", source="app")])
        assert kept(path) == []

    def test_nothing_without_its_commit(self, tmp_path: Path) -> None:
        """Outcomes and duplicates are committed in one transaction, so neither is reported without a commit."""
        path = tmp_path / "log.db"
        with closing(SqliteSink(path)) as sink:
            assert [str(outcome) for outcome in sink.store([envelope("a"), envelope("a")])] == ["stored", "duplicate"]
            assert len(kept(path)) == len(list(SqliteLog(path).messages())) == 1


class TestBounds:
    def test_the_oldest_make_room(self, tmp_path: Path) -> None:
        path = tmp_path / "log.db"
        text = b'{"text":"' + b"x" * 800 + b'"}'
        with closing(SqliteSink(path, duplicates_bytes=5_000)) as sink:
            for number in range(12):
                sink.store([envelope("a", user_id=str(number), payload=text)])
        assert [row.user for row in kept(path)] == ["11", "10", "9", "8"]
        assert counter(path, "duplicates.dropped") == 7
        assert counter(path, "duplicates.bytes") == 4 * (len(text) + 200)

    def test_of_very_many_at_once_a_part(self, tmp_path: Path) -> None:
        """A client that sends everything again does not cause everything to be written again."""
        path = tmp_path / "log.db"
        messages = [envelope(str(number)) for number in range(300)]
        with closing(SqliteSink(path)) as sink:
            sink.store(messages)
            sink.store(messages)
        assert [row.seq for row in kept(path)] == [*range(AT_ONCE, 0, -1)]
        assert counter(path, "duplicates.dropped") == 300 - AT_ONCE

    def test_so_many_a_second(self, tmp_path: Path) -> None:
        path = tmp_path / "log.db"
        connection = open_for_writing(path, 5)
        clock = Clock()
        keeper = DuplicateKeeper(clock)
        row = (0, 1, "m", "track", None, None, 0, "[]", None, b"{}", None, None, 0)

        def insert(count: int) -> int:
            keeper.insert(connection, [row] * count)
            (kept,) = connection.execute("SELECT count(*) FROM duplicates").fetchone()
            return int(kept)

        assert [insert(80) for _ in range(6)] == [50, 100, 150, 200, 200, 200]
        assert insert(1) == PER_SECOND, "nothing more, however few"
        clock.now += 0.24
        assert insert(80) == 200
        assert insert(1) == 201, "few fit in"
        clock.now += 100
        assert [insert(80) for _ in range(6)][-1] == 401, "an old allowance is none"
        (dropped,) = connection.execute("SELECT value FROM counters WHERE name = 'duplicates.dropped'").fetchone()
        assert dropped >= 4 * 30
        connection.close()
