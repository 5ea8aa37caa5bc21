"""Real, published SDKs send all their calls to a real server on loopback, and the log is compared with the calls.

"Every call stored exactly once with the fields that the SDK was given, no error callback, no retry, no warning but the
expected."
"""

from __future__ import annotations

import base64

import pytest
from sdk.cases import cases_for
from sdk.checks import check_no_retry, check_nothing_else
from sdk.comparing import check_message, match
from sdk.results import record
from sdk.running import run_client
from sdk.sdks import SERVER_SDKS, Sdk
from sdk.servers import WRITE_KEY, Server

from trackcore import Query


@pytest.mark.parametrize("sdk", SERVER_SDKS, ids=lambda sdk: sdk.name)
def test_server_sdk(sdk: Sdk, server: Server) -> None:
    """Six kinds of calls with awkward content: each is stored once, field by field, in as few requests as can be."""
    cases = cases_for(sdk.language, takes_numbers=sdk.habits.takes_numbers)
    report = run_client(sdk, server, [case.as_call() for case in cases], write_key=WRITE_KEY, batch_size=len(cases))
    assert report["errors"] == []
    assert report["made"] == report["calls"] == len(cases)
    assert report.get("called_back", len(cases)) == len(cases)

    for case, stored in match(sdk, cases, server.log.messages(Query(source="live"))):
        check_message(sdk, case, stored)
    check_nothing_else(server, len(cases))

    requests = server.requests()
    assert len(requests) == (2 if sdk.habits.first_alone else 1)
    check_no_retry(requests)
    basic = "Basic " + base64.b64encode(f"{WRITE_KEY}:".encode()).decode()
    for request in requests:
        assert (request.method, request.path) == ("POST", "/v1/batch")
        assert request.authorization == (basic if sdk.authorization else None)
        assert request.content_encoding == sdk.content_encoding
        assert (request.content_type or "").startswith(sdk.content_type)
    record(sdk.package, sdk.version, "calls")
    if sdk.content_encoding:
        record(sdk.package, sdk.version, sdk.content_encoding)
