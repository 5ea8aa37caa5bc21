"""Seeing and steering: tables, the plan, the rebuild, destinations, and what explain shows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from delivery_processes import Deployed
from postgres_cluster import Database
from trackcore_sqlite import SqliteSink
from warehouse_helpers import SCHEMA, as_envelopes, as_log, check_against_log, message

from trackcore import JSONObject

PAID = 'ALTER TABLE "my_website"."order_paid"'


@pytest.fixture(name="deployed")
def _deployed(tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployed]:
    monkeypatch.delenv("TRACKCORE_CONFIG", raising=False)
    deployed = Deployed(tmp_path / "data")
    deployed.configure(
        f'[[destinations]]\nname = "There"\nkind = "postgres"\nurl = "{database.url}"\nbatch_wait = "0s"\n'
    )
    config = deployed.folder / "trackcore.toml"
    config.write_text(config.read_text().replace('"website"', '"My Website"'))
    yield deployed
    for running in deployed.started:
        running.kill()


def fill(deployed: Deployed, *sent: JSONObject) -> None:
    sink = SqliteSink(deployed.log_path)
    sink.store(as_envelopes(sent))
    sink.close()


def deliver(deployed: Deployed) -> None:
    running = deployed.deliver()
    deployed.wait_until_delivered("There")
    running.kill()


class TestPlan:
    def test_it_prints_what_delivery_would_run_and_changes_nothing(
        self, deployed: Deployed, database: Database
    ) -> None:
        sent = [message(number, properties={"total": number, "coupon": "x"}) for number in range(9)]
        sent += [message(number, "identify", traits={"plan": "pro"}) for number in range(9, 12)]
        fill(deployed, *sent)
        _, text = deployed.ask("warehouse", "plan", "--destination", "There")
        assert database.rows("SELECT nspname FROM pg_namespace WHERE nspname IN ('my_website', '_trackcore')") == []
        database.rows(text)
        deliver(deployed)
        check_against_log(database, as_log(sent))
        assert deployed.ask("warehouse", "plan", "--destination", "There")[1] == ""

    def test_it_prints_only_what_is_missing(self, deployed: Deployed) -> None:
        fill(deployed, message(1, properties={"total": 5}))
        deliver(deployed)
        fill(deployed, message(2, properties={"total": 5.5, "coupon": "x"}))
        _, text = deployed.ask("warehouse", "plan", "--destination", "There")
        assert text.splitlines() == [
            f'{PAID} ALTER COLUMN "total" TYPE double precision USING "total"::double precision;',
            f'{PAID} ADD COLUMN "coupon" text;',
        ]


class TestRebuild:
    """The parts of PostgreSQL alone; `test_rebuild` has those of all kinds."""

    def test_privileges_are_kept(self, deployed: Deployed, database: Database) -> None:
        fill(deployed, message(1))
        deliver(deployed)
        database.rows("DROP ROLE IF EXISTS reader")
        database.rows(f"CREATE ROLE reader; GRANT USAGE ON SCHEMA {SCHEMA} TO reader")
        database.rows(f"GRANT SELECT ON {SCHEMA}.tracks TO reader")
        deployed.ask("warehouse", "rebuild", "--destination", "There")
        with psycopg.connect(database.url) as connection:
            connection.execute(b"SET ROLE reader")
            assert connection.execute(f"SELECT count(*) FROM {SCHEMA}.tracks".encode()).fetchone() == (1,)
        database.rows("DROP OWNED BY reader; DROP ROLE reader")

    def test_it_deletes_no_earlier_tables(self, deployed: Deployed, database: Database) -> None:
        fill(deployed, message(1))
        deliver(deployed)
        deployed.ask("warehouse", "rebuild", "--destination", "There")
        _, text = deployed.ask("warehouse", "rebuild", "--destination", "There", code=2)
        assert 'DROP SCHEMA "my_website__old" CASCADE' in text
        database.rows("DROP SCHEMA my_website__old CASCADE")
        deployed.ask("warehouse", "rebuild", "--destination", "There")


class TestSeeing:
    def test_tables_are_listed_with_rows_and_discards(self, deployed: Deployed) -> None:
        fill(deployed, message(1, properties={"total": 5}), message(2, properties={"total": "x"}))
        deliver(deployed)
        records, _ = deployed.ask("tables")
        assert [(one["table"], one["rows"], one["isExact"], one["discards"]) for one in records] == [
            ("order_paid", 2, True, 1),
            ("tracks", 2, True, 0),
        ]
        (record,), _ = deployed.ask("destinations")
        assert (record["tables"], record["rows"], record["discards"], record["lagMessages"]) == (2, 4, 1, 0)

    def test_explain_shows_tables_columns_and_discards(self, deployed: Deployed) -> None:
        fill(deployed, message(1, properties={"total": 5}), message(2, properties={"total": "x"}))
        deliver(deployed)
        (record,), _ = deployed.ask("explain", "2")
        (tracks, paid) = record["tables"]
        assert (tracks["schema"], tracks["table"], paid["table"]) == (SCHEMA, "tracks", "order_paid")
        assert "total" in paid["columns"]
        assert record["discards"] == [
            {"destination": "There", "table": "order_paid", "column": "total", "value": "x", "reason": "does_not_fit"}
        ]
        _, text = deployed.ask("explain", "2", "--format", "text")
        assert "order_paid.total: does_not_fit: x" in text

    def test_a_database_that_cannot_be_asked_is_reported(self, deployed: Deployed) -> None:
        fill(deployed, message(1))
        config = deployed.folder / "trackcore.toml"
        config.write_text(config.read_text().replace("127.0.0.1:", "127.0.0.1:1"))  # no port that can exist
        (record,), _ = deployed.ask("destinations")
        assert (record["tables"], bool(record["tablesUnknown"])) == (None, True)
        (record,), _ = deployed.ask("explain", "1")
        assert "There" in record["discardsUnknown"]
        deployed.ask("tables", code=2)

    @pytest.mark.parametrize("command", [["tables"], ["warehouse", "plan"], ["warehouse", "rebuild"]])
    def test_another_name_is_refused(self, deployed: Deployed, command: list[str]) -> None:
        _, text = deployed.ask(*command, "--destination", "Ther", code=2)
        assert "did you mean 'There'?" in text
