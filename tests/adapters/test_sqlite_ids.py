"""The id index: every process finds an id in whichever table it is, and whatever its hash."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
from adapter_helpers import (
    NOON,
    envelope,
    quarantined_request,
    rejected_record,
    run_python,
)
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from trackcore_sqlite import (
    CONSISTENT,
    Inconsistency,
    SqliteBrowser,
    SqliteLog,
    SqliteSink,
    check_log,
    prune,
    rebuild_ids,
)
from trackcore_sqlite import bloom as bloom_module
from trackcore_sqlite import deduplication as ids_module
from trackcore_sqlite import message_ids as hashes_module
from trackcore_sqlite import tables as tables_module
from trackcore_sqlite.deduplication import TABLES
from trackcore_sqlite.message_ids import hash_of
from trackcore_sqlite.tables import MIGRATIONS, open_for_writing

from trackcore import Outcome, Query

SOURCES = ("website", "app")
KEYS = st.tuples(st.sampled_from(SOURCES), st.integers(0, 60).map(str))


@pytest.fixture(name="small")
def _small() -> Iterator[None]:
    """Tables so small that everything moves all the time, and hashes so few that ids collide."""
    with small_scale():
        yield


class small_scale:  # noqa: N801 - used like a function
    """Patches the scale of the tables: hashes of `bits`, a step with every `step` messages, a filter read slowly."""

    def __init__(self, *, bits: int = 5, step: int = 1) -> None:
        self.bits, self.step = bits, step

    def __enter__(self) -> None:
        self._patch = pytest.MonkeyPatch()
        for module, values in (
            (hashes_module, {"HASH_BITS": self.bits}),
            (ids_module, {"HASH_BITS": self.bits, "STEP": self.step, "_READ_WITH_COMMIT": 1, "_READ_WITH_MESSAGE": 0}),
            (bloom_module, {"ADDITIONS_KEPT": 4, "LARGE_FROM": 60}),
        ):
            for name, value in values.items():
                self._patch.setattr(module, name, value)

    def __exit__(self, *_: object) -> None:
        self._patch.undo()


def entries(path: Path) -> dict[str, list[tuple[int, int]]]:
    """Return the content of each table."""
    with closing(sqlite3.connect(path)) as connection:
        return {table: connection.execute(f"SELECT hash, seq FROM {table}").fetchall() for table in TABLES}  # noqa: S608 - a constant


def change(path: Path, *statements: str) -> None:
    """Change the file as another program does."""
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


class LogAgainstDict(RuleBasedStateMachine):
    """Two sinks on one file behave like a dict that both write."""

    scale = small_scale()

    def __init__(self) -> None:
        super().__init__()
        self.scale.__enter__()
        self._folder = TemporaryDirectory()
        self.path = Path(self._folder.name) / "log.db"
        self.sinks = [SqliteSink(self.path), SqliteSink(self.path)]
        self.sinks[0].check_ready()
        self.model: dict[tuple[str, str], int] = {}
        self.hour = 0

    @rule(sink=st.integers(0, 1), keys=st.lists(KEYS, min_size=1, max_size=12))
    def store(self, sink: int, keys: list[tuple[str, str]]) -> None:
        """Each id is stored once, in order, whichever sink stored it before."""
        self.hour += 1
        expected = []
        for key in keys:
            expected.append(Outcome.DUPLICATE if key in self.model else Outcome.STORED)
            self.model.setdefault(key, self.hour)
        at = NOON + timedelta(hours=self.hour)
        stored = self.sinks[sink].store([envelope(name, source=source, received_at=at) for source, name in keys])
        assert list(stored) == expected

    @rule(sink=st.integers(0, 1))
    def reopen(self, sink: int) -> None:
        """A new process has cached nothing."""
        self.sinks[sink].close()

    @rule(hours=st.integers(0, 10))
    def forget_old(self, hours: int) -> None:
        """Messages that retention deleted are stored again."""
        oldest = self.hour - hours
        list(prune(self.path, NOON + timedelta(hours=oldest)))
        self.model = {key: hour for key, hour in self.model.items() if hour >= oldest}

    @rule(table=st.sampled_from(TABLES), part=st.integers(1, 4))
    def lose_entries_and_rebuild(self, table: str, part: int) -> None:
        """Sinks that are open meanwhile notice that the index was rebuilt."""
        change(self.path, f"DELETE FROM {table} WHERE hash % {part} = 0")  # noqa: S608 - a constant
        rebuild_ids(self.path)

    @invariant()
    def ids_fit(self) -> None:
        """The id index is consistent with the messages, and both are equal to the dict."""
        assert check_log(self.path).inconsistency == CONSISTENT
        stored = [(entry.source, entry.message["messageId"]) for entry in SqliteLog(self.path).messages()]
        assert Counter(stored) == Counter(self.model.keys())
        assert SqliteLog(self.path).totals().messages == len(self.model)

    def teardown(self) -> None:
        """Put everything back."""
        for sink in self.sinks:
            sink.close()
        self._folder.cleanup()
        self.scale.__exit__()


class LogOfFewCollisions(LogAgainstDict):
    """The filter knows of most ids that they are absent, and messages are deleted before their ids are in a table."""

    scale = small_scale(bits=hashes_module.HASH_BITS, step=5)


TestLogAgainstDict = LogAgainstDict.TestCase
TestLogOfFewCollisions = LogOfFewCollisions.TestCase
TestLogAgainstDict.settings = TestLogOfFewCollisions.settings = settings(
    max_examples=25, stateful_step_count=30, deadline=None
)


class TestTables:
    """Entries move, so the first tables stay small however much is stored."""

    @pytest.fixture(name="steps", autouse=True)
    def _steps(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ids_module, "STEP", 16)

    def test_entries_move_to_larger_tables(self, sqlite_sink: SqliteSink, log_path: Path) -> None:
        for start in range(0, 12_000, 50):
            sqlite_sink.store([envelope(str(number)) for number in range(start, start + 50)])
        sizes = {table: len(rows) for table, rows in entries(log_path).items()}
        assert 12_000 - 64 < sum(sizes.values()) <= 12_000
        assert sizes[TABLES[0]] < 1_000
        assert sizes[TABLES[-1]] > 2_000

    def test_a_large_call_moves_as_many_as_small_ones(self, sqlite_sink: SqliteSink, log_path: Path) -> None:
        sqlite_sink.store([envelope(str(number)) for number in range(10_000)])
        assert len(entries(log_path)[TABLES[0]]) < 1_000
        again = sqlite_sink.store([envelope(str(number)) for number in range(9_990, 10_010)])
        assert list(again) == [Outcome.DUPLICATE] * 10 + [Outcome.STORED] * 10

    def test_every_range_comes_round(self) -> None:
        """Each cycle reaches every hash once."""
        for cycle in range(12):
            ranges = sorted(ids_module._range(step, cycle) for step in range(7, 7 + (1 << cycle)))
            assert ranges[0][0] == 0
            assert ranges[-1][1] == 1 << hashes_module.HASH_BITS
            assert [high for _, high in ranges[:-1]] == [low for low, _ in ranges[1:]]

    @pytest.mark.parametrize("stored", [0, 1, 63, 10_000, 100_000, 5_000_000, 10**9])
    def test_cycles_rise_from_the_first_table_to_the_last(self, stored: int) -> None:
        moves = ids_module._moves(stored)
        assert [newer for newer, _, _ in moves] == list(TABLES[: len(moves)])
        assert [older for _, older, _ in moves] == [*TABLES[1 : len(moves)], TABLES[-1]]
        cycles = [cycle for _, _, cycle in moves]
        assert cycles == sorted(set(cycles))
        assert (1 << cycles[-1]) * ids_module._ROUND * ids_module.STEP <= max(stored, 1_024)


class TestRecent:
    """The ids of the newest messages are in no table; a sink has them in memory."""

    def test_they_are_added_to_a_table_together(self, sqlite_sink: SqliteSink, log_path: Path) -> None:
        for number in range(1_023):
            sqlite_sink.store([envelope(f"m{number}")])
        assert not any(entries(log_path).values())
        sqlite_sink.store([envelope("last")])
        assert sum(map(len, entries(log_path).values())) == 1_024
        assert check_log(log_path).inconsistency == CONSISTENT

    def test_a_transaction_reads_nothing_while_nobody_else_writes(self, sqlite_sink: SqliteSink) -> None:
        """Each call into SQLite gives up the interpreter's lock, so a transaction should make few calls."""
        sqlite_sink.store([envelope("first")])
        connection = sqlite_sink._writer._file._connection
        assert connection is not None
        statements: list[str] = []
        connection.set_trace_callback(statements.append)
        sqlite_sink.store([envelope(f"m{number}") for number in range(64)])
        assert [statement.split()[0] for statement in statements] == [
            "BEGIN",
            "PRAGMA",
            "INSERT",
            "UPDATE",
            "INSERT",
            "COMMIT",
        ]

    def test_sinks_that_take_turns(self, log_path: Path) -> None:
        """Each knows what the other has stored, without opening the log again."""
        with closing(SqliteSink(log_path)) as one, closing(SqliteSink(log_path)) as other:
            one.store([envelope("a")])
            other.store([envelope("b")])
            connections = [sink._writer._file._connection for sink in (one, other)]
            for number in range(100):
                assert one.store([envelope(f"m{number}")]) == [Outcome.STORED]
                assert other.store([envelope(f"m{number}"), envelope("a")]) == [Outcome.DUPLICATE] * 2
                assert other.store([envelope(f"n{number}")]) == [Outcome.STORED]
                assert one.store([envelope(f"n{number}"), envelope("b")]) == [Outcome.DUPLICATE] * 2
            assert [sink._writer._file._connection for sink in (one, other)] == connections

    def test_one_that_was_deleted_meanwhile(self, sqlite_sink: SqliteSink, log_path: Path) -> None:
        """If the same message is sent again, it is stored again; its old id gets into no table."""
        sqlite_sink.store([envelope(f"old-{number}") for number in range(3)])
        sqlite_sink.store([envelope("new", received_at=NOON + timedelta(hours=2))])
        list(prune(log_path, NOON + timedelta(hours=1)))
        assert list(sqlite_sink.store([envelope("old-1"), envelope("new")])) == [Outcome.STORED, Outcome.DUPLICATE]
        sqlite_sink.store([envelope(f"m{number}") for number in range(1_024)])
        assert any(entries(log_path).values())
        assert check_log(log_path).inconsistency == CONSISTENT


