"""Assertions: what passes, what fails with which text, and waiting."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from itertools import permutations
from typing import Any

import attrs
import pytest
from adapter_helpers import Workers
from hypothesis import given
from hypothesis import strategies as st
from kit_client import Client
from patience import PATIENCE, wait_for
from trackcore_testing import Tracking
from trackcore_testing.assertions import _is_in_order

from trackcore import Outcome, Sink, Track

Failure = Callable[[Callable[[], object]], str]
CHECKOUT = ("Consent Given", "Product Added", "Checkout Started", "Order Completed")


@attrs.frozen
class Hesitating:
    """A sink that does something between storing and returning."""

    sink: Sink
    hesitate: Callable[[], object]

    def store(self, *args: Any, **records: Any) -> Sequence[Outcome]:
        outcomes = self.sink.store(*args, **records)
        self.hesitate()
        return outcomes

    def check_ready(self) -> None:
        self.sink.check_ready()


class TestTheRightMessage:
    """A subset match by default; what is left out is not compared."""

    def test_it_is_returned_as_a_typed_message(self, tracked: Tracking, client: Client) -> None:
        client.track("Order Completed", properties={"total": 9.5, "currency": "EUR"}, context={"ip": "192.0.2.1"})
        found = tracked.assert_tracked(
            "Order Completed", user_id="u1", properties={"total": 9.5}, context={"ip": str}, count=1
        )
        assert isinstance(found, Track)
        assert found.properties == {"total": 9.5, "currency": "EUR"}

    def test_each_call_has_its_assertion(self, tracked: Tracking, client: Client) -> None:
        client.post("/v1/identify", {"userId": "u1", "traits": {"plan": "Pro"}})
        client.post("/v1/page", {"userId": "u1", "name": "Home", "category": "Shop"})
        client.post("/v1/screen", {"anonymousId": "a1", "name": "Start"})
        client.post("/v1/group", {"userId": "u1", "groupId": "g1", "traits": {"size": 4}})
        client.post("/v1/alias", {"userId": "u1", "previousId": "a1"})
        tracked.assert_identified("u1", traits={"plan": "Pro"}, exactly=True)
        tracked.assert_paged("Home", category="Shop", user_id="u1", anonymous_id=None)
        tracked.assert_screened("Start", anonymous_id="a1", user_id=None)
        tracked.assert_grouped("g1", traits={"size": int}, user_id="u1")
        tracked.assert_aliased("a1", user_id="u1")
        tracked.assert_not_tracked()

    def test_the_event_may_be_a_pattern(self, tracked: Tracking, client: Client) -> None:
        client.track("Order Completed")
        assert tracked.assert_tracked(re.compile("^Order ")).event == "Order Completed"

    def test_exactly_refuses_other_keys(self, tracked: Tracking, client: Client) -> None:
        client.track("Order Completed", properties={"total": 9.5, "currency": "EUR"})
        with pytest.raises(AssertionError, match=r"\+ properties.currency  \"EUR\""):
            tracked.assert_tracked("Order Completed", properties={"total": 9.5}, exactly=True)

    def test_any_value_is_not_the_same_as_not_compared(self, tracked: Tracking, client: Client) -> None:
        client.post("/v1/track", {"anonymousId": "a1", "event": "Paid"})
        tracked.assert_tracked("Paid", anonymous_id=...)
        with pytest.raises(AssertionError, match=r"- userId  any value\n  \+ userId  \(absent\)"):
            tracked.assert_tracked("Paid", user_id=...)

    def test_a_count_is_exact(self, tracked: Tracking, client: Client) -> None:
        client.track("Paid")
        client.track("Paid", user="u2")
        tracked.assert_tracked("Paid", count=2)
        tracked.assert_tracked("Paid", user_id="u2", count=1)
        with pytest.raises(AssertionError, match='track "Paid" was received twice, not 3 times'):
            tracked.assert_tracked("Paid", count=3)
        with pytest.raises(ValueError, match="assert_not_tracked"):
            tracked.assert_tracked("Paid", count=0)

    def test_a_message_that_was_sent_again_counts_once(self, tracked: Tracking, client: Client) -> None:
        client.track("Paid", messageId="m1")
        client.track("Paid", messageId="m1")
        tracked.assert_tracked("Paid", count=1)
        assert [[str(outcome) for outcome in request.outcomes] for request in tracked.requests] == [
            ["stored"],
            ["duplicate"],
        ]


class TestPlantedMistakes:
    """The test fails with a readable difference for each planted mistake."""

    def test_a_missing_event(self, tracked: Tracking, client: Client, failure: Failure) -> None:
        client.track("Product Added", properties={"sku": "hat"})
        assert failure(lambda: tracked.assert_tracked("Order Completed", user_id="u1")) == (
            'no matching track "Order Completed" was received\n'
            "\n"
            "1 message received in 1 request:\n"
            '     1  track     "Product Added"  user u1  {"sku": "hat"}'
        )

    def test_nothing_at_all(self, tracked: Tracking, failure: Failure) -> None:
        assert failure(lambda: tracked.assert_tracked("Order Completed")) == (
            'no matching track "Order Completed" was received\n\n'
            "no request was received: does the SDK send to this server, and has it flushed its messages?"
        )

    @pytest.mark.parametrize("name", ["Order Complete", "order_completed", "Order Compleeted", "Completed Order"])
    def test_a_misspelt_name(self, tracked: Tracking, client: Client, failure: Failure, name: str) -> None:
        client.track("Product Added")
        client.track(name)
        text = failure(lambda: tracked.assert_tracked("Order Completed", user_id="u1"))
        assert text.split("\n\n")[1] == (
            "nearest: message 2 (- expected, + received)\n"
            '  - event   "Order Completed"\n'
            f'  + event   "{name}"\n'
            '    userId  "u1"'
        )

    def test_a_wrong_type(self, tracked: Tracking, client: Client, failure: Failure) -> None:
        client.track("Order Completed", properties={"total": "9.50", "currency": "EUR"})
        expected = {"total": 9.5, "currency": "EUR"}
        text = failure(lambda: tracked.assert_tracked("Order Completed", properties=expected))
        assert text.split("\n\n")[1].splitlines()[1:] == [
            '    event                "Order Completed"',
            "  - properties.total     9.5",
            '  + properties.total     "9.50"',
            '    properties.currency  "EUR"',
        ]

    def test_a_wrong_user(self, tracked: Tracking, client: Client, failure: Failure) -> None:
        client.track("Order Completed", user="s-77")
        text = failure(lambda: tracked.assert_tracked("Order Completed", user_id="u1"))
        assert '  - userId  "u1"\n  + userId  "s-77"' in text

    def test_sent_twice(self, tracked: Tracking, client: Client, failure: Failure) -> None:
        client.track("Order Completed")
        client.track("Order Completed")
        text = failure(lambda: tracked.assert_tracked("Order Completed", count=1))
        assert text.startswith('track "Order Completed" was received twice, not once\n\neach has its own messageId')
        assert text.count("\n  > ") == 2

    def test_sent_before_consent(self, tracked: Tracking, client: Client, failure: Failure) -> None:
        """By the client's clock, and not by the order in which requests arrive."""
        client.track("Consent Given", timestamp="2026-01-31T12:00:01Z")
        client.post("/v1/page", {"userId": "u1", "name": "Home", "timestamp": "2026-01-31T12:00:00Z"})
        assert failure(lambda: tracked.assert_nothing_before("Consent Given")) == (
            '1 message before "Consent Given", by the client\'s clock\n'
            "\n"
            "2 messages received in 2 requests:\n"
            '     1  track     "Consent Given"  user u1\n'
            '  >  2  page      "Home"  user u1'
        )
        assert failure(lambda: tracked.assert_nothing_before("Consent")).startswith('"Consent" was not received')

    def test_in_a_wrong_order(self, tracked: Tracking, client: Client, failure: Failure) -> None:
        for event in ("Consent Given", "Order Completed", "Checkout Started", "Noise"):
            client.track(event)
        text = failure(lambda: tracked.assert_in_order(["Consent Given", "Checkout Started", "Order Completed"]))
        assert text.split("\n\n")[:2] == [
            "the events are in another order (- expected, + received, by the client's clock)",
            '    "Consent Given"\n  + "Order Completed"\n    "Checkout Started"\n  - "Order Completed"',
        ]
        text = failure(lambda: tracked.assert_in_order(["Consent Given", "Paid"]))
        assert text.startswith('"Paid" not received')

    def test_an_event_that_must_not_be_there(self, tracked: Tracking, client: Client, failure: Failure) -> None:
        client.track("Paid")
        client.track("Refunded", properties={"total": 3})
        tracked.assert_not_tracked("Refunded", properties={"total": 4})
        text = failure(lambda: tracked.assert_not_tracked("Refunded"))
        assert text.startswith('track "Refunded" was received, and should not have been\n')
        assert "\n  >  2  track" in text

    def test_a_rejected_message_and_a_failed_request_are_shown(
        self, tracked: Tracking, client: Client, failure: Failure
    ) -> None:
        client.post("/v1/track", {"userId": "u1", "properties": {"total": 9.5}})
        client.track("Order Completed", key="nobody")
        tracked.fail_next(status=500)
        client.track("Order Completed")
        assert failure(lambda: tracked.assert_tracked("Order Completed")).split("\n\n")[1:] == [
            "0 messages received in 3 requests",
            (
                "2 not accepted:\n"
                "    event_not_defined: a track message needs 'event': "
                '{"userId": "u1", "properties": {"total": 9.5}}\n'
                '    unknown write key: {"event": "Order Completed", "userId": "u1"}'
            ),
            "1 request failed:\n    POST /v1/track: 500 (the fault fail)",
        ]

    def test_a_long_list_is_cut_to_the_newest(self, tracked: Tracking, client: Client, failure: Failure) -> None:
        client.post("/v1/batch", {"batch": [{"type": "track", "event": f"E{n}", "userId": "u"} for n in range(50)]})
        lines = failure(lambda: tracked.assert_tracked("Paid")).splitlines()
        assert lines[3] == "    ... 30 before these"
        assert lines[-1].endswith('"E49"  user u')

    def test_what_a_client_sent_cannot_act_on_the_terminal(
        self, tracked: Tracking, client: Client, failure: Failure
    ) -> None:
        client.track("\x1b[2J\u009b", user="\x1b]0;title\x07")
        client.post("/v1/track", {"userId": "\x1b[2J"})
        client.send("POST", "/v1/track", b'{"userId": "\x1b[2J", "event": "\xff"}')
        client.send("GET", "/%1b[2J")
        text = failure(lambda: tracked.assert_tracked("\x1b[2J", user_id="u1"))
        assert "GET /" in text
        assert all(line.isprintable() for line in (*text.splitlines(), *tracked.unexpected_rejections().splitlines()))


