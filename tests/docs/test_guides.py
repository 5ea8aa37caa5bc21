"""The guides work as they are written: queries, the project in Django, the SDK lines."""

from __future__ import annotations

import json
import re
import shlex
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest
from click.testing import CliRunner
from pages import code_in, page
from patience import PATIENCE
from sdk.report import SDKS
from trackcore_server import parse_configuration
from trackcore_server.cli._main import main
from trackcore_sqlite import SqliteLog, SqliteSink, open_collector

from trackcore import Collector, DecisionReason, Origin, Source, Track, WriteKey
from trackcore.explanation.explain import CONFIGURATION_CHANGED
from trackcore.text.jsontext import encode_json, parse_value

CONFIGURATION = page("reference/configuration")
QUERY = page("guides/query")
SQLITE3 = [(QUERY, "By SQL"), (page("guides/backup"), "Back up")]


class TestLog:
    """The queries, tried on a log that holds the message of the example."""

    EXAMPLE = parse_value(QUERY.fence("json").encode())

    @pytest.fixture(autouse=True)
    def _log(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "trackcore.toml").write_text(CONFIGURATION.fence("toml"))
        configuration = parse_configuration(CONFIGURATION.fence("toml"))
        stored = self.EXAMPLE["message"]
        collector = Collector(
            sources=configuration.sources,
            destinations=configuration.destinations,
            sink=SqliteSink(tmp_path / "trackcore.db"),
            clock=lambda: datetime.fromisoformat(stored["receivedAt"]),
            new_message_id=lambda: stored["messageId"],
        )
        sent = {name: stored[name] for name in ("event", "integrations", "sentAt")}
        sent |= {"timestamp": stored["originalTimestamp"], "userId": int(stored["userId"])}
        collector.receive(encode_json(sent), endpoint="track", origin=Origin(header_key=WriteKey("abc123")))
        yield
        collector.sink.close()  # type: ignore[attr-defined]

    def test_the_line_that_is_shown(self) -> None:
        result = CliRunner().invoke(main, ["events", "--explain"])
        assert parse_value(result.stdout.encode()) == self.EXAMPLE

    def test_every_because_is_explained(self) -> None:
        for because in (*DecisionReason, CONFIGURATION_CHANGED):
            assert f"`{because}`" in QUERY.text

    def test_its_tables(self, tmp_path: Path) -> None:
        with closing(sqlite3.connect(tmp_path / "trackcore.db")) as log:
            names = log.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'")
            listed = {row[0] for row in page("reference/sqlite").tables[0].rows}
            assert {f"`{re.sub('[0-9]$', '*', name)}`" for (name,) in names} == listed

    def test_its_views(self, tmp_path: Path) -> None:
        with closing(sqlite3.connect(tmp_path / "trackcore.db")) as log:
            found = [row[1] for row in log.execute("PRAGMA table_info(events)")]
            counted = [row[1] for row in log.execute("PRAGMA table_info(daily_counts)")]
        (table,) = page("reference/sqlite").tables_under("Views")
        assert [name for row in table.rows for name in re.findall("`(.+?)`", row[0])] == found
        assert all(f"`{name}`" in page("reference/sqlite").text for name in counted)

    def test_its_queries(self, tmp_path: Path) -> None:
        """The query to read it works, and the one to copy it creates a log, while the server has it open."""
        read, copy = [shlex.split(each.fence("sh", heading))[-1] for each, heading in SQLITE3]
        with closing(sqlite3.connect(tmp_path / "trackcore.db", isolation_level=None)) as log:
            ((payload,),) = log.execute(read.replace("100", "0")).fetchall()
            log.execute(copy)
        assert parse_value(payload.encode()) == self.EXAMPLE["message"]
        (message,) = SqliteLog(tmp_path / "backup.db").messages()
        assert message.message == self.EXAMPLE["message"]


