"""What the tests of delivery share: endpoints that are stopped at the end, and the long form."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from delivery_helpers import Behaviour, Bench, HttpEndpoint


def pytest_addoption(parser: pytest.Parser) -> None:
    with suppress(ValueError):  # others have a long form too
        parser.addoption("--long", action="store_true", help="run tests in their long form, of some minutes")


@pytest.fixture(name="is_long")
def _is_long(request: pytest.FixtureRequest) -> bool:
    """Whether the long form was asked for."""
    return bool(request.config.getoption("--long"))


@pytest.fixture(name="endpoint")
def _endpoint() -> Iterator[Callable[..., HttpEndpoint]]:
    """Start HTTP endpoints."""
    started: list[HttpEndpoint] = []

    def start(behaviour: Behaviour | None = None, port: int = 0) -> HttpEndpoint:
        endpoint = HttpEndpoint(port=port) if behaviour is None else HttpEndpoint(behaviour, port)
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
