"""Fixtures: a server with buckets for each module that needs one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from buckets import Buckets, serving_buckets


@pytest.fixture(name="buckets", scope="session")
def _buckets() -> Iterator[Buckets]:
    with serving_buckets() as buckets:
        yield buckets
