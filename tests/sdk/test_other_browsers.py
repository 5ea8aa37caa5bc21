"""RudderStack's browser SDK, Segment's snippet and Segment's consent wrapper, in one Chromium and with one server.

Each page has a source of its own.  It is of another origin than the server, which speaks HTTPS: Segment's snippet finds
the address of its settings only in an address with https.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from sdk.browsing import ANALYTICS_NEXT, CONSENT_TOOLS, RUDDERSTACK, VERSIONS, Browser, package_file, run_browser
from sdk.cases import AWKWARD
from sdk.results import record
from sdk.servers import RecordedRequest, Server, run_server, wait_until

from trackcore import JSONObject, Query, StoredMessage

CONSENTING = {"collecting": True, "asking": False}
"""The sources with consent, and their `collect_without_consent`."""
OTHERS = (
    *("rudder-calls", "rudder-batch", "rudder-beacon", "rudder-consent", "rudder-503", "rudder-429"),
    *("snippet", "wrapper-503", "wrapper-429"),
)


def configuration() -> str:
    """Return a configuration with a source for each page; a write key is the name of its source and `-key`."""
    sources = [f'[[sources]]\nname = "{name}"\nwrite_keys = ["{name}-key"]\n' for name in OTHERS]
    for model in ("opt-in", "opt-out"):
        sources += [
            f'[[sources]]\nname = "{name}-{model}-{number}"\nwrite_keys = ["{name}-{model}-{number}-key"]\n'
            f"collect_without_consent = {str(collects).lower()}\n"
            for name, collects in CONSENTING.items()
            for number in range(len(CATEGORIES))
        ]
    return f"""
{"".join(sources)}
[[destinations]]
name = "Facebook"
consent = ["ads"]
[[destinations]]
name = "Amplitude"
consent = ["stats"]
[log]
path = "log.db"
[server]
analytics_js = "standalone.js"
"""


CATEGORIES: tuple[JSONObject, ...] = (
    {"ads": True, "stats": True},
    {"ads": True, "stats": False},
    {"ads": False, "stats": False},
    {"ads": False, "stats": False, "unmapped": True},
)


each_refusal = pytest.mark.parametrize(
    "refusal", [("unavailable", 503, "outage"), ("overloaded", 429, "overload")], ids=["503", "429"]
)


@pytest.fixture(scope="module", name="server")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(package_file(ANALYTICS_NEXT, "dist/umd/standalone.js"), folder)
    with run_server(folder, tls=True, text=configuration()) as server:
        yield server


@pytest.fixture(scope="module", name="browser")
def _browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with run_browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture(name="seen", autouse=True)
def _seen(server: Server) -> int:
    """How many requests the server had received before the test."""
    return len(server.requests())


def stored(server: Server, source: str, count: int) -> list[StoredMessage]:
    """Wait until a source has so many messages, and return them."""
    query = Query(source=source)
    wait_until(lambda: len(list(server.log.messages(query))) >= count, f"{count} messages of {source}")
    found = list(server.log.messages(query))
    assert len(found) == count
    return found


def posts(server: Server, seen: int) -> list[RecordedRequest]:
    return [request for request in server.requests()[seen:] if request.method == "POST"]


PROPERTIES = {name: value for name, value in AWKWARD.items() if value is not None}
"""These properties as RudderStack's SDK sends them: it leaves out null."""

TRAITS = {**PROPERTIES, "list": [{} if item == [] else item for item in AWKWARD["list"]]}
"""The same for traits, where an empty array in an array becomes an object."""

CALLS: tuple[list[Any], ...] = (
    ["identify", "u1", {"plan": "Pro", **AWKWARD}],
    ["track", "Bought", AWKWARD],
    ["page", "Docs", "Home", {"colour": "blue"}],
    ["group", "g1", {"seats": 5}],
    ["alias", "u2", "u1"],
)


