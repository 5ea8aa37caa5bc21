"""The documents that SDKs fetch before they send anything: retry rules, consent, RudderStack's config, the script."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest
from adapter_helpers import NOON, FailingSink, basic, unavailable
from faces import FACES, Reply
from fuzz.raw import RawRequest
from hypothesis import given
from hypothesis import strategies as st
from trackcore_http import ApiOptions, BackoffConfig, HttpConfig, RateLimitConfig, Script, SdkSettings

from trackcore import Cause, Collector, ConsentRule, Destination, JSONObject, MemorySink, Sink, Source
from trackcore.text import parse_value

ADS, EITHER = ConsentRule(categories=["ads"]), ConsentRule(categories=["stats", "ads"], any_suffices=True)
SOURCES = (
    Source(name="site", write_keys=["site-key"]),
    Source(name="mapped", write_keys=["mapped-key"], destinations=("Facebook", "Amplitude")),
    Source(name="free", write_keys=["free-key"], destinations=("CRM",)),
)
DESTINATIONS = (
    Destination(name="Facebook", consent=ADS),
    Destination(name="Amplitude", consent=EITHER),
    Destination(name="CRM"),
)
Ask = Callable[..., Reply]


@pytest.fixture
def make_ask() -> Iterator[Callable[..., Ask]]:
    """Make a function that asks every face, and returns the response that all of them send."""
    made = []

    def make(options: ApiOptions = ApiOptions(), sink: Sink | None = None) -> Ask:  # noqa: B008 - frozen
        collector = Collector(
            sources=SOURCES,
            destinations=DESTINATIONS,
            sink=sink or MemorySink(),
            clock=lambda: NOON,
            new_message_id=lambda: "m1",
        )
        faces = [face(collector, options=options) for face in FACES.values()]
        made.extend(faces)

        def ask(target: str, *headers: tuple[str, str], method: str = "GET", body: bytes = b"") -> Reply:
            request = RawRequest(method=method, target=target, headers=headers, body=body)
            first, *others = [face.ask(request) for face in faces]
            assert all(other == first for other in others)
            return first

        return ask

    yield make
    for face in made:
        face.close()


def settings_of(ask: Ask, write_key: str) -> JSONObject:
    reply = ask(f"/v1/projects/{write_key}/settings")
    assert reply.status == 200
    document: JSONObject = parse_value(reply.body)
    return document


def http_config(ask: Ask, write_key: str) -> JSONObject:
    found: JSONObject = settings_of(ask, write_key)["integrations"]["Segment.io"]["httpConfig"]
    return found


class TestHttpConfig:
    """'Kotlin, Swift and C# keep the old behaviour unless the settings have `httpConfig`.'"""

    @pytest.mark.parametrize("key", ["site-key", "nobody's"])
    def test_it_is_served_to_any_key(self, make_ask: Callable[..., Ask], key: str) -> None:
        found = http_config(make_ask(), key)
        assert (found["rateLimitConfig"]["enabled"], found["backoffConfig"]["enabled"]) == (True, True)
        assert found["rateLimitConfig"]["maxRetryInterval"] == 300, "no Retry-After of this server is longer"

    def test_integers_where_kotlin_expects_them(self, make_ask: Callable[..., Ask]) -> None:
        """'One value it cannot parse makes it fall back to its own defaults for everything, silently.'"""
        found = http_config(make_ask(), "site-key")
        whole = {
            "rateLimitConfig": ["maxRetryCount", "maxRetryInterval"],
            "backoffConfig": ["maxRetryCount", "maxBackoffInterval", "maxTotalBackoffDuration", "jitterPercent"],
        }
        assert all(type(found[part][name]) is int for part, names in whole.items() for name in names)

    @pytest.mark.parametrize("code", ["408", "410", "429", "460"])
    def test_these_statuses_are_retried(self, make_ask: Callable[..., Ask], code: str) -> None:
        """'408, 410, 429, 460 retry; 501, 505 drop.'"""
        overrides = http_config(make_ask(), "site-key")["backoffConfig"]["statusCodeOverrides"]
        assert (overrides[code], overrides["501"], overrides["505"]) == ("retry", "drop", "drop")

    def test_each_source_has_its_own(self, make_ask: Callable[..., Ask]) -> None:
        rules = HttpConfig(
            rate_limit_config=RateLimitConfig(max_retry_count=7),
            backoff_config=BackoffConfig(status_code_overrides={"503": "drop", "410": "drop"}),
        )
        ask = make_ask(ApiOptions(sdk_settings={"site": SdkSettings(http=rules)}))
        found = http_config(ask, "site-key")
        assert found["rateLimitConfig"]["maxRetryCount"] == 7
        overrides = found["backoffConfig"]["statusCodeOverrides"]
        assert (overrides["503"], overrides["410"], overrides["429"]) == ("drop", "drop", "retry")
        assert http_config(ask, "mapped-key")["rateLimitConfig"]["maxRetryCount"] == 100

    @pytest.mark.parametrize(
        ("rules", "enabled"),
        [
            (HttpConfig(enabled=False), (False, False)),
            (HttpConfig(rate_limit_config=RateLimitConfig(enabled=False)), (False, True)),
            (HttpConfig(backoff_config=BackoffConfig(enabled=False)), (True, False)),
        ],
    )
    def test_switched_off_it_says_so(
        self, make_ask: Callable[..., Ask], rules: HttpConfig, enabled: tuple[bool, bool]
    ) -> None:
        """'Even an empty `httpConfig: {}` switches it on; only an explicit `enabled: false` keeps it off.'"""
        found = http_config(make_ask(ApiOptions(sdk_settings={"site": SdkSettings(http=rules)})), "site-key")
        assert (found["rateLimitConfig"]["enabled"], found["backoffConfig"]["enabled"]) == enabled

    RANGES = (
        (RateLimitConfig, "max_retry_count", 0, 100),
        (RateLimitConfig, "max_retry_interval", 1, 3_600),
        (RateLimitConfig, "max_rate_limit_duration", 10, 86_400),
        (BackoffConfig, "max_retry_count", 0, 100),
        (BackoffConfig, "base_backoff_interval", 0.1, 60),
        (BackoffConfig, "max_backoff_interval", 1, 3_600),
        (BackoffConfig, "max_total_backoff_duration", 60, 604_800),
        (BackoffConfig, "jitter_percent", 0, 50),
    )

    @pytest.mark.parametrize(("part", "name", "least", "most"), RANGES)
    def test_a_value_that_an_sdk_would_clamp(self, part: Any, name: str, least: float, most: float) -> None:
        for allowed in (least, most):
            assert getattr(part(**{name: allowed}), name) == allowed
        for clamped in (least - 0.1, most + 1):
            with pytest.raises(ValueError, match=f"from {least:g} to "):
                part(**{name: clamped})

    @pytest.mark.parametrize("code", ["99", "600", "", "4xx", "٤٠٨"])
    def test_a_status_that_is_none(self, code: str) -> None:
        with pytest.raises(ValueError, match="from 100 to 599"):
            BackoffConfig(status_code_overrides={code: "drop"})

    def test_a_behaviour_that_is_none(self) -> None:
        for name in ("default_4xx_behavior", "default_5xx_behavior", "unknown_code_behavior"):
            unknown: Any = {name: "ignore"}
            with pytest.raises(ValueError, match="'retry' or 'drop'"):
                BackoffConfig(**unknown)
        with pytest.raises(ValueError, match="'retry' or 'drop'"):
            BackoffConfig(status_code_overrides={"503": "ignore"})


rules = st.builds(ConsentRule, categories=st.lists(st.sampled_from("abcd"), min_size=1, unique=True))


class TestConsentSettings:
    """'Top level `{allCategories, hasUnmappedDestinations}`, and per integration `{categories}`.'"""

    def test_the_categories_of_each_destination(self, make_ask: Callable[..., Ask]) -> None:
        document = settings_of(make_ask(), "site-key")
        found = {name: each.get("consentSettings") for name, each in document["integrations"].items()}
        assert found.pop("Segment.io") is None
        assert found == {"Facebook": {"categories": ["ads"]}, "Amplitude": {"categories": ["stats", "ads"]}}
        assert document["consentSettings"]["allCategories"] == ["ads", "stats"]

    def test_a_browser_gets_no_further_integration(self, make_ask: Callable[..., Ask]) -> None:
        """Else analytics-next loads a script from its vendor's CDN, and does not start without it."""
        agent = ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64) Chrome/149.0.0.0")
        document = parse_value(make_ask()("/v1/projects/site-key/settings", agent).body)
        assert document["integrations"].keys() == {"Segment.io"}
        assert document["consentSettings"] == {"allCategories": ["ads", "stats"], "hasUnmappedDestinations": True}

    def test_the_destinations_of_other_sources_are_left_out(self, make_ask: Callable[..., Ask]) -> None:
        document = settings_of(make_ask(), "free-key")
        assert document["integrations"].keys() == {"Segment.io"}
        assert "consentSettings" not in document

    def test_a_key_of_no_source_learns_nothing(self, make_ask: Callable[..., Ask]) -> None:
        document = settings_of(make_ask(), "nobody's")
        assert document["integrations"].keys() == {"Segment.io"}
        assert "consentSettings" not in document

    @pytest.mark.parametrize("key", ["site-key", "mapped-key"])
    def test_a_wrong_false_loses_messages(self, make_ask: Callable[..., Ask], key: str) -> None:
        """'A wrong `false` loses data: default it to true.'  The log is one place that needs no consent."""
        assert settings_of(make_ask(), key)["consentSettings"]["hasUnmappedDestinations"] is True

    @pytest.mark.parametrize(("key", "expected"), [("mapped-key", False), ("site-key", True)])
    def test_false_where_the_operator_says_so(self, make_ask: Callable[..., Ask], key: str, *, expected: bool) -> None:
        """But never if a destination needs no consent."""
        nothing = SdkSettings(collect_without_consent=False)
        ask = make_ask(ApiOptions(sdk_settings={"mapped": nothing, "site": nothing}))
        assert settings_of(ask, key)["consentSettings"]["hasUnmappedDestinations"] is expected

    @given(st.lists(st.none() | rules, max_size=4), st.booleans())
    def test_false_needs_consent_everywhere(self, some: list[ConsentRule | None], collects: bool) -> None:
        destinations = [Destination(name=f"D{number}", consent=rule) for number, rule in enumerate(some)]
        collector = Collector(
            sources=[Source(name="site", write_keys=["k"])],
            destinations=destinations,
            sink=MemorySink(),
            clock=lambda: NOON,
            new_message_id=lambda: "m1",
        )
        options = ApiOptions(sdk_settings={"site": SdkSettings(collect_without_consent=collects)})
        face = FACES["WSGI"](collector, options=options)
        document = parse_value(face.ask(RawRequest(method="GET", target="/v1/projects/k/settings")).body)
        has_unmapped = document.get("consentSettings", {"hasUnmappedDestinations": True})["hasUnmappedDestinations"]
        assert has_unmapped or not (collects or None in some or not some)


