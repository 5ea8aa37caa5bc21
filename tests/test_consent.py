"""Consent in both dialects: each row of the two tables, the laws, and the event that announces preferences."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from strategies import integrations, json_values
from support import accept, json_bytes, read_payload, reject, take_in

from trackcore import ConsentRule, DecisionReason, Destination, JSONObject, Reason, Refusal, Resolver
from trackcore.consent import UPDATED
from trackcore.integrations import resolve_destinations

PAGE = {"type": "page", "userId": "u1"}
CATEGORIES = ("ad", "analytics", "functional")
NO: JSONObject = {}


def needs(*categories: str, **settings: Any) -> ConsentRule:
    return ConsentRule(categories=categories, **settings)


def selected(context: JSONObject, flags: JSONObject, **rules: ConsentRule | None) -> set[str]:
    """Return the destinations that a received message goes to; the rules are by the names of destinations."""
    destinations = [Destination(name=name.replace("_", "-"), consent=rule) for name, rule in rules.items()]
    return set(accept({**PAGE, "context": context, "integrations": flags}, destinations=destinations).destinations)


def preferences(**granted: Any) -> JSONObject:
    return {"consent": {"categoryPreferences": granted}}


MAPPED = {"facebook": needs("ad"), "amplitude": needs("analytics"), "google_ads": needs("ad"), "crm": None}
TWICE_MAPPED = {"facebook": needs("ad", "analytics"), "amplitude": needs("analytics"), "google_ads": needs("ad")}
FLAGS = {"facebook": True, "amplitude": False}


class TestSegmentsTable:
    """Each row of https://segment.com/docs/privacy/consent-management/consent-in-segment-connections/ ."""

    @pytest.mark.parametrize("context", [{}, {"consent": {}}])
    def test_no_or_empty_consent_and_no_integrations(self, context: JSONObject) -> None:
        """'Data flows to all destinations.'"""
        assert selected(context, NO, **MAPPED) == {"facebook", "amplitude", "google-ads", "crm"}

    def test_empty_preferences_and_no_integrations(self) -> None:
        """'Data does NOT flow to any mapped destinations - consent is considered to be false for all categories.'"""
        assert selected(preferences(), NO, **MAPPED) == {"crm"}

    def test_no_consent_beside_integrations(self) -> None:
        """'Data flows to the destinations that are true in the integrations object.'"""
        assert selected({}, {"All": False, **FLAGS}, **MAPPED) == {"facebook"}

    @pytest.mark.parametrize("context", [{"consent": {}}, {"consent": []}, preferences()])
    def test_empty_consent_beside_integrations(self, context: JSONObject) -> None:
        """'Data does NOT flow to any mapped destinations [...] flows to all destinations NOT mapped'."""
        assert selected(context, FLAGS, **MAPPED) == {"crm"}

    def test_categories_that_no_destination_has(self) -> None:
        """'Data flows to all destinations, as all destinations are unmapped. If integrations are present ...'"""
        unmapped = dict.fromkeys(MAPPED)
        stated = preferences(ad=True, analytics=False)
        assert selected(stated, NO, **unmapped) == {"facebook", "amplitude", "google-ads", "crm"}
        assert selected(stated, FLAGS, **unmapped) == {"facebook", "google-ads", "crm"}

    def test_one_category_is_granted(self) -> None:
        """'Data flows to all ad destinations (Facebook and Google Ads). No data flows to analytics destinations.'"""
        assert selected(preferences(ad=True, analytics=False), NO, **MAPPED) == {"facebook", "google-ads", "crm"}

    def test_integrations_do_not_overrule_consent(self) -> None:
        """'Data flows to all ad destinations, even though Google Ads is not present in the integrations object.'"""
        stated = preferences(ad=True, analytics=False)
        assert selected(stated, FLAGS, **MAPPED) == {"facebook", "google-ads", "crm"}
        assert selected(stated, {"amplitude": True}, **MAPPED) == {"facebook", "google-ads", "crm"}

    def test_integrations_exclude_what_consent_allows(self) -> None:
        """'Data only flows to Google Ads and not to Facebook, which is false in the integrations object.'"""
        flags = {"facebook": False, "amplitude": False}
        assert selected(preferences(ad=True, analytics=False), flags, **MAPPED) == {"google-ads", "crm"}

    def test_all_its_categories_are_true(self) -> None:
        """'All its categories true: sent', with categories or without."""
        assert selected(preferences(ad=True, analytics=True), NO, **MAPPED) == {*MAPPED, "google-ads"} - {"google_ads"}

    @pytest.mark.parametrize(
        ("ad", "analytics", "expected"),
        [
            (True, False, {"google-ads"}),
            (True, True, {"google-ads", "facebook"}),
            (False, True, set()),
        ],
    )
    def test_several_categories(self, ad: bool, analytics: bool, expected: set[str]) -> None:
        """'When destinations are mapped to multiple categories, data only flows if consent is true for all.'"""
        assert selected(preferences(ad=ad, analytics=analytics), FLAGS, **TWICE_MAPPED) == expected

    def test_a_category_that_the_consent_manager_does_not_have(self) -> None:
        """'Data will not flow to destinations mapped to the functional category.'"""
        assert selected(preferences(ad=True), NO, crm=needs("functional"), facebook=needs("ad")) == {"facebook"}

    @pytest.mark.parametrize("value", ["true", 1, "granted", None, [], {}])
    def test_only_true_grants(self, value: Any) -> None:
        """Preferences are booleans, so nothing else is consent."""
        assert selected(preferences(ad=value), NO, facebook=needs("ad")) == set()

    @pytest.mark.parametrize("value", ["ad", ["ad"], 1, False])
    def test_preferences_that_are_no_object_grant_nothing(self, value: Any) -> None:
        assert selected({"consent": {"categoryPreferences": value}}, NO, facebook=needs("ad"), crm=None) == {"crm"}

    def test_categories_are_case_sensitive(self) -> None:
        assert selected(preferences(Ad=True), NO, facebook=needs("ad")) == set()


