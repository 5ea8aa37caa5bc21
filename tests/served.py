"""A real `trackcore serve`, in separate processes, on a free port."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import attrs
from adapter_helpers import basic
from patience import PATIENCE, wait_for

COMMAND = [sys.executable, "-W", "error", "-m", "trackcore_server.cli"]
INTERRUPTED = [sys.executable, "-W", "error", str(Path(__file__).with_name("interrupted.py"))]


def _in_lower_case(headers: Mapping[str, str]) -> Mapping[str, str]:
    return {name.lower(): value for name, value in headers.items()}


@attrs.frozen
class Answered:
    """A response of the server: headers by names in lower case, and a body that is parsed if it is JSON."""

    status: int
    headers: Mapping[str, str] = attrs.field(converter=_in_lower_case)
    body: Any

    @property
    def retry_after(self) -> str | None:
        return self.headers.get("retry-after")


@attrs.define
class Running:
    """A running `trackcore` command, in its own process group."""

    process: subprocess.Popen[bytes]
    stderr_file: Path

    def stderr(self) -> str:
        return self.stderr_file.read_text()

    def wait_for_output(self, pattern: str) -> re.Match[str]:
        """Wait until it has written a line to standard error."""

        def find() -> re.Match[str] | None:
            found = re.search(pattern, self.stderr())
            assert found or self.process.poll() is None, self.stderr()
            return found

        match: re.Match[str] = wait_for(find)
        return match

    def wait_for_port(self) -> int:
        """Wait until a server listens: `trackcore serve`, or gunicorn."""
        return int(self.wait_for_output(r"Listening (?:on|at:) http://127\.0\.0\.1:(\d+)\b")[1])

    def terminate(self) -> int:
        self.process.terminate()
        return self.process.wait(PATIENCE)

    def kill(self) -> None:
        """Kill it and all its children at once."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE)


@attrs.define
class Served(Running):
    """A running `trackcore serve`."""

    port: int

    @classmethod
    def start(cls, stderr_file: Path, *arguments: str, moment: str | None = None) -> Served:
        """Start a server, which may fail.  With a `moment` of `interrupted.py` it has an hour to stop."""
        command = COMMAND if moment is None else [*INTERRUPTED, moment]
        return cls._run(stderr_file, [*command, "serve", "--bind", "127.0.0.1:0", *arguments])

    @classmethod
    def start_gunicorn(cls, stderr_file: Path, *arguments: str) -> Served:
        """Start gunicorn, which may fail."""
        command = [sys.executable, "-W", "error", "-m", "gunicorn", "--no-control-socket"]
        return cls._run(stderr_file, [*command, "--bind", "127.0.0.1:0", *arguments])

    @classmethod
    def _run(cls, stderr_file: Path, command: Sequence[str]) -> Served:
        with stderr_file.open("wb") as stderr:
            process = subprocess.Popen(command, stderr=stderr, start_new_session=True)
        return cls(process, stderr_file, 0)

    def wait_until_listening(self) -> None:
        self.port = self.wait_for_port()

    def workers(self) -> list[int]:
        """Return the process ids of the workers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in children.read_text().split()]

    def ask(self, method: str, path: str, body: Any = None, key: str | None = None) -> Answered:
        """Send a request on a new connection; a body is sent as JSON."""
        headers = {"Content-Type": "application/json"} | ({} if key is None else {"Authorization": basic(key)})
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            content = response.read()
            is_json = response.headers.get_content_type() == "application/json"
            return Answered(response.status, dict(response.getheaders()), json.loads(content) if is_json else content)
        finally:
            connection.close()

    def post(self, path: str, body: Any, key: str | None) -> tuple[int, Any]:
        answered = self.ask("POST", path, body, key)
        return answered.status, answered.body

    def get(self, path: str) -> int:
        return self.ask("GET", path).status

    def is_ready(self) -> bool:
        with suppress(OSError, HTTPException):
            return self.get("/ready") == 200
        return False
