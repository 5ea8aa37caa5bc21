"""Bad days, seen from an SDK: the server cannot store, is overloaded, or rejects permanently.

The statuses are the server's own (R5: "Cannot store now: 503, 429 when overloaded, with integer Retry-After"); the
reaction of each SDK is in `sdks.py`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

import pytest
from sdk.browsers import BROWSER_SDKS, PACKAGE, BrowserSdk, visit
from sdk.cases import numbered_calls
from sdk.checks import check_nothing_else
from sdk.results import record
from sdk.running import await_report, run_client, start_client
from sdk.sdks import SERVER_SDKS, Sdk
from sdk.servers import STRICT_WRITE_KEY, WRITE_KEY, RecordedRequest, Server, wait_until

from trackcore import JSONObject

CALLS = 9
BATCH = 3
RETRY_AFTER = 1
ROUNDING = 0.05  # a timer may fire a little before its time, and the clocks of two processes are read
# A page sends what got a 503 again with the next flush of its queue, which is at a random time from now on.
NO_LEAST_WAIT: tuple[float, ...] = ()
UNAVAILABLE = "unavailable"
OVERLOADED = "overloaded"

each_sdk = pytest.mark.parametrize(
    "sdk", [sdk for sdk in SERVER_SDKS if sdk.is_main_variant], ids=lambda sdk: f"{sdk.package} {sdk.version}"
)
each_python_sdk = pytest.mark.parametrize(
    "sdk",
    [sdk for sdk in SERVER_SDKS if sdk.is_main_variant and sdk.language == "Python"],
    ids=lambda sdk: f"{sdk.package} {sdk.version}",
)
each_browser = pytest.mark.parametrize("sdk", BROWSER_SDKS, ids=lambda sdk: f"{PACKAGE} {sdk.version}")


@each_sdk
def test_outage(sdk: Sdk, server: Server) -> None:
    """503 for some seconds: everything is delivered exactly once after recovery, in order where the SDK keeps order."""
    server.begin_outage(UNAVAILABLE, RETRY_AFTER)
    with start_client(sdk, server, numbered_calls(CALLS), write_key=WRITE_KEY, batch_size=BATCH) as process:
        _await_second_refusal(server)
        server.end_outage()
        report = await_report(process, server)
    assert report["errors"] == []
    check_nothing_else(server, CALLS)
    numbers = [stored.message["properties"]["n"] for stored in server.log.messages()]
    assert sorted(numbers) == list(range(CALLS))
    assert numbers == sorted(numbers) or not sdk.patience.keeps_order
    _check_attempts(server, 503, sdk.patience.least_waits, counted=sdk.patience.counts_retries)
    record(sdk.package, sdk.version, "outage in order" if sdk.patience.keeps_order else "outage")


@each_sdk
def test_overload(sdk: Sdk, server: Server) -> None:
    """429 with Retry-After: the SDK backs off, no more often than by its own rule, and delivers everything once."""
    server.begin_outage(OVERLOADED, RETRY_AFTER)
    with start_client(sdk, server, numbered_calls(BATCH), write_key=WRITE_KEY, batch_size=BATCH) as process:
        _await_second_refusal(server)
        server.end_outage()
        report = await_report(process, server)
    assert report["errors"] == []
    check_nothing_else(server, BATCH)
    _check_attempts(server, 429, sdk.patience.least_waits_limited, counted=sdk.patience.counts_retries)
    record(sdk.package, sdk.version, "overload")


@each_sdk
def test_refused_for_good(sdk: Sdk, server: Server) -> None:
    """400: the SDK stops after one request and calls its error handler.

    R4: a strict source answers any rejection with 400; the good messages of the batch are stored anyway.
    """
    calls = numbered_calls(BATCH)
    calls[1]["fields"]["properties"] = too_deep()
    report = run_client(sdk, server, calls, write_key=STRICT_WRITE_KEY, batch_size=BATCH)
    refused = [request for request in server.posts() if request.status != 200]
    assert [request.status for request in refused] == [400]
    assert len(server.posts()) == (2 if sdk.habits.first_alone else 1)
    assert report["errors"]
    totals = server.log.totals()
    assert (totals.messages, totals.rejected, totals.quarantined) == (BATCH - 1, 1, 0)
    assert [found.code for found in server.log.rejected()] == ["too_deep"]
    record(sdk.package, sdk.version, "refused")


@each_python_sdk
def test_nan(sdk: Sdk, server: Server) -> None:
    """R19: "NaN/Infinity: 400 `invalid_json`".  The Python SDKs send the literal; they stop after one request.

    The whole body is not JSON, so all of it is stored as rejected, also if only the body has the write key.
    """
    calls = numbered_calls(BATCH)
    calls[1]["fields"]["properties"] = {"ratio": math.nan}
    report = run_client(sdk, server, calls, write_key=WRITE_KEY, batch_size=BATCH)
    assert [request.status for request in server.posts()] == [400]
    assert len(report["errors"]) == 1
    (kept,) = server.log.rejected()
    assert kept.code == "invalid_json"
    assert b"NaN" in kept.payload
    record(sdk.package, sdk.version, "NaN")


@each_browser
@pytest.mark.parametrize(("cause", "status"), [(UNAVAILABLE, 503), (OVERLOADED, 429)])
def test_browser_outage(sdk: BrowserSdk, server: Server, cause: str, status: int) -> None:
    """503 or 429 for some seconds: the page sends again until everything is stored, each message once.

    On 429 it waits as long as the response demands, which a page of another origin may read only if
    `Access-Control-Expose-Headers` names the header.
    """
    server.begin_outage(cause, RETRY_AFTER)
    with visit(sdk, server, numbered_calls(BATCH), way="bundle") as page:
        _await_second_refusal(server)
        server.end_outage()
        assert page.report()["errors"] == []
        wait_until(lambda: server.count_messages() == BATCH, "the delivery")
    check_nothing_else(server, BATCH)
    waits = (RETRY_AFTER, RETRY_AFTER) if cause == OVERLOADED else NO_LEAST_WAIT
    _check_attempts(server, status, waits, counted=sdk.counts_retries)
    record(PACKAGE, sdk.version, "overload" if cause == OVERLOADED else "outage")


@each_browser
def test_browser_refused_for_good(sdk: BrowserSdk, server: Server) -> None:
    """400: the page sends each message once; from 1.84.0 on it reports the rejected one by an error event."""
    calls = numbered_calls(BATCH)
    calls[1]["fields"]["properties"] = too_deep()
    with visit(sdk, server, calls, way="bundle", write_key=STRICT_WRITE_KEY) as page:
        report = page.report()
        wait_until(lambda: len(server.posts()) >= BATCH, "the delivery")
    assert sorted(request.status for request in server.posts()) == [200, 200, 400]
    assert len(report["errors"]) == (1 if sdk.reports_rejections else 0)
    assert [found.code for found in server.log.rejected()] == ["too_deep"]
    record(PACKAGE, sdk.version, "refused")


def too_deep() -> JSONObject:
    """Make properties that every SDK sends and our server rejects: R8, 64 levels below a message."""
    properties: JSONObject = {"bottom": True}
    for _ in range(80):
        properties = {"down": properties}
    return properties


def _await_second_refusal(server: Server) -> None:
    """Wait until the server has rejected some message twice."""
    wait_until(
        lambda: any(len(attempts) > 1 for attempts in _attempts(server.posts()).values()),
        "a second attempt",
    )


def _attempts(requests: Sequence[RecordedRequest]) -> dict[str, list[RecordedRequest]]:
    """Return the requests with each message, in their order."""
    attempts: dict[str, list[RecordedRequest]] = defaultdict(list)
    for request in sorted(requests, key=lambda request: request.at):
        for message_id in request.message_ids:
            attempts[message_id].append(request)
    return attempts


def _check_attempts(server: Server, status: int, least_waits: Sequence[float], *, counted: bool) -> None:
    """Each message was rejected a few times, then accepted once and never sent again; no attempt came too early."""
    for message_id, attempts in _attempts(server.posts()).items():
        *refused, last = attempts
        assert last.status == 200, message_id
        assert {request.status for request in refused} <= {status}, message_id
        assert {request.retry_after for request in refused} <= {str(RETRY_AFTER)}, message_id
        waits = [later.at - earlier.at for earlier, later in pairwise(attempts)]
        for wait, least in zip(waits, least_waits, strict=False):
            assert wait >= least - ROUNDING, f"{message_id}: {waits}"
        if counted:
            numbers = [request.retry_count for request in attempts]
            assert numbers == [None, *map(str, range(1, len(attempts)))], message_id
