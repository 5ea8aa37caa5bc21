"""Fixtures of the delivery tests: endpoints that are stopped at the end, and data folders."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from delivery_helpers import Behaviour, Bench, EndpointServer
from delivery_processes import Deployed


@pytest.fixture(name="endpoint")
def _endpoint() -> Iterator[Callable[..., EndpointServer]]:
    """Start HTTP endpoints."""
    started: list[EndpointServer] = []

    def start(behaviour: Behaviour | None = None, port: int = 0) -> EndpointServer:
        endpoint = EndpointServer(port=port) if behaviour is None else EndpointServer(behaviour, port)
        started.append(endpoint)
        return endpoint

    yield start
    for endpoint in started:
        endpoint.stop()


@pytest.fixture(name="bench")
def _bench(tmp_path: Path) -> Iterator[Bench]:
    """A log, a state and a clock."""
    bench = Bench(tmp_path)
    yield bench
    bench.state.close()


@pytest.fixture(name="deploy")
def _deploy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Deployed]]:
    """Make data folders; commands still running on them at the end are killed."""
    monkeypatch.delenv("TRACKCORE_CONFIG", raising=False)
    made: list[Deployed] = []

    def make(destinations: str, *, source: str = "", name: str = "data", **environ: str) -> Deployed:
        made.append(Deployed(tmp_path / name, environ))
        made[-1].configure(destinations, source=source)
        return made[-1]

    yield make
    for deployed in made:
        for running in deployed.started:
            running.kill()
