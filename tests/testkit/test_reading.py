"""Reading: typed messages, requests, rejections, snapshots, the clock."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime

import pytest
from adapter_helpers import basic
from hypothesis import given
from kit_client import Client
from strategies import wire_messages
from trackcore_testing import Tracking, TrackingServer, collecting
from trackcore_testing.snapshots import snapshot

from trackcore import Group, Identify, JSONObject, Limits, Page, Source, Track

LIBRARY = {"library": {"name": "analytics-python", "version": "2.4.0"}}


class TestMessages:
    def test_they_are_typed_and_in_the_order_in_which_they_came(self, tracked: Tracking, client: Client) -> None:
        client.post("/v1/identify", {"userId": "u1"})
        client.track("Paid")
        client.track("Refunded")
        client.post("/v1/page", {"userId": "u1", "name": "Home"})
        client.post("/v1/group", {"userId": "u1", "groupId": "g1"})
        assert [type(message) for message in tracked.messages] == [Identify, Track, Track, Page, Group]
        assert [message.event for message in tracked.tracks()] == ["Paid", "Refunded"]
        assert [message.event for message in tracked.tracks("Paid")] == ["Paid"]
        assert [message.user_id for message in tracked.identifies()] == ["u1"]
        assert [message.name for message in tracked.pages("Home")] == ["Home"]
        assert [*tracked.pages("Cart"), *tracked.screens(), *tracked.aliases()] == []
        assert [message.group_id for message in tracked.groups()] == ["g1"]

    def test_as_objects_they_have_their_source_destinations_and_warnings(
        self, tracked: Tracking, client: Client
    ) -> None:
        client.track("Paid", 5, key="app-key", integrations={"Mixpanel": False})  # type: ignore[arg-type]
        (stored,) = tracked.stored
        assert (stored.source, stored.destinations) == ("app", ())
        assert [warning["code"] for warning in stored.warnings] == ["id_from_number"]

    def test_clear_forgets_everything(self, tracked: Tracking, client: Client) -> None:
        client.track("Paid", messageId="m1")
        client.post("/v1/track", {"userId": "u1"})
        tracked.clear()
        assert [*tracked.messages, *tracked.requests, *tracked.rejected, *tracked.quarantined] == []
        client.track("Paid", messageId="m1")
        tracked.assert_tracked("Paid", count=1)

    def test_each_collection_is_empty_at_first(self, server: TrackingServer) -> None:
        for _ in range(2):
            with server.collecting() as tracking:
                assert tracking.messages == []
                Client(server.url).track("Paid", messageId="m1")
                tracking.assert_tracked("Paid", count=1)

    def test_what_comes_between_two_tests_belongs_to_nobody(self, server: TrackingServer) -> None:
        with server.collecting() as first:
            pass
        assert Client(server.url).track("Late").status == 200
        with server.collecting() as second:
            assert first.messages == second.messages == []

    def test_the_keys_of_all_sources(self, tracked: Tracking) -> None:
        assert tracked.write_key == "web-key"
        assert tracked.write_keys == {"website": "web-key", "app": "app-key"}


class TestRequests:
    """Path, headers without secrets, body, answer, SDK name and version, X-Retry-Count."""

    def test_a_request_is_kept_without_credentials(self, tracked: Tracking, client: Client) -> None:
        headers = {"Cookie": "session=1", "X-Retry-Count": "2", "Content-Encoding": "gzip"}
        body = {"batch": [{"type": "track", "event": "Paid", "userId": "u", "context": LIBRARY}, {"type": "track"}]}
        client.send("POST", "/v1/batch?x=1", gzip.compress(json.dumps(body).encode()), headers=headers)
        (request,) = tracked.requests
        assert (request.method, request.path, request.query) == ("POST", "/v1/batch", "x=1")
        assert request.headers["authorization"] == request.headers["cookie"] == "***"
        assert basic("web-key") not in str(request)
        assert request.json == body
        assert (request.sdk, request.sdk_version, request.retry_count) == ("analytics-python", "2.4.0", 2)
        assert (request.source, request.status, request.fault) == ("website", 200, None)
        assert json.loads(request.answer)["accepted"] == len(request.outcomes) == 1

    @pytest.mark.parametrize(
        ("body", "user_agent", "sdk"),
        [
            (b'{"context": {"library": {"name": "ajs", "version": "1"}}}', "x/2", ("ajs", "1")),
            (b'{"batch": [], "context": {"library": {"name": "go"}}}', "x/2", ("go", None)),
            (b'{"batch": [5, {"context": {"library": {"name": "node"}}}]}', "x/2", ("node", None)),
            (b'{"batch": {"context": 1}}', "analytics-ruby/2.5 x", ("analytics-ruby", "2.5")),
            (b"{", "curl/8", ("curl", "8")),
            (b"[]", "Mozilla", (None, None)),
        ],
    )
    def test_the_sdk_is_that_of_the_context_or_of_the_user_agent(
        self, tracked: Tracking, client: Client, body: bytes, user_agent: str, sdk: tuple[str | None, str | None]
    ) -> None:
        client.send("POST", "/v1/batch", body, headers={"User-Agent": user_agent, "X-Retry-Count": "soon"})
        (request,) = tracked.requests
        assert (request.sdk, request.sdk_version) == sdk
        assert request.retry_count == 0

    def test_preflights_and_settings_are_requests_too(self, tracked: Tracking, client: Client) -> None:
        client.send("OPTIONS", "/v1/t", headers={"Origin": "http://localhost"})
        client.send("GET", "/v1/projects/web-key/settings", key=None)
        assert [(request.method, request.status, request.source) for request in tracked.requests] == [
            ("OPTIONS", 200, None),
            ("GET", 200, None),
        ]

    def test_a_body_that_pretends_to_be_compressed_is_kept_as_it_is(self, tracked: Tracking, client: Client) -> None:
        client.send("POST", "/v1/batch", b"\x1f\x8bnot")
        assert tracked.requests[0].body == b"\x1f\x8bnot"


class TestRejections:
    """A test fails at its end when something was rejected or had an unknown write key."""

    def test_they_fail_the_test_with_an_explanation(self) -> None:
        with pytest.raises(AssertionError) as caught, collecting() as tracking:  # noqa: PT012 - at the end of the block
            client = Client(tracking.url)
            client.post("/v1/track", {"userId": "u1", "writeKey": "secret-write-key"}, key=tracking.write_key)
            client.track("Paid", key="nobody")
        text = str(caught.value)
        assert text.startswith("1 rejection, 1 request with an unknown write key\n\nevent_not_defined at event: ")
        assert "    remedy: Send the name of the action in `event`" in text
        assert "unknown_source: a request came with the write key …, which belongs to no source" in text
        assert "secret-write-key" not in text

    def test_the_limits_of_the_test_are_shown(self) -> None:
        with TrackingServer(limits=Limits(message_bytes=100)) as server, server.collecting(strict=False) as tracking:
            Client(server.url).track("Paid", key=server.write_key, properties={"text": "x" * 100})
        assert "    allowed: at most 100 bytes" in tracking.unexpected_rejections()

    def test_clearing_does_not_hide_them(self) -> None:
        with pytest.raises(AssertionError, match="event_not_defined"), collecting() as tracking:  # noqa: PT012 - see above
            Client(tracking.url).post("/v1/track", {"userId": "u1"}, key=tracking.write_key)
            tracking.clear()

    def test_codes_can_be_allowed(self, tracked: Tracking, client: Client) -> None:
        client.post("/v1/track", {"userId": "u1"})
        client.track("Paid", key="nobody")
        assert "unknown_source" not in tracked.unexpected_rejections(["unknown_source"])
        assert tracked.unexpected_rejections(["unknown_source", "event_not_defined"]) == ""
        with pytest.raises(ValueError, match="there are no such codes: id_from_number, typo"):
            tracked.unexpected_rejections(["typo", "id_from_number"])

    def test_another_failure_of_the_test_is_not_hidden(self) -> None:
        with pytest.raises(ZeroDivisionError), collecting() as tracking:  # noqa: PT012 - see above
            Client(tracking.url).post("/v1/track", {"userId": "u1"}, key=tracking.write_key)
            raise ZeroDivisionError

    def test_they_can_be_read(self, tracked: Tracking, client: Client) -> None:
        client.post("/v1/track", {"userId": "u1"})
        client.track("Paid", key="nobody")
        assert [record.code for record in tracked.rejected] == ["event_not_defined"]
        assert [request.write_key for request in tracked.quarantined] == ["nobody"]


class TestSnapshots:
    """Canonical JSON with ids, times and library versions normalized."""

    def test_two_runs_have_the_same(self, server: TrackingServer) -> None:
        taken = []
        for run in ("1", "2"):
            with server.collecting() as tracking:
                client = Client(server.url)
                context = {"library": {"name": "ajs", "version": run}, "userAgent": run, "locale": "en"}
                client.track("Viewed", None, anonymousId=f"a-{run}", context=context, _metadata={"nodeVersion": run})  # type: ignore[arg-type]
                client.post("/v1/alias", {"userId": "u1", "previousId": f"a-{run}"})
                client.track("Paid", anonymousId=f"b-{run}", properties={"orderId": run, "total": 9.5})
                taken.append(tracking.snapshot(normalize=["properties.orderId", "properties.x.y"]))
        first, second = taken
        assert first == second
        viewed, alias, paid = json.loads(first)
        assert viewed["anonymousId"] == alias["previousId"] == "<anonymousId 1>"
        assert paid["anonymousId"] == "<anonymousId 2>"
        assert paid["properties"] == {"orderId": "<orderId>", "total": 9.5}
        assert paid["userId"] == "u1"
        assert viewed["context"]["library"] == {"name": "ajs", "version": "<version>"}

    @given(wire_messages())
    def test_it_changes_nothing_and_is_sorted(self, message: JSONObject) -> None:
        before = json.dumps(message)
        text = snapshot([message, message])
        assert json.dumps(message) == before
        assert json.dumps(json.loads(text), ensure_ascii=False, indent=2, sort_keys=True) == text


class TestClock:
    """A frozen or given clock."""

    @pytest.mark.parametrize("moment", ["2026-01-31T12:00Z", datetime(2026, 1, 31, 12, tzinfo=UTC)])
    def test_it_stands_still(self, tracked: Tracking, client: Client, moment: str | datetime) -> None:
        tracked.freeze(moment)
        client.track("Paid")
        assert tracked.tracks()[0].received_at == "2026-01-31T12:00:00.000Z"

    def test_it_can_be_given(self, tracked: Tracking, client: Client) -> None:
        years = iter(range(2001, 2100))
        tracked.collector.clock = lambda: datetime(next(years), 1, 1, tzinfo=UTC)
        client.track("Paid")
        assert tracked.tracks()[0].received_at == "2001-01-01T00:00:00.000Z"

    def test_it_must_be_a_time_with_a_zone(self, tracked: Tracking) -> None:
        with pytest.raises(ValueError, match="'soon' is not a time"):
            tracked.freeze("soon")
        with pytest.raises(ValueError, match="has no time zone"):
            tracked.freeze(datetime(2026, 1, 31, 12))  # noqa: DTZ001 - the mistake


class TestSources:
    @pytest.mark.parametrize(
        "sources",
        [
            [],
            [Source(name="website")],
            [Source(name="website", write_keys=["k"]), Source(name="app", write_keys=["k"])],
        ],
    )
    def test_each_needs_a_write_key_of_its_own(self, sources: list[Source]) -> None:
        with pytest.raises(ValueError, match="a write key"):
            TrackingServer(sources=sources)
