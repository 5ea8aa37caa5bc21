"""Hypothesis profiles and the fixtures that all tests share.

`dev` is the default, `ci` is used where CI is set (the same examples in every run), and HYPOTHESIS_PROFILE selects
another, such as `thorough`, before a release.
"""

from __future__ import annotations

import os
import signal
from datetime import datetime

import pytest
from hypothesis import settings
from support import RECEIVED_AT, CountingIds, make_collector

from trackcore import Collector, MemorySink

DEV_EXAMPLES = 60

settings.register_profile("dev", max_examples=DEV_EXAMPLES, deadline=None)
settings.register_profile("ci", max_examples=2 * DEV_EXAMPLES, deadline=None, derandomize=True, print_blob=True)
settings.register_profile("thorough", max_examples=10 * DEV_EXAMPLES, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))

# A shell starts background jobs with SIGINT ignored, and all processes of the tests would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--long`: fault tests then repeat their faults many times."""
    parser.addoption("--long", action="store_true", help="run fault tests in their long form, of some minutes")


@pytest.fixture(name="is_long")
def _is_long(request: pytest.FixtureRequest) -> bool:
    """Whether the tests run in their long form."""
    return bool(request.config.getoption("--long"))


@pytest.fixture(name="received_at", scope="session")
def _received_at() -> datetime:
    """The time at which everything arrives."""
    return RECEIVED_AT


@pytest.fixture(name="new_message_id")
def _new_message_id() -> CountingIds:
    """A maker of the ids `server-1`, `server-2`, ..."""
    return CountingIds()


@pytest.fixture(name="sink")
def _sink() -> MemorySink:
    """An empty sink in memory."""
    return MemorySink()


@pytest.fixture(name="collector")
def _collector(sink: MemorySink) -> Collector:
    """A collector of one source, `website`, on `sink`."""
    return make_collector(sink)
