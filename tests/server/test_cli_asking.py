"""Asking the log by the command: filters, columns, counts, exports, and what a table without rows says."""

import csv
import io
import json
import stat
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from trackcore_server.cli._output import Column, bytes_text, counted
from trackcore_server.cli._table import fitting_widths
from trackcore_server.inspection import counting

Run = Callable[..., Result]
Fill = Callable[..., None]
Lines = Callable[[Result], list[Any]]

LATER = datetime(2026, 2, 2, 9, tzinfo=UTC)


@pytest.fixture(name="filled")
def _filled(fill: Fill) -> None:
    fill(
        {"type": "track", "event": "Paid", "userId": "ann", "properties": {"price": 3, "items": [{"sku": "a,b"}]}},
        {"type": "page", "name": "Paid", "anonymousId": "ann"},
        {"type": "identify", "userId": "bob", "traits": {"event": "Paid"}},
    )
    fill({"type": "track", "event": "Left", "userId": "bob"}, source="app", received_at=LATER)


def seqs(lines: list[Any]) -> list[int]:
    return [line["seq"] for line in lines]


@pytest.mark.usefixtures("filled")
class TestEvents:
    @pytest.mark.parametrize(
        ("options", "found"),
        [
            (["--event", "Paid"], [1, 2]),
            (["--event", "Paid", "--type", "page"], [2]),
            (["--event", "paid"], []),
            (["--until", "2026-02-02T09:00:00Z"], [1, 2, 3]),
            (["--until", "2026-02-02T09:00:00Z", "--limit", "1"], [3]),
            (["--since", "2026-02-01", "--until", "2026-02-03"], [4]),
        ],
    )
    @pytest.mark.parametrize("command", ["events", "export"])
    def test_messages_are_selected(
        self, run: Run, lines: Lines, command: str, options: Sequence[str], found: Sequence[int]
    ) -> None:
        if command == "export" and "--limit" in options:
            return
        assert seqs(lines(run(command, *options))) == found

    def test_csv_has_the_columns_of_the_view(self, run: Run) -> None:
        rows = list(csv.DictReader(io.StringIO(run("events", "--format", "csv").stdout)))
        assert [row["event"] for row in rows] == ["Paid", "Paid", "", "Left"]
        assert rows[0]["time"] == "2026-01-31T12:00:00.000Z"
        assert rows[0]["properties"] == '{"price":3,"items":[{"sku":"a,b"}]}'
        assert rows[0]["anonymous_id"] == rows[0]["warnings"] == ""

    def test_columns_are_names_or_paths(self, run: Run, lines: Lines) -> None:
        columns = ["--columns", "seq, user_id,properties.items[0].sku,properties.items[7],traits.event"]
        assert lines(run("events", *columns))[::2] == [
            {
                "seq": 1,
                "user_id": "ann",
                "properties.items[0].sku": "a,b",
                "properties.items[7]": None,
                "traits.event": None,
            },
            {
                "seq": 3,
                "user_id": "bob",
                "properties.items[0].sku": None,
                "properties.items[7]": None,
                "traits.event": "Paid",
            },
        ]
        assert run("events", "--format", "csv", *columns).stdout.splitlines()[1] == '1,ann,"a,b",,'
        table = run("events", "--format", "table", *columns).stdout.splitlines()
        assert table[0].split() == ["seq", "user_id", "properties.items[0].sku", "properties.items[7]", "traits.event"]
        assert table[1].split() == ["1", "ann", "a,b"]

    @pytest.mark.parametrize("columns", ["", "seq,", "a..b", "a[b]", "a[0"])
    def test_columns_that_are_none_are_wrong_usage(self, run: Run, columns: str) -> None:
        result = run("events", "--columns", columns)
        assert result.exit_code == 2
        assert "time,event,properties.price" in result.stderr

    def test_reasons_have_no_columns(self, run: Run) -> None:
        assert run("events", "--explain", "--format", "csv").exit_code == 2


