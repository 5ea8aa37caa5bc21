"""What the tests of the server share: a real `trackcore serve` in its own process group, and the command in-process."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import attrs
import pytest
from click.testing import CliRunner, Result
from trackcore_server.cli import main
from trackcore_sqlite import SqliteSink

from trackcore import Collector, Destination, Source

COMMAND = [sys.executable, "-W", "error", "-m", "trackcore_server.cli"]
PATIENCE = 30.0
"""Seconds after which a wait is given up; nothing is expected to take that long."""

RECEIVED_AT = datetime(2026, 1, 31, 12, tzinfo=UTC)


def wait_for(condition: Callable[[], Any]) -> Any:
    """Poll until `condition` gives something true, and give that."""
    end = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
    return found


@attrs.define
class Served:
    """A running `trackcore serve`."""

    process: subprocess.Popen[bytes]
    stderr_file: Path
    port: int

    def stderr(self) -> str:
        return self.stderr_file.read_text()

    def post(self, path: str, body: Any, key: str | None) -> tuple[int, Any]:
        headers = {"Content-Type": "application/json"}
        if key is not None:
            headers["Authorization"] = "Basic " + b64encode(f"{key}:".encode()).decode()
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request("POST", path, json.dumps(body), headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def get(self, path: str) -> int:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        finally:
            connection.close()

    def kill(self) -> None:
        """Kill the server and all its workers where they stand."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE)

    def terminate(self) -> int:
        self.process.terminate()
        return self.process.wait(PATIENCE)

    def is_ready(self) -> bool:
        with suppress(OSError, HTTPException):
            return self.get("/ready") == 200
        return False


@pytest.fixture(autouse=True)
def _empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Work in an empty folder, with no configuration named."""
    monkeypatch.delenv("TRACKCORE_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Start servers on free ports; whatever still runs at the end is killed."""
    started: list[Served] = []

    def start(*arguments: str) -> Served:
        stderr_file = tmp_path / f"stderr-{len(started)}"
        with stderr_file.open("wb") as stderr:
            process = subprocess.Popen(
                [*COMMAND, "serve", "--bind", "127.0.0.1:0", *arguments], stderr=stderr, start_new_session=True
            )
        served = Served(process, stderr_file, 0)
        started.append(served)

        def listening() -> re.Match[str] | None:
            assert process.poll() is None, served.stderr()
            return re.search(r"Listening on http://127\.0\.0\.1:(\d+)\n", served.stderr())

        served.port = int(wait_for(listening)[1])
        wait_for(served.is_ready)
        return served

    yield start
    for served in started:
        if served.process.poll() is None:
            served.kill()


@pytest.fixture
def run() -> Callable[..., Result]:
    """Run the `trackcore` command in this process."""

    def invoke(*arguments: str | Path, stdin: bytes | None = None) -> Result:
        result = CliRunner().invoke(main, [str(argument) for argument in arguments], input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoke


@pytest.fixture
def fill(tmp_path: Path) -> Callable[..., None]:
    """Receive a batch into the log of the data folder `trackcore-data`, as a server would have."""

    def receive(
        *messages: Any,
        source: str = "website",
        destinations: tuple[Destination, ...] = (),
        received_at: datetime = RECEIVED_AT,
        write_key: str = "key",
        **bounds: int,
    ) -> None:
        ids = iter(range(1_000_000))
        sink = SqliteSink(tmp_path / "trackcore-data" / "trackcore.db", **bounds)
        collector = Collector(
            sources=[Source(name=source, write_keys=("key",))],
            destinations=destinations,
            sink=sink,
            clock=lambda: received_at,
            new_message_id=lambda: f"{source}-{received_at:%H%M%S}-{next(ids)}",
        )
        body = {"batch": list(messages), "writeKey": write_key}
        collector.receive(json.dumps(body).encode())
        sink.close()

    return receive


@pytest.fixture
def lines() -> Callable[[Result], list[Any]]:
    """Read standard output as JSON lines."""
    return lambda result: [json.loads(line) for line in result.stdout.splitlines()]
