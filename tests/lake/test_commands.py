"""Commands on Parquet files and on a database: tables, rows, discards, and the tables of a message."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import duckdb
import pytest
from buckets import ENVIRON, Buckets
from delivery_helpers import sender_context
from delivery_processes import Deployed
from lake_readers import READERS, send
from patience import PATIENCE
from trackcore_duckdb import database_reader, parquet_reader
from trackcore_sqlite import SqliteSink
from warehouse_helpers import SCHEMA, SOURCE, as_envelopes, as_log, generated, message
from warehouse_kinds import as_fed

from trackcore import JSONObject

DAMAGED = {"parquet": ".parquet is damaged", "duckdb": "not a valid DuckDB database"}
LINES = {"parquet": ['location = "out"'], "duckdb": ['path = "out.duckdb"']}
HOLDER = """
import sys, duckdb
connection = duckdb.connect(sys.argv[1], read_only=sys.argv[2] == "reads")
print("open", flush=True)
sys.stdin.read()
"""


@attrs.define
class Lake:
    """A data folder with a log and one warehouse, which a sender fills in this process."""

    kind: str
    deployed: Deployed
    lines: Sequence[str] = ()
    settings: dict[str, Any] = attrs.field(factory=dict)

    def __attrs_post_init__(self) -> None:
        lines = ["[[destinations]]", 'name = "There"', f'kind = "{self.kind}"', *(self.lines or LINES[self.kind])]
        self.deployed.configure("\n".join(lines) + "\n")
        config = self.folder / "trackcore.toml"
        config.write_text(config.read_text().replace('"website"', f'"{SOURCE}"'))

    @property
    def folder(self) -> Path:
        return self.deployed.folder

    def log(self, *sent: JSONObject) -> None:
        sink = SqliteSink(self.deployed.log_path)
        sink.store(as_envelopes(sent))
        sink.close()

    def fill(self, *sent: JSONObject, size: int = 1_000) -> None:
        """Store messages, and load them in batches."""
        self.log(*sent)
        context = sender_context(self.folder, ENVIRON)
        sender = READERS[self.kind].destination(**self.settings).make_sender(context)
        fed = as_fed(as_log(sent))
        for start in range(0, len(fed), size):
            send(sender, fed[start : start + size])

    def tables(self, code: int = 0) -> tuple[list[JSONObject], str]:
        return self.deployed.ask("tables", code=code)


@pytest.fixture(name="lake", params=LINES)
def _lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Lake:
    monkeypatch.delenv("TRACKCORE_CONFIG", raising=False)
    return Lake(request.param, Deployed(tmp_path / "data"))


@pytest.fixture(name="files")
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    monkeypatch.delenv("TRACKCORE_CONFIG", raising=False)
    return Lake("parquet", Deployed(tmp_path / "data"))


@pytest.fixture(name="database")
def _database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    monkeypatch.delenv("TRACKCORE_CONFIG", raising=False)
    return Lake("duckdb", Deployed(tmp_path / "data"))


def pair() -> list[JSONObject]:
    """Return two messages of one event, of which the second does not fit."""
    return [message(1, properties={"total": 5}), message(2, properties={"total": "x"})]


class TestTables:
    """`trackcore tables` and `trackcore destinations` show every kind of warehouse in the same way."""

    def test_they_are_listed_with_rows_columns_and_discards(self, lake: Lake) -> None:
        lake.fill(*pair())
        records, text = lake.tables()
        assert [
            (one["source"], one["schema"], one["table"], one["rows"], one["isExact"], one["discards"])
            for one in records
        ] == [(SOURCE, SCHEMA, "order_paid", 2, True, 1), (SOURCE, SCHEMA, "tracks", 2, True, 0)]
        assert "no tables" not in text
        (record,), _ = lake.deployed.ask("destinations")
        assert (record["tables"], record["rows"], record["discards"]) == (2, 4, 1)

    def test_they_are_as_readers_see_them(self, lake: Lake) -> None:
        lake.fill(*generated(60), size=30)
        held = {**READERS[lake.kind].tables(lake.folder, SCHEMA)}
        discards = held.pop("_discards")
        listed = {one["table"]: one for one in lake.tables()[0]}
        assert listed.keys() == held.keys()
        for table, one in listed.items():
            assert one["discards"] == sum(row["table_name"] == table for row in discards)
            if table not in {"users", "accounts"}:  # of which files have a row for each message
                assert one["rows"] == len(held[table])
            assert one["columns"] >= len({name for row in held[table] for name in row})

    def test_before_anything_has_arrived_there_are_none(self, lake: Lake) -> None:
        lake.log(message(1))
        records, text = lake.tables()
        assert records == []
        assert "There: no tables yet" in text
        (record,), _ = lake.deployed.ask("destinations")
        assert (record["tables"], record["rows"], record["discards"]) == (0, 0, 0)

    def test_an_empty_place_has_none(self, lake: Lake) -> None:
        (lake.folder / "out").mkdir()
        duckdb.connect(str(lake.folder / "out.duckdb")).close()
        assert lake.tables()[0] == []

    def test_what_others_have_put_there_is_not_listed(self, lake: Lake) -> None:
        lake.fill(message(1))
        if lake.kind == "duckdb":
            with duckdb.connect(str(lake.folder / "out.duckdb")) as connection:
                connection.execute(f"CREATE TABLE {SCHEMA}.mine (id INT PRIMARY KEY, x INT)")
                connection.execute(f"CREATE TABLE {SCHEMA}.copied AS FROM {SCHEMA}.tracks")
                connection.execute(f"CREATE VIEW {SCHEMA}.recent AS FROM {SCHEMA}.tracks")
        else:
            (lake.folder / "out" / f"trackcore_source={SCHEMA}" / "notes.parquet").write_text("mine")
            (lake.folder / "out" / "notes").mkdir()
        assert [(one["table"], one["rows"]) for one in lake.tables()[0]] == [("order_paid", 1), ("tracks", 1)]

    def test_a_place_that_cannot_be_read_is_reported_in_a_sentence(self, lake: Lake) -> None:
        lake.fill(*pair())
        for path in (lake.folder / "out.duckdb", *(lake.folder / "out").glob("*/trackcore_table=_discards/*/*")):
            if path.exists():
                path.write_text("not what it was " * 1_000)
        _, text = lake.tables(code=2)
        assert DAMAGED[lake.kind] in text
        (record,), _ = lake.deployed.ask("destinations")
        assert (record["tables"], DAMAGED[lake.kind] in record["tablesUnknown"]) == (None, True)
        (record,), _ = lake.deployed.ask("explain", "2")
        assert DAMAGED[lake.kind] in record["discardsUnknown"]["There"]

    def test_the_others_are_listed_then(self, files: Lake) -> None:
        files.fill(*pair())
        config = files.folder / "trackcore.toml"
        config.write_text(
            '[[destinations]]\nname = "First"\nkind = "duckdb"\npath = "first.duckdb"\n' + config.read_text()
        )
        (files.folder / "first.duckdb").write_text("no database " * 1_000)
        records, text = files.tables(code=2)
        assert [one["table"] for one in records] == ["order_paid", "tracks"]
        assert "First: DuckDB: " in text

    def test_without_its_library_it_says_how_to_get_it(self, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "trackcore_duckdb", None)
        assert "pip install 'trackcore[parquet]'" in lake.tables(code=2)[1]

    def test_a_configuration_without_a_warehouse_is_told(self, lake: Lake) -> None:
        lake.deployed.configure('[[destinations]]\nname = "There"\nkind = "file"\nfolder = "out"\n')
        assert "the configuration has no warehouse" in lake.tables(code=2)[1]


class TestFiles:
    """Of many files a sample is read, and a bucket is read like a folder."""

    def test_of_many_files_the_rows_are_estimated(self, files: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
        files.fill(*(message(number, properties={"total": "x" if number else 5}) for number in range(100)), size=10)
        monkeypatch.setattr(parquet_reader, "MOST_FILES", 4)
        for one in files.tables()[0]:
            assert not one["isExact"]
            assert 80 <= one["rows"] <= 120
        assert 80 <= files.tables()[0][0]["discards"] <= 120

    def test_metadata_that_are_longer_than_usual_are_read(self, files: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
        files.fill(message(1))
        monkeypatch.setattr(parquet_reader, "_END_BYTES", 64)
        assert [one["rows"] for one in files.tables()[0]] == [1, 1]

    def test_unfinished_files_of_delivery_are_left_alone(self, files: Lake) -> None:
        files.fill(*pair())
        parts = [path.with_name(f".{path.name}.part") for path in (files.folder / "out").glob("**/*.*")]
        for part in parts:
            part.write_text("being written")
        files.tables()
        files.deployed.ask("explain", "2")
        assert [part.exists() for part in parts] == [True] * len(parts)

    def test_a_bucket(self, tmp_path: Path, buckets: Buckets, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("TRACKCORE_CONFIG", raising=False)
        bucket = buckets.make()
        settings = buckets.settings(bucket.name, "p")
        lake = Lake("parquet", Deployed(tmp_path / "data", ENVIRON), bucket.lines(), settings)
        assert lake.tables()[0] == []
        lake.fill(*pair())
        found = [(one["table"], one["rows"], one["discards"]) for one in lake.tables()[0]]
        assert found == [("order_paid", 2, 1), ("tracks", 2, 0)]
        (record,), _ = lake.deployed.ask("explain", "2")
        assert [one["value"] for one in record["discards"]] == ["x"]


class TestDatabase:
    """A database that another process writes cannot be read."""

    def test_while_another_process_has_it_open_it_is_told(
        self, database: Lake, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(database_reader, "ATTEMPTS", 1)
        database.fill(*pair())
        with self.held_by_one_that("writes", database):
            _, text = database.tables(code=2)
            (record,), _ = database.deployed.ask("destinations")
        sentence = f"another process has {database.folder / 'out.duckdb'} open"
        assert sentence in text.replace("\n", " ")
        assert sentence in record["tablesUnknown"]
        assert len(database.tables()[0]) == 2

    def test_it_is_read_when_the_batch_of_delivery_is_stored(
        self, database: Lake, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        database.fill(*pair())
        with self.held_by_one_that("writes", database) as holder:
            monkeypatch.setattr(f"{database_reader.__name__}.sleep", lambda _: holder.communicate("", timeout=PATIENCE))
            assert len(database.tables()[0]) == 2

    def test_it_is_read_beside_other_readers(self, database: Lake) -> None:
        database.fill(*pair())
        with self.held_by_one_that("reads", database):
            assert len(database.tables()[0]) == 2

    @contextmanager
    def held_by_one_that(self, does: str, database: Lake) -> Iterator[subprocess.Popen[str]]:
        command = [sys.executable, "-c", HOLDER, str(database.folder / "out.duckdb"), does]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "open\n"
            yield holder
            if holder.poll() is None:
                holder.communicate("", timeout=PATIENCE)

    def test_it_is_not_changed(self, database: Lake) -> None:
        database.fill(*pair())
        before = (database.folder / "out.duckdb").read_bytes()
        database.tables()
        database.deployed.ask("explain", "2")
        assert (database.folder / "out.duckdb").read_bytes() == before


class TestExplain:
    """`trackcore explain` shows the tables and columns of a message, and what they do not have of it."""

    def test_tables_columns_and_discards(self, lake: Lake) -> None:
        lake.fill(*pair())
        (record,), _ = lake.deployed.ask("explain", "2")
        (tracks, paid) = record["tables"]
        assert (tracks["schema"], tracks["table"], paid["table"]) == (SCHEMA, "tracks", "order_paid")
        assert "total" in paid["columns"]
        assert record["discards"] == [
            {"destination": "There", "table": "order_paid", "column": "total", "value": "x", "reason": "does_not_fit"}
        ]
        (record,), _ = lake.deployed.ask("explain", "1")
        assert "discards" not in record

    def test_a_message_that_has_not_arrived_has_no_discards(self, lake: Lake) -> None:
        lake.log(message(1, properties={"total": 5}))
        (record,), _ = lake.deployed.ask("explain", "1")
        assert [one["table"] for one in record["tables"]] == ["tracks", "order_paid"]
        assert not {"discards", "discardsUnknown"} & record.keys()


class TestSteering:
    """The statements of `trackcore warehouse plan` are of PostgreSQL alone; `rebuild` works for every kind."""

    def test_there_is_no_plan(self, lake: Lake) -> None:
        _, text = lake.deployed.ask("warehouse", "plan", "--destination", "There", code=2)
        sentence = (
            f"'There' is not in PostgreSQL, but of the kind '{lake.kind}', which makes its tables without statements"
        )
        assert sentence in text.replace("\n", " ")

    def test_without_its_library_a_rebuild_says_how_to_get_it(
        self, lake: Lake, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lake.log(message(1))
        monkeypatch.setitem(sys.modules, "trackcore_duckdb", None)
        _, text = lake.deployed.ask("warehouse", "rebuild", "--destination", "There", code=2)
        assert "pip install 'trackcore[parquet]'" in text