@pytest.mark.usefixtures("filled")
class TestCounts:
    """`stats --by event|source|day` counts in bounded memory; the day is that of the corrected time."""

    def test_by_event(self, run: Run) -> None:
        found = json.loads(run("stats", "--by", "event").stdout)
        assert (found["by"], found["since"], found["messages"], found["others"]) == ("event", None, 4, None)
        assert [(each["call"], each["event"], each["messages"]) for each in found["counts"]] == [
            ("track", "Paid", 1),
            ("page", "Paid", 1),
            ("identify", None, 1),
            ("track", "Left", 1),
        ]
        assert found["counts"][0]["share"] == 0.25
        assert found["counts"][0]["first"] == found["counts"][0]["last"] == "2026-01-31T12:00:00.000Z"

    def test_by_source(self, run: Run) -> None:
        shown = run("stats", "--by", "source", "--format", "csv").stdout.splitlines()
        assert [line.split(",")[:3] for line in shown] == [
            ["source", "messages", "share"],
            ["website", "3", "0.75"],
            ["app", "1", "0.25"],
        ]

    def test_by_day_in_their_order(self, run: Run, fill: Fill) -> None:
        fill({"type": "page", "messageId": "old", "userId": "ann", "timestamp": "2025-12-24T23:59:59Z"})
        table = run("stats", "--by", "day", "--format", "table")
        rows = [line.split()[:3] for line in table.stdout.splitlines()]
        assert rows[1:] == [["2025-12-24", "1", "20.0%"], ["2026-01-31", "3", "60.0%"], ["2026-02-02", "1", "20.0%"]]
        assert table.stderr == "5 messages in 3 groups\n"

    def test_since(self, run: Run) -> None:
        assert json.loads(run("stats", "--by", "day", "--since", "2026-02-01").stdout)["messages"] == 1

    def test_too_many_names_are_counted_together(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(counting, "MOST_GROUPS", 2)
        result = run("stats", "--by", "event")
        found = json.loads(result.stdout)
        assert ([each["messages"] for each in found["counts"]], found["others"]["messages"]) == ([1, 1], 2)
        assert "2 messages of further ones are counted together" in result.stderr

    def test_long_names_are_bounded_too(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(counting, "_MOST_CHARS", len("track" + "Paid"))
        assert json.loads(run("stats", "--by", "event").stdout)["others"]["messages"] == 3

    def test_csv_needs_a_grouping(self, run: Run) -> None:
        assert run("stats", "--format", "csv").exit_code == 2


@pytest.mark.usefixtures("filled")
class TestExport:
    """The file is readable by its owner alone, and appears once it is complete."""

    @pytest.mark.parametrize("name", ["all.jsonl", "all.csv", "all.parquet", "all"])
    def test_the_name_of_the_file_decides_the_format(self, run: Run, tmp_path: Path, name: str) -> None:
        if name == "all.parquet":
            pytest.importorskip("duckdb", reason="needs the extra `parquet`")
        result = run("export", "--output", tmp_path / name)
        assert (result.exit_code, result.stdout) == (0, "")
        assert result.stderr.startswith(f"4 messages exported to {tmp_path / name}, ")
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
        start = (tmp_path / name).read_bytes()[:7]
        assert start.startswith({".csv": b"seq,time"[:7], ".parquet": b"PAR1"}.get(Path(name).suffix, b'{"seq":'))
        assert sorted(path.name for path in tmp_path.iterdir()) == [name, "trackcore-data"]

    def test_one_person(self, run: Run, lines: Lines) -> None:
        assert seqs(lines(run("export", "--user", "ann"))) == [1, 2]
        assert seqs(lines(run("export", "--anonymous-id", "ann"))) == [2]
        assert run("export", "--user", "ann", "--anonymous-id", "ann").exit_code == 2

    def test_parquet(self, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        duckdb = pytest.importorskip("duckdb", reason="needs the extra `parquet`")
        monkeypatch.setattr("trackcore_server.files.parquet._PART_BYTES", 1)  # a part for each row
        file = tmp_path / "it's.parquet"
        columns = "seq,time,event,properties,properties.price"
        assert run("export", "--output", file, "--columns", columns).exit_code == 0
        with duckdb.connect() as connection:
            found = connection.execute("FROM read_parquet(?)", [str(file)])
            assert [column[0] for column in found.description] == columns.split(",")
            assert found.fetchall() == [
                (1, datetime(2026, 1, 31, 12), "Paid", '{"price":3,"items":[{"sku":"a,b"}]}', "3"),  # noqa: DTZ001
                (2, datetime(2026, 1, 31, 12), "Paid", None, None),  # noqa: DTZ001
                (3, datetime(2026, 1, 31, 12), None, None, None),  # noqa: DTZ001
                (4, datetime(2026, 2, 2, 9), "Left", None, None),  # noqa: DTZ001
            ]

    def test_parquet_of_nothing_has_its_columns(self, run: Run, tmp_path: Path) -> None:
        duckdb = pytest.importorskip("duckdb", reason="needs the extra `parquet`")
        result = run("export", "--user", "nobody", "--output", tmp_path / "none.parquet")
        assert result.stderr.startswith("0 messages exported")
        with duckdb.connect() as connection:
            found = connection.execute("FROM read_parquet(?)", [str(tmp_path / "none.parquet")])
            assert (len(found.description), found.fetchall()) == (14, [])

    def test_parquet_needs_a_file(self, run: Run) -> None:
        assert "--output FILE" in run("export", "--format", "parquet").stderr

    def test_a_failure_leaves_the_old_file(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "old.csv").write_text("old")
        (tmp_path / "trackcore-data" / "trackcore.db").write_bytes(b"damaged" * 1_000)
        assert run("export", "--output", tmp_path / "old.csv").exit_code == 2
        assert (tmp_path / "old.csv").read_text() == "old"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["old.csv", "trackcore-data"]

    def test_a_folder_that_is_not_there(self, run: Run, tmp_path: Path) -> None:
        result = run("export", "--output", tmp_path / "none" / "all.csv")
        assert (result.exit_code, "cannot be written: No such file" in result.stderr) == (2, True)


class TestNothing:
    """An empty list says so."""

    def test_no_messages_yet(self, run: Run, fill: Fill) -> None:
        fill({"type": "nonsense", "userId": "ann"})
        result = run("events", "--format", "table")
        assert (result.stdout, result.stderr) == ("", "the log has no messages yet\n")
        assert run("events").stderr == ""

    def test_no_message_matches(self, run: Run, fill: Fill) -> None:
        fill({"type": "track", "event": "Paid", "userId": "ann"})
        assert run("events", "--format", "table", "--user", "bob").stderr == (
            "no message matches; the log has 1 message\n"
        )

    def test_others(self, run: Run, fill: Fill) -> None:
        fill({"type": "track", "event": "Paid", "userId": "ann"})
        for command, sentence in {
            ("rejected",): "no rejected messages",
            ("rejected", "--code", "no_type"): "no rejected messages match",
            ("rejected", "--quarantine"): "no quarantined requests",
            ("dead-letters",): "no dead letters",
        }.items():
            assert run(*command, "--format", "table").stderr == f"{sentence}\n"


class TestData:
    """`--data` takes a folder, the file of a log, or a configuration."""

    def test_a_log(self, run: Run, fill: Fill, lines: Lines, tmp_path: Path) -> None:
        fill({"type": "track", "event": "Paid", "userId": "ann"})
        copy = tmp_path / "copy.db"
        (tmp_path / "trackcore-data" / "trackcore.db").rename(copy)
        assert seqs(lines(run("events", "--data", copy))) == [1]
        assert run("check", "--data", copy).exit_code == 0
        (tmp_path / "trackcore.toml").write_text("[log]\npath = 'other.db'")
        assert seqs(lines(run("events", "--data", "copy.db"))) == [1]

    def test_a_configuration(self, run: Run, fill: Fill, lines: Lines, tmp_path: Path) -> None:
        fill({"type": "track", "event": "Paid", "userId": "ann"})
        (tmp_path / "c.toml").write_text("[server]\ndata = 'trackcore-data'")
        assert seqs(lines(run("events", "--data", "c.toml"))) == [1]
        assert run("events", "--data", "c.toml", "--config", "c.toml").exit_code == 2

    def test_a_server_needs_a_folder(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "log.db").touch()
        for command in (["serve"], ["config", "check"]):
            result = run(*command, "--data", "log.db")
            assert (result.exit_code, "is a file; expected a" in result.stderr) == (2, True)


class TestForm:
    def test_numbers_have_units(self) -> None:
        assert [bytes_text(size) for size in (0, 999, 1_536, 3 << 30, 1 << 45)] == [
            "0 B",
            "999 B",
            "1.5 KiB",
            "3.0 GiB",
            "32.0 TiB",
        ]
        assert [counted(1, "message"), counted(1_200, "message"), counted(2, "query", "queries")] == [
            "1 message",
            "1,200 messages",
            "2 queries",
        ]

    COLUMNS = (
        Column(title="seq", width=8),
        Column(title="event", ratio=3),
        Column(title="user", ratio=1),
    )

    @pytest.mark.parametrize(
        ("room", "has_more", "widths"),
        [
            (80, False, [3, 20, 6]),
            (80, True, [8, 53, 17]),
            (24, False, [3, 14, 4]),
            (20, False, [3, 11, 4]),
        ],
    )
    def test_columns_fit_the_line(self, room: int, has_more: bool, widths: Sequence[int]) -> None:
        """A column is as wide as its cells, or as there is room for; one that may grow takes what is left."""
        rows = [["1", "E" * 20, "a-user"]]
        assert fitting_widths(self.COLUMNS, rows, room, has_more=has_more) == widths
        if room > 20:
            assert sum(widths) + 2 <= room

    def test_wide_characters_count_twice(self) -> None:
        assert fitting_widths(self.COLUMNS[:2], [["1", "事件事件"]], 80, has_more=False) == [3, 8]


def test_an_age_of_the_future_is_wrong_usage(run: Run, fill: Fill) -> None:
    fill({"type": "track", "event": "Paid", "userId": "ann"})
    tomorrow = f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}"
    assert run("stats", "--by", "day", "--since", tomorrow).exit_code == 2
