"""The test kit under published SDKs: they send to its server as to `trackcore serve`, and its faults make them retry.

The reaction of each SDK is in `sdks.py` and `browsers.py`, as for the real server.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from patience import PATIENCE
from sdk.browsers import BROWSER_SDKS, PACKAGE, BrowserSdk, visit
from sdk.cases import BROWSER_CASES, cases_for, numbered_calls
from sdk.comparing import check_message, match
from sdk.running import run_client
from sdk.sdks import JITSU, SERVER_SDKS, Sdk
from sdk.servers import DESTINATIONS, WRITE_KEY, Server
from sdk.test_bad_days import BATCH, NO_LEAST_WAIT, RETRY_AFTER, ROUNDING
from trackcore_testing import RecordedRequest, Tracking, TrackingServer

from trackcore import Outcome, Source

FAILURES = 2

each_main_sdk = pytest.mark.parametrize(
    "sdk", [sdk for sdk in SERVER_SDKS if sdk.is_main_variant], ids=lambda sdk: f"{sdk.package} {sdk.version}"
)
each_browser = pytest.mark.parametrize("sdk", BROWSER_SDKS, ids=lambda sdk: f"{PACKAGE} {sdk.version}")


@pytest.fixture(name="tracked")
def _tracked() -> Iterator[Tracking]:
    """The server of the test kit, with the source and the destinations of these tests."""
    sources = [Source(name="live", write_keys=[WRITE_KEY])]
    with (
        TrackingServer(sources=sources, destinations=DESTINATIONS, timeout=PATIENCE) as server,
        server.collecting() as tracking,
    ):
        yield tracking


@pytest.fixture(name="kit")
def _kit(tracked: Tracking, tmp_path: Path) -> Server:
    """Its address, for the clients."""
    return Server(url=tracked.url, folder=tmp_path)


class TestGoodDays:
    """Every SDK of the live matrix works against the fixture."""

    @pytest.mark.parametrize("sdk", SERVER_SDKS, ids=lambda sdk: sdk.name)
    def test_each_call_of_a_server_sdk_is_there_field_by_field(self, sdk: Sdk, tracked: Tracking, kit: Server) -> None:
        cases = cases_for(sdk.language, takes_numbers=sdk.habits.takes_numbers)
        report = run_client(sdk, kit, [case.as_call() for case in cases], write_key=WRITE_KEY, batch_size=len(cases))
        assert report["errors"] == []
        for case, stored in match(sdk, cases, tracked.stored):
            check_message(sdk, case, stored)
        assert {request.status for request in tracked.requests} == {200}
        assert {request.sdk for request in tracked.requests} == {sdk.habits.library}
        assert {request.retry_count for request in tracked.requests} == {0}

    def test_jitsu(self, tracked: Tracking, kit: Server) -> None:
        calls = [{"case": "track", "call": "track", "fields": {"event": "Paid", "properties": {"total": 9.5}}}]
        assert run_client(JITSU, kit, calls, write_key=f"{WRITE_KEY}:secret", batch_size=1)["errors"] == []
        tracked.assert_tracked("Paid", properties={"total": 9.5}, context={"library": {"name": "@jitsu/js"}}, count=1)

    @each_browser
    @pytest.mark.parametrize("way", ["snippet", "bundle"])
    def test_each_call_of_a_page_is_there(self, sdk: BrowserSdk, tracked: Tracking, kit: Server, way: str) -> None:
        with visit(sdk, kit, [case.as_call() for case in BROWSER_CASES], way=way) as page:
            report = page.report()
            assert report["errors"] == report["logged"] == []
            tracked.wait_for_count(len(BROWSER_CASES))
        assert sorted(stored.call for stored in tracked.stored) == sorted(case.call for case in BROWSER_CASES)
        preflights = [request for request in tracked.requests if request.method == "OPTIONS"]
        assert bool(preflights) == sdk.sends_authorization


class TestBadDays:
    """The faults make SDKs retry as the matrix says: each message is there once, no attempt comes too early."""

    @each_main_sdk
    @pytest.mark.parametrize("status", [503, 429])
    def test_failures(self, sdk: Sdk, tracked: Tracking, kit: Server, status: int) -> None:
        fault = tracked.fail_next(status=status, times=FAILURES, retry_after=RETRY_AFTER)
        report = run_client(sdk, kit, numbered_calls(BATCH), write_key=WRITE_KEY, batch_size=BATCH)
        assert report["errors"] == []
        assert fault.is_over
        assert len(tracked.messages) == BATCH
        waits = sdk.patience.least_waits if status == 503 else sdk.patience.least_waits_limited
        check_attempts(tracked, [status] * FAILURES, waits, counted=sdk.patience.counts_retries)

    @each_main_sdk
    def test_a_dropped_connection(self, sdk: Sdk, tracked: Tracking, kit: Server) -> None:
        tracked.drop_connection()
        report = run_client(sdk, kit, numbered_calls(BATCH), write_key=WRITE_KEY, batch_size=BATCH)
        assert report["errors"] == []
        assert len(tracked.messages) == BATCH
        check_attempts(tracked, [None], (), counted=False)

    @each_main_sdk
    def test_a_truncated_answer(self, sdk: Sdk, tracked: Tracking, kit: Server) -> None:
        """Python's SDKs read the answer and send again; others look at the status alone.  Nothing is there twice."""
        tracked.truncate_answer()
        run_client(sdk, kit, numbered_calls(BATCH), write_key=WRITE_KEY, batch_size=BATCH)
        assert len(tracked.messages) == BATCH
        sent_again = [outcome for request in tracked.requests[1:] for outcome in request.outcomes]
        assert sdk.language != "Python" or sent_again == [Outcome.DUPLICATE] * BATCH

    @each_browser
    @pytest.mark.parametrize("status", [503, 429])
    def test_failures_for_a_page(self, sdk: BrowserSdk, tracked: Tracking, kit: Server, status: int) -> None:
        tracked.fail_next(status=status, times=FAILURES * BATCH, retry_after=RETRY_AFTER)
        with visit(sdk, kit, numbered_calls(BATCH), way="bundle") as page:
            assert page.report()["errors"] == []
            tracked.wait_for_count(BATCH)
        waits = (RETRY_AFTER,) if status == 429 else NO_LEAST_WAIT
        check_attempts(tracked, [status] * FAILURES, waits, counted=sdk.counts_retries)

    @each_browser
    def test_a_connection_dropped_for_a_page(self, sdk: BrowserSdk, tracked: Tracking, kit: Server) -> None:
        """The browser itself sends again on a connection that was used before, so the SDK may not notice."""
        tracked.drop_connection(times=BATCH)
        with visit(sdk, kit, numbered_calls(BATCH), way="bundle"):
            tracked.wait_for_count(BATCH)
        assert [request.fault for request in tracked.requests].count("drop_connection") == BATCH


def check_attempts(
    tracked: Tracking, failures: Sequence[int | None], least_waits: Sequence[float], *, counted: bool
) -> None:
    """Check that the attempts at each failed message got these statuses, then 200, and did not come too early."""
    by_message: dict[str, list[RecordedRequest]] = defaultdict(list)
    for request in tracked.requests:
        for message in request.json.get("batch", [request.json]) if request.method == "POST" else ():
            by_message[message["messageId"]].append(request)
    failed = [attempts for attempts in by_message.values() if len(attempts) > 1]
    assert failed
    for attempts in failed:
        assert [request.status for request in attempts] == [*failures[: len(attempts) - 1], 200]
        waits = [(later.received_at - earlier.received_at).total_seconds() for earlier, later in pairwise(attempts)]
        assert all(wait >= least - ROUNDING for wait, least in zip(waits, least_waits, strict=False)), waits
        if counted:
            assert [request.retry_count for request in attempts] == list(range(len(attempts)))