class TestQueries:
    """SQL and DuckDB, on a log of three days."""

    @pytest.fixture(autouse=True)
    def _log(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        website = Source(name="website", write_keys=["abc123"])
        with open_collector("trackcore-data/trackcore.db", sources=[website]) as collector:
            for number, day in enumerate(["2026-01-29", "2026-01-30", "2026-01-30"]):
                time = datetime.fromisoformat(f"{day}T12:00:00+00:00")
                event = Track(user_id=f"u{number}", event="Item Purchased", properties={"revenue": 4.5}, timestamp=time)
                collector.submit(event, source="website")

    def rows(self, query: str) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect("trackcore-data/trackcore.db")) as log:
            return log.execute(query).fetchall()

    def test_sql(self) -> None:
        by_day, by_event, revenue = (fence.text for fence in QUERY.fences if fence.language == "sql")
        assert self.rows(by_day) == [("2026-01-29", 1), ("2026-01-30", 2)]
        assert self.rows(by_event) == [("Item Purchased", 3, 3)]
        assert self.rows(revenue) == [(13.5,)]

    def test_duckdb_and_parquet(self) -> None:
        pytest.importorskip("duckdb", reason="the queries in DuckDB need the group `docs`")
        heading = "By DuckDB, and to Parquet"
        assert CliRunner().invoke(main, shlex.split(QUERY.fence("sh", heading))[1:]).exit_code == 0
        ran = subprocess.run(
            [sys.executable, "-c", QUERY.fence("python", heading)], capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stderr
        assert re.findall(r"(\d{4}-\d\d-\d\d) +│ +(\d+)", ran.stdout) == [("2026-01-29", "1"), ("2026-01-30", "2")]
        assert "13.5" in ran.stdout


class TestDjango:
    """The project of the guide, with the settings that it needs and no others."""

    SETTINGS = """
from pathlib import Path
BASE_DIR = Path(__file__).parents[1]
SECRET_KEY = "x"
ROOT_URLCONF = "shop.urls"
INSTALLED_APPS = ["shop"]
ALLOWED_HOSTS = ["*"]
"""
    URLS = """
from django.urls import path
from shop.views import checkout
urlpatterns = [path("checkout/<user>", checkout)]
"""
    WSGI = """
from shop.wsgi import application
from werkzeug.test import Client
client = Client(application)
assert client.get("/checkout/u1").data == b"Thank you"
body = {"writeKey": "abc123", "userId": "u2", "event": "Paid"}
assert client.post("/tracking/v1/track", json=body).json == {"success": True}
"""
    ASGI = """
import sys
sys.path.append(TESTS)
from starlette.testclient import TestClient
from shop.asgi import application
client = TestClient(application)
assert client.get("/checkout/u1").content == b"Thank you"
body = {"writeKey": "abc123", "userId": "u2", "event": "Paid"}
assert client.post("/tracking/v1/track", json=body).json() == {"success": True}
"""

    @pytest.fixture(name="shop")
    def _shop(self, tmp_path: Path) -> Path:
        files = {fence.file_name: fence.text for fence in page("guides/frameworks").fences if fence.file_name}
        files |= {"shop/settings.py": self.SETTINGS, "shop/urls.py": self.URLS, "shop/__init__.py": ""}
        files |= {"shop/management/__init__.py": "", "shop/management/commands/__init__.py": ""}
        for name, text in files.items():
            path = tmp_path / str(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    def run(self, shop: Path, *arguments: str) -> str:
        ran = subprocess.run(
            [sys.executable, *arguments], cwd=shop, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    @pytest.mark.parametrize("program", [WSGI, ASGI.replace("TESTS", "''")], ids=["wsgi", "asgi"])
    def test_it_receives_and_lists(self, shop: Path, program: str) -> None:
        self.run(shop, "-c", program)
        listed = self.run(shop, "-m", "django", "tracked", "--settings", "shop.settings", "--pythonpath", ".")
        assert listed.splitlines() == ["1 Order Completed u1", "2 Paid u2"]


_IN_PAGES = {"Browser", "Consent wrapper", "RudderStack browser"}
"""The SDKs that need a page and more than a line; the guide has a section for each."""


class TestSdkLines:
    """One line for each SDK of the matrix; `poe sdk` runs them."""

    def test_each_sdk_has_one(self) -> None:
        table = page("guides/point-an-sdk").tables[0]
        listed = [row[0] for row in table.rows]
        npm = [f"{sdk.title}: `{sdk.package}`" for sdk in SDKS if sdk.title not in _IN_PAGES]
        assert listed == npm
        assert [row for row in table.rows if len(code_in(row[1])) != 1] == []

    def test_the_inline_settings_are_those_of_the_live_tests(self) -> None:
        (line,) = re.findall(r"const cdnSettings = (.*);", page("guides/point-an-sdk").text)
        settings = json.loads(re.sub(r"(\w+):(?! *//)(?=[ {\"])", r'"\1":', line))
        assert settings["integrations"]["Segment.io"].keys() == {"apiKey", "apiHost", "protocol"}