class TestSourceConfig:
    """`GET /sourceConfig/?writeKey=...`: RudderStack's SDKs do not start without it."""

    @pytest.mark.parametrize(
        ("target", "headers"),
        [
            ("/sourceConfig/?p=npm&v=3.34.1&build=modern&writeKey=site-key", ()),
            ("/sourceConfig?writeKey=site-key", ()),
            ("/sourceConfig?p=android&v=1.2.3", (("Authorization", basic("site-key")),)),
        ],
    )
    def test_what_the_sdk_requires(
        self, make_ask: Callable[..., Ask], target: str, headers: tuple[tuple[str, str], ...]
    ) -> None:
        """An object with `source`: an id, a `config` object and an array of destinations; `enabled` is not false."""
        reply = make_ask()(target, *headers)
        source = parse_value(reply.body)["source"]
        assert (reply.status, source["id"], source["enabled"]) == (200, "site-key", True)
        assert source["destinations"] == []

    def test_it_reports_nothing_to_rudderstack(self, make_ask: Callable[..., Ask]) -> None:
        collection = parse_value(make_ask()("/sourceConfig/?writeKey=k").body)["source"]["config"]["statsCollection"]
        assert collection == {"errors": {"enabled": False}, "metrics": {"enabled": False}}

    @pytest.mark.parametrize("query", ["", "?writeKey=", "?writeKey=nobody's", "?writeKey=%ff"])
    def test_any_key_gets_it(self, make_ask: Callable[..., Ask], query: str) -> None:
        """A wrong key must not silence an SDK: received requests can be seen and reprocessed."""
        reply = make_ask()(f"/sourceConfig/{query}")
        assert reply.status == 200
        assert parse_value(reply.body)["source"]["id"] is not None


