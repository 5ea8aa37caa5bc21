"""What the tests on Kafka share: `trackcore serve` on a cluster, and a configuration for it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from base64 import b64encode
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import attrs
from adapter_helpers import eventually
from patience import PATIENCE

COMMAND = [sys.executable, "-W", "error", "-m", "trackcore_server.cli"]
KEY = "abc123"

_CONFIGURATION = """
[[sources]]
name = "website"
write_keys = ["{key}"]

[[destinations]]
name = "Mixpanel"

[log]
kind = "kafka"
bootstrap_servers = "{servers}"
topic_prefix = "{prefix}"
partitions = {partitions}
replication = {replication}
min_insync_replicas = {min_insync}
{more}
"""


def configure(
    folder: Path,
    servers: str,
    *,
    prefix: str,
    partitions: int = 3,
    replication: int = 3,
    min_insync: int = 1,
    more: str = "",
) -> Path:
    """Write a configuration of one source whose log is in a cluster."""
    file = folder / f"{prefix}.toml"
    file.write_text(
        _CONFIGURATION.format(
            key=KEY,
            servers=servers,
            prefix=prefix,
            partitions=partitions,
            replication=replication,
            min_insync=min_insync,
            more=more,
        )
    )
    return file


@attrs.frozen
class Answer:
    """What the server answered."""

    status: int
    body: Any
    retry_after: str | None


@attrs.define
class Served:
    """A running `trackcore serve`."""

    process: subprocess.Popen[bytes]
    stderr_file: Path
    port: int = 0

    def stderr(self) -> str:
        """Give what it has told so far."""
        return self.stderr_file.read_text()

    def request(self, method: str, path: str, body: Any = None) -> Answer:
        """Send one request on a connection of its own."""
        headers = {"Authorization": "Basic " + b64encode(f"{KEY}:".encode()).decode()}
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            return Answer(response.status, json.loads(response.read()), response.getheader("Retry-After"))
        finally:
            connection.close()

    def post(self, body: Any, path: str = "/v1/batch") -> Answer:
        """Post to an endpoint."""
        return self.request("POST", path, body)

    def is_ready(self) -> bool:
        """Ask whether it could store."""
        with suppress(OSError, HTTPException):
            return self.request("GET", "/ready").status == 200
        return False

    def kill(self) -> None:
        """Kill it and its workers where they stand."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE)

    def terminate(self) -> int:
        """Stop it as one should."""
        self.process.terminate()
        return self.process.wait(PATIENCE)


def start(config: Path, *arguments: str) -> Served:
    """Start a server on a free port, and wait until it could store."""
    stderr_file = config.parent / f"stderr-{len(list(config.parent.iterdir()))}"
    with stderr_file.open("wb") as stderr:
        command = [*COMMAND, "serve", "--bind", "127.0.0.1:0", "--config", str(config), *arguments]
        process = subprocess.Popen(command, stderr=stderr, start_new_session=True)
    served = Served(process, stderr_file)

    def is_listening() -> bool:
        assert process.poll() is None, served.stderr()
        match = re.search(r"Listening on http://127\.0\.0\.1:(\d+)\n", served.stderr())
        if match:
            served.port = int(match[1])
        return bool(match)

    eventually(is_listening)
    eventually(served.is_ready)
    return served


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=PATIENCE, check=False
    )


def lines(done: subprocess.CompletedProcess[str]) -> list[Any]:
    """Read its output as JSON lines."""
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]
