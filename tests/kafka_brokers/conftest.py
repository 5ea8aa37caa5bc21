"""Three real brokers, shared by all tests; without Java and Maven the run reports loudly that nothing was tested."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest
from kafka_brokers.brokers import Brokers, why_not
from served import Served

_REPORT: list[str] = []
_numbers = count(1)


@pytest.fixture(name="brokers", scope="session")
def _brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    reason = why_not()
    if reason is not None:
        _REPORT.append(f"NOTHING WAS TESTED ON REAL BROKERS: {reason}")
        pytest.skip(reason)
    brokers = Brokers(tmp_path_factory.mktemp("kafka"))
    try:
        brokers.start()
        yield brokers
    finally:
        brokers.kill()


@pytest.fixture(name="whole")
def _whole(brokers: Brokers) -> Brokers:
    """The cluster with all its brokers, whatever the previous test has done to them."""
    brokers.start()
    return brokers


@pytest.fixture(name="prefix")
def _prefix() -> str:
    """The prefix of the topics of a new log."""
    return f"log-{next(_numbers)}"


@pytest.fixture(name="report")
def _report(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """Lines to be shown at the end of the run."""
    report: list[str] = []
    yield report
    _REPORT.extend(f"{request.node.name}: {line}" for line in report)


@pytest.fixture(name="servers")
def _servers() -> Iterator[list[Served]]:
    """The servers that a test has started; those that still run at the end are killed."""
    servers: list[Served] = []
    yield servers
    for served in servers:
        served.kill()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the measurements, or the reason why there are none."""
    if _REPORT:
        terminalreporter.section("Kafka on real brokers", bold=True)
        for line in _REPORT:
            terminalreporter.line(line, red="NOTHING" in line)