class TestHashes:
    """A hash is a hint: two ids of one hash do no harm."""

    def test_all_ids_of_one_hash(self, log_path: Path) -> None:
        with small_scale(bits=0), closing(SqliteSink(log_path)) as sink:
            for number in range(20):
                assert sink.store([envelope(f"m{number}")]) == [Outcome.STORED]
            everything = [envelope(f"m{number}") for number in range(20)]
            assert list(sink.store(everything)) == [Outcome.DUPLICATE] * 20
            assert check_log(log_path).inconsistency == CONSISTENT

    def test_the_same_id_of_two_sources(self, sqlite_sink: SqliteSink) -> None:
        both = [envelope("a", source=source) for source in SOURCES]
        assert list(sqlite_sink.store(both)) == [Outcome.STORED] * 2
        assert list(sqlite_sink.store(both)) == [Outcome.DUPLICATE] * 2

    @pytest.mark.parametrize("message_id", ["", "a\x00b", "é", "\u2028", '"[1]', "x" * 100, "1:1", "\U0001f600"])
    def test_odd_ids(self, sqlite_sink: SqliteSink, log_path: Path, message_id: str) -> None:
        assert sqlite_sink.store([envelope(message_id)] * 2) == [Outcome.STORED, Outcome.DUPLICATE]
        assert sqlite_sink.store([envelope(message_id)]) == [Outcome.DUPLICATE]
        assert SqliteBrowser(log_path).seq_of("website", message_id) == 1
        assert [stored.seq for stored in SqliteBrowser(log_path).with_message_id(message_id)] == [1]
        assert check_log(log_path).inconsistency == CONSISTENT

    def test_a_hash_fits_into_six_bytes(self) -> None:
        hashes = [hash_of(number % 3, str(number)) for number in range(1_000)]
        assert len(set(hashes)) == 1_000
        assert 0 <= min(hashes) < max(hashes) < 1 << 48


