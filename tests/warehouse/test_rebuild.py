"""`trackcore warehouse rebuild`, which is the same for all kinds of warehouses."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import attrs
import duckdb
import pytest
from delivery_processes import Deployed
from patience import PATIENCE
from postgres_cluster import Database
from trackcore_server.cli._progress import CountProgress
from trackcore_sqlite import SqliteSink
from warehouse_helpers import SCHEMA, SOURCE, as_envelopes, as_log, generated, message
from warehouse_kinds import KINDS, Place, Rows

from trackcore import JSONObject

REBUILD = ("warehouse", "rebuild", "--destination", "There")
SEED = 17
SHORT_KILLS, LONG_KILLS = 3, 40
MESSAGES = 120
"""For each kill."""

LATEST = {"postgres": "my_website__old", "parquet": "out/_old", "duckdb": "out.duckdb.old"}
"""Where the tables from before a rebuild are."""


@attrs.define
class Warehouse:
    """A data folder with a log, and a warehouse of a kind."""

    kind: str
    deployed: Deployed
    database: Database

    def configure(self, *lines: str) -> None:
        where = {
            "postgres": f'url = "{self.database.url}"',
            "parquet": 'location = "out"',
            "duckdb": 'path = "out.duckdb"',
        }
        own = ['name = "There"', f'kind = "{self.kind}"', where[self.kind], 'batch_wait = "0s"', *lines]
        self.deployed.configure("\n".join(["[[destinations]]", *own, ""]))
        config = self.deployed.folder / "trackcore.toml"
        config.write_text(config.read_text().replace('"website"', f'"{SOURCE}"'))

    def fill(self, *sent: JSONObject) -> None:
        sink = SqliteSink(self.deployed.log_path)
        sink.store(as_envelopes(sent))
        sink.close()

    def deliver(self) -> None:
        running = self.deployed.deliver()
        self.deployed.wait_until_delivered("There")
        running.kill()

    def rebuild(self, *options: str, code: int = 0) -> str:
        return self.deployed.ask(*REBUILD, *options, code=code)[1].replace("\n", " ")

    @property
    def place(self) -> Place:
        return Place(self.kind, self.deployed.folder, self.database)

    def tables(self) -> dict[str, Rows]:
        return self.place.tables()

    def damage(self) -> None:
        """Change the tables by hand."""
        if self.kind == "postgres":
            self.database.rows(f"DELETE FROM {SCHEMA}.tracks WHERE id < 'm2'")
            self.database.rows(f"ALTER TABLE {SCHEMA}.users DROP COLUMN context_ip")
        elif self.kind == "parquet":
            for path in (self.deployed.folder / "out").glob("*/trackcore_table=tracks/*/*"):
                path.unlink()
        else:
            shutil.copy(self.deployed.folder / "out.duckdb", self.deployed.folder / "copy")
            self.in_duckdb(f"DELETE FROM {SCHEMA}.tracks WHERE id < 'm2'", f"DROP TABLE {SCHEMA}.users")

    def in_duckdb(self, *statements: str) -> list[Any]:
        with duckdb.connect(str(self.deployed.folder / "out.duckdb")) as connection:
            return [connection.execute(one).fetchall() for one in statements]

    def has_old_tables(self) -> bool:
        if self.kind == "postgres":
            return bool(self.database.tables(LATEST[self.kind]))
        return (self.deployed.folder / LATEST[self.kind]).exists()

    def remove_old_tables(self) -> None:
        path = self.deployed.folder / LATEST[self.kind]
        if self.kind == "postgres":
            self.database.rows(f"DROP SCHEMA IF EXISTS {LATEST[self.kind]} CASCADE")
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


@pytest.fixture(name="warehouse", params=KINDS)
def _warehouse(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Warehouse]:
    monkeypatch.delenv("TRACKCORE_CONFIG", raising=False)
    warehouse = Warehouse(request.param, Deployed(tmp_path / "data"), database)
    warehouse.configure()
    yield warehouse
    for running in warehouse.deployed.started:
        running.kill()


class TestTables:
    """Fresh tables are filled beside those in use, and take their place; nothing is deleted."""

    def test_they_equal_the_live_ones(self, warehouse: Warehouse) -> None:
        sent = generated(300)
        warehouse.fill(*sent)
        warehouse.deliver()
        live = warehouse.tables()
        assert live["_discards"]
        warehouse.damage()
        text = warehouse.rebuild()
        assert "300 messages loaded; rebuilt: my_website" in text
        assert _loaded_at_another_time(warehouse.tables()) == _loaded_at_another_time(live)
        warehouse.place.check(as_log(sent))
        assert warehouse.has_old_tables()

    def test_only_later_messages_with_since(self, warehouse: Warehouse) -> None:
        warehouse.fill(*map(message, range(9)))
        warehouse.deliver()
        assert "3 messages loaded" in warehouse.rebuild("--since", "2026-01-31T12:00:02Z")
        assert warehouse.tables()["tracks"].keys() == {"m6", "m7", "m8"}

    def test_a_table_that_gets_no_rows_any_more_is_gone(self, warehouse: Warehouse) -> None:
        warehouse.fill(message(1), message(2, "identify"))
        warehouse.deliver()
        warehouse.configure('tables = ["identifies", "users"]')
        warehouse.rebuild()
        assert warehouse.tables().keys() - {"_discards"} == {"identifies", "users"}

    def test_before_anything_was_delivered(self, warehouse: Warehouse) -> None:
        sent = generated(50)
        warehouse.fill(*sent)
        warehouse.rebuild()
        warehouse.place.check(as_log(sent))
        assert not warehouse.has_old_tables()

    def test_without_a_message_for_it_they_stay(self, warehouse: Warehouse) -> None:
        warehouse.fill(message(1))
        warehouse.deliver()
        text = warehouse.rebuild("--since", "2030-01-01", code=2)
        assert "the log has no messages for this destination; its tables are as they were" in text
        assert warehouse.tables()["tracks"].keys() == {"m1"}

    def test_earlier_ones_are_not_deleted(self, warehouse: Warehouse) -> None:
        warehouse.fill(message(1))
        warehouse.deliver()
        warehouse.rebuild()
        text = warehouse.rebuild(code=2)
        assert "the tables from before the last rebuild are still there" in text
        assert LATEST[warehouse.kind] in text.replace('"', "")
        warehouse.remove_old_tables()
        warehouse.rebuild()

    def test_its_progress_is_shown(self, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
        shown: list[tuple[int, str]] = []
        monkeypatch.setattr(CountProgress, "show", lambda _, done, text, **__: shown.append((done, text)))
        warehouse.configure("batch_messages = 2")
        warehouse.fill(*map(message, range(5)))
        warehouse.rebuild()
        assert shown[0] == (2, "2 messages")
        assert shown[-1] == (5, "5 messages, swapping")

    def test_the_masks_of_the_destination_apply(self, warehouse: Warehouse) -> None:
        warehouse.configure('mask = [{ fields = ["properties.secret"], action = "drop" }]')
        warehouse.fill(message(1, properties={"secret": "x", "total": 5}))
        warehouse.rebuild()
        (row,) = warehouse.tables()["order_paid"].values()
        assert (row.get("secret"), row["total"]) == (None, 5)


def _loaded_at_another_time(tables: dict[str, Rows]) -> dict[str, Any]:
    return {
        table: {key: {name: one for name, one in row.items() if name != "uuid_ts"} for key, row in rows.items()}
        for table, rows in tables.items()
    }


class TestDelivery:
    """Delivery goes on meanwhile, and afterwards in the fresh tables; each message is there once."""

    def test_messages_that_arrive_meanwhile_are_there_once(self, warehouse: Warehouse) -> None:
        sent = generated(600)
        warehouse.configure("batch_messages = 60")
        warehouse.fill(*sent[:200])
        warehouse.deployed.deliver()
        rebuilding = warehouse.deployed.run(*REBUILD)
        for start in range(200, 500, 10):
            warehouse.fill(*sent[start : start + 10])
        assert rebuilding.process.wait(PATIENCE) == 0, rebuilding.stderr()
        warehouse.fill(*sent[500:])
        warehouse.deployed.wait_until_delivered("There")
        assert warehouse.deployed.status("There").dead_letters == 0
        warehouse.place.check(as_log(sent))

    def test_a_rebuild_that_is_killed_is_run_again(self, warehouse: Warehouse, is_long: bool) -> None:
        random = Random(SEED)
        kills = LONG_KILLS if is_long else SHORT_KILLS
        warehouse.configure("batch_messages = 25")
        sent = generated((kills + 1) * MESSAGES)
        warehouse.fill(*sent[:MESSAGES])
        delivering = warehouse.deployed.deliver()
        for number in range(1, kills + 1):
            warehouse.remove_old_tables()
            rebuilding = warehouse.deployed.run(*REBUILD)
            warehouse.fill(*sent[number * MESSAGES : (number + 1) * MESSAGES])
            time.sleep(random.uniform(0.5, 3))
            rebuilding.kill()
        warehouse.deployed.wait_until_delivered("There")
        delivering.kill()
        warehouse.place.check(as_log(sent))
        warehouse.remove_old_tables()
        warehouse.rebuild()
        warehouse.place.check(as_log(sent))

    def test_of_two_at_once_one_works(self, warehouse: Warehouse) -> None:
        warehouse.configure("batch_messages = 1")
        warehouse.fill(*generated(20))
        running = [warehouse.deployed.run(*REBUILD) for _ in range(2)]
        codes = [one.process.wait(PATIENCE) for one in running]
        texts = " ".join(one.stderr() for one in running)
        assert sorted(codes) == [0, 2], texts
        assert "'There' is being rebuilt already by trackcore warehouse rebuild, process" in texts.replace("\n", " ")
