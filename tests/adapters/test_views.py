"""The views of the log for other programs, and the programs that they are for."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from adapter_helpers import NOON, envelope
from trackcore_sqlite import SqliteLog, SqliteSink
from trackcore_sqlite.views import VIEWS, keep_views

MESSAGES: list[dict[str, Any]] = [
    {"type": "track", "event": "Paid", "userId": "ann", "properties": {"price": 3, "tags": ["a", "b"]}},
    {"type": "track", "event": "Paid", "userId": "bob", "properties": {}},
    {"type": "page", "name": "Home", "event": "no event of it", "anonymousId": "a-1"},
    {"type": "identify", "userId": "ann", "traits": {"plan": "pro"}},
]


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    path = tmp_path / "trackcore.db"
    sink = SqliteSink(path)
    for day, message in enumerate(MESSAGES):
        at = NOON.replace(microsecond=7_000)
        times = {"timestamp": f"2026-01-0{1 + day // 2}T08:00:00.000Z", "receivedAt": "irrelevant"}
        ids = message.get("userId"), message.get("anonymousId")
        payload = msgspec.json.encode(message | times)
        sink.store(
            [
                envelope(
                    str(day), call=message["type"], user_id=ids[0], anonymous_id=ids[1], received_at=at, payload=payload
                )
            ]
        )
    sink.close()
    return path


def rows(path: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return connection.execute(query).fetchall()


class TestViews:
    """`sqlite3` shows times as ISO text, the source by name, and objects as JSON text."""

    def test_a_message_is_a_row_of_events(self, path: Path) -> None:
        columns = "seq, time, received_at, source, call, event, user_id, anonymous_id, properties, traits, message_id"
        query = f"SELECT {columns} FROM events WHERE seq = 1"  # noqa: S608
        assert rows(path, query) == [
            (
                1,
                "2026-01-01T08:00:00.000Z",
                f"{NOON:%Y-%m-%dT%H:%M:%S}.007Z",
                "website",
                "track",
                "Paid",
                "ann",
                None,
                '{"price":3,"tags":["a","b"]}',
                None,
                "0",
            )
        ]

    def test_a_page_has_its_name_and_others_have_none(self, path: Path) -> None:
        assert rows(path, "SELECT event FROM events WHERE seq > 2 ORDER BY seq") == [("Home",), (None,)]

    def test_days_are_counted_by_the_corrected_time(self, path: Path) -> None:
        assert rows(path, "SELECT * FROM daily_counts") == [
            ("2026-01-01", "website", "track", "Paid", 2),
            ("2026-01-02", "website", "identify", None, 1),
            ("2026-01-02", "website", "page", "Home", 1),
        ]


class TestUpkeep:
    """A log without the views is read as it is; whoever writes it next creates them."""

    def without(self, path: Path) -> None:
        with closing(sqlite3.connect(path)) as connection:
            for name in VIEWS:
                connection.execute(f"DROP VIEW {name}")

    def names(self, path: Path) -> set[str]:
        return {name for (name,) in rows(path, "SELECT name FROM sqlite_schema WHERE type = 'view'")}

    def test_an_older_log_is_read_and_not_changed(self, path: Path) -> None:
        self.without(path)
        path.chmod(0o400)
        assert len(list(SqliteLog(path).messages())) == len(MESSAGES)
        assert self.names(path) == set()

    def test_it_gets_them_when_it_is_written(self, path: Path) -> None:
        self.without(path)
        sink = SqliteSink(path)
        sink.check_ready()
        sink.close()
        assert self.names(path) == set(VIEWS)

    def test_those_of_another_version_are_replaced(self, path: Path) -> None:
        self.without(path)
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("CREATE VIEW events AS /* kept by trackcore */ SELECT 1 AS old")
            keep_views(connection)
            assert dict(connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'view'")) == VIEWS

    def test_those_of_somebody_else_stay(self, path: Path) -> None:
        self.without(path)
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("CREATE VIEW events AS SELECT 7 AS mine")
            connection.execute("CREATE TABLE daily_counts (mine)")
            keep_views(connection)
            assert connection.execute("SELECT mine FROM events").fetchall() == [(7,)]
            assert connection.execute("SELECT mine FROM daily_counts").fetchall() == []

    def test_nothing_is_written_if_they_are_there(self, path: Path) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            before = connection.execute("PRAGMA schema_version").fetchone()
            keep_views(connection)
            assert connection.execute("PRAGMA schema_version").fetchone() == before


class TestPrograms:
    def test_duckdb(self, path: Path) -> None:
        duckdb = pytest.importorskip("duckdb", reason="needs the group `docs`")
        extension = pytest.importorskip("duckdb_extension_sqlite_scanner", reason="needs the group `docs`")
        (binary,) = Path(extension.__file__).parent.rglob("*.duckdb_extension")
        with duckdb.connect() as connection:
            connection.execute(f"LOAD '{binary}'")
            connection.execute(f"ATTACH '{path}' AS log (TYPE sqlite, READ_ONLY)")
            days = connection.execute("SELECT day, sum(messages) FROM log.daily_counts GROUP BY day ORDER BY day")
            assert days.fetchall() == [("2026-01-01", 2), ("2026-01-02", 2)]
            (event,) = connection.execute("SELECT received_at, properties FROM log.events WHERE seq = 2").fetchall()
            assert event == (f"{NOON:%Y-%m-%dT%H:%M:%S}.007Z", "{}")

    def test_datasette(self, path: Path) -> None:
        app = pytest.importorskip("datasette.app", reason="needs the group `docs`")

        async def get(address: str) -> Any:
            shown = app.Datasette([str(path)])
            await shown.invoke_startup()
            return await shown.client.get(address)

        assert "daily_counts" in asyncio.run(get("/trackcore")).text
        answer = asyncio.run(get("/trackcore/daily_counts.json?_shape=arrays")).json()
        assert answer["rows"][0] == ["2026-01-01", "website", "track", "Paid", 2]
