"""A rebuild of files and of databases: the swap at every step, what others have made, and persons to forget."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs
import duckdb
import pytest
from buckets import ENVIRON, Buckets, FailingStore
from delivery_helpers import NOON, sender_context
from delivery_processes import Deployed
from lake_readers import (
    READERS,
    RowDict,
    database,
    database_tables,
    fed_message,
    identify,
    parquet,
    parquet_tables,
    rows_of,
    send,
    track,
)
from patience import PATIENCE
from trackcore_delivery import ErasureRequest, FedMessage, Forgetting, RetryLater
from trackcore_duckdb import DatabaseRebuild, DatabaseSender, ParquetRebuild, ParquetSender
from trackcore_duckdb import database_rebuild as rebuild_module
from trackcore_duckdb import parquet_swap as swap_module
from trackcore_objects import ObjectStore
from trackcore_objects.folder import FolderStore
from trackcore_sqlite import SqliteSink
from warehouse_helpers import as_envelopes, message

from trackcore.privacy import Subject
from trackcore.warehouse import OldTablesRemain, WarehouseOptions

ANN = "ann-4d1c8f22"
NEXT = fed_message(99, track("A", told="next"), received_at=NOON + timedelta(days=1))
Tables = Mapping[str, Sequence[RowDict]]


HOLDER = """
import os, sys, duckdb
connection = duckdb.connect(sys.argv[1])
print("open", flush=True)
sys.stdin.read()
"""


def nothing() -> None:
    """Load no more messages."""


def messages(told: str, events: str = "AAABB") -> list[FedMessage]:
    """Return messages of two days."""
    made = [
        fed_message(number, track(event, told=told), received_at=NOON + timedelta(days=number // 4))
        for number, event in enumerate(events, 1)
    ]
    return [*made, fed_message(50, identify("u", told=told))]


@pytest.fixture(autouse=True)
def _one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swap_module, "AT_ONCE", 1)


class TestSwapOfFiles:
    """Each step of the swap may be repeated, by delivery or by the next rebuild; no reader ever misses a row."""

    OPTIONS = WarehouseOptions(declare=())

    def sender(self, store: ObjectStore) -> ParquetSender:
        return ParquetSender(store=store, options=self.OPTIONS, schema="{source}")

    def rebuild(self, store: ObjectStore) -> ParquetRebuild:
        return ParquetRebuild(store=store, options=self.OPTIONS, schema="{source}", location="out")

    def store(self, folder: Path) -> FolderStore:
        return FolderStore(folder / "out")

    @pytest.fixture(name="prepared")
    def _prepared(self, tmp_path: Path) -> Path:
        """Return a folder with files in use and with fresh ones: some of the same names, a table less, a file less."""
        folder = tmp_path / "prepared"
        live = messages("live", "AAABC")
        for batch in (live[:3], live[3:4], live[4:]):
            send(self.sender(self.store(folder)), batch)
        self.load(folder)
        return folder

    def load(self, folder: Path) -> None:
        rebuild, fresh = self.rebuild(self.store(folder)), messages("fresh")
        rebuild.begin(["web"])
        for batch in (fresh[:3], fresh[3:]):
            send(rebuild.sender, batch)

    def expected(self, prepared: Path, folder: Path, *, is_swapped: bool) -> Tables:
        shutil.copytree(prepared, folder)
        if is_swapped:
            self.rebuild(self.store(folder)).swap(nothing)
        send(self.sender(self.store(folder)), [NEXT])
        return parquet_tables(folder)

    @pytest.mark.parametrize("is_done", [False, True], ids=["not-done", "answer-lost"])
    def test_delivery_completes_it_or_finds_it_not_begun(
        self, prepared: Path, is_done: bool, is_long: bool, tmp_path: Path
    ) -> None:
        before = self.expected(prepared, tmp_path / "before", is_swapped=False)
        after = self.expected(prepared, tmp_path / "after", is_swapped=True)
        assert (before["a"][0]["told"], after["a"][0]["told"], "c" in after) == ("live", "fresh", False)
        found = []
        for folder in self.interrupted(prepared, tmp_path, is_done, step=1 if is_long else 4):
            send(self.sender(self.store(folder)), [NEXT])
            held = parquet_tables(folder)
            assert held in (before, after)
            found.append(held == after)
        assert found == sorted(found)
        assert set(found) == {False, True}

    @pytest.mark.parametrize("is_done", [False, True], ids=["not-done", "answer-lost"])
    def test_the_next_rebuild_does(self, prepared: Path, is_done: bool, is_long: bool, tmp_path: Path) -> None:
        shutil.copytree(prepared, tmp_path / "after")
        self.rebuild(self.store(tmp_path / "after")).swap(nothing)
        for folder in self.interrupted(prepared, tmp_path, is_done, step=1 if is_long else 4):
            with suppress(OldTablesRemain):
                self.load(folder)
                self.rebuild(self.store(folder)).swap(nothing)
            assert parquet_tables(folder) == parquet_tables(tmp_path / "after")
            old = [path.name for path in (folder / "out").iterdir() if path.name.startswith("_")]
            assert old == ["_old"]
            shutil.rmtree(folder / "out" / "trackcore_source=web")
            shutil.move(folder / "out" / "_old" / "trackcore_source=web", folder / "out")
            assert parquet_tables(folder) == parquet_tables(prepared)

    def interrupted(self, prepared: Path, tmp_path: Path, is_done: bool, *, step: int) -> Any:
        """Yield a folder for each call of the store at which a swap can fail."""
        at = 1
        while True:
            folder = tmp_path / f"at-{at}"
            shutil.copytree(prepared, folder)
            failing = FailingStore(self.store(folder), at, is_done)
            with suppress(RetryLater):
                self.rebuild(failing).swap(nothing)
            if failing.calls < at:
                break
            yield folder
            shutil.rmtree(folder)
            at += step
        assert at > 30

    def test_a_reader_finds_every_row_and_few_of_them_twice(self, prepared: Path) -> None:
        test = self

        class Watched(FailingStore):
            def _run(self, call: Any, *arguments: Any) -> Any:
                result = call(*arguments)
                test.check_rows(prepared)
                return result

        self.rebuild(Watched(self.store(prepared), -1, is_done=False)).swap(nothing)
        assert {row["told"] for row in parquet_tables(prepared)["a"]} == {"fresh"}

    def check_rows(self, folder: Path) -> None:
        with duckdb.connect() as connection:
            files = f"{folder}/out/trackcore_source=web/trackcore_table=tracks/*/*.parquet"
            query = f"SELECT id, count(*), any_value(received_day) FROM read_parquet('{files}') GROUP BY 1"  # noqa: S608 - names of this test
            found = connection.execute(query).fetchall()
        assert {row[0] for row in found} == {f"m{number}" for number in range(1, 6)}
        assert len({day for _, count, day in found if count > 1}) <= 1

    def test_files_of_others_stay(self, prepared: Path) -> None:
        note = prepared / "out" / "trackcore_source=web" / "trackcore_table=c" / "notes.txt"
        note.write_text("mine")
        self.rebuild(self.store(prepared)).swap(nothing)
        assert note.read_text() == "mine"

    def test_a_source_without_fresh_files_stays(self, tmp_path: Path) -> None:
        sender = self.sender(self.store(tmp_path))
        send(sender, [one._replace(source="app") for one in messages("live")])
        before = parquet_tables(tmp_path, "app")
        self.load(tmp_path)
        assert list(self.rebuild(self.store(tmp_path)).swap(nothing)) == ["web"]
        assert parquet_tables(tmp_path, "app") == before


class TestSwapOfDatabases:
    """The database gets a new content in one instant, and keeps what others have made in it."""

    def rebuild(self, folder: Path) -> DatabaseRebuild:
        made = database(declare=()).make_rebuild(sender_context(folder))
        assert isinstance(made, DatabaseRebuild)
        return made

    @pytest.fixture(name="prepared")
    def _prepared(self, tmp_path: Path) -> Path:
        send(database(declare=()).make_sender(sender_context(tmp_path)), messages("live", "AAABC"))
        self.load(tmp_path)
        return tmp_path

    def load(self, folder: Path) -> None:
        rebuild = self.rebuild(folder)
        rebuild.begin(["web"])
        send(rebuild.sender, messages("fresh"))

    def test_what_others_have_made_stays(self, prepared: Path) -> None:
        file = prepared / "out.duckdb"
        file.chmod(0o640)
        with duckdb.connect(str(file)) as connection:
            connection.execute("CREATE VIEW web.told AS SELECT DISTINCT told FROM web.a")
            connection.execute("CREATE TABLE web.mine AS SELECT 1 AS n")
            connection.execute("CREATE SCHEMA app; CREATE TABLE app.tracks (id VARCHAR PRIMARY KEY, received_at DATE)")
        assert list(self.rebuild(prepared).swap(nothing)) == ["web"]
        with duckdb.connect(str(file)) as connection:
            assert connection.execute("FROM web.told").fetchall() == [("fresh",)]
            assert connection.execute("FROM web.mine").fetchall() == [(1,)]
            assert connection.execute("FROM app.tracks").fetchall() == []
        assert file.stat().st_mode & 0o777 == 0o640
        assert "c" not in database_tables(prepared)
        assert sorted(path.name for path in prepared.iterdir()) == ["out.duckdb", "out.duckdb.old"]

    def test_delivery_goes_on_with_the_keys(self, prepared: Path) -> None:
        self.rebuild(prepared).swap(nothing)
        after = database_tables(prepared)
        send(database(declare=()).make_sender(sender_context(prepared)), messages("again"))
        assert database_tables(prepared)["a"] == after["a"]

    def test_before_the_last_step_nothing_has_changed(self, prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        before = database_tables(prepared)

        def fail(*_: object) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(Path, "replace", fail)
            with pytest.raises(RetryLater, match="No space left"):
                self.rebuild(prepared).swap(nothing)
        assert (prepared / "out.duckdb.old").exists()  # as if the process had been killed
        assert database_tables(prepared) == before
        self.load(prepared)
        self.rebuild(prepared).swap(nothing)
        assert database_tables(prepared)["a"][0]["told"] == "fresh"

    def test_where_there_are_no_links_the_earlier_file_is_copied(
        self, prepared: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> None:
            raise OSError(95, "Operation not supported")

        before = database_tables(prepared)
        monkeypatch.setattr(Path, "hardlink_to", refuse)
        self.rebuild(prepared).swap(nothing)
        (prepared / "out.duckdb.old").replace(prepared / "out.duckdb")
        assert database_tables(prepared) == before

    def test_while_another_program_may_write_to_it_it_waits(
        self, prepared: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        command = [sys.executable, "-c", HOLDER, str(prepared / "out.duckdb")]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
            assert holder.stdout is not None
            holder.stdout.readline()
            monkeypatch.setattr(rebuild_module, "ATTEMPTS", 1)
            with pytest.raises(RetryLater, match="lock"):
                self.rebuild(prepared).swap(nothing)
            assert not (prepared / "out.duckdb.old").exists()
            monkeypatch.setattr(rebuild_module, "ATTEMPTS", 2)
            monkeypatch.setattr(rebuild_module, "sleep", lambda _: holder.communicate("", timeout=PATIENCE))
            self.rebuild(prepared).swap(nothing)
        assert database_tables(prepared)["a"][0]["told"] == "fresh"

    def test_a_process_that_was_killed_while_it_wrote_has_left_a_log(self, prepared: Path) -> None:
        """The log of the database has what was committed last; it is in the earlier file then."""
        script = HOLDER.replace("sys.stdin.read()", "os._exit(0)").replace("print", "connection.execute(WRITE); print")
        write = "WRITE = 'CREATE TABLE main.mine (n INT); INSERT INTO main.mine VALUES (1)'"
        subprocess.run([sys.executable, "-c", f"{write}\n{script}", str(prepared / "out.duckdb")], check=True)
        assert (prepared / "out.duckdb.wal").exists()
        self.rebuild(prepared).swap(nothing)
        with duckdb.connect(str(prepared / "out.duckdb")) as connection:
            assert connection.execute("FROM main.mine").fetchall() == [(1,)]

    def test_a_link_to_it_stays_a_link(self, prepared: Path, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir()
        for name in ("out.duckdb", "out.duckdb.new"):
            (prepared / name).replace(tmp_path / "real" / name)
        (prepared / "out.duckdb").symlink_to(tmp_path / "real" / "out.duckdb")
        self.rebuild(prepared).swap(nothing)
        assert (prepared / "out.duckdb").is_symlink()
        assert database_tables(prepared)["a"][0]["told"] == "fresh"


def rows_of_files(folder: Path) -> list[Any]:
    """Return the rows of all files of Parquet and of all databases."""
    found: list[Any] = []
    for path in (one for one in folder.rglob("*") if one.is_file()):
        with duckdb.connect() as connection:
            if path.suffix == ".parquet":
                found += rows_of(connection, f"FROM read_parquet('{path}')")
            elif path.name.startswith("out.duckdb"):
                connection.execute(f"ATTACH '{path}' AS held (READ_ONLY)")
                tables = connection.execute("SELECT schema_name, table_name FROM duckdb_tables()").fetchall()
                found += [row for schema, table in tables for row in rows_of(connection, f"FROM held.{schema}.{table}")]
    return found


class TestForgetting:
    """`forget` reaches the tables in use, the fresh ones of a rebuild under way, and those from before one."""

    REQUEST = ErasureRequest(id="r", subjects=(Subject("user", ANN),), source=None, requested_at=NOON)

    @pytest.mark.parametrize("kind", READERS)
    def test_no_byte_is_left(self, kind: str, tmp_path: Path) -> None:
        destination = READERS[kind].destination(declare=())
        sender = destination.make_sender(sender_context(tmp_path))
        theirs = [fed_message(7, {**track("A", x=1), "userId": ANN}), fed_message(8, identify(ANN, x=ANN))]
        send(sender, [*messages("live"), *theirs])
        for is_swapped in (True, False):  # the second is under way
            rebuild = destination.make_rebuild(sender_context(tmp_path))  # type: ignore[attr-defined]
            send(rebuild.sender, [*messages("live"), *theirs])
            if is_swapped:
                rebuild.swap(nothing)
        count = len(rows_of_files(tmp_path))
        assert repr(rows_of_files(tmp_path)).count(f"'user_id': '{ANN}'") == 9  # three tables, three times
        assert isinstance(sender, Forgetting)
        sender.forget(self.REQUEST)
        assert ANN not in repr(rows_of_files(tmp_path))
        assert len(rows_of_files(tmp_path)) == count - 12  # with those of the users
        assert all(ANN.encode() not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())

    @pytest.mark.parametrize(("kind", "sender"), [("parquet", ParquetSender), ("duckdb", DatabaseSender)])
    def test_a_batch_of_a_rebuild_is_read_and_stored_in_a_turn(
        self, kind: str, sender: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Else one that was read before the log forgot a person could be stored after the tables have."""
        monkeypatch.delenv("TRACKCORE_CONFIG", raising=False)
        place = {"parquet": 'location = "out"', "duckdb": 'path = "out.duckdb"'}[kind]
        deployed = Deployed(tmp_path / "data")
        deployed.configure(f'[[destinations]]\nname = "There"\nkind = "{kind}"\n{place}\nbatch_messages = 1\n')
        sink = SqliteSink(deployed.log_path)
        sink.store(as_envelopes(map(message, range(3)), "website"))
        sink.close()
        turns = READERS[kind].destination().turns(sender_context(deployed.folder))  # type: ignore[attr-defined]
        refused = self.watch(monkeypatch, sender, "send", turns.alone)
        rebuild = ParquetRebuild if kind == "parquet" else DatabaseRebuild
        swapping = self.watch(monkeypatch, rebuild, "swap", turns.shared)
        deployed.ask("warehouse", "rebuild", "--destination", "There")
        assert (refused, swapping) == ([True] * 3, [True])

    def watch(self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, turn: Callable[[float], Any]) -> list[bool]:
        """Note for each call of a method whether a turn is refused meanwhile."""
        found: list[bool] = []
        method = getattr(owner, name)

        def watched(*arguments: Any) -> Any:
            try:
                with turn(0):
                    found.append(False)
            except RetryLater:
                found.append(True)
            return method(*arguments)

        monkeypatch.setattr(owner, name, watched)
        return found


