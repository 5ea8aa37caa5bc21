"""A running `embedded_program.py`, for the fault tests."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Self

from adapter_helpers import child_environment
from fault_helpers import KEY, Ledger
from patience import PATIENCE
from served import Answered

_PROGRAM = Path(__file__).with_name("embedded_program.py")
_STATUSES = {"stored": 200, "full": 507, "overloaded": 429, "unavailable": 503}
"""The status that a server would answer with, for each result."""


class Embedded:
    """An asyncio program that stores in a log without a server; the ledger notes what it reports.

    It first sends `again`, the requests that another one has left behind.
    """

    def __init__(
        self,
        log_path: Path,
        ledger: Ledger,
        *,
        name: str,
        tasks: int = 24,
        again: Iterable[list[str]] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.ledger = ledger
        self._open = {request[0]: request for request in again}
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", _PROGRAM, log_path, KEY, name, str(tasks)],
            env={**child_environment(), **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdin is not None
        self._input = self.process.stdin
        print(json.dumps(list(self._open.values())), file=self._input, flush=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def stop(self) -> None:
        """Let it stop gracefully, and expect that nothing is left without an answer."""
        self._input.close()
        assert self.process.wait(PATIENCE) == 0
        assert self.kill() == []

    def kill(self) -> list[list[str]]:
        """Kill it unless it has ended; return the requests that it leaves behind."""
        self.process.kill()
        self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        assert not self._reader.is_alive(), "its output does not end"
        self._input.close()
        return list(self._open.values())

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as output:
            for line in output:
                result, *message_ids = line.split()
                self._note(result, message_ids)

    def _note(self, result: str, message_ids: list[str]) -> None:
        if result == "sent":
            self._open[message_ids[0]] = message_ids
            self.ledger.note(message_ids, None)
            return
        if result == "stored":
            del self._open[message_ids[0]]
        self.ledger.note(message_ids, Answered(_STATUSES[result], {}, {"success": result == "stored"}))