@pytest.mark.usefixtures("small")
class TestFinding:
    """A message is found by its id, whichever table has its entry, even if other ids have its hash."""

    def test_by_browsing(self, sqlite_sink: SqliteSink, log_path: Path) -> None:
        for number in range(60):
            sqlite_sink.store([envelope(f"m{number % 40}", source=SOURCES[number % 2])])
        browser = SqliteBrowser(log_path)
        assert [browser.seq_of(SOURCES[number % 2], f"m{number}") for number in range(40)] == list(range(1, 41))
        assert browser.seq_of("app", "m0") is None
        assert browser.seq_of("nobody", "m0") is None
        assert [stored.seq for stored in browser.with_message_id("m7")] == [8]
        assert browser.with_message_id("m40") == []


WRITER = """
import sys
from adapter_helpers import envelope
from trackcore_sqlite import SqliteSink, bloom, deduplication

deduplication.STEP, deduplication._READ_WITH_COMMIT, deduplication._READ_WITH_MESSAGE = 4, 5, 0
bloom.ADDITIONS_KEPT, bloom.LARGE_FROM = 3, 700
sink = SqliteSink(sys.argv[1], busy_timeout=20)
stored = 0
for start in range(0, 1500, 10):
    stored += sink.store([envelope(f"m{number}") for number in range(start, start + 25)]).count("stored")
print(stored)
sink.close()
"""


