"""Fixtures of the server tests: a real `trackcore serve` in its own process group, and the command in-process."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from patience import wait_for
from served import Served
from trackcore_server.cli._main import main
from trackcore_sqlite import SqliteSink

from trackcore import Collector, Destination, Origin, Source

RECEIVED_AT = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Work in an empty folder, with no configuration named."""
    monkeypatch.delenv("TRACKCORE_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Start servers on free ports; those that still run at the end are killed."""
    started: list[Served] = []

    def start(*arguments: str, moment: str | None = None, ready: bool = True) -> Served:
        served = Served.start(tmp_path / f"stderr-{len(started)}", *arguments, moment=moment)
        started.append(served)
        if ready:
            served.wait_until_listening()
            wait_for(served.is_ready)
        return served

    yield start
    for served in started:
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
    """Store a batch in the log of the data folder `trackcore-data`, as a server would."""

    def receive(
        *messages: Any,
        source: str = "website",
        destinations: tuple[Destination, ...] = (),
        received_at: datetime = RECEIVED_AT,
        write_key: str = "key",
        retry_count: int = 0,
        **bounds: Any,
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
        collector.receive(json.dumps(body).encode(), origin=Origin(retry_count=retry_count))
        sink.close()

    return receive


@pytest.fixture
def lines() -> Callable[[Result], list[Any]]:
    """Read standard output as JSON lines."""
    return lambda result: [json.loads(line) for line in result.stdout.splitlines()]
