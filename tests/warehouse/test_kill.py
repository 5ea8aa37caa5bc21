"""`kill -9` of the process that delivers, and of PostgreSQL, at random moments: rows = log, no doubles, users right."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from random import Random

import psycopg
import pytest
from delivery_processes import Deployed
from patience import wait_for
from postgres_cluster import Cluster, Database, running_cluster
from trackcore_sqlite import SqliteLog, SqliteSink
from warehouse_helpers import SCHEMA, as_envelopes, check_against_log, generated
from warehouse_oracle import Stored

from trackcore import EVERYTHING

SEED = 17
SHORT_KILLS, LONG_KILLS = 4, 100
SHORT_CRASHES, LONG_CRASHES = 2, 20
MESSAGES = 150
"""For each kill."""


@pytest.fixture(name="deployed")
def _deployed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployed]:
    monkeypatch.delenv("TRACKCORE_CONFIG", raising=False)
    deployed = Deployed(tmp_path / "data")
    yield deployed
    for running in deployed.started:
        running.kill()


@pytest.fixture(name="own_cluster")
def _own_cluster(cluster: Cluster) -> Iterator[Cluster]:
    """A server that may be killed."""
    del cluster  # it says why there is none
    yield from running_cluster()


def configure(deployed: Deployed, database: Database) -> None:
    deployed.configure(
        f'[[destinations]]\nname = "There"\nkind = "postgres"\nurl = "{database.url}"\n'
        'batch_wait = "0s"\nbatch_messages = 20\n'
    )
    text = (deployed.folder / "trackcore.toml").read_text()
    (deployed.folder / "trackcore.toml").write_text(text.replace('"website"', '"My Website"'))


def fill(deployed: Deployed, count: int) -> None:
    sink = SqliteSink(deployed.log_path)
    sink.store(as_envelopes(generated(count)))
    sink.close()


def stored(deployed: Deployed) -> list[Stored]:
    with SqliteLog(deployed.log_path).snapshot() as snapshot:
        found = snapshot.payloads(EVERYTHING, after=0, last=snapshot.end)
        return [Stored(one.seq, one.source, one.payload) for one in found]


def arrived(database: Database) -> int:
    time.sleep(0.02)  # each look costs the server a process
    with suppress(psycopg.Error):
        for (cursor,) in database.rows("SELECT cursor FROM _trackcore.cursors"):
            return int(cursor[1:].partition(",")[0])
    return 0


def test_the_deliverer_is_killed(deployed: Deployed, database: Database, is_long: bool) -> None:
    random = Random(SEED)
    kills = LONG_KILLS if is_long else SHORT_KILLS
    configure(deployed, database)
    fill(deployed, kills * MESSAGES)
    for _ in range(kills):
        before, more = arrived(database), random.randint(0, MESSAGES)
        delivering = deployed.deliver()
        with suppress(AssertionError):  # there may be less left
            wait_for(lambda: arrived(database) > before + more, patience=5)  # noqa: B023 - called at once
        time.sleep(random.random() / 50)
        delivering.kill()
    deployed.deliver()
    deployed.wait_until_delivered("There")
    assert deployed.status("There").dead_letters == 0
    check_against_log(database, stored(deployed))


def test_postgresql_is_killed(deployed: Deployed, own_cluster: Cluster, is_long: bool) -> None:
    random = Random(SEED)
    crashes = LONG_CRASHES if is_long else SHORT_CRASHES
    database = own_cluster.database()
    configure(deployed, database)
    fill(deployed, crashes * 3 * MESSAGES)
    deployed.deliver()
    for _ in range(crashes):
        before, more = arrived(database), random.randint(0, MESSAGES)
        with suppress(AssertionError):
            wait_for(lambda: arrived(database) > before + more, patience=10)  # noqa: B023 - called at once
        own_cluster.kill()
        own_cluster.start()
    deployed.wait_until_delivered("There")
    assert deployed.status("There").dead_letters == 0
    check_against_log(database, stored(deployed))


def test_of_two_processes_on_other_machines_one_works(deployed: Deployed, database: Database, tmp_path: Path) -> None:
    other = Deployed(tmp_path / "other")
    try:
        for one in (deployed, other):  # each with a copy of the log, and its own state
            configure(one, database)
            fill(one, 600)
            one.deliver()
        wait_for(lambda: arrived(database) == 600)
        errors = wait_for(lambda: [one for one in (deployed, other) if one.status("There").last_error])
        assert len(errors) == 1
        assert "another process delivers" in (errors[0].status("There").last_error or "")
        check_against_log(database, stored(deployed))
        assert database.rows(f"SELECT count(*) FROM {SCHEMA}.tracks") == [
            (sum(b'"type":"track"' in one.payload for one in stored(deployed)),)
        ]
    finally:
        for running in other.started:
            running.kill()
