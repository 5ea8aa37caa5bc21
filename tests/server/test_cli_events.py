import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from patience import PATIENCE
from rich.cells import cell_len

from trackcore import Destination

Run = Callable[..., Result]
Fill = Callable[..., None]
Lines = Callable[[Result], list[Any]]

COMMAND = [sys.executable, "-W", "error", "-m", "trackcore_server.cli"]


def track(event: str, user: str = "user-1", **more: Any) -> dict[str, Any]:
    return {"type": "track", "event": event, "userId": user, **more}


def names(records: list[Any]) -> list[str]:
    return [record["message"]["event"] for record in records]


def test_a_line_has_exactly_its_keys_in_order(run: Run, fill: Fill) -> None:
    fill(track("Bought", user=7, messageId="m1"))  # type: ignore[arg-type]
    result = run("events")
    assert result.exit_code == 0
    assert result.stdout == (
        '{"seq":1,"source":"website","destinations":[],'
        '"warnings":[{"code":"id_from_number","message":"the number was kept as \'7\'","path":"userId"}],'
        '"message":{"type":"track","messageId":"m1","userId":"7","event":"Bought",'
        '"timestamp":"2026-01-31T12:00:00.000Z","receivedAt":"2026-01-31T12:00:00.000Z"}}\n'
    )
    assert result.stderr == ""


def test_messages_are_chosen(run: Run, fill: Fill, lines: Lines) -> None:
    fill(track("A"), track("B", user="user-2"), {"type": "page", "anonymousId": "user-2", "event": "page"})
    fill(track("C"), source="app", received_at=datetime(2026, 1, 31, 13, tzinfo=UTC))
    fill(track("D"), received_at=datetime.now(UTC))
    assert names(lines(run("events"))) == ["A", "B", "page", "C", "D"]
    assert names(lines(run("events", "--source", "app"))) == ["C"]
    assert names(lines(run("events", "--type", "page"))) == ["page"]
    assert names(lines(run("events", "--user", "user-2"))) == ["B", "page"]
    assert names(lines(run("events", "--limit", "2"))) == ["C", "D"]
    assert names(lines(run("events", "--since", "2026-01-31T12:30:00Z"))) == ["C", "D"]
    assert names(lines(run("events", "--since", "2h"))) == ["D"]


@pytest.mark.parametrize("since", ["yesterday", "", "5 days", "999999999d"])
def test_a_time_that_makes_no_sense_is_wrong_usage(run: Run, fill: Fill, since: str) -> None:
    fill(track("A"))
    result = run("events", "--since", since)
    assert result.exit_code == 2
    assert "2026-01-31T12:00Z" in result.stderr


