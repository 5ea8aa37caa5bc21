"""`kill -9` of the process that delivers, at random moments: each message is in the files once."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from random import Random

import attrs
import duckdb
import pytest
from delivery_helpers import NOON, envelopes, store
from delivery_processes import Deployed
from patience import wait_for
from trackcore_sqlite import SqliteLog

SEED = 17
SHORT_KILLS = 3
LONG_KILLS = 100
MESSAGES_FOR_A_KILL = 400
LARGE = 5_000
"""The size of the batches at the end."""

SOURCES = 3
TABLES = ("tracks", "e")


@attrs.frozen(kw_only=True)
class Kind:
    """A kind of destination with its own settings, and how to count the ids of the messages that are there."""

    name: str
    settings: str
    ids_in: Callable[[Path], Counter[str]]
    batch_messages: int = 25


def _ids_in_archive(folder: Path) -> Counter[str]:
    return Counter(json.loads(line)["messageId"] for path in folder.rglob("out/**/*.gz") for line in gzip.open(path))


def _ids_in_parquet(folder: Path) -> Counter[str]:
    with duckdb.connect() as connection:
        places = [f"read_parquet('{folder}/out/*/trackcore_table={table}/**/*.parquet')" for table in TABLES]
        return _same(Counter(_ids(connection, place)) for place in places)


def _ids_in_database(folder: Path) -> Counter[str]:
    with duckdb.connect(str(folder / "out.duckdb"), read_only=True) as connection:
        sources = range(SOURCES)
        return _same(
            Counter(one for number in sources for one in _ids(connection, f"source_{number}.{table}"))
            for table in TABLES
        )


def _ids(connection: duckdb.DuckDBPyConnection, place: str) -> list[str]:
    return [one for (one,) in connection.execute(f"SELECT id FROM {place}").fetchall()]  # noqa: S608 - names of this test


def _same(tables: Iterator[Counter[str]]) -> Counter[str]:
    """Return the ids of the tables, which all have the same."""
    first, second = tables
    assert first == second
    return first


KINDS = [
    Kind(name="s3-archive", settings='location = "out"', ids_in=_ids_in_archive),
    Kind(name="parquet", settings='location = "out"', ids_in=_ids_in_parquet),
    Kind(name="duckdb", settings='path = "out.duckdb"', batch_messages=75, ids_in=_ids_in_database),
]


@pytest.fixture(name="deployed")
def _deployed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployed]:
    monkeypatch.delenv("TRACKCORE_CONFIG", raising=False)
    deployed = Deployed(tmp_path / "data")
    yield deployed
    for running in deployed.started:
        running.kill()


def configure(deployed: Deployed, kind: Kind, batch_messages: int) -> None:
    deployed.configure(
        f'[[destinations]]\nname = "There"\nkind = "{kind.name}"\n{kind.settings}\n'
        f'batch_wait = "0s"\nbatch_messages = {batch_messages}\n'
    )


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_each_message_is_there_once(deployed: Deployed, kind: Kind, is_long: bool) -> None:
    random = Random(SEED)
    kills = LONG_KILLS if is_long else SHORT_KILLS
    configure(deployed, kind, kind.batch_messages)
    for number in range(kills * MESSAGES_FOR_A_KILL // 100):
        received_at = NOON + timedelta(hours=number)
        source = f"source-{number % SOURCES}"
        store(deployed.log_path, envelopes(100, first=100 * number, received_at=received_at, source=source))
    for _ in range(kills):
        more = deployed.status("There").delivered + random.randint(1, MESSAGES_FOR_A_KILL // 2)
        delivering = deployed.deliver()
        with suppress(AssertionError):  # less may be left to deliver
            wait_for(lambda: deployed.status("There").delivered >= more, patience=20)  # noqa: B023 - called at once
        delivering.kill()
    configure(deployed, kind, LARGE)
    deployed.deliver()
    deployed.wait_until_delivered("There")
    deployed.started[-1].kill()
    sent = Counter(stored.message["messageId"] for stored in SqliteLog(deployed.log_path).messages())
    assert kind.ids_in(deployed.folder) == sent
    assert deployed.status("There").dead_letters == 0
