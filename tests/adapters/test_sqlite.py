"""The embedded log: writing, reading, bounds, and the file."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from adapter_helpers import (
    NOON,
    Workers,
    at_once,
    commits_held,
    envelope,
    overwrite,
    quarantined_request,
    rejected_record,
)
from patience import wait_for
from trackcore_sqlite import SqliteLog, SqliteSink, UnusableLog
from trackcore_sqlite import pages as pages_module
from trackcore_sqlite import tables as tables_module
from trackcore_sqlite.tables import MIGRATIONS, open_for_writing
from trackcore_sqlite.times import from_milliseconds, milliseconds
from trackcore_sqlite.views import VIEWS

from trackcore import Outcome, QuarantinedRequest, Query, RejectedRecord, SinkUnavailable


def _seqs(log: SqliteLog) -> list[int]:
    return [stored.seq for stored in log.messages()]


def _ids(log: SqliteLog, *, after: int = 0, **wanted: Any) -> list[str]:
    return [stored.message["messageId"] for stored in log.messages(Query(**wanted), after=after)]


def _connection(sink: SqliteSink) -> sqlite3.Connection:
    assert sink._writer._file._connection is not None
    return sink._writer._file._connection


class TestSequence:
    """Sequence numbers rise without gaps visible to readers, so that a later reader can keep a cursor."""

    def test_from_one_on_in_the_order_of_storing(self, sqlite_sink: SqliteSink, log: SqliteLog) -> None:
        sqlite_sink.store([envelope("b"), envelope("a")])
        sqlite_sink.store([envelope("c")])
        assert _ids(log) == ["b", "a", "c"]
        assert _seqs(log) == [1, 2, 3]

    def test_duplicates_leave_no_gap(self, sqlite_sink: SqliteSink, log: SqliteLog) -> None:
        for n in range(5):
            sqlite_sink.store([envelope("a"), envelope(f"m{n}"), envelope(f"m{n}")])
        assert _seqs(log) == [1, 2, 3, 4, 5, 6]

    def test_a_failed_call_leaves_no_gap(self, sqlite_sink: SqliteSink, log: SqliteLog) -> None:
        sqlite_sink.store([envelope("a")])
        with pytest.raises(UnicodeEncodeError):
            sqlite_sink.store([envelope("b"), envelope("c", user_id="\ud800")])
        sqlite_sink.store([envelope("d")])
        assert _ids(log) == ["a", "d"]
        assert _seqs(log) == [1, 2]

    def test_rejected_ones_take_no_number(self, sqlite_sink: SqliteSink, log: SqliteLog) -> None:
        sqlite_sink.store([envelope("a")], rejected=[rejected_record()], quarantined=[quarantined_request()])
        sqlite_sink.store([envelope("b")])
        assert _seqs(log) == [1, 2]

    def test_goes_on_after_the_file_was_closed(self, log_path: Path, log: SqliteLog) -> None:
        for n in range(3):
            sink = SqliteSink(log_path)
            assert sink.store([envelope(f"m{n}")]) == [Outcome.STORED]
            assert sink.store([envelope("m0")]) == [Outcome.DUPLICATE]
            sink.close()
        assert _seqs(log) == [1, 2, 3]

    def test_what_was_closed_may_have_gone(self, sqlite_sink: SqliteSink, log_path: Path, log: SqliteLog) -> None:
        """A new log assigns other numbers to the sources."""
        sqlite_sink.store([envelope("a", source="website"), envelope("a", source="app")])
        sqlite_sink.close()
        log_path.unlink()
        sqlite_sink.store([envelope("b", source="app")])
        assert [(stored.source, stored.seq) for stored in log.messages()] == [("app", 1)]

    @pytest.mark.parametrize("kind", ["messages", "rejected", "quarantined", "nothing but a probe"])
    def test_a_log_that_was_overwritten_while_open(
        self, sqlite_sink: SqliteSink, log_path: Path, log: SqliteLog, tmp_path: Path, kind: str
    ) -> None:
        """As by `.restore` of the sqlite3 shell: the next `store` notices it, and fails once.

        The cached numbers of sources belong to the previous log.
        """
        sqlite_sink.store([envelope("a", source="website")])
        with closing(sqlite3.connect(log_path)) as connection:
            connection.execute("VACUUM INTO ?", (str(tmp_path / "backup.db"),))
        sqlite_sink.store([envelope("b", source="app")])
        overwrite(log_path, tmp_path / "backup.db")
        store: dict[str, Callable[[], object]] = {
            "messages": lambda: sqlite_sink.store([envelope("c")]),
            "rejected": lambda: sqlite_sink.store(rejected=[rejected_record()]),
            "quarantined": lambda: sqlite_sink.store(quarantined=[quarantined_request()]),
            "nothing but a probe": sqlite_sink.check_ready,
        }
        with pytest.raises(SinkUnavailable, match="another program has overwritten the log"):
            store[kind]()
        assert (log.totals().messages, log.totals().rejected, log.totals().quarantined) == (1, 0, 0)
        sqlite_sink.store(rejected=[rejected_record(source="other")])
        sqlite_sink.store(rejected=[rejected_record(source="app")])
        sqlite_sink.store([envelope("d", source="other")])
        assert [stored.source for stored in log.rejected()] == ["other", "app"]
        assert [stored.source for stored in log.messages()] == ["website", "other"]

    def test_a_closed_sink_opens_again(self, sqlite_sink: SqliteSink, log: SqliteLog) -> None:
        sqlite_sink.close()
        sqlite_sink.store([envelope("a")])
        sqlite_sink.close()
        sqlite_sink.close()
        sqlite_sink.check_ready()
        sqlite_sink.store([envelope("b")])
        assert _seqs(log) == [1, 2]

    def test_with_threads(self, sqlite_sink: SqliteSink, log: SqliteLog) -> None:
        def store(thread: int) -> None:
            for n in range(20):
                sqlite_sink.store([envelope(f"{thread}-{n}"), envelope("same")])

        at_once(*(partial(store, thread) for thread in range(6)))
        assert _seqs(log) == list(range(1, 6 * 20 + 2))

    def test_a_reader_with_a_cursor_misses_nothing_while_threads_write(
        self, sqlite_sink: SqliteSink, log: SqliteLog
    ) -> None:
        sqlite_sink.store([envelope("first")])

        def store(thread: int) -> None:
            for n in range(40):
                sqlite_sink.store([envelope(f"{thread}-{n}-{k}") for k in range(3)])

        writers = Workers(partial(store, thread) for thread in range(4))
        seen: list[int] = []

        def read_on() -> bool:
            seen.extend(stored.seq for stored in log.messages(after=seen[-1] if seen else 0))
            return len(seen) == 1 + 4 * 40 * 3

        wait_for(read_on)
        writers.finish()
        assert seen == list(range(1, len(seen) + 1))

    def test_several_sinks_on_one_file(self, log_path: Path, log: SqliteLog) -> None:
        sinks = [SqliteSink(log_path) for _ in range(3)]
        sinks[0].store([envelope("a", source="first")])

        def store(number: int) -> list[Outcome]:
            outcomes: list[Outcome] = []
            for n in range(20):
                outcomes += sinks[number].store([envelope(f"m{n}"), envelope(f"m{n}", source=f"own{number}")])
            return outcomes

        results = at_once(*(partial(store, number) for number in range(3)))
        assert sum(outcomes.count(Outcome.STORED) for outcomes in results) == 20 + 3 * 20
        assert _seqs(log) == list(range(1, 82))
        assert len(_ids(log, source="website")) == 20
        for sink in sinks:
            sink.close()


class TestGroups:
    """Requests that arrive together share one fsync, and each waits for its commit."""

    def test_what_waits_is_committed_in_one_transaction(self, sqlite_sink: SqliteSink, log: SqliteLog) -> None:
        sqlite_sink.store([envelope("first")])
        begun: list[str] = []
        _connection(sqlite_sink).set_trace_callback(lambda sql: begun.append(sql) if sql == "COMMIT" else None)
        with commits_held(sqlite_sink):
            workers = Workers(partial(sqlite_sink.store, [envelope(f"m{n}")]) for n in range(5))
            wait_for(lambda: len(sqlite_sink._committer._queue) == 5)
        assert workers.finish() == [[Outcome.STORED]] * 5
        assert len(begun) == 1
        assert len(_ids(log)) == 6

    def test_nothing_is_acknowledged_before_its_commit(self, sqlite_sink: SqliteSink, log: SqliteLog) -> None:
        """Whenever `store` has returned, another connection sees the messages."""

        def store(thread: int) -> bool:
            seen = True
            for n in range(10):
                sqlite_sink.store([envelope(f"{thread}-{n}")])
                seen = seen and f"{thread}-{n}" in _ids(log)
            return seen

        assert at_once(*(partial(store, thread) for thread in range(4))) == [True] * 4

    def test_a_large_queue_is_committed_in_parts(self, log_path: Path, log: SqliteLog) -> None:
        large = b'{"messageId": "x", "pad": "' + b"x" * (6 << 20) + b'"}'
        sink = SqliteSink(log_path)
        sink.store([envelope("first")])
        commits: list[str] = []
        _connection(sink).set_trace_callback(lambda sql: commits.append(sql) if sql == "COMMIT" else None)
        with commits_held(sink):
            workers = Workers(partial(sink.store, [envelope(f"m{n}", payload=large)]) for n in range(5))
            wait_for(lambda: len(sink._committer._queue) == 5)
        assert workers.finish() == [[Outcome.STORED]] * 5
        assert len(commits) == 2
        assert _seqs(log) == [1, 2, 3, 4, 5, 6]
        sink.close()


class TestReading:
    """`SqliteLog` reads the log, from any process and while it is written."""

    def test_while_a_transaction_is_open(self, sqlite_sink: SqliteSink, log: SqliteLog) -> None:
        sqlite_sink.store([envelope("a")])
        connection = _connection(sqlite_sink)
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE messages SET message_id = 'changed'")
        assert _ids(log) == ["a"]
        connection.execute("ROLLBACK")

    def test_writing_goes_on_while_a_reader_dawdles(self, sqlite_sink: SqliteSink, log: SqliteLog) -> None:
        sqlite_sink.store([envelope("a"), envelope("b")])
        reader = log.messages()
        assert next(reader).seq == 1
        sqlite_sink.store([envelope("c")])
        assert [stored.seq for stored in reader] == [2, 3]

    def test_a_reader_that_dawdles_holds_no_snapshot(self, sqlite_sink: SqliteSink, log: SqliteLog) -> None:
        """A snapshot would let the write-ahead log grow without end."""
        sqlite_sink.store([envelope(f"m{n}") for n in range(3)])
        reader = log.messages()
        next(reader)
        sqlite_sink.store([envelope("later")])
        busy, _, _ = _connection(sqlite_sink).execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        assert busy == 0
        assert len(list(reader)) == 3

    def test_a_reader_that_stops_early_lets_go_of_the_file(self, sqlite_sink: SqliteSink, log: SqliteLog) -> None:
        sqlite_sink.store([envelope("a"), envelope("b")])
        reader = log.messages()
        next(reader)
        assert isinstance(reader, Iterator)
        reader.close()  # type: ignore[attr-defined]
        sqlite_sink.store([envelope("c")])
        assert _seqs(log) == [1, 2, 3]

    @pytest.mark.parametrize("total", [pages_module._PAGE - 1, pages_module._PAGE, 2 * pages_module._PAGE + 1])
    def test_more_than_a_page(self, sqlite_sink: SqliteSink, log: SqliteLog, total: int) -> None:
        sqlite_sink.store(
            [envelope(f"m{n}") for n in range(total)],
            rejected=[rejected_record(b"%d" % n) for n in range(total)],
            quarantined=[quarantined_request(b"%d" % n) for n in range(total)],
        )
        assert _seqs(log) == list(range(1, total + 1))
        assert [record.payload for record in log.rejected()] == [b"%d" % n for n in range(total)]
        assert [request.payload for request in log.quarantined()] == [b"%d" % n for n in range(total)]

    def test_the_time_of_reception_to_the_millisecond(self, sqlite_sink: SqliteSink, log: SqliteLog) -> None:
        sqlite_sink.store([envelope("a", received_at=NOON)], rejected=[rejected_record()])
        assert [stored.received_at for stored in log.messages()] == [NOON]
        assert [stored.received_at for stored in log.rejected()] == [NOON]

    @pytest.mark.parametrize("years", [-1000, -54, 0, 900])
    def test_milliseconds_go_there_and_back(self, years: int) -> None:
        time = NOON.replace(year=2024 + years)
        assert from_milliseconds(milliseconds(time)) == time

    def test_probing_leaves_nothing_to_read(self, sqlite_sink: SqliteSink, log: SqliteLog) -> None:
        sqlite_sink.check_ready()
        assert (list(log.messages()), list(log.rejected()), list(log.quarantined())) == ([], [], [])

    def test_a_path_with_odd_characters(self, tmp_path: Path) -> None:
        path = tmp_path / "a b?mode=memory#é%20" / "log 1.db"
        sink = SqliteSink(str(path))
        sink.store([envelope("a")])
        sink.close()
        assert path.is_file()
        assert _ids(SqliteLog(str(path))) == ["a"]


class TestAfter:
    """Only records with a number above `after`, besides the query (see the contract of a log)."""

    @pytest.mark.parametrize(
        ("after", "wanted", "expected"),
        [
            (0, {}, "12345"),
            (3, {}, "45"),
            (5, {}, ""),
            (99, {}, ""),
            (2, {"limit": 1}, "5"),
            (1, {"source": "website", "since": NOON, "limit": 2}, "35"),
        ],
    )
    def test_of_messages(
        self, sqlite_sink: SqliteSink, log: SqliteLog, after: int, wanted: dict[str, Any], expected: str
    ) -> None:
        sqlite_sink.store([envelope(str(n), source="website" if n % 2 else "app") for n in range(1, 6)])
        assert _ids(log, after=after, **wanted) == list(expected)

    def test_of_the_other_parts(self, sqlite_sink: SqliteSink, log: SqliteLog) -> None:
        sqlite_sink.store(
            rejected=[rejected_record(b"%d" % n) for n in range(1, 4)],
            quarantined=[quarantined_request(b"%d" % n) for n in range(1, 4)],
        )
        assert [record.payload for record in log.rejected(after=2)] == [b"3"]
        assert [request.payload for request in log.quarantined(after=1)] == [b"2", b"3"]


Keep = Callable[[SqliteSink, list[bytes]], object]


def _reject(sink: SqliteSink, payloads: list[bytes]) -> object:
    return sink.store(rejected=[rejected_record(payload) for payload in payloads])


def _quarantine(sink: SqliteSink, payloads: list[bytes]) -> object:
    return sink.store(quarantined=[quarantined_request(payload) for payload in payloads])


def _kept(log: SqliteLog, keep: Keep) -> list[bytes]:
    records: Iterator[RejectedRecord | QuarantinedRequest]
    records = log.rejected() if keep is _reject else log.quarantined()
    return [record.payload for record in records]


def _dropped(log: SqliteLog, keep: Keep) -> int:
    totals = log.totals()
    return totals.rejected_dropped if keep is _reject else totals.quarantined_dropped


@pytest.mark.parametrize("keep", [_reject, _quarantine])
class TestBounds:
    """Rejected messages and quarantined requests are bounded: the newest are kept, the oldest dropped and counted."""

    BOUND = 10_000

    @pytest.fixture(name="sink")
    def _sink(self, log_path: Path) -> Iterator[SqliteSink]:
        sink = SqliteSink(log_path, rejected_bytes=self.BOUND, quarantine_bytes=self.BOUND)
        yield sink
        sink.close()

    def test_the_oldest_are_dropped_and_counted(self, sink: SqliteSink, log: SqliteLog, keep: Keep) -> None:
        payloads = [b"%04d" % n + b"x" * 996 for n in range(50)]
        for payload in payloads:
            keep(sink, [payload])
        kept = _kept(log, keep)
        assert 5 <= len(kept) <= 10
        assert kept == payloads[-len(kept) :]
        assert _dropped(log, keep) == 50 - len(kept)

    def test_never_above_the_bound_and_never_far_below(self, sink: SqliteSink, log: SqliteLog, keep: Keep) -> None:
        for n in range(60):
            keep(sink, [b"x" * (97 * n % 1500)])
            assert sum(map(len, _kept(log, keep))) <= self.BOUND
        assert sum(map(len, _kept(log, keep))) > self.BOUND // 2

    def test_nothing_is_dropped_below_the_bound(self, sink: SqliteSink, log: SqliteLog, keep: Keep) -> None:
        keep(sink, [b"x" * 800] * 5)
        keep(sink, [b"x" * 800] * 5)
        assert len(_kept(log, keep)) == 10
        assert _dropped(log, keep) == 0

    def test_many_in_one_call(self, sink: SqliteSink, log: SqliteLog, keep: Keep) -> None:
        keep(sink, [b"old"])
        keep(sink, [b"%04d" % n + b"x" * 996 for n in range(100)])
        kept = _kept(log, keep)
        assert kept[-1].startswith(b"0099")
        assert len(kept) + _dropped(log, keep) == 101
        assert sum(map(len, kept)) <= self.BOUND

    def test_empty_payloads_are_bounded_too(self, sink: SqliteSink, log: SqliteLog, keep: Keep) -> None:
        keep(sink, [b""] * 1000)
        assert len(_kept(log, keep)) <= self.BOUND // 50

    def test_one_that_is_larger_than_the_bound(self, sink: SqliteSink, log: SqliteLog, keep: Keep) -> None:
        keep(sink, [b"a", b"b"])
        keep(sink, [b"x" * 5 * self.BOUND])
        assert _kept(log, keep) == []
        assert _dropped(log, keep) == 3
        keep(sink, [b"c"])
        assert _kept(log, keep) == [b"c"]

    def test_numbers_are_not_used_again(self, sink: SqliteSink, log: SqliteLog, keep: Keep) -> None:
        """A reader's cursor stays valid when everything was dropped."""
        keep(sink, [b"x" * 5 * self.BOUND])
        keep(sink, [b"a"])
        records = log.rejected() if keep is _reject else log.quarantined()
        assert [record.seq for record in records] == [2]

    def test_the_count_survives_the_process(self, log_path: Path, log: SqliteLog, keep: Keep) -> None:
        for _ in range(30):
            sink = SqliteSink(log_path, rejected_bytes=self.BOUND, quarantine_bytes=self.BOUND)
            keep(sink, [b"x" * 1000])
            sink.close()
        kept = len(_kept(log, keep))
        assert 5 <= kept <= 10
        assert _dropped(log, keep) == 30 - kept

    def test_a_failed_call_is_not_counted(self, sink: SqliteSink, log: SqliteLog, keep: Keep) -> None:
        keep(sink, [b"x" * 1000] * 8)
        broken = envelope("a", user_id="\ud800")
        with pytest.raises(UnicodeEncodeError):
            sink.store(
                [broken], rejected=[rejected_record(b"y" * 9000)], quarantined=[quarantined_request(b"y" * 9000)]
            )
        assert _kept(log, keep) == [b"x" * 1000] * 8
        assert _dropped(log, keep) == 0

    def test_messages_are_never_dropped(self, sink: SqliteSink, log: SqliteLog, keep: Keep) -> None:
        sink.store([envelope(f"m{n}", payload=b'{"messageId": "%d"}' % n + b" " * 2000) for n in range(20)])
        keep(sink, [b"x" * 5 * self.BOUND])
        assert log.totals().messages == 20