class TestScript:
    """`GET /analytics.js/v1/<writeKey>/analytics.min.js` serves a file that the operator supplies."""

    TARGET = "/analytics.js/v1/site-key/analytics.min.js"
    OPTIONS = ApiOptions(analytics_js=Script(b"window.analytics = [];\n"))

    def test_the_script(self, make_ask: Callable[..., Ask]) -> None:
        reply = make_ask(self.OPTIONS)(self.TARGET)
        headers = dict(reply.headers)
        assert (reply.status, reply.body) == (200, b"window.analytics = [];\n")
        assert headers["content-type"] == "text/javascript; charset=utf-8"
        assert headers["cache-control"] == "public, max-age=300"
        assert headers["access-control-allow-origin"] == "*"

    def test_a_browser_that_has_it(self, make_ask: Callable[..., Ask]) -> None:
        ask = make_ask(self.OPTIONS)
        etag = dict(ask(self.TARGET).headers)["etag"]
        for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
            reply = ask(self.TARGET, ("If-None-Match", known))
            assert (reply.status, reply.body, dict(reply.headers)["etag"]) == (304, b"", etag)
            assert "content-length" not in dict(reply.headers)
        assert ask(self.TARGET, ("If-None-Match", '"other"')).status == 200

    def test_another_script_has_another_tag(self) -> None:
        assert Script(b"a").etag != Script(b"b").etag

    def test_any_key_gets_it(self, make_ask: Callable[..., Ask]) -> None:
        assert make_ask(self.OPTIONS)("/analytics.js/v1/nobody's/analytics.min.js").status == 200

    def test_none_is_configured(self, make_ask: Callable[..., Ask]) -> None:
        reply = make_ask()(self.TARGET)
        assert (reply.status, parse_value(reply.body)["code"]) == (404, "not_found")

    @pytest.mark.parametrize(
        "target",
        ["/analytics.js/v1/analytics.min.js", "/analytics.js/v1/a/b/analytics.min.js", "/analytics.js/v1/a/other.js"],
    )
    def test_another_path(self, make_ask: Callable[..., Ask], target: str) -> None:
        assert make_ask(self.OPTIONS)(target).status == 404


