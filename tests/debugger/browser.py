"""Real headless Chromium, driven line by line: a test runs JavaScript in the page and gets the results."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
from patience import PATIENCE
from sdk.installing import chromium, environment, node

_DRIVER = Path(__file__).parent / "clients" / "driver.cjs"


@attrs.frozen
class Browser:
    """A browser with one page open."""

    _process: subprocess.Popen[bytes]

    def run(self, code: str, argument: Any = None) -> Any:
        """Run the body of an async function of `page`, `context`, `browser`, `logged` and `argument`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"code": code, "argument": argument}).encode() + b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the browser has gone"
        answer = json.loads(line)
        assert "error" not in answer, answer["error"]
        return answer["result"]

    def logged(self) -> list[str]:
        """Return the errors and dialogs that the page has shown so far."""
        found: list[str] = self.run("return logged")
        return found


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Start a browser, and close it at the end."""
    options = json.dumps({"environment": str(environment("browser")), "chromium": chromium()})
    with subprocess.Popen((node(), str(_DRIVER), options), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield Browser(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