class TestRudderStacksTable:
    """The rules of `context.consentManagement`."""

    def goes_to(self, **management: Any) -> set[str]:
        every, some = needs("a", "b"), needs("a", "b", any_suffices=True)
        return selected({"consentManagement": management}, NO, every=every, some=some, free=None)

    @pytest.mark.parametrize("denied", [[], ["", ""], None, "a", {"a": True}, [1, None]])
    def test_no_denied_ids(self, denied: Any) -> None:
        """'No denied ids -> nothing filtered.'"""
        assert self.goes_to(deniedConsentIds=denied, allowedConsentIds=["c"]) == {"every", "some", "free"}

    @pytest.mark.parametrize(
        ("denied", "expected"), [(["a"], {"some", "free"}), (["a", "b"], {"free"}), (["c"], {"every", "some", "free"})]
    )
    @pytest.mark.parametrize("strategy", ["and", "or", None])
    def test_the_provider_custom(self, strategy: str | None, denied: list[str], expected: set[str]) -> None:
        """'Provider custom -> the destination's strategy.'"""
        found = self.goes_to(provider="custom", resolutionStrategy=strategy, deniedConsentIds=denied)
        assert found == expected

    @pytest.mark.parametrize("provider", ["oneTrust", "ketch", "iubenda"])
    @pytest.mark.parametrize(
        ("strategy", "denied", "expected"),
        [
            ("or", ["a"], {"every", "some", "free"}),
            ("or", ["a", "b", "c"], {"free"}),
            ("and", ["a"], {"free"}),
            ("and", ["c"], {"every", "some", "free"}),
        ],
    )
    def test_another_provider(self, provider: str, strategy: str, denied: list[str], expected: set[str]) -> None:
        """'Else the message's. or: drop only if all configured ids are denied. and: drop if any is.'"""
        assert self.goes_to(provider=provider, resolutionStrategy=strategy, deniedConsentIds=denied) == expected

    def test_the_old_settings_of_destinations(self) -> None:
        """'Old: OneTrust `oneTrustCookieCategories` as and; Ketch `ketchConsentPurposes` as or': as `all` and `any`."""
        assert self.goes_to(deniedConsentIds=["a"]) == {"some", "free"}
        assert self.goes_to(deniedConsentIds=["a", "b"]) == {"free"}

    @pytest.mark.parametrize("strategy", [None, "", "AND", 1, ["or"]])
    def test_a_strategy_that_is_none(self, strategy: Any) -> None:
        """The rule of the destination counts, whose default is `and`."""
        found = self.goes_to(provider="oneTrust", resolutionStrategy=strategy, deniedConsentIds=["a"])
        assert found == {"some", "free"}


