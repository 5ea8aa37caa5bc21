"""Retention, and looking for damage, on real files."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import attrs
import msgspec
import pytest
from adapter_helpers import NOON, Workers, envelope, overwrite, quarantined_request, rejected_record
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trackcore_sqlite import SqliteLog, SqliteSink, UnusableLog, check_log, prune, set_aside
from trackcore_sqlite.tables import MIGRATIONS, is_damage, open_for_writing

from trackcore import Envelope, LogChanged, Mark, Outcome, SinkUnavailable, Stretch

HOUR = timedelta(hours=1)


def received(message_id: str, time: datetime) -> Envelope:
    return msgspec.structs.replace(envelope(message_id), received_at=time)


def ids(log: SqliteLog) -> list[str]:
    return [stored.message["messageId"] for stored in log.messages()]


class TestPrune:
    """Exactly the messages received before a time are deleted, in small steps."""

    def test_only_what_is_older_goes(self, sqlite_sink: SqliteSink, log: SqliteLog, log_path: Path) -> None:
        times = {"old": NOON - HOUR, "just": NOON - timedelta(milliseconds=1), "at": NOON, "new": NOON + HOUR}
        sqlite_sink.store([received(name, time) for name, time in times.items()])
        deleted = sum(step.deleted for step in prune(log_path, NOON))
        assert deleted == 2
        assert [stored.seq for stored in log.messages()] == [3, 4]

    def test_rejected_and_quarantined_go_as_well(self, sqlite_sink: SqliteSink, log: SqliteLog, log_path: Path) -> None:
        old, new = NOON - HOUR, NOON
        sqlite_sink.store(
            rejected=[attrs.evolve(rejected_record(b"x" * 50), received_at=time) for time in (old, new)],
            quarantined=[attrs.evolve(quarantined_request(b"x" * 50), received_at=time) for time in (old, new)],
        )
        deleted: Counter[str] = Counter()
        for step in prune(log_path, NOON):
            deleted[step.part] += step.deleted
        assert deleted == {"rejected": 1, "quarantine": 1}
        assert [kept.received_at for kept in log.rejected()] == [NOON]
        assert [kept.received_at for kept in log.quarantined()] == [NOON]

    def test_the_bounded_parts_count_what_they_still_have(self, sqlite_sink: SqliteSink, log_path: Path) -> None:
        records = [rejected_record(b"x" * size) for size in (10, 20, 30)]
        sqlite_sink.store(rejected=records[:2])
        sqlite_sink.store(rejected=[attrs.evolve(records[2], received_at=NOON + 2 * HOUR)])
        assert sum(step.deleted for step in prune(log_path, NOON + HOUR)) == 2
        with closing(sqlite3.connect(log_path)) as connection:
            (counted,) = connection.execute("SELECT value FROM counters WHERE name = 'rejected.bytes'").fetchone()
            (held,) = connection.execute("SELECT sum(size) FROM rejected").fetchone()
        assert counted == held

    def test_sequence_numbers_are_never_used_again(
        self, sqlite_sink: SqliteSink, log: SqliteLog, log_path: Path
    ) -> None:
        sqlite_sink.store([received("a", NOON), received("b", NOON)])
        list(prune(log_path, NOON + HOUR))
        sqlite_sink.store([received("c", NOON)])
        assert [stored.seq for stored in log.messages()] == [3]

    def test_a_message_that_was_forgotten_is_stored_again(self, sqlite_sink: SqliteSink, log_path: Path) -> None:
        assert sqlite_sink.store([received("a", NOON)]) == [Outcome.STORED]
        assert sqlite_sink.store([received("a", NOON)]) == [Outcome.DUPLICATE]
        list(prune(log_path, NOON + HOUR))
        assert sqlite_sink.store([received("a", NOON)]) == [Outcome.STORED]

    def test_a_clock_that_was_wrong_for_a_while_is_no_obstacle(
        self, sqlite_sink: SqliteSink, log: SqliteLog, log_path: Path
    ) -> None:
        """A message from the future among old ones stays; those after it are deleted."""
        times = [NOON - HOUR, NOON + 9_000 * HOUR, NOON - HOUR, NOON + HOUR]
        sqlite_sink.store([received(f"m{number}", time) for number, time in enumerate(times)])
        list(prune(log_path, NOON))
        assert [stored.seq for stored in log.messages()] == [2, 4]

    def test_nor_is_a_long_while(self, sqlite_sink: SqliteSink, log: SqliteLog, log_path: Path) -> None:
        """However many are from the future, those after them are deleted."""
        future = datetime.now(UTC) + 9_000 * HOUR
        sqlite_sink.store([received(f"future{number}", future) for number in range(250)])
        sqlite_sink.store([received(f"old{number}", NOON - HOUR) for number in range(250)])
        assert sum(step.deleted for step in prune(log_path, NOON)) == 250
        assert ids(log) == [f"future{number}" for number in range(250)]

    def test_what_a_reader_has_not_seen_can_be_kept(
        self, sqlite_sink: SqliteSink, log: SqliteLog, log_path: Path
    ) -> None:
        sqlite_sink.store([received(f"m{number}", NOON) for number in range(5)])
        list(prune(log_path, NOON + HOUR, up_to=3))
        assert [stored.seq for stored in log.messages()] == [4, 5]

    def test_a_log_that_is_overwritten_meanwhile_is_left_alone(
        self, sqlite_sink: SqliteSink, log: SqliteLog, log_path: Path, tmp_path: Path
    ) -> None:
        """Only the previous log determines which messages are not needed any more."""
        sqlite_sink.store([received(f"m{number}", NOON - HOUR) for number in range(250)])
        steps = prune(log_path, NOON, up_to=250)
        next(steps)
        other = SqliteSink(tmp_path / "other.db")
        other.store([received(f"other-{number}", NOON - HOUR) for number in range(300)])
        other.close()
        overwrite(log_path, tmp_path / "other.db")
        with pytest.raises(SinkUnavailable, match="overwritten"):
            list(steps)
        assert len(ids(log)) == 300

    @pytest.mark.parametrize("old", [0, 1, 2, 3, 10, 29, 30])
    def test_stretches_go_with_their_messages(self, log: SqliteLog, log_path: Path, old: int) -> None:
        """Whatever was read before: the position stays valid, and differs from one of another log."""
        marks = [Mark()]
        for number in range(30):
            sink = SqliteSink(log_path)
            sink.store([received(f"m{number}", NOON - HOUR if number < old else NOON)])
            sink.close()
            with log.snapshot() as snapshot:
                marks.append(snapshot.mark(number + 1))
        list(prune(log_path, NOON))
        with closing(sqlite3.connect(log_path)) as connection:
            (kept,) = connection.execute("SELECT count(*) FROM stretches WHERE messages > 0").fetchone()
        assert kept == min(29, 31 - max(old, 1))
        with log.snapshot() as snapshot:
            for position, mark in enumerate(marks):
                snapshot.check(mark)
                made = snapshot.mark(position)
                assert made.is_proven
                assert made.position == (0 if position <= snapshot.beginning else position)
            assert snapshot.mark(snapshot.end).position == snapshot.end
            with pytest.raises(LogChanged):
                snapshot.check(Mark(position=30, stretches=(Stretch("another", 0, 30),), message="another"))

    def test_many_are_deleted_in_many_steps(self, sqlite_sink: SqliteSink, log: SqliteLog, log_path: Path) -> None:
        sqlite_sink.store([received(f"m{number}", NOON) for number in range(1_000)])
        steps = list(prune(log_path, NOON + HOUR))
        assert sum(step.deleted for step in steps) == 1_000
        assert len(steps) > 2
        assert max(step.deleted for step in steps) < 1_000
        assert ids(log) == []

    def test_others_write_meanwhile(self, sqlite_sink: SqliteSink, log: SqliteLog, log_path: Path) -> None:
        sqlite_sink.store([received(f"old{number}", NOON) for number in range(500)])
        writers = Workers(
            partial(sqlite_sink.store, [received(f"new{number}", NOON + 2 * HOUR)]) for number in range(20)
        )
        list(prune(log_path, NOON + HOUR))
        assert writers.finish() == [[Outcome.STORED]] * 20
        assert sorted(ids(log)) == sorted(f"new{number}" for number in range(20))

    @given(st.lists(st.integers(-5, 5), max_size=30), st.integers(-6, 6))
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
    def test_what_is_left_is_what_is_new_enough(
        self, tmp_path_factory: pytest.TempPathFactory, hours: list[int], before: int
    ) -> None:
        path = tmp_path_factory.mktemp("prune") / "trackcore.db"
        sink = SqliteSink(path)
        sink.store([received(f"m{number}", NOON + hour * HOUR) for number, hour in enumerate(hours)])
        sink.check_ready()
        list(prune(path, NOON + before * HOUR))
        sink.close()
        kept = [stored.seq - 1 for stored in SqliteLog(path).messages()]
        assert kept == [number for number, hour in enumerate(hours) if hour >= before]


class TestCheck:
    """A damaged log is distinguished from a sound one, from one in use, and from other files."""

    def fill(self, path: Path) -> None:
        sink = SqliteSink(path)
        sink.store([envelope(f"m{number}", payload=b"{}" + b" " * 3000) for number in range(100)])
        sink.close()

    def test_a_sound_log(self, log_path: Path) -> None:
        self.fill(log_path)
        condition = check_log(log_path)
        assert (condition.size, condition.unfinished) == (log_path.stat().st_size, 0)
        assert condition.is_checked
        assert condition.faults == ()

    def test_a_log_in_use(self, sqlite_sink: SqliteSink, log_path: Path) -> None:
        sqlite_sink.store([envelope()])
        condition = check_log(log_path)
        assert condition.unfinished > 0
        assert condition.faults == ()
        assert sqlite_sink.store([envelope("b")]) == [Outcome.STORED]

    def test_a_log_that_a_killed_process_left(self, log_path: Path, tmp_path: Path) -> None:
        sink = SqliteSink(log_path)
        sink.store([envelope("a")])
        left = tmp_path / "left"
        left.mkdir()
        for file in log_path.parent.glob(f"{log_path.name}*"):
            if not file.name.endswith("-shm"):
                (left / file.name).write_bytes(file.read_bytes())
        sink.close()
        assert check_log(left / log_path.name).faults == ()
        assert ids(SqliteLog(left / log_path.name)) == ["a"]

    @pytest.mark.parametrize("page", [3, 10, 40])
    def test_an_overwritten_page(self, log_path: Path, page: int) -> None:
        self.fill(log_path)
        with log_path.open("r+b") as file:
            file.seek(4096 * page)
            file.write(b"\xff" * 4096)
        assert check_log(log_path).faults

    def test_a_file_that_was_cut(self, log_path: Path) -> None:
        self.fill(log_path)
        with log_path.open("r+b") as file:
            file.truncate(4096 * 5)
        assert check_log(log_path).faults

    def test_a_large_log_is_not_read_as_a_whole(self, log_path: Path) -> None:
        self.fill(log_path)
        assert not check_log(log_path, most_bytes=1000).is_checked

    def test_a_log_of_an_older_schema_can_be_checked(self, log_path: Path) -> None:
        open_for_writing(log_path, 5, MIGRATIONS[:1]).close()
        assert check_log(log_path).faults == ()

    @pytest.mark.parametrize("content", [b"hello", b"x" * 10_000, b"SQLite format 3\0" + b"\xff" * 4080])
    def test_what_is_no_log_of_ours_is_not_called_a_damaged_one(self, log_path: Path, content: bytes) -> None:
        log_path.parent.mkdir(exist_ok=True)
        log_path.write_bytes(content)
        with pytest.raises(UnusableLog):
            check_log(log_path)

    @pytest.mark.parametrize("code", [sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_CORRUPT_INDEX, sqlite3.SQLITE_NOTADB])
    def test_every_kind_of_damage_is_known(self, code: int) -> None:
        """SQLite may report a more specific code than a damaged file: the low byte is the same."""
        error = sqlite3.DatabaseError("malformed")
        error.sqlite_errorcode = code
        assert is_damage(error)

    def test_a_damaged_log_is_kept_aside(self, log_path: Path) -> None:
        self.fill(log_path)
        content = log_path.read_bytes()
        aside = set_aside(log_path, datetime(2026, 1, 31, 12, 30, 5, tzinfo=UTC))
        assert aside == log_path.with_name(f"{log_path.name}.damaged-20260131T123005")
        assert aside.read_bytes() == content
        assert not log_path.exists()

    def test_a_damaged_log_takes_the_name_of_no_other(self, log_path: Path) -> None:
        """Neither in the same second, nor after the clock was set back."""
        now = datetime(2026, 1, 31, 12, 30, 5, tzinfo=UTC)
        kept = {}
        log_path.parent.mkdir(exist_ok=True)
        for content in (b"1", b"2", b"3"):
            log_path.write_bytes(content)
            kept[set_aside(log_path, now)] = content
        assert {path: path.read_bytes() for path in kept} == kept
        assert len(kept) == 3
