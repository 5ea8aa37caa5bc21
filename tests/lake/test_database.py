"""A database of DuckDB: a batch is one transaction, and the file is free between batches."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from delivery_helpers import sender_context
from lake_readers import database, database_tables, fed_message, identify, send, track
from patience import PATIENCE
from trackcore_delivery import FedMessage, RetryLater, SamePlace, check_places
from trackcore_duckdb import database as module
from trackcore_duckdb import engine
from trackcore_server.config.file_destinations import DuckDBDestination

HOLDER = """
import sys, duckdb
connection = duckdb.connect(sys.argv[1])
print("open", flush=True)
sys.stdin.read()
"""


def test_while_another_process_has_it_open_a_batch_waits(tmp_path: Path) -> None:
    sender = database().make_sender(sender_context(tmp_path))
    send(sender, [fed_message(1, track("A"))])
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "out.duckdb")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(RetryLater, match="lock") as raised:
            send(sender, [fed_message(2, track("A"))])
        holder.communicate("", timeout=PATIENCE)
    assert raised.value.is_outage
    send(sender, [fed_message(2, track("A"))])
    assert [row["id"] for row in database_tables(tmp_path)["a"]] == ["m1", "m2"]


def test_between_batches_others_can_read_it(tmp_path: Path) -> None:
    sender = database().make_sender(sender_context(tmp_path))
    for number in (1, 2):
        send(sender, [fed_message(number, track("A"))])
        with duckdb.connect(str(tmp_path / "out.duckdb"), read_only=True) as reader:
            assert reader.execute("SELECT count(*) FROM web.a").fetchall() == [(number,)]


def test_of_a_batch_that_fails_nothing_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sender = database().make_sender(sender_context(tmp_path))
    send(sender, [fed_message(1, track("A", x=1)), fed_message(2, identify("u", x=1))])
    before = database_tables(tmp_path)
    batch = [fed_message(3, track("A", x=1.5, y=2)), fed_message(4, track("B")), fed_message(5, identify("u", x=2))]

    def fail(*_: object) -> None:
        raise duckdb.IOException("no space left")

    with monkeypatch.context() as patched:
        patched.setattr(module._Loading, "_update_profiles", fail)
        with pytest.raises(RetryLater, match="no space left"):
            send(sender, batch)
    assert database_tables(tmp_path) == before
    send(sender, batch)
    after = database_tables(tmp_path)
    assert (len(after["a"]), len(after["b"]), after["users"][0]["x"]) == (2, 1, 2)


class TestManyTables:
    """A batch for very many tables is several transactions, since DuckDB keeps the rows of one in memory."""

    MANY = 40

    @pytest.fixture(autouse=True)
    def _little_memory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(engine, "MEMORY_LIMIT", "120MB")  # for the rows of 25 tables
        monkeypatch.setattr(module, "_COLUMNS_AT_ONCE", 500)

    def batch(self) -> list[FedMessage]:
        return [fed_message(number, track(f"Event {number}", n="x")) for number in range(self.MANY)]

    def test_it_arrives(self, tmp_path: Path) -> None:
        send(database().make_sender(sender_context(tmp_path)), self.batch())
        found = database_tables(tmp_path)
        assert [len(found[f"event_{number}"]) for number in range(self.MANY)] == [1] * self.MANY

    def test_a_part_of_it_that_was_committed_before_a_failure_is_not_there_twice(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        conflict = [fed_message(100, track("Event 1", n=1)), fed_message(101, track("Event 1", n="one"))]
        batch = [*conflict, *self.batch()[2:], fed_message(102, identify("u", x=1))]

        def fail(*_: object) -> None:
            raise duckdb.IOException("no space left")

        with monkeypatch.context() as patched:
            patched.setattr(module._Loading, "_update_profiles", fail)
            with pytest.raises(RetryLater, match="no space left"):
                send(database().make_sender(sender_context(tmp_path)), batch)
        before = database_tables(tmp_path)
        assert [row["column_value"] for row in before["_discards"]] == ["one"]
        assert len(before["event_1"]) == 2
        assert "users" not in before or before["users"] == []
        send(database().make_sender(sender_context(tmp_path)), batch)
        found = database_tables(tmp_path)
        assert [len(found[f"event_{number}"]) for number in range(2, self.MANY)] == [1] * (self.MANY - 2)
        assert (len(found["tracks"]), len(found["event_1"]), len(found["users"])) == (self.MANY, 2, 1)
        assert found["_discards"] == before["_discards"]


def test_two_destinations_of_one_file_are_refused(tmp_path: Path) -> None:
    other = DuckDBDestination(name="Other", path=Path("x/../OUT.duckdb"))
    with pytest.raises(SamePlace):
        check_places([database(), other], sender_context(tmp_path))