BY_UNKNOWN = {"open": needs("ad"), "shut": needs("ad", unknown="deny"), "free": None}


class TestUnknown:
    """`unknown = "allow" | "deny"` for messages without consent."""

    @pytest.mark.parametrize(
        "context",
        [
            {},
            {"consent": {}},
            {"consent": None},
            {"consent": "ad"},
            {"consentManagement": {}},
            {"consentManagement": {"deniedConsentIds": [], "allowedConsentIds": []}},
        ],
    )
    def test_a_message_without_consent(self, context: JSONObject) -> None:
        assert selected(context, NO, **BY_UNKNOWN) == {"open", "free"}

    def test_a_category_that_the_lists_do_not_mention(self) -> None:
        mentions = {"consentManagement": {"allowedConsentIds": ["other"]}}
        assert selected(mentions, NO, **BY_UNKNOWN) == {"open", "free"}
        allows = {"consentManagement": {"allowedConsentIds": ["ad"]}}
        assert selected(allows, NO, **BY_UNKNOWN) == {"open", "shut", "free"}

    def test_both_dialects_must_allow(self) -> None:
        granted, denied = preferences(ad=True), {"consentManagement": {"deniedConsentIds": ["ad"]}}
        assert selected(granted, NO, **BY_UNKNOWN) == {"open", "shut", "free"}
        assert selected({**granted, **denied}, NO, **BY_UNKNOWN) == {"free"}


class TestDecision:
    """Each decision has its reason and the categories that are missing."""

    def decide(self, context: JSONObject, rule: ConsentRule) -> tuple[str, Refusal | None]:
        (decision,) = resolve_destinations({"a": {"x": 1}}, [Destination(name="a", consent=rule)], context).decisions
        assert decision.chosen is (decision.refusal is None)
        return decision.because, decision.refusal

    def test_what_is_missing(self) -> None:
        refusal = Refusal(path="context.consent.categoryPreferences", categories=("analytics",))
        found = self.decide(preferences(ad=True), needs("ad", "analytics"))
        assert found == (DecisionReason.NO_CONSENT, refusal)

    def test_what_is_denied(self) -> None:
        refusal = Refusal(path="context.consentManagement", categories=("ad",))
        context = {"consentManagement": {"deniedConsentIds": ["ad", "b"]}}
        assert self.decide(context, needs("ad", "analytics")) == (DecisionReason.NO_CONSENT, refusal)

    def test_what_is_unknown(self) -> None:
        refusal = Refusal(path="context.consent", categories=("ad",), is_unknown=True)
        assert self.decide({}, needs("ad", unknown="deny")) == (DecisionReason.CONSENT_UNKNOWN, refusal)

    def test_integrations_decide_what_consent_allows(self) -> None:
        assert self.decide(preferences(ad=True), needs("ad")) == (DecisionReason.BY_OPTIONS, None)


def rules() -> SearchStrategy[ConsentRule | None]:
    return st.none() | st.builds(
        ConsentRule,
        categories=st.lists(st.sampled_from(CATEGORIES), min_size=1, unique=True),
        any_suffices=st.booleans(),
        unknown=st.sampled_from(["allow", "deny"]),
    )


def consents() -> SearchStrategy[JSONObject]:
    """Return contexts that state consent in both dialects, well-formed or not."""
    granted = st.dictionaries(st.sampled_from(CATEGORIES), st.booleans() | json_values())
    ids = st.lists(st.sampled_from(CATEGORIES) | json_values(), max_size=3) | json_values()
    management = st.fixed_dictionaries(
        {},
        optional={
            "allowedConsentIds": ids,
            "deniedConsentIds": ids,
            "provider": st.sampled_from(["custom", "oneTrust"]) | json_values(),
            "resolutionStrategy": st.sampled_from(["and", "or"]) | json_values(),
        },
    )
    consent = st.fixed_dictionaries({}, optional={"categoryPreferences": granted | json_values()})
    return st.fixed_dictionaries(
        {}, optional={"consent": consent | json_values(), "consentManagement": management | json_values()}
    )