def test_a_huge_write_key_counts_too(log_path: Path, log: SqliteLog) -> None:
    """The quarantine is bounded, whichever part of a request is large: a key may come in a header."""
    sink = SqliteSink(log_path, quarantine_bytes=10_000)
    for n in range(50):
        sink.store(quarantined=[quarantined_request(b"{}", write_key=f"{n:04}" + "k" * 4000)])
    sink.close()
    assert sum(len(request.payload) + len(request.write_key or "") for request in log.quarantined()) <= 10_000


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


class TestFile:
    """One SQLite file (WAL), `synchronous=FULL`, for the owner alone."""

    @pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
    def test_modes(self, log_path: Path, umask: int) -> None:
        before = os.umask(umask)
        try:
            sink = SqliteSink(log_path)
            sink.store([envelope("a")])
            files = {path.name: _mode(path) for path in log_path.parent.iterdir()}
        finally:
            os.umask(before)
        assert files == {"log.db": 0o600, "log.db-wal": 0o600, "log.db-shm": 0o600}
        assert _mode(log_path.parent) == 0o700
        sink.close()

    def test_a_folder_that_exists_is_left_as_it_is(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o755)
        sink = SqliteSink(tmp_path / "log.db")
        sink.store([envelope("a")])
        sink.close()
        assert _mode(tmp_path) == 0o755

    def test_nothing_is_made_before_something_is_stored(self, log_path: Path) -> None:
        sink = SqliteSink(log_path)
        assert sink.store() == ()
        sink.close()
        assert not log_path.parent.exists()

    def test_commits_are_synced_to_disk(self, sqlite_sink: SqliteSink) -> None:
        sqlite_sink.store([envelope("a")])
        connection = _connection(sqlite_sink)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)

    def test_also_after_the_file_was_opened_again(self, sqlite_sink: SqliteSink) -> None:
        sqlite_sink.store([envelope("a")])
        with pytest.raises(UnicodeEncodeError):
            sqlite_sink.store([envelope("c", user_id="\ud800")])
        sqlite_sink.store([envelope("b")])
        assert _connection(sqlite_sink).execute("PRAGMA synchronous").fetchone() == (2,)

    def test_the_version_of_the_schema(self, sqlite_sink: SqliteSink) -> None:
        sqlite_sink.store([envelope("a")])
        assert _connection(sqlite_sink).execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)

    def test_everything_is_in_the_one_file_after_closing(self, sqlite_sink: SqliteSink, log_path: Path) -> None:
        sqlite_sink.store([envelope("a")])
        sqlite_sink.close()
        assert [path.name for path in log_path.parent.iterdir()] == ["log.db"]
        assert _ids(SqliteLog(log_path)) == ["a"]

    def test_an_older_log_keeps_the_size_of_its_pages(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for size, path in ((4_096, tmp_path / "older.db"), (8_192, tmp_path / "new.db")):
            with monkeypatch.context() as older:
                older.setattr(tables_module, "_PAGE_BYTES", size)
                open_for_writing(path, 5).close()
            with closing(SqliteSink(path)) as sink:
                assert sink.store([envelope("a")]) == [Outcome.STORED]
                assert _connection(sink).execute("PRAGMA page_size").fetchone() == (size,)

    def test_many_that_make_the_file_at_once(self, tmp_path: Path) -> None:
        """Workers of one server start together."""
        for attempt in range(25):
            path = tmp_path / str(attempt) / "log.db"
            sinks = [SqliteSink(path) for _ in range(6)]
            at_once(*(partial(sink.store, [envelope(f"m{n}")]) for n, sink in enumerate(sinks)))
            assert _seqs(SqliteLog(path)) == [1, 2, 3, 4, 5, 6]
            for sink in sinks:
                sink.close()


FIRST = "CREATE TABLE notes (body TEXT);\nINSERT INTO notes VALUES ('old; with a semicolon');\n"
SECOND = """
    -- A comment; with a semicolon.
    ALTER TABLE notes ADD COLUMN author TEXT;
    UPDATE notes SET author = 'nobody';
    CREATE TABLE visits (n INTEGER);
    INSERT INTO visits VALUES (1);
"""


class TestMigrations:
    """The version of a file is the number of its migrations; the others are applied, all or none."""

    @pytest.fixture(name="old")
    def _old(self, tmp_path: Path) -> Path:
        """A file of version 1."""
        path = tmp_path / "old.db"
        open_for_writing(path, 5, (FIRST,)).close()
        return path

    def test_an_older_file_is_brought_up_to_date(self, old: Path) -> None:
        with closing(open_for_writing(old, 5, (FIRST, SECOND))) as connection:
            assert connection.execute("PRAGMA user_version").fetchone() == (2,)
            assert connection.execute("SELECT * FROM notes").fetchall() == [("old; with a semicolon", "nobody")]

    def test_what_was_applied_is_not_applied_again(self, old: Path) -> None:
        for _ in range(3):
            open_for_writing(old, 5, (FIRST, SECOND)).close()
        with closing(sqlite3.connect(old)) as connection:
            assert connection.execute("SELECT n FROM visits").fetchall() == [(1,)]

    def test_several_at_once(self, tmp_path: Path) -> None:
        third = "INSERT INTO visits VALUES (3);"
        with closing(open_for_writing(tmp_path / "new.db", 5, (FIRST, SECOND, third))) as connection:
            assert connection.execute("SELECT n FROM visits").fetchall() == [(1,), (3,)]
            assert connection.execute("PRAGMA user_version").fetchone() == (3,)

    @pytest.mark.parametrize(
        "failing", ["INSERT INTO nowhere VALUES (1);", "CREATE TABLE notes (x);", "nonsense;", "SELECT 1/;"]
    )
    def test_one_that_fails_leaves_the_file_as_it_was(self, old: Path, failing: str) -> None:
        for migrations in ((FIRST, SECOND + failing), (FIRST, SECOND, failing)):
            with pytest.raises(sqlite3.Error):
                open_for_writing(old, 5, migrations)
            with closing(sqlite3.connect(old)) as connection:
                assert connection.execute("PRAGMA user_version").fetchone() == (1,)
                assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("notes",)]
                assert connection.execute("SELECT * FROM notes").fetchall() == [("old; with a semicolon",)]
        open_for_writing(old, 5, (FIRST, SECOND)).close()

    def test_the_reported_error_is_the_first_one(self, old: Path) -> None:
        """Also if SQLite has rolled back by itself, as it does when the disk is full."""
        with pytest.raises(sqlite3.IntegrityError):
            open_for_writing(old, 5, (FIRST, "CREATE TABLE a (x NOT NULL);\nINSERT OR ROLLBACK INTO a VALUES (NULL);"))
        open_for_writing(old, 5, (FIRST, SECOND)).close()

    def test_a_statement_without_its_semicolon_is_not_skipped(self, old: Path) -> None:
        """Every statement of a migration runs, or it fails; the version is never raised without them."""
        try:
            open_for_writing(old, 5, (FIRST, "CREATE TABLE a (x);\nCREATE TABLE b (x)")).close()
        except (sqlite3.Error, ValueError):
            return
        with closing(sqlite3.connect(old)) as connection:
            assert ("b",) in connection.execute("SELECT name FROM sqlite_master").fetchall()

    def test_a_log_from_before_retries_were_kept(self, log_path: Path, log: SqliteLog) -> None:
        before = next(number for number, sql in enumerate(MIGRATIONS) if "retry_count" in sql)
        with closing(open_for_writing(log_path, 5, MIGRATIONS[:before])) as connection:
            connection.execute("INSERT INTO sources VALUES (1, 'website')")
            row = "INSERT INTO messages VALUES (1, 1, 'old', 'track', 'u1', NULL, 0, '[]', NULL, ?, NULL, NULL)"
            connection.execute(row, (b'{"messageId":"old"}',))
            connection.execute("UPDATE counters SET value = 1 WHERE name = 'messages.seq'")
        sink = SqliteSink(log_path)
        sink.store([msgspec.structs.replace(envelope("new"), retry_count=2)])
        sink.close()
        assert [(stored.message["messageId"], stored.retry_count) for stored in log.messages()] == [
            ("old", 0),
            ("new", 2),
        ]

    def test_two_openers_at_once(self, tmp_path: Path) -> None:
        for attempt in range(20):
            path = tmp_path / f"{attempt}.db"
            open_for_writing(path, 5, (FIRST,)).close()
            at_once(*[lambda path=path: open_for_writing(path, 5, (FIRST, SECOND)).close()] * 3)
            with closing(sqlite3.connect(path)) as connection:
                assert connection.execute("SELECT n FROM visits").fetchall() == [(1,)]

    def test_a_newer_file_is_refused_and_left_alone(self, old: Path) -> None:
        open_for_writing(old, 5, (FIRST, SECOND)).close()
        with pytest.raises(UnusableLog, match="newer trackcore") as caught:
            open_for_writing(old, 5, (FIRST,))
        assert caught.value.path == old
        with closing(sqlite3.connect(old)) as connection:
            assert connection.execute("PRAGMA user_version").fetchone() == (2,)

    def test_a_newer_log_is_refused_by_reader_and_writer(self, log_path: Path, log: SqliteLog) -> None:
        open_for_writing(log_path, 5, (*MIGRATIONS, SECOND.replace("notes", "sources"))).close()
        before = log_path.read_bytes()
        for read in (lambda: list(log.messages()), lambda: list(log.rejected()), log.totals):
            with pytest.raises(UnusableLog, match=rf"schema {len(MIGRATIONS) + 1}, this one knows {len(MIGRATIONS)}"):
                read()
        sink = SqliteSink(log_path)
        with pytest.raises(SinkUnavailable, match="newer trackcore"):
            sink.store([envelope("a")])
        with pytest.raises(SinkUnavailable, match="newer trackcore"):
            sink.check_ready()
        assert log_path.read_bytes() == before

    def test_the_released_ones_are_split_without_loss(self, sqlite_sink: SqliteSink) -> None:
        sqlite_sink.check_ready()
        found = _connection(sqlite_sink).execute("SELECT name FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
        names = {name for (name,) in found} - {"sqlite_sequence"}
        assert names == {
            *(
                "sources",
                "messages",
                "duplicates",
                "rejected",
                "rejected_by_code",
                "quarantine",
                "counters",
                "id_moves",
                "stretches",
                "stretches_by_messages",
            ),
            *(f"message_ids_{level}" for level in range(1, 5)),
            *VIEWS,
        }
        counters = dict(_connection(sqlite_sink).execute("SELECT name, value FROM counters").fetchall())
        assert counters == dict.fromkeys(
            [
                *("messages.seq", "messages.count", "ids.seq"),
                *(
                    f"{part}.{name}"
                    for part in ("duplicates", "rejected", "quarantine")
                    for name in ("bytes", "count", "dropped")
                ),
            ],
            0,
        ) | {"probe": 1}
