"""The pytest plugin: the fixtures `tracking` and `tracking_server`, and the mark `allow_rejections`.

pytest imports it at the start of every run in an environment that has trackcore, so it imports nothing else: the test
kit itself (`trackcore_testing`) is imported when a test asks for a fixture.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from trackcore_testing import Tracking, TrackingServer

_MARK = "allow_rejections"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options, on the command line and in the configuration file."""
    group = parser.getgroup("trackcore", "tests of tracking (trackcore)")
    group.addoption(
        "--trackcore-lenient",
        action="store_true",
        help="do not fail a test when a message was rejected; trackcore_strict = false in the configuration",
    )
    group.addoption(
        "--trackcore-limit",
        action="append",
        default=[],
        metavar="NAME=NUMBER",
        help="a limit of the API, such as message_bytes=1000; can be repeated",
    )
    group.addoption(
        "--trackcore-plan",
        metavar="FILE",
        help="a tracking plan: a test fails when a message violates it; trackcore_plan in the configuration",
    )
    parser.addini("trackcore_plan", "the file of a tracking plan", default="")
    parser.addini("trackcore_strict", "fail a test when a message was rejected", type="bool", default=True)
    parser.addini("trackcore_limits", "limits of the API, a line NAME=NUMBER for each", type="linelist")
    parser.addini("trackcore_sources", "sources, a line NAME or NAME=WRITE_KEY for each", type="linelist")
    parser.addini("trackcore_destinations", "names of destinations, one in a line", type="linelist")
    parser.addini("trackcore_timeout", "the most seconds that an assertion waits", default="5")
    parser.addini("trackcore_scope", "for which scope a server is started: session, module, ...", default="session")


def pytest_configure(config: pytest.Config) -> None:
    """Describe the mark."""
    config.addinivalue_line(
        "markers", f"{_MARK}(codes=None): do not fail when messages are rejected, with one of these codes if given"
    )


def _server_scope(fixture_name: str, config: pytest.Config) -> Any:
    del fixture_name
    return config.getini("trackcore_scope")


@pytest.fixture(scope=_server_scope)
def tracking_server(pytestconfig: pytest.Config) -> Iterator[TrackingServer]:
    """A server for the whole session: for fixtures that start a browser or a program before the first test."""
    try:
        from trackcore_testing import server_from  # noqa: PLC0415 - imported when a test asks for it
    except ModuleNotFoundError as error:
        pytest.fail(f"{error.name} is not installed: pip install 'trackcore[testing]'", pytrace=False)
    try:
        server = server_from(
            sources=pytestconfig.getini("trackcore_sources"),
            destinations=pytestconfig.getini("trackcore_destinations"),
            limits=[*pytestconfig.getini("trackcore_limits"), *pytestconfig.getoption("trackcore_limit")],
            timeout=pytestconfig.getini("trackcore_timeout"),
            plan=_plan_file(pytestconfig),
        )
    except ValueError as error:
        pytest.fail(f"a setting of trackcore is not valid: {error}", pytrace=False)
    with server:
        yield server


def _plan_file(config: pytest.Config) -> str | None:
    """Return the file of the plan: relative to the working folder, or to that of the configuration file."""
    if named := config.getoption("trackcore_plan"):
        return str(named)
    configured = config.getini("trackcore_plan")
    return str(config.rootpath / configured) if configured else None


@pytest.fixture
def tracking(request: pytest.FixtureRequest, tracking_server: TrackingServer) -> Iterator[Tracking]:
    """Everything that the program under test sends to a tracking server during this test.

    The test fails at its end if the server rejected something, got an unknown write key, or got a message that violates
    the tracking plan.
    """
    with tracking_server.collecting(strict=False) as tracking:
        yield tracking
    allowed = _allowed_codes(request.node)
    config = request.config
    if allowed is None or config.getoption("trackcore_lenient") or not config.getini("trackcore_strict"):
        return
    report = tracking.unexpected_rejections(allowed)
    if report:
        pytest.fail(f"{report}\n\nIf that is expected: @pytest.mark.{_MARK}(codes=[...])", pytrace=False)


def _allowed_codes(item: pytest.Item) -> Collection[str] | None:
    """Return the codes with which messages may be rejected; None for any code."""
    given = [mark.kwargs.get("codes") for mark in item.iter_markers(_MARK)]
    return None if None in given else [code for codes in given if codes is not None for code in codes]
