"""Real `trackcore` processes for the tests of delivery."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import attrs
from adapter_helpers import basic
from click.testing import CliRunner
from patience import PATIENCE, wait_for
from served import COMMAND, Running
from trackcore_delivery import DestinationStatus, State
from trackcore_server.cli._main import main
from trackcore_sqlite import SqliteLog

from trackcore import JSONObject

KEY = "web-key"
HEADERS = {"Authorization": basic(KEY), "Content-Type": "application/json"}


@attrs.define
class Deployed:
    """A data folder with a configuration, and the commands that run on it."""

    folder: Path
    environ: Mapping[str, str] = attrs.field(factory=dict)
    started: list[Running] = attrs.field(init=False, factory=list)

    def configure(self, destinations: str, *, source: str = "") -> None:
        """Write the configuration: one source, and these destinations."""
        self.folder.mkdir(exist_ok=True)
        text = f'[[sources]]\nname = "website"\nwrite_keys = ["{KEY}"]\n{source}\n{destinations}'
        (self.folder / "trackcore.toml").write_text(text)

    def run(self, *arguments: str) -> Running:
        stderr_file = self.folder / f"stderr-{len(self.started)}"
        with stderr_file.open("wb") as stderr:
            process = subprocess.Popen(
                [*COMMAND, *arguments, "--data", str(self.folder)],
                stdin=subprocess.DEVNULL,
                stderr=stderr,
                env={**os.environ, **self.environ},
                start_new_session=True,
            )
        self.started.append(Running(process, stderr_file))
        return self.started[-1]

    def deliver(self) -> Running:
        return self.run("deliver")

    def serve(self, *arguments: str) -> tuple[Running, int]:
        """Start a server on a free port, wait until it listens, and return the port too."""
        running = self.run("serve", "--bind", "127.0.0.1:0", *arguments)
        return running, running.wait_for_port()

    def ask(self, *arguments: str, code: int = 0) -> tuple[list[JSONObject], str]:
        """Run a command in this process to its end, and return its output: JSON lines, and text."""
        done = CliRunner().invoke(main, [*arguments, "--data", str(self.folder)], env=dict(self.environ))
        assert done.exit_code == code, done.output
        lines = done.stdout.splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")], done.stderr + done.stdout

    @property
    def log_path(self) -> Path:
        return self.folder / "trackcore.db"

    @property
    def messages(self) -> list[JSONObject]:
        """Everything in the log."""
        return [stored.message for stored in SqliteLog(self.log_path).messages()]

    def status(self, name: str) -> DestinationStatus:
        """Return how delivery to a destination is going."""
        path = self.folder / "trackcore-delivery.db"
        if not path.exists():
            return DestinationStatus(name=name)
        with closing(State(path, must_exist=True)) as state:
            return state.status(name, datetime.now(UTC)) or DestinationStatus(name=name)

    def wait_until_delivered(self, name: str) -> None:
        """Wait until a destination has no backlog."""
        log = SqliteLog(self.log_path)
        wait_for(lambda: not log.backlog(name, after=self.status(name).position)[0])


def post(port: int, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, Any]:
    """Post to a server on loopback."""
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("POST", path, body, dict(headers))
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def send_batch(port: int, *messages: JSONObject) -> None:
    """Send messages to a server, and check that it accepts them."""
    status, answer = post(port, "/v1/batch", json.dumps({"batch": messages}).encode(), HEADERS)
    assert (status, answer) == (200, {"success": True})


def track(number: int, user: int = 0, **fields: Any) -> JSONObject:
    """Build a message."""
    return {"type": "track", "event": "E", "messageId": f"m{number}", "userId": f"user-{user}", **fields}
