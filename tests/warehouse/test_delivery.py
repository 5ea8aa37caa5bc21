"""Delivery into PostgreSQL in this process: cursors, failures of the database, and values that it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from delivery_helpers import NOON, Bench, sender_context
from postgres_cluster import Cluster, Database
from trackcore_delivery import ErasureRequest, Secret
from trackcore_delivery.destination_worker import DestinationWorker
from trackcore_server.config.postgres_destination import PostgresDestination
from trackcore_sqlite import SqliteLog, SqliteSink
from warehouse_helpers import HOSTILE_TEXTS, SCHEMA, as_envelopes, check_against_log, generated, message
from warehouse_oracle import Stored

from trackcore import EVERYTHING, JSONObject
from trackcore.privacy import Subject

FILL = """
CREATE FUNCTION {schema}.fail() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'no space left on device' USING ERRCODE = 'disk_full'; END $$;
CREATE TRIGGER fail BEFORE INSERT ON {schema}.tracks EXECUTE FUNCTION {schema}.fail()
"""


class Loading:
    """A log, a worker, and a database."""

    def __init__(self, folder: Path, database: Database, **settings: Any) -> None:
        self.bench = Bench(folder)
        self.database = database
        self.settings = settings
        self.worker = self.begin()

    def begin(self) -> DestinationWorker:
        """Build a worker as a new process does."""
        with suppress(AttributeError):
            self.worker.sender.close()
        destination = PostgresDestination(name="There", url=Secret(self.database.url), **self.settings)
        self.worker = self.bench.worker(destination.make_sender(sender_context(self.bench.folder)))
        return self.worker

    def add(self, *sent: JSONObject, source: str = "My Website") -> None:
        sink = SqliteSink(self.bench.log)
        sink.store(as_envelopes(sent, source))
        sink.close()

    def run(self) -> None:
        """Deliver all that can be delivered now, and let the time of a backoff pass."""
        self.bench.clock.turn(minutes=2)
        self.bench.run(self.worker)

    @property
    def log(self) -> list[Stored]:
        with SqliteLog(self.bench.log).snapshot() as snapshot:
            found = snapshot.payloads(EVERYTHING, after=0, last=snapshot.end)
            return [Stored(one.seq, one.source, one.payload) for one in found]

    @property
    def error(self) -> str:
        status = self.bench.state.status("There", self.bench.clock())
        assert status is not None
        return status.last_error or ""

    def check(self) -> None:
        assert self.bench.dead == {}
        check_against_log(self.database, self.log)


@pytest.fixture(name="loading")
def _loading(tmp_path: Path, database: Database) -> Iterator[Loading]:
    loading = Loading(tmp_path, database)
    yield loading
    loading.worker.sender.close()
    loading.bench.state.close()


class TestCursor:
    """The cursor of the lane is kept in the same transaction as the rows."""

    def test_it_moves_with_the_rows(self, loading: Loading) -> None:
        loading.add(*generated(30))
        loading.run()
        loading.check()
        ((lane, cursor),) = loading.database.rows("SELECT lane, cursor FROM _trackcore.cursors")
        assert (lane, cursor.split(",")[0]) == ("incoming", "[30")

    def test_a_lost_state_costs_nothing(self, loading: Loading) -> None:
        loading.add(*generated(30))
        loading.run()
        before = loading.database.rows(f"SELECT id, xmin::text FROM {SCHEMA}.tracks")
        loading.bench.state.close()
        (loading.bench.folder / "state.db").unlink()
        loading.bench.__attrs_post_init__()
        loading.begin()
        loading.add(*generated(10, first=30))
        loading.run()
        loading.check()
        assert {*before} <= {*loading.database.rows(f"SELECT id, xmin::text FROM {SCHEMA}.tracks")}

    def test_a_database_that_was_restored_gets_what_it_lacks(self, loading: Loading) -> None:
        loading.add(*map(message, range(30)))
        loading.run()
        cursor = loading.database.rows("SELECT cursor FROM _trackcore.cursors")
        loading.add(*map(message, range(30, 60)))
        loading.run()
        later = [f"m{number}" for number in range(30, 60)]
        for table in loading.database.tables(SCHEMA) - {"users", "accounts"}:
            loading.database.rows(f'DELETE FROM {SCHEMA}."{table}" WHERE id = ANY(%s)', later)
        loading.database.rows("UPDATE _trackcore.cursors SET cursor = %s", *cursor[0])
        loading.begin()
        loading.add(*map(message, range(60, 63)))
        loading.run()
        loading.check()

    def test_a_new_database_gets_everything(self, loading: Loading) -> None:
        loading.add(*generated(30))
        loading.run()
        loading.worker.sender.close()
        loading.database.rows(f"DROP SCHEMA {SCHEMA} CASCADE")
        loading.database.rows("DROP SCHEMA _trackcore CASCADE")
        loading.add(*generated(5, first=30))
        loading.run()
        loading.check()

    def test_another_log_is_loaded_from_its_beginning(self, loading: Loading) -> None:
        loading.add(*generated(30))
        loading.run()
        loading.bench.state.close()
        for file in loading.bench.folder.glob("*.db*"):
            file.unlink()
        loading.bench.__attrs_post_init__()
        new = generated(40, first=100)
        loading.add(*new)
        loading.begin()
        loading.run()
        ids = {one for (one,) in loading.database.rows(f"SELECT id FROM {SCHEMA}.tracks")}
        assert {one["messageId"] for one in new if one["type"] == "track"} <= ids

    def test_a_second_process_does_not_deliver(self, loading: Loading, tmp_path: Path) -> None:
        loading.add(*generated(30))
        loading.run()
        (tmp_path / "second").mkdir()
        second = Loading(tmp_path / "second", loading.database)
        second.add(*generated(10, first=50))
        second.run()
        assert "another process delivers to 'There'" in second.error
        loading.worker.sender.close()
        second.run()
        second.worker.sender.close()
        second.bench.state.close()


class TestFailures:
    """Retried or reported, never silently skipped."""

    def test_the_server_is_restarted(self, loading: Loading, cluster: Cluster) -> None:
        loading.add(*generated(20))
        loading.run()
        cluster.stop()
        loading.add(*generated(20, first=20))
        loading.run()
        assert loading.error
        cluster.start()
        loading.run()
        loading.check()

    def test_the_connection_is_cut(self, loading: Loading) -> None:
        loading.add(*generated(20))
        loading.run()
        loading.database.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'trackcore' "
            "AND datname = current_database()"
        )
        loading.add(*generated(20, first=20))
        loading.run()
        loading.run()
        loading.check()

    @pytest.mark.parametrize(
        ("statement", "repair"),
        [
            ("REVOKE ALL ON SCHEMA {schema} FROM trackcore", None),
            (FILL, "DROP TRIGGER fail ON {schema}.tracks"),
            ("ALTER TABLE {schema}.tracks DROP CONSTRAINT {key}", "ALTER TABLE {schema}.tracks ADD PRIMARY KEY (id)"),
        ],
        ids=["privileges", "full", "no-key"],
    )
    def test_it_refuses_for_a_while(self, loading: Loading, statement: str, repair: str | None) -> None:
        loading.add(*generated(20))
        loading.run()
        ((key,),) = loading.database.rows(
            f"SELECT conname FROM pg_constraint WHERE conrelid = '{SCHEMA}.tracks'::regclass"
        )
        loading.database.rows(statement.format(schema=SCHEMA, key=key))
        loading.add(*generated(20, first=20))
        loading.run()
        if repair is not None:
            assert loading.error
            loading.database.rows(repair.format(schema=SCHEMA))
            loading.run()
        loading.check()

    def test_a_table_is_locked(self, loading: Loading, monkeypatch: pytest.MonkeyPatch) -> None:
        settings = b"SET timezone = 'UTC'; SET lock_timeout = '50ms'"
        monkeypatch.setattr("trackcore_postgres.connecting._SETTINGS", settings)
        loading.add(*generated(20))
        loading.run()
        loading.begin()
        with psycopg.connect(loading.database.url) as other:
            other.execute(f"LOCK TABLE {SCHEMA}.tracks".encode())
            loading.add(*generated(20, first=20))
            loading.run()
            assert "lock timeout" in loading.error
            assert loading.bench.state.held_users("There") == []
        loading.run()
        loading.check()

    @pytest.mark.parametrize(
        "statement",
        [
            "ALTER TABLE {schema}.order_paid DROP COLUMN coupon",
            "DROP TABLE {schema}.order_paid",
            "DROP TABLE {schema}._discards",
            "ALTER TABLE {schema}.users DROP COLUMN _stamps",
            "DROP SCHEMA {schema} CASCADE",
        ],
    )
    def test_something_is_dropped_by_hand(self, loading: Loading, statement: str) -> None:
        loading.add(*generated(40))
        loading.run()
        loading.database.rows(statement.format(schema=SCHEMA))
        more = generated(40, first=40)
        loading.add(*more)
        loading.run()
        assert (loading.bench.dead, loading.error) == ({}, "")
        paid = {one["messageId"] for one in more if one.get("event") in ("Order Paid", "order_paid")}
        assert paid <= loading.database.table(SCHEMA, "order_paid").keys()

    def test_a_wrong_password_is_reported(self, loading: Loading, cluster: Cluster) -> None:
        hba = cluster.folder / "data" / "pg_hba.conf"
        kept = hba.read_text()
        loading.add(*generated(5))
        try:
            hba.write_text("host all all 127.0.0.1/32 scram-sha-256\n")
            _reload(cluster)
            loading.settings["password"] = Secret("env:PGPASS")
            destination = PostgresDestination(
                name="There", url=Secret(loading.database.url), password=Secret("env:PGPASS")
            )
            context = sender_context(loading.bench.folder, {"PGPASS": "not-this"})
            loading.worker = loading.bench.worker(destination.make_sender(context))
            loading.run()
        finally:
            hba.write_text(kept)
            _reload(cluster)
        assert "password authentication failed" in loading.error
        assert "not-this" not in loading.error
        loading.run()
        loading.check()


class TestRefusedValues:
    def test_a_column_that_a_view_uses_is_not_widened(self, loading: Loading) -> None:
        loading.add(message(1, properties={"total": 5}))
        loading.run()
        loading.database.rows(f"CREATE VIEW totals AS SELECT total FROM {SCHEMA}.order_paid")
        loading.add(message(2, properties={"total": 5.5, "coupon": "x"}))
        loading.run()
        assert loading.bench.dead == {}
        assert loading.database.table(SCHEMA, "order_paid")["m2"]["coupon"] == "x"
        found = loading.database.rows(f"SELECT message_id, column_name, column_value, reason FROM {SCHEMA}._discards")
        assert found == [("m2", "total", "5.5", "does_not_fit")]

    def test_only_the_message_that_the_database_refuses_becomes_a_dead_letter(self, loading: Loading) -> None:
        loading.add(message(1, properties={"coupon": "x"}))
        loading.run()
        loading.database.rows(f"ALTER TABLE {SCHEMA}.order_paid ADD CHECK (coupon <> 'bad')")
        coupons = ["x", "bad", "x", "x", "bad"]
        loading.add(*(message(number, properties={"coupon": one}) for number, one in enumerate(coupons, 2)))
        loading.run()
        assert loading.bench.dead.keys() == {"m3", "m6"}
        assert loading.database.table(SCHEMA, "order_paid").keys() == {"m1", "m2", "m4", "m5"}
        assert loading.database.table(SCHEMA, "tracks").keys() == {"m1", "m2", "m4", "m5"}

    def test_a_column_with_a_type_of_ones_own_is_filled(self, loading: Loading) -> None:
        loading.add(message(1, properties={"items": [1]}))
        loading.run()
        loading.database.rows(f"ALTER TABLE {SCHEMA}.order_paid ALTER items TYPE jsonb USING items::jsonb")
        loading.add(message(2, properties={"items": [1.5, {"a": 2}]}))
        loading.begin()
        loading.run()
        assert loading.database.table(SCHEMA, "order_paid")["m2"]["items"] == [1.5, {"a": 2}]

    def test_a_second_source_cannot_take_the_schema_of_another(self, loading: Loading) -> None:
        loading.add(message(1))
        loading.add(message(2), source="my website")
        loading.run()
        assert loading.bench.dead.keys() == {"m2"}
        assert "belongs to the source 'My Website'" in loading.bench.dead["m2"]

    def test_a_replay_updates_users_in_the_right_order(self, loading: Loading) -> None:
        loading.add(*(message(number, "identify", userId="u", traits={"plan": f"p{number}"}) for number in range(9)))
        loading.run()
        loading.add(message(9, "identify", userId="u", traits={"plan": "last"}))
        loading.run()
        loading.check()


class TestHostileSource:
    """Bounded, reported, and injects nothing."""

    def test_it_cannot_make_more_than_the_bounds(self, tmp_path: Path, database: Database) -> None:
        count = 10_000
        loading = Loading(tmp_path, database, max_tables=20, max_columns=120)
        names = [f"Event {number}" for number in range(count)]
        loading.add(*(message(number, event=name) for number, name in enumerate(names)))
        loading.add(message(count, properties={f"p{number}": number for number in range(count)}))
        loading.run()
        assert loading.bench.dead == {}
        assert len(database.tables(SCHEMA)) <= 21
        assert len(database.table(SCHEMA, "tracks")) == count + 1
        reasons = database.rows(f"SELECT reason, count(*) FROM {SCHEMA}._discards GROUP BY 1 ORDER BY 1")
        assert dict(reasons)["too_many_tables"] == count - 20 + 1
        loading.worker.sender.close()

    @pytest.mark.parametrize("text", HOSTILE_TEXTS, ids=range(len(HOSTILE_TEXTS)))
    def test_names_and_values_are_data(self, loading: Loading, text: str) -> None:
        loading.add(
            message(1, event=text, properties={text: text, "n": {text: text}}, context={text: text}, userId=text),
            message(2, "identify", userId=text, traits={text: text}),
            message(3, "group", groupId=text, traits={text: [text]}),
        )
        loading.run()
        loading.check()


def _reload(cluster: Cluster) -> None:
    cluster._run("pg_ctl", "-D", str(cluster.folder / "data"), "reload")


class TestForgetting:
    """Persons are forgotten in every table."""

    @pytest.fixture(name="filled")
    def _filled(self, loading: Loading) -> Loading:
        for number, user in enumerate(("ada", "bob")):
            loading.add(
                message(10 * number, userId=user, properties={"total": "x", "who": user}, context={"ip": "1.1.1.1"}),
                message(10 * number + 1, "identify", userId=user, anonymousId=f"a-{user}", traits={"email": user}),
                message(10 * number + 2, "page", userId=None, anonymousId=f"a-{user}"),
                message(10 * number + 3, "alias", userId="new", previousId=user),
            )
        loading.run()
        return loading

    def forget(self, loading: Loading, **changes: Any) -> None:
        subjects = (Subject(kind="user", id=changes.get("person", "ada")), Subject(kind="anonymous", id="a-ada"))
        pseudonyms = dict(zip(subjects, ("p1", "p2"), strict=True)) if changes.pop("keeps", False) else None
        request = ErasureRequest(
            id="1", subjects=subjects, source=changes.get("source"), requested_at=NOON, pseudonyms=pseudonyms
        )
        destination = PostgresDestination(name="There", url=Secret(loading.database.url))
        with closing(destination.make_sender(sender_context(loading.bench.folder))) as sender:
            sender.forget(request)

    def held(self, loading: Loading) -> str:
        return repr([loading.database.table(SCHEMA, table) for table in sorted(loading.database.tables(SCHEMA))])

    def test_their_rows_are_deleted_and_those_of_others_stay(self, filled: Loading) -> None:
        self.forget(filled)
        assert "ada" not in self.held(filled)
        assert filled.database.table(SCHEMA, "tracks").keys() == {"m10"}
        assert filled.database.table(SCHEMA, "users").keys() == {"bob"}

    def test_their_rows_are_kept_under_another_name(self, filled: Loading) -> None:
        self.forget(filled, keeps=True)
        assert "ada" not in self.held(filled)
        paid = filled.database.table(SCHEMA, "order_paid")
        assert (paid["m0"]["user_id"], paid["m0"]["who"], "context_ip" in paid["m0"]) == ("p1", "p1", False)
        assert paid["m10"]["context_ip"] == "1.1.1.1"
        assert filled.database.table(SCHEMA, "pages")["m2"]["anonymous_id"] == "p2"
        assert filled.database.table(SCHEMA, "users").keys() == {"bob"}

    def test_no_column_has_the_id_not_even_in_an_array(self, filled: Loading) -> None:
        """An array is a column of text with JSON; the message of another person that names the id stays."""
        arrays = {"all": ["x", "ada", 1.5], "deep": [{"who": ["ada"]}], "like": ["adam"], "said": ['"ada"']}
        filled.add(message(90, userId="ada", properties={**arrays, "devices": ["a-ada", "ada"]}))
        filled.add(message(93, userId="bob", properties=arrays))
        filled.run()
        self.forget(filled, keeps=True)
        paid = filled.database.table(SCHEMA, "order_paid")
        theirs = {name: paid["m90"][name] for name in (*arrays, "devices")}
        assert theirs == {
            "all": '["x","p1",1.5]',
            "deep": '[{"who":["p1"]}]',
            "like": '["adam"]',
            "said": paid["m93"]["said"],
            "devices": '["p2","p1"]',
        }
        assert paid["m93"]["all"] == '["x","ada",1.5]'
        del paid["m93"], paid["m90"]["like"], paid["m90"]["said"]
        assert "ada" not in repr(paid)

    @pytest.mark.parametrize("person", ['a"b\\', "\0", "%s", "é", "'"])
    def test_ids_in_arrays_are_data(self, loading: Loading, person: str) -> None:
        loading.add(message(0, userId=person, properties={"all": [person, "x"], "who": person}))
        loading.run()
        self.forget(loading, person=person, keeps=True)
        paid = loading.database.table(SCHEMA, "order_paid")["m0"]
        assert (paid["user_id"], paid["who"], paid["all"]) == ("p1", "p1", '["p1","x"]')

    def test_only_in_the_tables_of_a_source(self, filled: Loading) -> None:
        self.forget(filled, source="another")
        assert "ada" in self.held(filled)
