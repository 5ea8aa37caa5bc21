"""The log of the server: `[server] log`, `log_level` and `access_log`."""

from __future__ import annotations

import json
import logging
import re
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from patience import wait_for
from served import Served
from trackcore_http import HttpRequest, TrackingApi
from trackcore_http.responses import UNKNOWN_SOURCE
from trackcore_server.cli._main import main
from trackcore_server.process.access_log import AccessLog
from trackcore_server.process.log_lines import JsonFormatter, VisibleFormatter

from trackcore import Collector, MemorySink, Reason, Source

Serve = Callable[..., Served]

LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (DEBUG|INFO|WARNING|ERROR|CRITICAL) [a-z.]+: \S.*")
KEY = "web-key-1234"
SOURCE = f'[[sources]]\nname = "site"\nwrite_keys = ["{KEY}"]\n'
TRACK = {"userId": "user-1", "event": "Bought"}


def json_lines(served: Served) -> list[Any]:
    return [json.loads(line) for line in served.stderr().splitlines()]


class TestServer:
    """Every line has time and level: start, reload, stop, the first rejection of a code, a second server."""

    def test_each_line_is_json(self, serve: Serve, tmp_path: Path) -> None:
        config = tmp_path / "trackcore.toml"
        config.write_text(f'{SOURCE}[server]\nlog = "json"\naccess_log = true\nprefix = "/endpoint"\n')
        served = serve()
        assert served.post("/endpoint/v1/track?writeKey=in-the-query", TRACK, KEY)[0] == 200
        assert served.post("/v1/batch", {"batch": [{"type": "track"}, {"type": "track"}]}, KEY)[0] == 200
        assert served.post("/v1/track", TRACK, "no-such-key")[0] == 200
        assert served.post("/v1/track", TRACK, "no-such-key")[0] == 200
        served.get(f"/v1/projects/{KEY}/settings")
        served.get(f"/{KEY}/v1/track")
        config.write_text(f"{config.read_text()}{SOURCE.replace('site', 'app').replace('1234', '5678')}")
        served.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "Configuration read again: 2 sources, 0 destinations" in served.stderr())
        second = serve("--config", "trackcore.toml")
        assert f"Another server writes this log too: trackcore serve on 127.0.0.1:0, process {served.process.pid};" in (
            second.stderr()
        )
        assert served.terminate() == 0
        found = json_lines(served)
        assert all(line.keys() >= {"time", "level", "logger", "process", "message"} for line in found)
        assert all(abs(datetime.now(UTC) - datetime.fromisoformat(line["time"])) < timedelta(hours=1) for line in found)
        messages = [line["message"] for line in found]
        assert re.fullmatch(r"Starting trackcore \S+", messages[0])
        assert messages[-1] == "Stopping"
        assert [line for line in messages if line.startswith("rejected")] == [
            f"rejected a message of source 'site': no_user_anon_id: {Reason.NO_USER_ANON_ID.sentence}",
            f"rejected a request: unknown_source: {UNKNOWN_SOURCE.message}",
        ]
        accesses = [line for line in found if line["logger"] == "trackcore.access"]
        named = [(line["method"], line["path"], line["status"]) for line in accesses if line["path"] != "/ready"]
        assert named == [
            ("POST", "/v1/track", 200),
            ("POST", "/v1/batch", 200),
            ("POST", "/v1/track", 200),
            ("POST", "/v1/track", 200),
            ("GET", "/v1/projects/{writeKey}/settings", 200),
            ("GET", "?", 404),
        ]
        assert all(line["bytes"] > 0 and line["durationMs"] >= 0 for line in accesses)
        assert "-key" not in "".join(line for line in served.stderr().splitlines() if "Try:" not in line)
        assert "127.0.0.1" not in "".join(map(json.dumps, accesses))

    def test_each_line_is_text(self, serve: Serve, tmp_path: Path) -> None:
        (tmp_path / "trackcore.toml").write_text(SOURCE)
        served = serve("--workers", "2")
        served.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "read again: 1 source, 0 destinations" in served.stderr())
        assert served.terminate() == 0
        lines = served.stderr().splitlines()
        assert [line for line in lines if not LINE.fullmatch(line)] == []
        (tmp_path / "trackcore.toml").write_text(f'{SOURCE}[server]\nlog_level = "warning"\n')
        quiet = Served.start(tmp_path / "quiet", "--bind", "192.0.2.1:8080")
        assert quiet.process.wait(60) == 2
        (line,) = quiet.stderr().splitlines()
        assert LINE.fullmatch(line)
        assert "CRITICAL trackcore.server: Cannot start: cannot listen on 192.0.2.1:8080" in line