class TestRudderStack:
    """`@rudderstack/analytics-js` 3.x starts with this server alone, and sends in its three ways."""

    def check(self, found: list[StoredMessage]) -> None:
        """Compare the messages with the calls."""
        by_call = {each.call: each.message for each in found}
        assert by_call.keys() == {call for call, *_ in CALLS}
        assert {each["anonymousId"] for each in by_call.values()} == {found[0].message["anonymousId"]}
        assert by_call["identify"]["context"]["traits"] == {"plan": "Pro", **TRAITS}
        assert by_call["track"]["event"] == "Bought"
        assert by_call["track"]["properties"] == PROPERTIES
        assert (by_call["page"]["name"], by_call["page"]["properties"]["colour"]) == ("Home", "blue")
        assert (by_call["group"]["groupId"], by_call["group"]["traits"]) == ("g1", {"seats": 5})
        assert (by_call["alias"]["userId"], by_call["alias"]["previousId"]) == ("u2", "u1")
        assert all(each.message["context"]["ip"] == "127.0.0.1" for each in found if "ip" in each.message["context"])

    def test_each_call(self, server: Server, browser: Browser, seen: int) -> None:
        """The source config is fetched once, and nothing else but the calls is sent."""
        report = browser.open(server, "rudderstack", "rudder-calls-key", calls=CALLS)
        self.check(stored(server, "rudder-calls", len(CALLS)))
        assert report == {"errors": [], "logged": []}
        requests = server.requests()[seen:]
        assert [request.path for request in requests if request.method == "GET"] == ["/sourceConfig/"]
        assert sorted(request.path for request in posts(server, seen)) == sorted(f"/v1/{call}" for call, *_ in CALLS)
        assert {request.status for request in requests} == {200}
        record(RUDDERSTACK, VERSIONS[RUDDERSTACK], "five calls")

    def test_a_batch(self, server: Server, browser: Browser, seen: int) -> None:
        options = {"queueOptions": {"batch": {"enabled": True, "maxItems": len(CALLS)}}}
        report = browser.open(server, "rudderstack", "rudder-batch-key", calls=CALLS, options=options)
        self.check(stored(server, "rudder-batch", len(CALLS)))
        assert report == {"errors": [], "logged": []}
        assert [(request.path, request.status) for request in posts(server, seen)] == [("/v1/batch", 200)]
        record(RUDDERSTACK, VERSIONS[RUDDERSTACK], "batching")

    def test_a_beacon(self, server: Server, browser: Browser, seen: int) -> None:
        """With `useBeacon` each batch is a beacon, which has the write key in its address."""
        options = {"useBeacon": True, "beaconQueueOptions": {"maxItems": len(CALLS)}}
        report = browser.open(server, "rudderstack", "rudder-beacon-key", calls=CALLS, options=options)
        self.check(stored(server, "rudder-beacon", len(CALLS)))
        assert report == {"errors": [], "logged": []}
        wait_until(lambda: bool(posts(server, seen)), "a record, for which a beacon does not wait")
        assert {(request.path, request.status) for request in posts(server, seen)} == {("/beacon/v1/batch", 200)}
        record(RUDDERSTACK, VERSIONS[RUDDERSTACK], "beacon")

    def test_consent(self, server: Server, browser: Browser) -> None:
        """It sends every message with the ids that are denied, and the server decides."""
        consent = {
            "enabled": True,
            "provider": "custom",
            "allowedConsentIds": ["stats"],
            "deniedConsentIds": ["ads"],
        }
        calls = [["track", "Bought"]]
        options = {"consentManagement": consent}
        browser.open(server, "rudderstack", "rudder-consent-key", calls=calls, options=options)
        (found,) = stored(server, "rudder-consent", 1)
        assert found.message["context"]["consentManagement"]["deniedConsentIds"] == ["ads"]
        assert found.destinations == ("Amplitude",)
        record(RUDDERSTACK, VERSIONS[RUDDERSTACK], "consent")

    @each_refusal
    def test_a_server_that_refuses(
        self, server: Server, browser: Browser, seen: int, refusal: tuple[str, int, str]
    ) -> None:
        """The page sends again until everything is stored, each message once."""
        cause, status, shown = refusal
        server.begin_outage(cause, retry_after=1)
        browser.open(server, "rudderstack", f"rudder-{status}-key", calls=[["track", "Bought"]])
        wait_until(lambda: len(posts(server, seen)) >= 2, "a second attempt")
        server.end_outage()
        stored(server, f"rudder-{status}", 1)
        *refused, last = posts(server, seen)
        assert ({request.status for request in refused}, last.status) == ({status}, 200)
        assert {request.retry_count for request in refused} == {None}
        record(RUDDERSTACK, VERSIONS[RUDDERSTACK], shown)