class TestUnavailableStatus:
    """'Browser and Node use their own back-off and ignore Retry-After on 503/507. An option says 429 there too.'"""

    @pytest.mark.parametrize(
        ("cause", "code", "status"),
        [
            (Cause.UNAVAILABLE, "unavailable", 503),
            (Cause.FULL, "disk_full", 507),
            (Cause.OVERLOADED, "overloaded", 429),
        ],
    )
    def test_a_failure_to_store(self, make_ask: Callable[..., Ask], cause: Cause, code: str, status: int) -> None:
        error = unavailable(cause=cause, retry_after=7)
        body = b'{"writeKey": "site-key", "userId": "u", "event": "e"}'
        replies = [
            make_ask(ApiOptions(unavailable_status=configured), FailingSink(error))("/v1/t", method="POST", body=body)
            for configured in (503, 429)
        ]
        assert [reply.status for reply in replies] == [status, 429]
        for reply in replies:
            assert parse_value(reply.body)["code"] == code
            headers = dict(reply.headers)
            assert (headers["retry-after"], headers["x-ratelimit-reset"]) == ("7", "7")

    def test_readiness_is_for_machines(self, make_ask: Callable[..., Ask]) -> None:
        ask = make_ask(ApiOptions(unavailable_status=429), FailingSink(unavailable(cause=Cause.UNAVAILABLE)))
        assert ask("/ready").status == 503

    def test_no_other_status(self) -> None:
        with pytest.raises(ValueError, match="expected 503 or 429"):
            attrs.evolve(ApiOptions(), unavailable_status=500)