class TestOrder:
    """Events are in order if they are a subsequence, and none comes before its turn."""

    @pytest.mark.parametrize("events", [events for events in permutations(CHECKOUT) if events != CHECKOUT])
    def test_no_other_order_passes(self, events: tuple[str, ...]) -> None:
        assert not _is_in_order(CHECKOUT, events)

    @given(st.lists(st.sampled_from(["x", "y", *CHECKOUT])))
    def test_others_between_and_repetitions_afterwards_do_not_matter(self, noise: list[str]) -> None:
        others = [event for event in noise if event in "xy"]
        between = [event for known in CHECKOUT for event in (*others, known)]
        assert _is_in_order(CHECKOUT, [*between, *noise])

    @pytest.mark.parametrize(
        ("expected", "events", "holds"),
        [
            ("cv", "vcv", False),
            ("cv", "cvcv", True),
            ("vav", "vvav", True),
            ("vav", "vva", False),
            ("vv", "v", False),
            ("", "va", True),
        ],
    )
    def test_an_event_before_its_turn_is_out_of_order(self, expected: str, events: str, holds: bool) -> None:
        assert _is_in_order(expected, [*events]) == holds

    def test_requests_may_overtake_each_other(self, tracked: Tracking, client: Client) -> None:
        for second, event in [(2, "Checkout Started"), (1, "Product Added"), (3, "Order Completed")]:
            client.track(event, timestamp=f"2026-01-31T12:00:0{second}Z")
        tracked.assert_in_order(["Product Added", "Checkout Started", "Order Completed"])
        tracked.assert_nothing_before("Product Added")


