"""Faults: what a client sees, what is stored, and for which requests."""

from __future__ import annotations

from collections.abc import Callable
from http.client import IncompleteRead, RemoteDisconnected
from typing import Any

import pytest
from adapter_helpers import Workers
from kit_client import Client
from patience import PATIENCE, wait_for
from trackcore_testing import Fault, Tracking


class TestFailing:
    def test_the_next_requests_get_the_status_and_store_nothing(self, tracked: Tracking, client: Client) -> None:
        fault = tracked.fail_next(status=503, times=2, retry_after=1)
        answers = [client.track("Paid") for _ in range(3)]
        assert [answer.status for answer in answers] == [503, 503, 200]
        assert answers[0].headers["Retry-After"] == answers[0].headers["X-RateLimit-Reset"] == "1"
        assert answers[0].json["success"] is False
        assert {"code", "message"} < answers[0].json.keys()
        assert [(request.status, request.fault) for request in tracked.requests] == [
            (503, "fail"),
            (503, "fail"),
            (200, None),
        ]
        assert (fault.hits, fault.is_over) == (2, True)
        tracked.assert_tracked("Paid", count=1)

    def test_without_retry_after_there_is_no_such_header(self, tracked: Tracking, client: Client) -> None:
        tracked.fail_next()
        assert client.track("Paid").headers.keys().isdisjoint({"Retry-After", "X-RateLimit-Reset"})

    @pytest.mark.parametrize("settings", [{"status": 200}, {"status": 999}, {"times": 0}, {"retry_after": -1}])
    def test_settings_that_make_no_sense(self, tracked: Tracking, settings: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=r".+"):
            tracked.fail_next(**settings)

    def test_a_source_is_refused(self, tracked: Tracking, client: Client) -> None:
        with tracked.refuse("app"):
            assert [client.track("Paid", key=key).status for key in ("web-key", "app-key", "app-key")] == [
                200,
                401,
                401,
            ]
        assert client.track("Paid", key="app-key").status == 200
        assert [stored.source for stored in tracked.stored] == ["website", "app"]

    def test_a_source_must_exist(self, tracked: Tracking) -> None:
        with pytest.raises(ValueError, match="no source is named 'ap'; there are: website, app"):
            tracked.refuse("ap")

    def test_without_a_source_all_are_refused(self, tracked: Tracking, client: Client) -> None:
        tracked.refuse()
        assert {client.track("Paid", key=key).status for key in ("web-key", "app-key", "nobody")} == {401}
        assert tracked.quarantined == []


class TestTheConnection:
    def test_a_dropped_one_has_no_answer_and_stores_nothing(self, tracked: Tracking, client: Client) -> None:
        tracked.drop_connection()
        with pytest.raises((RemoteDisconnected, ConnectionResetError)):
            client.track("Paid")
        assert [(request.status, request.answer, request.fault) for request in tracked.requests] == [
            (None, b"", "drop_connection")
        ]
        tracked.assert_not_tracked()
        assert client.track("Paid").status == 200

    def test_a_truncated_answer_has_stored_the_message(self, tracked: Tracking, client: Client) -> None:
        tracked.truncate_answer()
        with pytest.raises(IncompleteRead) as caught:
            client.track("Paid", messageId="m1")
        assert caught.value.partial == b'{"succes'
        assert client.track("Paid", messageId="m1").status == 200
        tracked.assert_tracked("Paid", count=1)
        assert [(request.status, str(request.outcomes[0])) for request in tracked.requests] == [
            (200, "stored"),
            (200, "duplicate"),
        ]


class TestDelays:
    def test_a_delayed_request_is_in_progress_until_the_delay_is_lifted(
        self, tracked: Tracking, client: Client
    ) -> None:
        with tracked.delay(PATIENCE) as delay:
            sending = Workers([lambda: client.track("Paid").status])
            wait_for(lambda: delay.hits)
            tracked.assert_not_tracked()
        assert sending.finish() == [200]
        tracked.assert_tracked("Paid", count=1)

    def test_a_delay_and_a_failure_meet_the_same_request(self, tracked: Tracking, client: Client) -> None:
        tracked.fail_next(status=500)
        delay = tracked.delay(0, times=1)
        assert client.track("Paid").status == 500
        assert delay.hits == 1


class TestAsContextManagers:
    """Faults are calls, and context managers too."""

    @pytest.mark.parametrize(
        "fault",
        [
            lambda tracking: tracking.fail_next(times=9),
            lambda tracking: tracking.delay(PATIENCE),
            lambda tracking: tracking.drop_connection(times=9),
            lambda tracking: tracking.truncate_answer(times=9),
            lambda tracking: tracking.refuse(),
        ],
    )
    def test_each_ends_with_its_block(
        self, tracked: Tracking, client: Client, fault: Callable[[Tracking], Fault]
    ) -> None:
        with fault(tracked) as active:
            was_over = active.is_over
        assert (was_over, active.is_over) == (False, True)
        assert client.track("Paid").status == 200
        assert (active.hits, tracked.requests[0].fault) == (0, None)


class TestWhichRequests:
    """A fault applies where a real server would store."""

    def test_preflights_settings_and_health_meet_none(self, tracked: Tracking, client: Client) -> None:
        tracked.fail_next()
        assert client.send("OPTIONS", "/v1/t").status == 200
        assert client.send("GET", "/v1/projects/web-key/settings").status == 200
        assert client.send("GET", "/ready").status == 200
        assert client.send("GET", "/test/summary").status == 200
        assert client.track("Paid").status == 503

    def test_a_pixel_meets_one(self, tracked: Tracking, client: Client) -> None:
        tracked.fail_next()
        assert client.send("GET", "/v1/pixel/track?writeKey=web-key&userId=u&event=e").status == 503

    def test_they_come_one_after_the_other(self, tracked: Tracking, client: Client) -> None:
        tracked.fail_next(status=500)
        tracked.fail_next(status=429)
        assert [client.track("Paid").status for _ in range(3)] == [500, 429, 200]

    @pytest.mark.parametrize(
        "add",
        [
            Tracking.fail_next,
            Tracking.drop_connection,
            Tracking.truncate_answer,
            Tracking.refuse,
            lambda tracking: tracking.delay(PATIENCE),
        ],
    )
    def test_a_with_block_ends_it(self, tracked: Tracking, client: Client, add: Callable[[Tracking], Fault]) -> None:
        with add(tracked) as fault:
            before = fault.is_over
        assert (before, fault.is_over) == (False, True)
        assert client.track("Paid").status == 200
        assert fault.hits == 0
