"""Fixtures of the SDK tests: a fresh server for each test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sdk.results import RESULTS
from sdk.servers import Server, run_server


@pytest.fixture(scope="session", autouse=True)
def _fresh_results() -> None:
    """Delete the results of earlier runs: the table is made from one run of everything."""
    shutil.rmtree(RESULTS, ignore_errors=True)


@pytest.fixture(name="server")
def _server(tmp_path: Path) -> Iterator[Server]:
    """A running trackcore server with two workers and an empty log."""
    with run_server(tmp_path) as server:
        yield server