class TestWaiting:
    """Waiting ends as soon as it can: no fixed sleeps."""

    @pytest.mark.parametrize(
        "wait",
        [
            lambda tracking: tracking.wait_for("Paid", timeout=PATIENCE),
            lambda tracking: tracking.assert_tracked("Paid", count=1, timeout=PATIENCE),
            lambda tracking: tracking.assert_in_order(["Started", "Paid"], timeout=PATIENCE),
            lambda tracking: tracking.assert_nothing_before("Started", timeout=PATIENCE),
            lambda tracking: tracking.wait_for_count(2, timeout=PATIENCE),
        ],
    )
    def test_a_message_that_comes_later_is_waited_for(
        self, tracked: Tracking, client: Client, wait: Callable[[Tracking], Any]
    ) -> None:
        waiting = Workers([lambda: wait(tracked)])
        client.track("Started")
        client.track("Paid")
        waiting.finish()
        assert waiting.errors == [None]

    def test_the_request_of_a_message_is_there_with_it(self, tracked: Tracking, client: Client) -> None:
        """Also for a test that looks between the storing of the message and the recording of its request."""
        seen: list[int] = []

        def look() -> None:
            tracked.wait_for("Paid", timeout=PATIENCE)
            seen.append(len(tracked.requests))

        looking = threading.Thread(target=look)
        tracked.collector.sink = Hesitating(tracked.arrivals, lambda: looking.join(0.1))
        looking.start()
        client.track("Paid")
        looking.join(PATIENCE)
        assert seen == [1]

    def test_a_message_of_this_process_wakes_those_who_wait(self, tracked: Tracking) -> None:
        waiting = Workers([lambda: tracked.wait_for("Paid", timeout=PATIENCE)])
        tracked.collector.submit(Track(user_id="u1", event="Paid"), source="website")
        assert waiting.finish()[0].user_id == "u1"

    def test_what_does_not_come_fails_with_what_did(self, tracked: Tracking, client: Client, failure: Failure) -> None:
        client.track("Paid", user="u2")
        text = failure(lambda: tracked.wait_for("Paid", user_id="u1", timeout=0.01))
        assert '  + userId  "u2"' in text
        text = failure(lambda: tracked.wait_for_count(2, timeout=0.01))
        assert text.startswith("expected 2 messages, received 1\n\n1 message received in 1 request:")

    def test_quiet_is_when_no_request_is_in_progress(self, tracked: Tracking, client: Client, failure: Failure) -> None:
        with tracked.delay(PATIENCE):
            sending = Workers([lambda: client.track("Paid")])
            wait_for(lambda: tracked.arrivals.in_progress)
            text = failure(lambda: tracked.wait_until_quiet(0.01, timeout=0.1))
            assert text.startswith("there were never 0.01 s without a request")
        sending.finish()
        tracked.wait_until_quiet(0.01, timeout=PATIENCE)
        tracked.assert_tracked("Paid", timeout=0)