def test_two_processes_that_store_the_same(log_path: Path) -> None:
    """De-duplication by (source, messageId), in the same transaction as the message, whichever process stores it."""
    script = f"""
import subprocess, sys
writers = [subprocess.Popen([sys.executable, "-c", {WRITER!r}, sys.argv[1]], stdout=-1) for _ in range(2)]
print(*(writer.communicate(timeout=60)[0].decode() for writer in writers))
"""
    printed = [int(count) for count in run_python(script, log_path).split()]
    assert sum(printed) == 1_515
    assert len({stored.message["messageId"] for stored in SqliteLog(log_path).messages()}) == 1_515
    assert check_log(log_path).inconsistency == CONSISTENT


class TestCheck:
    """An inconsistent id index is found, and can be rebuilt."""

    @pytest.fixture(name="path")
    def _path(self, log_path: Path) -> Path:
        """A log whose last five messages are not in the tables; `rebuild_ids` puts all others into the last one."""
        sink = SqliteSink(log_path)
        sink.store([envelope(f"m{number}") for number in range(1_000)], rejected=[rejected_record()] * 3)
        rebuild_ids(log_path)
        sink.store([envelope(f"m{number}") for number in range(1_000, 1_005)])
        sink.close()
        return log_path

    @pytest.mark.parametrize(
        ("statement", "inconsistency"),
        [
            ("DELETE FROM messages WHERE seq = 1000", Inconsistency(surplus=1, miscounted=("messages",))),
            ("DELETE FROM messages WHERE seq = 1005", Inconsistency(miscounted=("messages",))),
            ("DELETE FROM message_ids_4 WHERE seq > 990", Inconsistency(lacking=10)),
            ("UPDATE message_ids_4 SET hash = hash + 1 WHERE seq = 1000", Inconsistency(lacking=1, surplus=1)),
            ("UPDATE message_ids_4 SET seq = 5000 WHERE seq = 1000", Inconsistency(lacking=1, surplus=1)),
            ("UPDATE messages SET message_id = 'other' WHERE seq = 7", Inconsistency(lacking=1, surplus=1)),
            ("INSERT INTO message_ids_2 VALUES (5, 5)", Inconsistency(surplus=1)),
            ("INSERT INTO message_ids_1 VALUES (5, 1005)", Inconsistency(surplus=1)),
            ("INSERT INTO message_ids_3 SELECT * FROM message_ids_4 WHERE seq = 1000", Inconsistency(surplus=1)),
            ("UPDATE counters SET value = 1003 WHERE name = 'ids.seq'", Inconsistency(lacking=3)),
            ("UPDATE counters SET value = 7 WHERE name = 'messages.count'", Inconsistency(miscounted=("messages",))),
            ("DELETE FROM rejected WHERE seq = 2", Inconsistency(miscounted=("rejected",))),
            ("UPDATE counters SET value = 9999 WHERE name = 'rejected.bytes'", Inconsistency(miscounted=("rejected",))),
            (
                "UPDATE counters SET value = 9999 WHERE name = 'duplicates.bytes'",
                Inconsistency(miscounted=("duplicates",)),
            ),
        ],
    )
    def test_it_is_found_and_rebuilt(self, path: Path, statement: str, inconsistency: Inconsistency) -> None:
        assert check_log(path).inconsistency == CONSISTENT
        change(path, statement)
        condition = check_log(path)
        assert condition.inconsistency == inconsistency
        assert condition.faults == ()
        rebuild_ids(path)
        assert check_log(path).inconsistency == CONSISTENT
        sink = SqliteSink(path)
        assert sink.store([envelope("m5"), envelope("new")]) == [Outcome.DUPLICATE, Outcome.STORED]
        sink.close()

    def test_rejected_messages_are_kept_again_once_it_is_rebuilt(self, path: Path) -> None:
        """Emptying a bounded part with another tool leaves its counter full, and every new record would be dropped."""
        sink = SqliteSink(path, rejected_bytes=3_000)
        sink.store(rejected=[rejected_record(b"x" * 500)] * 4)
        change(path, "DELETE FROM rejected")
        rebuild_ids(path)
        sink.store(rejected=[rejected_record(b"y" * 2_000)])
        sink.close()
        assert [kept.payload for kept in SqliteLog(path).rejected()] == [b"y" * 2_000]

    def test_a_counter_that_is_too_high_stops_nobody(self, path: Path) -> None:
        """There may be nothing left to drop before the bound is reached, for example if it was lowered too."""
        change(path, "UPDATE counters SET value = 9999 WHERE name = 'rejected.bytes'")
        sink = SqliteSink(path, rejected_bytes=3_000)
        assert sink.store([envelope("new")], rejected=[rejected_record()]) == [Outcome.STORED]
        sink.close()

    @pytest.mark.usefixtures("small")
    @pytest.mark.parametrize("table", TABLES[1:])
    def test_an_entry_in_two_tables_stops_nobody(self, sqlite_sink: SqliteSink, log_path: Path, table: str) -> None:
        """A message without its entry could be stored twice; other inconsistencies do no harm."""
        sqlite_sink.store([envelope("first"), envelope("second")])
        change(log_path, f"INSERT OR IGNORE INTO {table} SELECT * FROM message_ids_1")  # noqa: S608 - a constant
        for number in range(0, 200, 5):
            new = [envelope(f"m{number + k}") for k in range(5)]
            assert list(sqlite_sink.store([*new, envelope("first")])) == [Outcome.STORED] * 5 + [Outcome.DUPLICATE]

    def test_entries_of_two_messages_that_are_exchanged(self, path: Path) -> None:
        """All numbers and hashes are there, but every pair is wrong."""
        change(path, "UPDATE message_ids_4 SET seq = 1999 - seq WHERE seq IN (999, 1000)")
        assert check_log(path).inconsistency == Inconsistency(lacking=2, surplus=2)

    @pytest.mark.parametrize("seq", [1_000, 1_005])
    def test_a_message_that_is_there_twice(self, path: Path, seq: int) -> None:
        """No constraint of the file prevents it; the check finds it, and cannot repair it."""
        change(
            path,
            "INSERT INTO messages SELECT 1006, source_id, message_id, call, user_id, anonymous_id, received_at,"  # noqa: S608 - a number
            f" destinations, cautions, payload, inherited, found_by, retry_count FROM messages WHERE seq = {seq}",
        )
        rebuild_ids(path)
        inconsistency = check_log(path).inconsistency
        assert inconsistency == Inconsistency(doubled=1)
        assert inconsistency
        assert not inconsistency.can_be_rebuilt

    def test_an_open_sink_notices_that_it_was_rebuilt(self, sqlite_sink: SqliteSink, log_path: Path) -> None:
        """Rebuilding puts the recent ids into the tables too."""
        some = [envelope(f"m{number}") for number in range(10)]
        sqlite_sink.store(some)
        rebuild_ids(log_path)
        assert list(sqlite_sink.store(some)) == [Outcome.DUPLICATE] * 10

    def test_while_it_is_written(self, sqlite_sink: SqliteSink, log_path: Path) -> None:
        for number in range(50):
            sqlite_sink.store([envelope(f"m{number}-{k}") for k in range(20)])
            assert check_log(log_path).inconsistency == CONSISTENT


