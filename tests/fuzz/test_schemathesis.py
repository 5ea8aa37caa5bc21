"""Schemathesis against the running app: it answers valid and invalid requests as described.

One route of each kind, with few examples; for all of them with many:
`TRACKCORE_EXAMPLES=500 pytest tests/fuzz/test_schemathesis.py`.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from adapter_helpers import serve
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    content_type_conformance,
    positive_data_acceptance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)
from trackcore_sqlite import SqliteSink

EXAMPLES = int(os.environ.get("TRACKCORE_EXAMPLES", "0"))

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
    allow_header_conformance,
    unsupported_method,
    positive_data_acceptance,
]
"""Left out on purpose: the rejection of bad data and of a wrong key, which get 200 and a list of rejections, as the API
documents; and required headers, since no header is required."""

_folder = tempfile.TemporaryDirectory()
_sink = SqliteSink(Path(_folder.name) / "trackcore.db")
_app = serve(_sink).app
_schema: Any = schemathesis.openapi.from_wsgi("/openapi.json", _app)
if not EXAMPLES:
    _schema = _schema.include(path=["/v1/track", "/v1/batch", "/v1/pixel/page", "/ready"]).exclude(method="HEAD")


@pytest.fixture(autouse=True, scope="module")
def _close() -> Iterator[None]:
    yield
    _sink.close()


@_schema.parametrize()  # type: ignore[untyped-decorator]
@settings(max_examples=EXAMPLES or 10, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_app_is_as_described(case: Any) -> None:
    case.call_and_validate(checks=CHECKS)
