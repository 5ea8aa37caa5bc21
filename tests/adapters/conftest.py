"""A log in a file, and a server on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from adapter_helpers import Server, serve
from kept import KINDS, Kept, kept_in
from mock_cluster import MockCluster
from trackcore_sqlite import SqliteLog, SqliteSink


@pytest.fixture(name="log_path")
def _log_path(tmp_path: Path) -> Path:
    """The path for a log; its folder does not exist yet."""
    return tmp_path / "data" / "log.db"


@pytest.fixture(name="sqlite_sink")
def _sqlite_sink(log_path: Path) -> Iterator[SqliteSink]:
    """A sink on a file."""
    sink = SqliteSink(log_path)
    yield sink
    sink.close()


@pytest.fixture(name="log")
def _log(log_path: Path) -> SqliteLog:
    """A reader of that file."""
    return SqliteLog(log_path)


@pytest.fixture(name="server")
def _server(sqlite_sink: SqliteSink) -> Server:
    """A server with the sources `website`, `app` and the strict `ci`, on a sink on a file."""
    return serve(sqlite_sink)


@pytest.fixture(name="mock_cluster", scope="session")
def _mock_cluster() -> Iterator[MockCluster]:
    """A cluster of mock brokers that always answers, for all tests together."""
    cluster = MockCluster()
    yield cluster
    cluster.close()


@pytest.fixture(name="kept", params=KINDS)
def _kept(request: pytest.FixtureRequest, tmp_path: Path, mock_cluster: MockCluster) -> Iterator[Kept]:
    """An empty sink of each kind, with its log."""
    with kept_in(request.param, tmp_path, mock_cluster) as kept:
        yield kept
