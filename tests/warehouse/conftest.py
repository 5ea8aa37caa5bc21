"""One real PostgreSQL for all tests; without it the tests fail, and say so."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from postgres_cluster import Cluster, Database, running_cluster, why_not


@pytest.fixture(name="cluster", scope="session")
def _cluster() -> Iterator[Cluster]:
    reason = why_not()
    if reason is not None:
        pytest.fail(f"NOTHING WAS TESTED ON POSTGRESQL: {reason}")
    yield from running_cluster()


@pytest.fixture(name="database")
def _database(cluster: Cluster) -> Database:
    return cluster.database()