class TestMigration:
    """A log of an older schema keeps everything, and finds its messages again."""

    @pytest.fixture(name="old")
    def _old(self, log_path: Path) -> Path:
        with closing(open_for_writing(log_path, 5, MIGRATIONS[:2])) as connection:
            connection.execute("INSERT INTO sources VALUES (1, 'website'), (2, 'app')")
            row = "INSERT INTO messages VALUES (?, ?, ?, 'track', 'u1', NULL, 0, '[]', NULL, ?, NULL)"
            for number in range(1_500):
                payload = msgspec.json.encode({"messageId": f"m{number}"})
                connection.execute(row, (number + 1, 1 + number % 2, f"m{number}", payload))
            connection.execute("DELETE FROM messages WHERE seq <= 100")
            connection.execute("UPDATE counters SET value = 1500 WHERE name = 'messages.seq'")
            for code in ("no_type", "no_event"):
                connection.execute("INSERT INTO rejected VALUES (NULL, 1, 0, ?, 'm', 'p', 101, x'7b')", (code,))
            connection.execute("INSERT INTO quarantine VALUES (NULL, 0, 'batch', NULL, NULL, 0, 101, x'7b')")
            connection.execute("UPDATE counters SET value = 202 WHERE name = 'rejected.bytes'")
            connection.execute("UPDATE counters SET value = 101 WHERE name = 'quarantine.bytes'")
        return log_path

    def test_its_messages_are_known_again(self, old: Path) -> None:
        sink = SqliteSink(old)
        again = [envelope(f"m{number}", source=SOURCES[number % 2]) for number in (99, 100, 1_499)]
        assert list(sink.store(again)) == [Outcome.STORED, Outcome.DUPLICATE, Outcome.DUPLICATE]
        assert list(sink.store([envelope("m100", source="app")])) == [Outcome.STORED]
        sink.store(rejected=[rejected_record()], quarantined=[quarantined_request()])
        sink.close()
        totals = SqliteLog(old).totals()
        assert (totals.messages, totals.rejected, totals.quarantined) == (1_402, 3, 2)
        assert check_log(old).inconsistency == CONSISTENT
        assert [record.code for record in SqliteLog(old).rejected(Query(code="no_event"))] == ["no_event"]

    def test_the_ids_of_the_newest_messages_had_a_table(self, log_path: Path) -> None:
        """Until schema 6 `message_ids_0` had them."""
        with closing(open_for_writing(log_path, 5, MIGRATIONS[:6])) as connection:
            connection.execute("INSERT INTO sources VALUES (1, 'website')")
            row = "INSERT INTO messages VALUES (?, 1, ?, 'track', 'u1', NULL, 0, '[]', NULL, '{}', NULL, NULL)"
            connection.executemany(row, [(number, f"m{number}") for number in range(1, 101)])
            connection.execute("UPDATE counters SET value = 100 WHERE name IN ('messages.seq', 'messages.count')")
            for table, seqs in (("message_ids_0", range(41, 101)), ("message_ids_3", range(1, 41))):
                connection.executemany(
                    f"INSERT INTO {table} VALUES (?, ?)",  # noqa: S608 - a constant
                    [(hash_of(1, f"m{seq}"), seq) for seq in seqs],
                )
        with closing(SqliteSink(log_path)) as sink:
            again = sink.store([envelope(f"m{number}") for number in (1, 40, 41, 100, 101)])
            assert list(again) == [Outcome.DUPLICATE] * 4 + [Outcome.STORED]
        assert check_log(log_path).inconsistency == CONSISTENT

    def test_it_is_said_to_be_older_until_then(self, old: Path) -> None:
        condition = check_log(old)
        assert (condition.is_older, condition.faults, condition.inconsistency) == (True, (), CONSISTENT)
        with closing(SqliteSink(old)) as sink:
            sink.check_ready()
        assert not check_log(old).is_older

    def test_one_that_fails_leaves_the_log_as_it_was(self, old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A migration is one transaction, with all the ids."""

        def fail(*_: Any) -> int:
            raise ValueError

        monkeypatch.setattr(tables_module, "hash_of", fail)
        with pytest.raises(sqlite3.Error):
            open_for_writing(old, 5)
        monkeypatch.undo()
        assert check_log(old).is_older
        with closing(SqliteSink(old)) as sink:
            sink.check_ready()
        assert check_log(old).inconsistency == CONSISTENT