def test_no_log_is_an_error(run: Run, tmp_path: Path) -> None:
    result = run("events")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "there is no log here" in result.stderr
    (tmp_path / "trackcore.db").write_text("this is a text, and no SQLite file" * 100)
    result = run("events", "--data", tmp_path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "not a SQLite file" in result.stderr


def test_a_bad_configuration_is_an_error(run: Run, tmp_path: Path) -> None:
    (tmp_path / "trackcore.toml").write_text("[sever]")
    result = run("events")
    assert result.exit_code == 2
    assert "did you mean 'server'?" in result.stderr


class TestExplain:
    DESTINATIONS = (
        Destination(name="Named"),
        Destination(name="Options"),
        Destination(name="Old", max_age=timedelta(days=5)),
        Destination(name="Other"),
    )
    CONFIGURATION = """
    [[sources]]
    name = "website"
    write_keys = ["key"]
    [[destinations]]
    name = "Named"
    [[destinations]]
    name = "Options"
    [[destinations]]
    name = "Old"
    max_age = "5d"
    """

    def decisions(self, run: Run, lines: Lines, tmp_path: Path, configuration: str) -> Any:
        (tmp_path / "trackcore-data" / "trackcore.toml").write_text(configuration)
        (record,) = lines(run("events", "--explain"))
        assert list(record) == ["seq", "source", "destinations", "warnings", "message", "decisions"]
        return record["decisions"]

    def test_each_destination_has_its_reason(self, run: Run, fill: Fill, lines: Lines, tmp_path: Path) -> None:
        integrations = {"Named": False, "Options": {"id": 5}, "All": True}
        old = track("A", integrations=integrations, timestamp="2026-01-01T00:00:00Z")
        fill(old, destinations=self.DESTINATIONS)
        configuration = self.CONFIGURATION + '[[destinations]]\nname = "Other"'
        assert self.decisions(run, lines, tmp_path, configuration) == [
            {"destination": "Named", "chosen": False, "because": "by_name"},
            {"destination": "Options", "chosen": True, "because": "by_options", "options": {"id": 5}},
            {"destination": "Old", "chosen": False, "because": "too_old"},
            {"destination": "Other", "chosen": True, "because": "by_all"},
        ]

    def test_after_a_change_of_the_configuration_the_stored_decision_counts(
        self, run: Run, fill: Fill, lines: Lines, tmp_path: Path
    ) -> None:
        fill(track("A"), destinations=(Destination(name="Named"), Destination(name="Gone")))
        assert self.decisions(run, lines, tmp_path, self.CONFIGURATION) == [
            {"destination": "Named", "chosen": True, "because": "by_default"},
            {"destination": "Options", "chosen": False, "because": "configuration_changed"},
            {"destination": "Old", "chosen": False, "because": "configuration_changed"},
            {"destination": "Gone", "chosen": True, "because": "configuration_changed"},
        ]


class TestTable:
    def test_columns_are_aligned(self, run: Run, fill: Fill) -> None:
        fill(*(track(f"Event {number}", user="u" * (1 + number % 40)) for number in range(1, 120)))
        lines = run("events", "--format", "table").stdout.splitlines()
        assert len(lines) == 120
        assert lines[0].startswith("seq ")
        for title, text in (("received (UTC)", "2026-01-31 12:00:00"), ("type", "track"), ("event", "Event ")):
            assert {line.index(text) for line in lines[1:]} == {lines[0].index(title)}

    def test_text_of_a_message_is_only_text(self, run: Run, fill: Fill) -> None:
        fill(track("[bold]B[/bold] \x1b[2J\x07 :smile:\n\u202e", user="[/]"))
        (_, line) = run("events", "--format", "table").stdout.splitlines()
        assert r"[bold]B[/bold] \x1b[2J\x07 :" in line
        assert "[/]" in line
        assert line.isprintable()

    def test_decisions_are_shown(self, run: Run, fill: Fill, tmp_path: Path) -> None:
        fill(track("A"), destinations=(Destination(name="Named"),))
        (tmp_path / "trackcore-data" / "trackcore.toml").write_text('[[destinations]]\nname = "Named"')
        assert "+Named (by_default)" in run("events", "--format", "table", "--explain").stdout

    def test_a_terminal_gets_a_table_of_the_newest_fifty(self, fill: Fill) -> None:
        fill(*(track(f"E{number}") for number in range(80)))
        shown = on_terminal("events").splitlines()
        assert len(shown) == 51
        assert "\x1b[1m" in shown[0]
        assert "E30" in shown[1]
        assert "E79" in shown[-1]
        assert len(on_terminal("events", "--limit", "60").splitlines()) == 61
        assert json.loads(on_terminal("events", "--format", "jsonl").splitlines()[-1])["seq"] == 80


class TestWidth:
    """Tables on a terminal use the width they have."""

    WIDTHS = (60, 100, 200)

    @pytest.fixture(name="lines_at", params=[3, 120])
    def _lines_at(self, request: pytest.FixtureRequest, fill: Fill) -> Callable[[int], list[str]]:
        """Return the lines of a table of few or of many messages on a terminal of some width."""
        names, user = ["E" * 150, "wide \N{CJK UNIFIED IDEOGRAPH-5BBD}" * 20, "Bought"], "user-of-a-long-name-" * 4
        fill(*(track(names[number % 3], user, timestamp="yesterday") for number in range(request.param)))

        def lines(columns: int) -> list[str]:
            shown = on_terminal("events", "--limit", "200", columns=columns).splitlines()
            assert len(shown) == 1 + request.param
            return [re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip() for line in shown]

        return lines

    @pytest.mark.parametrize("columns", WIDTHS)
    def test_no_line_is_wrapped(self, lines_at: Callable[[int], list[str]], columns: int) -> None:
        """A line as wide as the terminal or narrower is one line on it; each begins with the number of a message."""
        header, *rows = lines_at(columns)
        assert header.split()[0] == "seq"
        assert [int(row.split()[0]) for row in rows] == [*range(1, len(rows) + 1)]
        assert max(map(cell_len, (header, *rows))) <= columns

    def test_a_wider_terminal_shows_more(self, lines_at: Callable[[int], list[str]]) -> None:
        events = [lines_at(columns)[1].count("E") for columns in self.WIDTHS]
        users = [sum("user-of-a-long" in line for line in lines_at(columns)) for columns in self.WIDTHS]
        assert events == sorted(set(events))
        assert users[-1] > users[0]
        assert max(map(cell_len, lines_at(200))) > 160


def on_terminal(*arguments: str, columns: int | None = None) -> str:
    """Run the command with a terminal as its standard output, and return its output.

    With a number of columns it is a whole terminal of that width: the input and the errors too.
    """
    master, slave = pty.openpty()
    environ = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    others = None if columns is None else slave
    termios.tcsetwinsize(slave, (24, columns or 80))
    process = subprocess.Popen([*COMMAND, *arguments], stdin=others, stdout=slave, stderr=others, env=environ)
    os.close(slave)
    shown = b""
    while chunk := _read_terminal(master):
        shown += chunk
    os.close(master)
    assert process.wait(PATIENCE) == 0
    return shown.decode().replace("\r\n", "\n")


def _read_terminal(master: int) -> bytes:
    try:
        return os.read(master, 65_536)
    except OSError:  # Linux raises EIO once the last writer has closed it
        return b""


class TestFollow:
    def test_new_messages_come_until_interrupted(self, fill: Fill) -> None:
        fill(track("old"))
        process = subprocess.Popen([*COMMAND, "events", "--follow", "--user", "user-1"], stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["message"]["event"] == "old"
        fill(track("not his", user="user-2"), received_at=datetime(2026, 1, 31, 13, tzinfo=UTC))
        fill(track("new"), received_at=datetime(2026, 1, 31, 14, tzinfo=UTC))
        assert json.loads(process.stdout.readline())["message"]["event"] == "new"
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0
        assert process.stdout.read() == b""
        process.stdout.close()

    def test_a_closed_pipe_ends_it_quietly(self, fill: Fill) -> None:
        fill(track("old"))
        process = subprocess.Popen([*COMMAND, "events", "--follow"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        end = time.monotonic() + PATIENCE
        for number in range(1_000):
            fill(track("more", messageId=f"more-{number}"))
            if process.poll() is not None:
                break
            assert time.monotonic() < end
            time.sleep(0.05)
        assert process.wait(PATIENCE) == 0
        assert process.stderr.read() == b""
        process.stderr.close()


def test_a_reader_that_leaves_early_ends_it_quietly(fill: Fill) -> None:
    fill(*(track("A", properties={"text": "x" * 1_000}) for _ in range(400)))
    process = subprocess.Popen([*COMMAND, "events"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(PATIENCE) == 0
    assert process.stderr.read() == b""
    process.stderr.close()