class TestBucket:
    def test_it_is_as_in_a_folder(self, buckets: Buckets, tmp_path: Path) -> None:
        bucket = buckets.make()
        settings = buckets.settings(bucket.name)
        for destination in (parquet(**settings), parquet()):
            context = sender_context(tmp_path, ENVIRON)
            sender = destination.make_sender(context)
            send(sender, messages("live", "AAABC"))
            rebuild = destination.make_rebuild(context)
            rebuild.begin(["web"])
            send(rebuild.sender, messages("fresh"))
            assert list(rebuild.swap(nothing)) == ["web"]
            send(sender, [NEXT])
        folder = tmp_path / "out"
        held = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
        assert [key.removeprefix("a/b/") for key in bucket.content] == sorted(held)
        with pytest.raises(OldTablesRemain, match=re.escape(f"s3://{bucket.name}/a/b/_old")):
            parquet(**settings).make_rebuild(sender_context(tmp_path, ENVIRON)).begin([])


@pytest.mark.parametrize("kind", READERS)
def test_delivery_waits_while_tables_are_swapped(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trackcore_delivery.turns.PATIENCE_SECONDS", 0)
    destination, other = (READERS[kind].destination(), attrs.evolve(READERS[kind].destination(), name="Other"))
    turns = [one.turns(sender_context(tmp_path)) for one in (destination, other)]  # type: ignore[attr-defined]
    sender = destination.open_sender(sender_context(tmp_path))
    with turns[0].alone(), pytest.raises(RetryLater, match="being swapped"):
        send(sender, [NEXT])
    with turns[1].alone():
        send(sender, [NEXT])