class TestLines:
    def record(self, text: str, *arguments: object) -> logging.LogRecord:
        record = logging.LogRecord("a.b", logging.WARNING, "", 0, text, arguments, None)
        record.created = 0.25
        return record

    def test_times_are_utc(self) -> None:
        assert VisibleFormatter().format(self.record("x %d", 1)) == "1970-01-01T00:00:00.250Z WARNING a.b: x 1"

    def test_json_is_one_line_of_ascii_whatever_it_quotes(self) -> None:
        line = JsonFormatter().format(self.record("%s", "a\n\x1b\ud800\u2028"))
        assert line.isascii()
        assert line.isprintable()
        assert json.loads(line)["message"] == "a\n\x1b\ud800\u2028"

    def test_an_exception_is_not_quoted(self) -> None:
        record = self.record("failed")
        try:
            int("secret")
        except ValueError as error:
            record.exc_info = (ValueError, error, error.__traceback__)
        line = JsonFormatter().format(record)
        assert json.loads(line)["exception"].startswith("ValueError at ")
        assert "secret" not in line


class TestAccessLog:
    """Path, status, duration and bytes; never a write key, nor an address."""

    @pytest.mark.parametrize(
        ("path", "name"),
        [
            ("/v1/track", "/v1/track"),
            ("//v1/track/", "/v1/track"),
            ("/pre/v1/t", "/v1/t"),
            ("/debugger", "/debugger"),
            ("/debugger/api/x", "/debugger"),
            ("/debuggers", "?"),
            ("/pre", "?"),
            ("/v1/projects/some-key/settings", "/v1/projects/{writeKey}/settings"),
            ("/some-key", "?"),
        ],
    )
    def test_the_path_is_that_of_a_route(self, path: str, name: str, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        log = AccessLog(prefix="/pre", folders=("/debugger",))
        log.write(method="GET", path=path, status=200, seconds=0.00123, size=17)
        assert caplog.messages == [f"GET {name} 200 1.2 ms 17 B"]


class TestRejections:
    """The first rejection of a source and code in ten minutes."""

    def test_the_others_are_counted(self, caplog: pytest.LogCaptureFixture) -> None:
        now = datetime(2026, 1, 31, tzinfo=UTC)
        collector = Collector(
            sources=[Source(name="a", write_keys=("key",))],
            sink=MemorySink(),
            clock=lambda: now,
            new_message_id=lambda: "id",
        )
        api = TrackingApi(collector)

        def send(event: str) -> None:
            exchange = api.exchange(
                HttpRequest(method="GET", path="/v1/pixel/track", query=f"writeKey=key&event={event}", headers={})
            )
            step = next(exchange)
            with pytest.raises(StopIteration):
                exchange.send(collector.store(step.pending))  # type: ignore[union-attr]

        for minutes in (0, 1, 9, 10, 11, -60):
            now = datetime(2026, 1, 31, tzinfo=UTC) + timedelta(minutes=minutes)
            send("")
        sentence = "rejected a message of source 'a': no_user_anon_id: "
        assert [message.startswith(sentence) for message in caplog.messages] == [True, True, True]
        assert [re.findall(r"\(\d.*\)", message) for message in caplog.messages] == [
            [],
            ["(2 others since the last line like this)"],
            ["(1 others since the last line like this)"],
        ]


def test_no_example_in_the_help_puts_a_log_into_etc() -> None:
    """A configuration in /etc comes with a data folder elsewhere, except where nothing is written."""
    examples = [command.epilog or "" for command in main.commands.values()]
    named = [line for text in examples for line in text.splitlines() if "--config /etc" in line]
    assert named
    assert all("--data /var/lib" in line for line in named)
