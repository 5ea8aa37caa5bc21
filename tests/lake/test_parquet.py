"""Parquet files: put once, one table to every reader, merged when they are many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from buckets import ENVIRON, Buckets, FailingStore
from delivery_helpers import NOON, sender_context
from lake_readers import fed_message, identify, parquet, parquet_tables, send, track
from pages import page
from trackcore_delivery import FedMessage, RetryLater
from trackcore_duckdb import ParquetSender, compaction
from trackcore_objects.folder import FolderStore

from trackcore.warehouse import WarehouseOptions

LEVEL = 4
"""How many files are merged in these tests."""


@pytest.fixture(autouse=True)
def _few_files_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "FILES_OF_A_LEVEL", LEVEL)


def files(folder: Path) -> list[Path]:
    """Return all files of Parquet."""
    return sorted((folder / "out").rglob("*.parquet"))


def types_of(folder: Path) -> dict[str, set[str]]:
    """Return the types that each column has in any file."""
    found: dict[str, set[str]] = {}
    with duckdb.connect() as connection:
        for path in files(folder):
            for name, type_name, *_ in connection.execute(f"DESCRIBE FROM '{path}'").fetchall():
                found.setdefault(name, set()).add(type_name)
    return found


def of_store(store: Any) -> ParquetSender:
    return ParquetSender(store=store, options=WarehouseOptions(declare=()), schema="{source}")


def tracks(numbers: Sequence[int], **properties: Any) -> list[FedMessage]:
    return [fed_message(number, track("A", n=number, **properties)) for number in numbers]


class TestLayout:
    """Hive-style partitions by source, table and received day; files named by their range of numbers."""

    def test_a_file_is_in_the_folder_of_its_source_table_and_day(self, tmp_path: Path) -> None:
        tomorrow = fed_message(3, track("Order Paid"), received_at=NOON + timedelta(hours=12))
        send(parquet().make_sender(sender_context(tmp_path)), [*tracks([1, 2]), tomorrow])
        shown = [str(path.relative_to(tmp_path / "out"))[:-34] for path in files(tmp_path)]
        assert [path.rsplit("/", 1)[0] for path in shown] == [
            "trackcore_source=web/trackcore_table=a/received_day=2026-01-31",
            "trackcore_source=web/trackcore_table=order_paid/received_day=2026-02-01",
            "trackcore_source=web/trackcore_table=tracks/received_day=2026-01-31",
            "trackcore_source=web/trackcore_table=tracks/received_day=2026-02-01",
        ]
        assert files(tmp_path)[0].name.startswith(f"{1:020d}-{2:020d}-")

    def test_a_property_named_like_a_folder_gets_another_name_in_files(self, tmp_path: Path) -> None:
        send(parquet().make_sender(sender_context(tmp_path)), tracks([1], received_day="monday", source="x"))
        (row,) = parquet_tables(tmp_path)["a"]
        assert (row["_received_day"], row["source"]) == ("monday", "x")

    def test_every_file_has_all_columns_of_its_table_at_its_time(self, tmp_path: Path) -> None:
        sender = parquet().make_sender(sender_context(tmp_path))
        send(sender, tracks([1], x=1))
        send(sender, tracks([2], y=1))
        with duckdb.connect() as connection:
            last = files(tmp_path)[1]
            names = [name for name, *_ in connection.execute(f"DESCRIBE FROM '{last}'").fetchall()]
        assert {"x", "y", "context_campaign_name"} <= set(names)

    def test_a_wider_type_is_that_of_all_files(self, tmp_path: Path) -> None:
        sender = parquet().make_sender(sender_context(tmp_path))
        for day in range(3):
            send(sender, [fed_message(day, track("A", x=day, at=True), received_at=NOON + timedelta(days=day))])
        before = files(tmp_path)
        send(sender, tracks([9], x=1.5, at="noon"))
        types = types_of(tmp_path)
        assert (types["x"], types["at"]) == ({"DOUBLE"}, {"VARCHAR"})
        assert {len(found) for found in types.values()} == {1}
        assert set(before) < set(files(tmp_path))


class TestAfterAFailure:
    """A process that is killed between any two calls is sent the batch again, or a longer one."""

    @pytest.mark.parametrize("is_done", [False, True], ids=["not-done", "answer-lost"])
    def test_the_next_batch_completes_it(self, is_done: bool, is_long: bool, tmp_path: Path) -> None:
        """The batch makes a table, widens a column of another one, and fills up a level of small files."""
        first = [message for number in range(1, LEVEL) for message in tracks([number])]
        second = [fed_message(20, track("A", n=1.5)), fed_message(21, identify("u", x=1))]
        third = [*second, fed_message(22, track("A", n=3))]
        prepared = tmp_path / "prepared"
        for message in first:
            send(of_store(FolderStore(prepared / "out")), [message])
        whole = tmp_path / "whole"
        _copy(prepared, whole)
        send(of_store(FolderStore(whole / "out")), [*first[-1:], *third])
        at = 2 - is_done
        while True:
            folder = tmp_path / f"at-{at}"
            _copy(prepared, folder)
            failing = FailingStore(FolderStore(folder / "out"), at, is_done)
            with suppress(RetryLater):
                send(of_store(failing), second)
            if failing.calls < at:
                break
            send(of_store(FolderStore(folder / "out")), third)
            assert parquet_tables(folder) == parquet_tables(whole)
            at += 1 if is_long else 4
        assert at > 35


def _copy(before: Path, after: Path) -> None:
    for path in before.rglob("*"):
        if path.is_file():
            target = after / path.relative_to(before)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())


class TestReaders:
    """All files of a table are one table, though columns came later."""

    def test_the_queries_of_the_guide_answer(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        orders, users = (fence.text for fence in page("guides/lake").fences if fence.language == "sql")
        sender = parquet(location="lake").make_sender(sender_context(tmp_path))
        properties: tuple[dict[str, float], ...] = ({}, {"revenue": 10}, {"revenue": 14.5})
        for number, fields in enumerate(properties, 1):
            at = NOON + timedelta(days=number)
            completed, identified = track("Order Completed", **fields), identify("ada", **{f"t{number % 2}": number})
            send(sender, [fed_message(number, completed, source="website", received_at=at)])
            send(sender, [fed_message(number + 10, identified, source="website", received_at=at)])
        monkeypatch.chdir(tmp_path)
        with duckdb.connect() as connection:
            found = [(str(day), count, sum_) for day, count, sum_ in connection.execute(orders).fetchall()]
            latest = connection.sql(users).select("id", "t0", "t1").fetchall()
        assert found == [("2026-02-01", 1, None), ("2026-02-02", 1, 10.0), ("2026-02-03", 1, 14.5)]
        assert latest == [("ada", 2, 3)]


class TestCompaction:
    """Small files become larger ones; no row is lost, and none is there twice."""

    def test_a_folder_has_few_files_however_many_batches_came(self, tmp_path: Path) -> None:
        sender = of_store(FolderStore(tmp_path / "out"))
        count = 2 * LEVEL + 3
        for number in range(1, count + 1):
            send(sender, tracks([number]))
        rows = parquet_tables(tmp_path)["a"]
        assert sorted(row["n"] for row in rows) == list(range(1, count + 1))
        names = [path.name.partition(".")[2] for path in files(tmp_path) if "table=a" in str(path)]
        assert sorted(names) == ["c1.parquet"] * 2 + ["parquet"] * 3

    def test_a_merged_file_hides_no_late_message_of_its_range(self, tmp_path: Path) -> None:
        sender = of_store(FolderStore(tmp_path / "out"))
        numbers = [number for number in range(1, LEVEL + 2) if number != 3]
        for number in numbers:
            send(sender, tracks([number]))
        send(of_store(FolderStore(tmp_path / "out")), tracks([3]))
        send(of_store(FolderStore(tmp_path / "out")), tracks([2, 3, 4]))
        assert sorted(row["n"] for row in parquet_tables(tmp_path)["a"]) == list(range(1, LEVEL + 2))


class TestProcesses:
    """Two processes with different partitions of a log in Kafka share the tables."""

    def test_a_schema_that_another_process_changed_meanwhile_is_read_again(self, tmp_path: Path) -> None:
        store = FolderStore(tmp_path / "out")

        class Interrupted(FailingStore):
            def put_new(self, key: str, content: Path | bytes) -> bool:
                if key.startswith("schemas/") and not self.calls:
                    self.calls = 1
                    send(of_store(store), [fed_message(1 << 44, track("A", x="text"))])
                return store.put_new(key, content)

        sender = of_store(Interrupted(store, -1, is_done=False))
        sender._store._run = lambda call, *arguments: call(*arguments)  # type: ignore[attr-defined]
        send(sender, [fed_message(1, track("A", x=1, y=2))])
        assert types_of(tmp_path)["x"] == {"VARCHAR"}
        assert sorted(row["x"] for row in parquet_tables(tmp_path)["a"]) == ["1", "text"]


class TestBucket:
    def test_it_holds_what_a_folder_holds(self, buckets: Buckets, tmp_path: Path) -> None:
        bucket = buckets.make()
        settings = buckets.settings(bucket.name)
        in_bucket = parquet(**settings).make_sender(sender_context(tmp_path, ENVIRON))
        in_folder = parquet().make_sender(sender_context(tmp_path / "expected"))
        for sender in (in_bucket, in_folder):
            for number in range(1, LEVEL + 2):
                send(sender, tracks([number]))
            send(sender, tracks([3, 20], m=1.5))
            send(sender, [fed_message(21, track("A", n=0.5))])
        _write(bucket.content, tmp_path / "out")
        assert parquet_tables(tmp_path) == parquet_tables(tmp_path / "expected")
        assert {path.name for path in files(tmp_path)} == {path.name for path in files(tmp_path / "expected")}


def _write(content: Mapping[str, bytes], folder: Path) -> None:
    for key, packed in content.items():
        path = folder / key.removeprefix("a/b/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(packed)