def statements() -> SearchStrategy[JSONObject]:
    """Return contexts that state consent in both dialects, as the SDKs send it."""
    ids = st.lists(st.sampled_from(CATEGORIES), min_size=1)
    management = st.fixed_dictionaries(
        {"allowedConsentIds": ids, "deniedConsentIds": st.just([]) | ids},
        optional={
            "provider": st.sampled_from(["custom", "ketch"]),
            "resolutionStrategy": st.sampled_from(["and", "or"]),
        },
    )
    granted = st.dictionaries(st.sampled_from(CATEGORIES), st.booleans())
    consent = st.fixed_dictionaries({"categoryPreferences": granted})
    return st.fixed_dictionaries({"consent": consent, "consentManagement": management})


NAMES = ("Mixpanel", "KISSmetrics", "Google Analytics")


def destinations() -> SearchStrategy[list[Destination]]:
    made = st.tuples(rules(), rules(), rules())
    return made.map(lambda some: [Destination(name=n, consent=r) for n, r in zip(NAMES, some, strict=True)])


class TestLaws:
    @given(integrations(), consents(), destinations())
    def test_consent_only_ever_removes(self, flags: JSONObject, context: JSONObject, some: list[Destination]) -> None:
        """Without rules the same destinations are selected, and maybe more, with the same reasons and warnings."""
        free = [attrs.evolve(destination, consent=None) for destination in some]
        with_rules, without = (resolve_destinations(flags, each, context) for each in (some, free))
        assert set(with_rules.selected) <= set(without.selected)
        assert with_rules.warnings == without.warnings
        for decision, plain in zip(with_rules.decisions, without.decisions, strict=True):
            if decision.refusal is None:
                assert (decision.chosen, decision.because) == (plain.chosen, plain.because)
            else:
                assert decision.destination.consent is not None
                assert set(decision.refusal.categories) <= set(decision.destination.consent.categories)

    @given(integrations(), statements(), destinations(), st.sampled_from(CATEGORIES))
    def test_who_withdraws_consent_reaches_no_further_destination(
        self, flags: JSONObject, context: JSONObject, some: list[Destination], category: str
    ) -> None:
        granted, lists = context["consent"]["categoryPreferences"], context["consentManagement"]
        before = set(resolve_destinations(flags, some, context).selected)
        for withdrawn in (
            {**context, **preferences(**{**granted, category: False})},
            {**context, "consentManagement": {**lists, "deniedConsentIds": [*lists["deniedConsentIds"], category]}},
        ):
            assert set(resolve_destinations(flags, some, withdrawn).selected) <= before

    @given(integrations(), consents(), consents(), destinations())
    def test_the_stored_message_is_decided_alike(
        self, flags: JSONObject, shared: JSONObject, own: JSONObject, some: list[Destination]
    ) -> None:
        """The pipeline merges consent by itself; a replay and an explanation read it from the stored message."""
        body = {"batch": [{**PAGE, "context": own, "integrations": flags}, PAGE], "context": shared}
        for envelope in take_in(body, destinations=some).envelopes:
            message = read_payload(envelope)
            resolution = Resolver(some).resolve(message.get("integrations"), message.get("context"))
            assert envelope.destinations == resolution.selected
            assert envelope.warnings == resolution.warnings

    @given(integrations(), consents(), destinations())
    def test_the_cache_changes_nothing(self, flags: JSONObject, context: JSONObject, some: list[Destination]) -> None:
        resolver = Resolver(some)
        context = {**context, "locale": "de"}
        assert resolver.resolve(flags, context) == resolver.resolve(flags, context)
        assert resolver.resolve(flags, context) == resolve_destinations(flags, some, context)


class TestBatch:
    """The context of a batch is merged first; the message wins, also with null."""

    DESTINATIONS = (Destination(name="a", consent=needs("ad")),)

    @pytest.mark.parametrize(
        ("own", "goes_to"),
        [
            ({}, ()),
            ({"consent": {"categoryPreferences": {"ad": True}}}, ("a",)),
            ({"consent": {"categoryPreferences": {"analytics": True}}}, ()),
            ({"consent": None}, ("a",)),
            ({"locale": "de"}, ()),
        ],
    )
    def test_consent_of_the_batch(self, own: JSONObject, goes_to: tuple[str, ...]) -> None:
        shared = preferences(ad=False)
        envelope = accept({**PAGE, "context": own}, context=shared, destinations=self.DESTINATIONS)
        assert envelope.destinations == goes_to

    def test_messages_of_one_batch_with_equal_integrations(self) -> None:
        some = [{**PAGE, "context": preferences(ad=granted)} for granted in (True, False, True)]
        found = take_in({"batch": some}, destinations=self.DESTINATIONS).envelopes
        assert [envelope.destinations for envelope in found] == [("a",), (), ("a",)]