class TestSnippet:
    def test_segments_snippet(self, server: Server, browser: Browser, seen: int) -> None:
        """Only the host of the script is another one; the SDK takes its settings from there too."""
        report = browser.open(server, "snippet", "snippet-key")
        assert report == {"errors": [], "logged": []}
        found = stored(server, "snippet", 2)
        assert sorted(each.call for each in found) == ["page", "track"]  # they are sent side by side
        gets = [request.path for request in server.requests()[seen:] if request.method == "GET"]
        assert gets == ["/analytics.js/v1/snippet-key/analytics.min.js", "/v1/projects/snippet-key/settings"]
        record(ANALYTICS_NEXT, VERSIONS[ANALYTICS_NEXT], "snippet")


class TestConsentWrapper:
    """Segment's consent wrapper, with its settings from this server: `docs/explanation/consent.md` has the table."""

    @pytest.mark.parametrize("model", ["opt-in", "opt-out"])
    @pytest.mark.parametrize(
        ("source", "number"), [(source, number) for source in CONSENTING for number in range(len(CATEGORIES))]
    )
    def test_what_is_sent(  # noqa: PLR0917 - pytest passes them by name
        self, server: Server, browser: Browser, seen: int, source: str, number: int, model: str
    ) -> None:
        """'It stops sending to Segment altogether when `hasUnmappedDestinations` is false and none is granted.'"""
        name, categories = f"{source}-{model}-{number}", CATEGORIES[number]
        report = browser.open(server, "consent", f"{name}-key", model=model, categories=categories)
        assert report["logged"] == []
        is_sent = CONSENTING[source] or categories["ads"] or categories["stats"]
        if not is_sent:
            # The page after it has sent something, so this one would have, too.
            browser.open(server, "snippet", "nobody's-key")
            wait_until(lambda: len(posts(server, seen)) >= 2, "the messages of the next page")
            assert sorted(request.path for request in posts(server, seen)) == ["/v1/p", "/v1/t"]
            assert list(server.log.messages(Query(source=name))) == []
            return
        (found,) = stored(server, name, 1)
        assert found.message["context"]["consent"] == {"categoryPreferences": categories}
        allowed = [each for each, category in (("Facebook", "ads"), ("Amplitude", "stats")) if categories[category]]
        assert found.destinations == tuple(allowed)
        record(CONSENT_TOOLS, VERSIONS[CONSENT_TOOLS], "consent")

    @each_refusal
    def test_a_change_while_the_server_refuses(
        self, server: Server, browser: Browser, seen: int, refusal: tuple[str, int, str]
    ) -> None:
        """Each message arrives once, with the consent of its own time; the change is announced by an event."""
        cause, status, shown = refusal
        before, after = CATEGORIES[2], CATEGORIES[0]
        server.begin_outage(cause, retry_after=1)
        browser.open(server, "consent", f"wrapper-{status}-key", model="opt-out", categories=before, change=after)
        wait_until(lambda: any(request.retry_count for request in posts(server, seen)), "a second attempt")
        server.end_outage()
        found = {each.message["event"]: each for each in stored(server, f"wrapper-{status}", 3)}
        assert found["Bought"].destinations == ()
        for event in ("Segment Consent Preference Updated", "Bought again"):
            assert found[event].message["context"]["consent"]["categoryPreferences"] == after
            assert found[event].destinations == ("Facebook", "Amplitude")
        assert max(each.retry_count for each in found.values()) >= 1
        record(CONSENT_TOOLS, VERSIONS[CONSENT_TOOLS], shown)
