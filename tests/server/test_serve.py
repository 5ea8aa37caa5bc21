"""A real `trackcore serve`: its own processes, its own port, its own log."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from patience import PATIENCE, wait_for

Serve = Callable[..., Any]
Run = Callable[..., Result]
Lines = Callable[[Result], list[Any]]

COMMAND = [sys.executable, "-W", "error", "-m", "trackcore_server.cli"]

TRACK = {"userId": "user-1", "event": "Bought"}

TWO_SOURCES = """
[[sources]]
name = "website"
write_keys = ["web-key"]
destinations = ["Mixpanel"]
[[sources]]
name = "app"
write_keys = ["app-key"]
[[destinations]]
name = "Mixpanel"
[[destinations]]
name = "KISSmetrics"
[log]
path = "all/messages.db"
[limits]
message_bytes = 1000
"""


def test_a_start_with_nothing(serve: Serve, run: Run, lines: Lines, tmp_path: Path) -> None:
    """One command, and its printed example is enough to send a message."""
    served = serve()
    output = served.stderr()
    data = tmp_path / "trackcore-data"
    assert "Configuration: trackcore-data/trackcore.toml" in output
    assert f"Log: {data / 'trackcore.db'}" in output
    assert data.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in data.iterdir()} == {0o600}

    words = shlex.split(output.splitlines()[-1].partition(" Try: ")[2])
    assert words[0] == "curl"
    key = words[words.index("-u") + 1].removesuffix(":")
    assert words[-1] == f"http://127.0.0.1:{served.port}/v1/track"
    assert served.post("/v1/track", json.loads(words[words.index("-d") + 1]), key) == (200, {"success": True})
    (record,) = lines(run("events"))
    assert (record["source"], record["message"]["event"]) == ("default", "Signed Up")

    assert served.terminate() == 0
    assert f"-u {key}:" in serve().stderr(), "the next start uses the same key"


def test_a_configuration_is_followed(serve: Serve, run: Run, lines: Lines, tmp_path: Path) -> None:
    config = tmp_path / "etc" / "trackcore.toml"
    config.parent.mkdir()
    config.write_text(TWO_SOURCES)
    served = serve("--config", str(config))
    assert served.post("/v1/track", TRACK, "web-key")[0] == 200
    assert served.post("/v1/track", TRACK, "app-key")[0] == 200
    assert served.post("/v1/track", {**TRACK, "text": "x" * 1_000}, "app-key")[0] == 400
    assert served.post("/v1/track", TRACK, "no-key")[0] == 200
    assert [(record["source"], record["destinations"]) for record in lines(run("events", "--config", config))] == [
        ("website", ["Mixpanel"]),
        ("app", ["Mixpanel", "KISSmetrics"]),
    ]
    (record,) = lines(run("rejected", "--config", config))
    assert (record["source"], record["code"]) == ("app", "message_too_large")
    assert len(run("rejected", "--quarantine", "--config", config).stdout.splitlines()) == 1
    assert (tmp_path / "etc" / "all" / "messages.db").exists()
    assert "web-key" not in served.stderr()
    assert "app-key" not in served.stderr()


def test_write_keys_on_the_command_line(serve: Serve, run: Run, lines: Lines, tmp_path: Path) -> None:
    served = serve("--data", "data", "--write-key", "one", "--write-key", "two")
    for key in ("two", "one"):
        assert served.post("/v1/track", TRACK, key)[0] == 200
    assert [record["source"] for record in lines(run("events", "--data", "data"))] == ["default-2", "default"]
    assert not (tmp_path / "data" / "trackcore.toml").exists()


def test_write_keys_are_added_to_a_configuration(serve: Serve, run: Run, lines: Lines, tmp_path: Path) -> None:
    (tmp_path / "trackcore.toml").write_text(TWO_SOURCES)
    served = serve("--write-key", "one")
    for key in ("web-key", "one"):
        assert served.post("/v1/track", TRACK, key)[0] == 200
    assert [record["source"] for record in lines(run("events"))] == ["website", "default"]


def test_hang_up_reads_the_configuration_again(serve: Serve, tmp_path: Path, run: Run) -> None:
    config = tmp_path / "trackcore.toml"
    config.write_text('[[sources]]\nname = "a"\nwrite_keys = ["first"]')
    (tmp_path / "reading.toml").write_text("")
    served = serve()
    stored = 0

    def is_stored(key: str) -> bool:
        nonlocal stored
        assert served.post("/v1/track", TRACK, key)[0] == 200
        before, stored = stored, len(run("events", "--config", "reading.toml").stdout.splitlines())
        return stored > before

    assert is_stored("first")
    config.write_text('[[sources]]\nname = "a"\nwrite_keys = ["first", "second"]')
    served.process.send_signal(signal.SIGHUP)
    wait_for(lambda: is_stored("second"))
    config.write_text("[sever]")
    served.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "Keeping the previous configuration" in served.stderr())
    assert "did you mean 'server'?" in served.stderr()
    assert is_stored("second")


@pytest.mark.parametrize("place", ["the command line", "the configuration"])
def test_the_obsolete_number_of_threads_is_accepted_with_a_warning(serve: Serve, tmp_path: Path, place: str) -> None:
    in_file = place == "the configuration"
    server = "[server]\nthreads = 4\n" if in_file else ""
    (tmp_path / "trackcore.toml").write_text(f'{server}[[sources]]\nname = "a"\nwrite_keys = ["key"]\n')
    served = serve(*(() if in_file else ("--threads", "4")))
    assert "WARNING trackcore.server: the setting `threads` has no effect any more" in served.stderr()
    assert served.post("/v1/track", TRACK, "key")[0] == 200


class TestRefusedStarts:
    def start(self, *arguments: str) -> str:
        """Expect that a start fails, and return the error output."""
        process = subprocess.run(
            [*COMMAND, "serve", *arguments], capture_output=True, timeout=PATIENCE, check=False, text=True
        )
        assert process.returncode == 2, process.stderr
        assert process.stdout == ""
        assert "Traceback" not in process.stderr
        return process.stderr

    def test_the_port_is_taken(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            assert f"cannot listen on {address}: Address already in use" in self.start("--bind", address)

    def test_the_address_is_of_another_machine(self) -> None:
        assert "cannot listen on 192.0.2.1:8080" in self.start("--bind", "192.0.2.1:8080")

    def test_the_address_is_none(self) -> None:
        assert "expected HOST:PORT" in self.start("--bind", "8080")

    def test_the_configuration_has_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "trackcore.toml").write_text(TWO_SOURCES.replace("write_keys", "write_kyes", 1))
        assert "trackcore.toml: sources[0].write_kyes: unknown setting; did you mean" in self.start()

    def test_the_configuration_is_not_there(self) -> None:
        assert "No such file" in self.start("--config", "none.toml")

    def test_no_source_is_configured(self, tmp_path: Path) -> None:
        (tmp_path / "trackcore.toml").write_text("")
        assert "no source is configured" in self.start()

    def test_the_log_is_another_file(self, tmp_path: Path) -> None:
        (tmp_path / "trackcore.db").write_text("this is a text, and no SQLite file" * 100)
        assert "not a SQLite file" in self.start("--data", str(tmp_path))

    def test_the_log_cannot_be_there(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        (tmp_path / "trackcore.toml").write_text(
            '[[sources]]\nname = "a"\nwrite_keys = ["k"]\n[log]\npath = "file/trackcore.db"'
        )
        assert "file/trackcore.db: the log cannot be written" in self.start()

    def test_a_write_key_is_empty(self) -> None:
        assert "cannot be empty" in self.start("--write-key", "")


def test_nothing_that_was_answered_is_lost_when_everything_is_killed(serve: Serve, run: Run, lines: Lines) -> None:
    """200 means committed: kill -9 right after the answer, and the message is there."""
    sent: list[str] = []
    for number in range(3):
        served = serve("--write-key", "key", "--workers", "2")
        body = {"batch": [{**TRACK, "type": "track", "messageId": f"{number}-{index}"} for index in range(5)]}
        status, _ = served.post("/v1/batch", body, "key")
        served.kill()
        assert status == 200
        sent.extend(message["messageId"] for message in body["batch"])
    assert [record["message"]["messageId"] for record in lines(run("events"))] == sent
    assert serve("--write-key", "key").get("/ready") == 200


def test_many_clients_at_once(serve: Serve, run: Run, lines: Lines) -> None:
    """Two processes on one log, 64 clients: each message is stored once, in an order without gaps."""
    served = serve("--write-key", "key", "--workers", "2")
    start = threading.Barrier(64)

    def client(number: int) -> list[int]:
        start.wait()
        return [
            served.post("/v1/track", {**TRACK, "userId": f"user-{number}", "messageId": f"{number}-{index}"}, "key")[0]
            for index in range(10)
        ]

    with ThreadPoolExecutor(64) as pool:
        statuses = Counter(status for client_statuses in pool.map(client, range(64)) for status in client_statuses)
    assert statuses == {200: 640}
    records = lines(run("events"))
    assert [record["seq"] for record in records] == list(range(1, 641))
    assert {record["message"]["messageId"] for record in records} == {
        f"{number}-{index}" for number in range(64) for index in range(10)
    }
    assert served.terminate() == 0
    assert "Traceback" not in served.stderr()
    assert "ERROR" not in served.stderr()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_on_a_signal(serve: Serve, run: Run, how: signal.Signals) -> None:
    served = serve("--write-key", "key", "--workers", "2")
    assert served.post("/v1/track", TRACK, "key")[0] == 200
    served.process.send_signal(how)
    assert served.process.wait(PATIENCE) == 0
    with pytest.raises(ProcessLookupError):  # no worker is left behind
        os.killpg(served.process.pid, 0)
    assert len(run("events").stdout.splitlines()) == 1


def test_a_public_address_is_reported() -> None:
    process = subprocess.Popen(
        [*COMMAND, "serve", "--bind", "0.0.0.0:0", "--write-key", "it's"], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    output = [process.stderr.readline() for _ in range(7)]
    process.terminate()
    assert process.wait(PATIENCE) == 0
    process.stderr.close()
    assert re.search(r"Listening on http://localhost:\d+\n", "".join(output))
    assert any("plain HTTP" in line for line in output)
    assert "it's:" in shlex.split(output[-1])


def test_an_app_by_itself(run: Run, lines: Lines, tmp_path: Path) -> None:
    """The other entry point: any WSGI server, with the configuration named by the environment."""
    (tmp_path / "named.toml").write_text(TWO_SOURCES)
    program = (
        "import sys, trackcore_server\n"
        "from werkzeug.test import Client\n"
        "client = Client(trackcore_server.create_app())\n"
        "answer = client.post('/v1/track', data=sys.stdin.read(), auth=('web-key', ''))\n"
        "print(answer.status_code)\n"
    )
    answered = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        input=json.dumps(TRACK),
        env={**os.environ, "TRACKCORE_CONFIG": "named.toml"},
        capture_output=True,
        check=True,
        text=True,
        timeout=PATIENCE,
    )
    assert answered.stdout == "200\n"
    assert len(lines(run("events", "--config", "named.toml"))) == 1