UPDATE = {"type": "track", "userId": "u1", "event": UPDATED}


class TestUpdate:
    """A track message "Segment Consent Preference Updated" must state preferences, with Segment's discard codes."""

    @pytest.mark.parametrize(
        ("context", "reason", "path"),
        [
            (None, Reason.CONSENT_CATEGORYPREFERENCES_SHOULD_EXIST, "context.consent.categoryPreferences"),
            ({"consent": {}}, Reason.CONSENT_CATEGORYPREFERENCES_SHOULD_EXIST, "context.consent.categoryPreferences"),
            (
                {"consent": {"categoryPreferences": ["ad"]}},
                Reason.CONSENT_CATEGORYPREFERENCES_FIELDS_SHOULD_BE_OBJECT,
                "context.consent.categoryPreferences",
            ),
            (
                preferences(ad=True, analytics="yes"),
                Reason.CONSENT_CATEGORYPREFERENCES_FIELDS_SHOULD_BE_BOOL,
                "context.consent.categoryPreferences",
            ),
            (
                {"consent": {"categoryPreferences": {}, "version": "2"}},
                Reason.CONSENT_VERSION_SHOULD_BE_NUMBER,
                "context.consent.version",
            ),
            (
                {**preferences(), "device": {"advertisingId": 7}},
                Reason.DEVICE_ADVERTISINGID_SHOULD_BE_STRING,
                "context.device.advertisingId",
            ),
        ],
    )
    def test_a_wrong_one_is_rejected(self, context: JSONObject | None, reason: Reason, path: str) -> None:
        rejection = reject({**UPDATE, "context": context})
        assert (rejection.error.reason, rejection.error.path) == (reason, path)

    @pytest.mark.parametrize(
        "context",
        [
            preferences(),
            preferences(ad=True, analytics=False),
            {"consent": {"categoryPreferences": []}},
            {"consent": {"categoryPreferences": {"ad": True}, "version": 2}, "device": {"advertisingId": "7"}},
            {**preferences(ad=True), "device": None},
        ],
    )
    def test_a_good_one_is_accepted(self, context: JSONObject) -> None:
        assert accept({**UPDATE, "context": context})

    def test_the_batch_may_state_them(self) -> None:
        assert accept(UPDATE, context=preferences(ad=True))
        assert reject({**UPDATE, "context": {"consent": None}}, context=preferences(ad=True))

    @pytest.mark.parametrize("other", [{"event": f"{UPDATED}!"}, {"event": UPDATED.lower()}, {"type": "page"}])
    def test_no_other_message_is_concerned(self, other: JSONObject) -> None:
        assert accept({**UPDATE, **other})

    def test_its_neighbours_are_stored(self) -> None:
        intake = take_in({"batch": [PAGE, UPDATE, PAGE]})
        assert (len(intake.envelopes), [rejection.index for rejection in intake.rejections]) == (2, [1])

    def test_so_is_a_single_call(self) -> None:
        intake = take_in(json_bytes(UPDATE), endpoint="track")
        assert [rejection.error.reason for rejection in intake.rejections] == [
            Reason.CONSENT_CATEGORYPREFERENCES_SHOULD_EXIST
        ]


class TestRule:
    @pytest.mark.parametrize(
        ("settings", "detail"),
        [
            ({"categories": ()}, "at least one"),
            ({"categories": ("",)}, "not empty"),
            ({"categories": ("a", "a")}, "twice"),
            ({"categories": ("a",), "unknown": "no"}, "'allow' or 'deny'"),
        ],
    )
    def test_a_rule_that_makes_no_sense(self, settings: Any, detail: str) -> None:
        with pytest.raises(ValueError, match=detail):
            ConsentRule(**settings)

    def test_one_category_instead_of_a_list(self) -> None:
        with pytest.raises(TypeError, match="not one category"):
            ConsentRule(categories="Analytics")
