"""Each code is produced by a real request, and its explanation read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import attrs
import pytest
from plan_helpers import ORDER, common, plan, rule, track
from support import KEY, RECEIVED_AT, RECEIVED_TEXT, SOURCE, accept, json_bytes, make_collector, read_payload, take_in
from trackcore_wsgi import TrackingApp
from werkzeug.test import Client

from trackcore import (
    CATALOG,
    DEFAULT_LIMITS,
    CatalogEntry,
    ConsentRule,
    Destination,
    Envelope,
    IntakeResult,
    InvalidMessage,
    InvalidRequest,
    JSONObject,
    KeyLocation,
    Limits,
    MemorySink,
    MessageExplanation,
    Origin,
    Pipeline,
    Reason,
    Reception,
    RejectionExplanation,
    Resolver,
    Source,
    SourceRegistry,
    TimeRule,
    Track,
    WarningCode,
    WriteKey,
    explain_message,
    explain_quarantined,
    explain_rejection,
)
from trackcore.explanation.catalog import WARNINGS
from trackcore.explanation.explain import duration_text, explain_error
from trackcore.explanation.rejections import REJECTIONS
from trackcore.plans import Controls, PlanInForce, TrackControls
from trackcore.wire.request import parse_request

SMALL = Limits(request_bytes=2_000, message_bytes=500, batch_messages=2, message_id_chars=10, depth=5)
TRACK = {"type": "track", "userId": "u1", "event": "Bought"}
CONSENT_UPDATED = {**TRACK, "event": "Segment Consent Preference Updated"}
PAGE = {"type": "page", "userId": "u1"}
IDENTIFY = {"type": "identify", "userId": "u1"}
DESTINATIONS = (Destination(name="Mixpanel"), Destination(name="Salesforce", max_age=timedelta(days=5)))


def explanation_of(item: Any, **envelope: Any) -> MessageExplanation:
    """Receive a batch of one message and explain it."""
    return explained(accept(item, destinations=DESTINATIONS, **envelope))


def explained(envelope: Envelope) -> MessageExplanation:
    return explain_message(
        read_payload(envelope),
        source=envelope.source,
        destinations=envelope.destinations,
        warnings=envelope.warnings,
        resolver=Resolver(DESTINATIONS),
        inherited=envelope.inherited,
        found_by=envelope.found_by,
    )


# The body that is refused with each code, and what is found in it.
REFUSED_MESSAGES: Mapping[Reason, tuple[Any, str | None]] = {
    Reason.MESSAGE_TOO_LARGE: ({**TRACK, "text": "x" * 600}, None),
    Reason.TOO_DEEP: ({**TRACK, "properties": {"a": [[[[[[1]]]]]]}}, None),
    Reason.NUMBER_OUT_OF_RANGE: (b'{"type":"track","userId":"u1","event":"e","properties":{"n":1e999}}', None),
    Reason.MESSAGE_NOT_OBJECT: ("track", None),
    Reason.NO_TYPE: ({"userId": "u1"}, "nothing"),
    Reason.UNKNOWN_TYPE: ({"type": "Track", "userId": "u1"}, 'a string: "Track"'),
    Reason.NO_USER_ANON_ID: ({"type": "page", "userId": ""}, None),
    Reason.ID_NOT_STRING: ({**TRACK, "userId": ["u1"]}, 'an array: ["u1"]'),
    Reason.MESSAGE_ID_TOO_LONG: ({**TRACK, "messageId": "12345678901"}, 'a string: "12345678901"'),
    Reason.EVENT_NOT_DEFINED: ({**TRACK, "event": None}, "null"),
    Reason.EVENT_NOT_STRING: ({**TRACK, "event": 5}, "a number: 5"),
    Reason.NO_GROUP_ID: ({"type": "group", "userId": "u1"}, "nothing"),
    Reason.NO_PREVIOUS_ID: ({"type": "alias", "userId": "u1"}, "nothing"),
    Reason.NAME_NOT_STRING: ({**PAGE, "name": {"title": "Home"}}, 'an object: {"title":"Home"}'),
    Reason.CATEGORY_NOT_STRING: ({**PAGE, "category": True}, "a boolean: true"),
    Reason.CONTEXT_NOT_OBJECT: ({**PAGE, "context": "{}"}, 'a string: "{}"'),
    Reason.INTEGRATIONS_NOT_OBJECT: ({**PAGE, "integrations": ["Mixpanel"]}, 'an array: ["Mixpanel"]'),
    Reason.PROPERTIES_NOT_OBJECT: ({**TRACK, "properties": 5}, "a number: 5"),
    Reason.TRAITS_NOT_OBJECT: ({**IDENTIFY, "traits": "a@b.c"}, 'a string: "a@b.c"'),
    Reason.CONSENT_CATEGORYPREFERENCES_SHOULD_EXIST: (CONSENT_UPDATED, "nothing"),
    Reason.CONSENT_CATEGORYPREFERENCES_FIELDS_SHOULD_BE_OBJECT: (
        {**CONSENT_UPDATED, "context": {"consent": {"categoryPreferences": "Ads"}}},
        'a string: "Ads"',
    ),
    Reason.CONSENT_CATEGORYPREFERENCES_FIELDS_SHOULD_BE_BOOL: (
        {**CONSENT_UPDATED, "context": {"consent": {"categoryPreferences": {"Ads": 1}}}},
        'an object: {"Ads":1}',
    ),
    Reason.CONSENT_VERSION_SHOULD_BE_NUMBER: (
        {**CONSENT_UPDATED, "context": {"consent": {"categoryPreferences": {}, "version": "2"}}},
        'a string: "2"',
    ),
    Reason.DEVICE_ADVERTISINGID_SHOULD_BE_STRING: (
        {**CONSENT_UPDATED, "context": {"consent": {"categoryPreferences": {}}, "device": {"advertisingId": 7}}},
        "a number: 7",
    ),
}
REFUSED_BODIES: Mapping[Reason, bytes] = {
    Reason.INVALID_JSON: b'{"batch": [{"type": "track", "value": NaN}]}',
    Reason.BODY_NOT_OBJECT: b'["batch"]',
    Reason.BODY_TOO_LARGE: b'{"batch": [' + b" " * 2_000 + b"]}",
    Reason.BATCH_NOT_ARRAY: b'{"batch": {"type": "track"}}',
}
LIMIT_AND_ACTUAL: Mapping[Reason, tuple[int, int | None, str]] = {
    Reason.BODY_TOO_LARGE: (2_000, 2_013, "bytes"),
    Reason.MESSAGE_TOO_LARGE: (500, len(json.dumps({**TRACK, "text": "x" * 600}, separators=(",", ":"))), "bytes"),
    Reason.TOO_MANY_MESSAGES: (2, 3, "messages"),
    Reason.TOO_DEEP: (5, 7, "levels"),
    Reason.MESSAGE_ID_TOO_LONG: (10, 11, "characters"),
}
HISTORICAL: Mapping[Reason, str | None] = {
    Reason.HISTORICAL_TIME_MISSING: None,
    Reason.HISTORICAL_TIME_UNPARSABLE: "02/01/2015",
}
ELSEWHERE = HISTORICAL.keys() | {
    Reason.PLAN_BLOCKED,
    Reason.PLAN_OMITTED,
    Reason.SOURCE_DISABLED,
    Reason.TOO_MANY_MESSAGES,
    Reason.VALUE_NOT_JSON,
    Reason.INVALID_ENCODING,
    Reason.INCOMPLETE_BODY,
}


def refused(reason: Reason) -> RejectionExplanation:
    """Have a request refused with this code, and explain it."""
    if reason in REFUSED_BODIES:
        body = REFUSED_BODIES[reason]
        with pytest.raises(InvalidRequest) as caught:
            take_in(body, limits=SMALL)
        return explain_error(caught.value, body, source="website", limits=SMALL)
    if reason in REFUSED_MESSAGES:
        item = REFUSED_MESSAGES[reason][0]
        text = item if isinstance(item, bytes) else json.dumps(item, separators=(",", ":")).encode()
        (rejection,) = take_in(b'{"batch":[' + text + b"]}", limits=SMALL).rejections
    elif reason is Reason.SOURCE_DISABLED:
        disabled = attrs.evolve(SOURCE, enabled=False)
        (rejection,) = take_in({"batch": [TRACK]}, sources=[disabled]).rejections
    elif reason is Reason.TOO_MANY_MESSAGES:
        (rejection,) = take_in({"batch": [TRACK, TRACK, TRACK]}, limits=SMALL).rejections
    elif reason is Reason.PLAN_BLOCKED:
        controls = Controls(track=TrackControls(allow_unplanned_events=False))
        (rejection,) = under_plan(track("Other"), controls).rejections
    elif reason is Reason.PLAN_OMITTED:
        controls = Controls(track=TrackControls(allow_unplanned_event_properties=False))
        (rejection,) = under_plan(track(order_id="o", revenue=1, other=1), controls).omitted
    elif reason in HISTORICAL:
        (rejection,) = imported({**TRACK, "timestamp": HISTORICAL[reason]}).rejections
    elif reason is Reason.VALUE_NOT_JSON:
        with pytest.raises(InvalidMessage) as unencodable:
            make_collector().submit(Track(user_id="u1", event="e", properties={"when": object()}), source="website")
        return explain_error(unencodable.value, b"", source="website", limits=SMALL)
    else:
        return refused_over_http(reason)
    return explain_error(rejection.error, rejection.payload, source="website", limits=SMALL)


def under_plan(item: JSONObject, controls: Controls) -> IntakeResult:
    """Take a message in from a source with a tracking plan."""
    pipeline = Pipeline(
        source=Source(name="website"),
        resolver=Resolver([]),
        new_message_id=lambda: "new",
        limits=SMALL,
        plan=PlanInForce(plan=plan(rule("Order Completed", ORDER), COMMON), controls=controls),
    )
    request = parse_request(json.dumps({"batch": [item]}).encode(), "batch", SMALL)
    return pipeline.run(request, Reception(received_at=RECEIVED_AT))


COMMON = common({"properties": {"context": {"properties": {"app": {"type": "object"}}}}})
PLANNED = {
    WarningCode.PLAN_UNPLANNED_EVENT: (track("Other"), "event"),
    WarningCode.PLAN_UNPLANNED_PROPERTY: (track(order_id="o", revenue=1, other=1), "properties.other"),
    WarningCode.PLAN_REQUIRED_MISSING: (track(order_id="o"), "properties.revenue"),
    WarningCode.PLAN_WRONG_TYPE: (track(order_id="o", revenue="1"), "properties.revenue"),
    WarningCode.PLAN_WRONG_VALUE: (track(order_id="o", revenue=-1), "properties.revenue"),
    WarningCode.PLAN_COMMON_RULE: ({**track(order_id="o", revenue=1), "context": {"app": 1}}, "context.app"),
}


def imported(item: JSONObject) -> IntakeResult:
    """Take a message in as an import does."""
    pipeline = Pipeline(
        source=Source(name="website"), resolver=Resolver([]), new_message_id=lambda: "new", limits=SMALL
    )
    request = parse_request(json.dumps({"batch": [item]}).encode(), "batch", SMALL)
    return pipeline.run(request, Reception(received_at=RECEIVED_AT, found_by=KeyLocation.FILE, is_history=True))


def refused_over_http(reason: Reason) -> RejectionExplanation:
    sink = MemorySink()
    body = json.dumps(TRACK).encode()
    announced = {} if reason is Reason.INVALID_ENCODING else {"CONTENT_LENGTH": "1000"}
    headers = {"X-Write-Key": KEY} | ({} if announced else {"Content-Encoding": "br"})
    client = Client(TrackingApp(make_collector(sink)))
    client.post("/v1/track", data=body, headers=headers, environ_overrides=announced)
    (record,) = sink.rejected
    return explain_rejection(
        code=record.code, detail=record.message, path=record.path, payload=record.payload, source=record.source
    )


class TestRejected:
    """For a rejected one: code, wire path, what was found, what is allowed, the limit and the actual size."""

    @pytest.mark.parametrize("reason", Reason)
    def test_each_code_is_produced_and_explained(self, reason: Reason) -> None:
        explanation = refused(reason)
        assert explanation.code == reason
        assert explanation.detail
        assert explanation.entry is REJECTIONS[reason]
        assert explanation.allowed
        assert "{" not in explanation.allowed
        shown = explanation.as_json()
        assert shown["outcome"] == "rejected"
        assert {"title", "meaning", "senders", "remedy", "link", "allowed", "message", "path"} <= shown.keys()
        json.dumps(shown)

    @pytest.mark.parametrize("reason", REFUSED_MESSAGES)
    def test_what_stood_there_is_reported(self, reason: Reason) -> None:
        assert refused(reason).found == REFUSED_MESSAGES[reason][1]

    @pytest.mark.parametrize("reason", LIMIT_AND_ACTUAL)
    def test_the_limit_and_the_size_are_reported(self, reason: Reason) -> None:
        explanation = refused(reason)
        assert (explanation.limit, explanation.actual, explanation.unit) == LIMIT_AND_ACTUAL[reason]

    @pytest.mark.parametrize("reason", [reason for reason in Reason if reason not in LIMIT_AND_ACTUAL])
    def test_nothing_else_has_a_limit(self, reason: Reason) -> None:
        explanation = refused(reason)
        assert (explanation.limit, explanation.unit) == (None, None)

    def test_the_text_around_the_broken_byte_is_reported(self) -> None:
        explanation = refused(Reason.INVALID_JSON)
        assert explanation.position == 38
        assert explanation.excerpt == ('{"batch": [{"type": "track", "value": ', "NaN}]}")

    @pytest.mark.parametrize("text", ['"\\ud800"', "[" * 500 + "]" * 500])
    def test_what_stood_there_is_reported_whatever_stands_beside_it(self, text: str) -> None:
        """A message is explained as it was read: a lone surrogate beside the fault does not hide it."""
        item = b'{"type":"track","userId":"u1","event":5,"properties":{"a":%b}}' % text.encode()
        assert explain_rejection(code=Reason.EVENT_NOT_STRING, detail="", path="event", payload=item).found == (
            "a number: 5"
        )

    def test_the_size_is_that_of_what_was_too_large(self) -> None:
        """The actual size is reported: that of the message itself, or of the fields of its batch."""
        body = b'\xef\xbb\xbf {"userId":"u1","event":"%b"}\n' % (b"x" * 600)
        with pytest.raises(InvalidRequest) as caught:
            take_in(body, endpoint="track", limits=SMALL)
        explanation = explain_rejection(code=caught.value.reason, detail="", path="", payload=body, limits=SMALL)
        assert explanation.actual == caught.value.actual == 626

    @pytest.mark.parametrize(
        ("context", "sent_at"),
        [
            ('{"a":"%s"}' % ("x" * 600), "2026"),
            ('{"a":"\\ud800%s"}' % ("x" * 600), "2026"),
            ("[" * 7 + "]" * 7, "2026"),
            ("[" * 400 + "]" * 400, "2026"),
            ("{}", "x" * 700),
            ('{"a":"%s"}' % ("x" * 300), "x" * 300),
        ],
    )
    def test_the_size_is_that_of_what_the_batch_said_for_all(self, context: str, sent_at: str) -> None:
        body = b'{"batch":[%b],"context":%b,"sentAt":"%b"}' % (
            json.dumps(TRACK).encode(),
            context.encode(),
            sent_at.encode(),
        )
        intake = take_in(body, limits=SMALL)
        (rejection,) = intake.rejections
        explanation = explain_rejection(
            code=rejection.error.reason,
            detail="",
            path="",
            payload=rejection.payload,
            batch=intake.batch_fields,
            limits=SMALL,
        )
        assert explanation.limit is not None
        assert explanation.actual is not None
        assert explanation.actual > explanation.limit
        assert rejection.error.actual in (None, explanation.actual)

    def test_a_size_that_was_not_kept_is_not_reported(self) -> None:
        explanation = explain_rejection(code=Reason.MESSAGE_TOO_LARGE, detail="", path="", payload=b"{}", batch=b"")
        assert explanation.actual is None

    @pytest.mark.parametrize("name", ["writeKey", "write_key"])
    def test_no_write_key_is_reported(self, name: str) -> None:
        """Neither in what stood at the path, nor in the text around the byte, in the key or next to it."""
        batch = json_bytes({"batch": {name: "a-key-that-is-secret"}})
        explanation = explain_rejection(code=Reason.BATCH_NOT_ARRAY, detail="", path="batch", payload=batch)
        assert explanation.found == f'an object: {{"{name}":"a-ke…"}}'
        for broken in (b'{"%b":"a-key-that-\x01-is-secret"}', b'{"n":NaN,"%b":"a-key-that-is-secret"}'):
            payload = broken % name.encode()
            explanation = explain_rejection(code=Reason.INVALID_JSON, detail="", path="", payload=payload)
            assert explanation.excerpt is not None
            assert "a-ke…" in "".join(explanation.excerpt)
            assert "that" not in "".join(explanation.excerpt)
            assert "secret" not in "".join(explanation.excerpt)

    def test_what_was_found_is_cut(self) -> None:
        item = json.dumps({**TRACK, "properties": ["x" * 1_000]}).encode()
        explanation = explain_rejection(code=Reason.PROPERTIES_NOT_OBJECT, detail="", path="properties", payload=item)
        assert explanation.found is not None
        assert len(explanation.found) < 250

    @pytest.mark.parametrize("payload", [b"", b"\xff", b"[" * 10_000, b'{"a":1e999}', b"5", b'"x"'])
    @pytest.mark.parametrize("code", [*Reason, "a_code_of_another_version"])
    def test_any_payload_and_any_code_can_be_explained(self, code: str, payload: bytes) -> None:
        explanation = explain_rejection(code=code, detail="d", path="userId", payload=payload)
        json.dumps(explanation.as_json())


# A message that is kept with each warning, and the path that it names.
WARNED_MESSAGES: Mapping[WarningCode, tuple[Any, str]] = {
    WarningCode.ID_FROM_NUMBER: ({**TRACK, "userId": 42}, "userId"),
    WarningCode.SURROGATE_REPLACED: (b'{"type":"track","userId":"u1","event":"\\ud800"}', ""),
    WarningCode.TIMESTAMP_UNPARSABLE: ({**TRACK, "timestamp": "yesterday"}, "timestamp"),
    WarningCode.TIMESTAMP_WITHOUT_OFFSET: ({**TRACK, "timestamp": "2020-01-01T00:00:00"}, "timestamp"),
    WarningCode.FIELD_NEAR_MISS: ({**TRACK, "sent_at": "2020-01-01T00:00:00Z"}, "sent_at"),
    WarningCode.TIMESTAMP_OUT_OF_RANGE: (
        {**TRACK, "timestamp": "0001-01-01T00:00:00Z", "sentAt": "2020-01-02T12:00:00Z"},
        "timestamp",
    ),
    WarningCode.SENT_AT_UNPARSABLE: ({**TRACK, "sentAt": "now", "timestamp": "2020-01-01T00:00:00Z"}, "sentAt"),
    WarningCode.WRITE_KEY_MISMATCH: ({**TRACK, "writeKey": "another"}, "writeKey"),
    WarningCode.INTEGRATION_IGNORED: ({**TRACK, "integrations": {"Mixpanel": "true"}}, "integrations.Mixpanel"),
    WarningCode.INTEGRATION_SAYS_NO: (
        {**TRACK, "integrations": {"Mixpanel": {"enabled": False}}},
        "integrations.Mixpanel",
    ),
    WarningCode.INTEGRATION_CASE: ({**TRACK, "integrations": {"mixpanel": False}}, "integrations.mixpanel"),
}


class TestWarnings:
    @pytest.mark.parametrize("warned", WARNED_MESSAGES)
    def test_each_warning_is_produced_and_explained(self, warned: WarningCode) -> None:
        item, path = WARNED_MESSAGES[warned]
        (remark,) = explanation_of(item).warnings
        assert (remark.code, remark.path) == (warned, path)
        assert remark.entry is WARNINGS[warned]
        assert {"title", "meaning", "senders", "remedy", "link", "message"} <= remark.as_json().keys()

    @pytest.mark.parametrize("warned", PLANNED)
    def test_each_violation_is_a_warning(self, warned: WarningCode) -> None:
        item, path = PLANNED[warned]
        (envelope,) = under_plan(item, Controls()).envelopes
        (remark,) = explained(envelope).warnings
        assert (remark.code, remark.path, remark.entry) == (warned, path, WARNINGS[warned])

    def test_the_time_of_an_imported_message_is_explained_by_no_clock(self) -> None:
        item = {**TRACK, "timestamp": "2015-12-12T19:11:01Z", "sentAt": "2015-12-12T20:11:01Z"}
        (envelope,) = imported(item).envelopes
        explanation = explain_message(
            json.loads(envelope.payload),
            source="website",
            destinations=(),
            warnings=(),
            resolver=Resolver([]),
            found_by=envelope.found_by,
        )
        assert (explanation.time.rule, explanation.time.clock_skew) == (TimeRule.ORIGINAL, None)
        assert "imported from a file" in explanation.time.sentence

    def test_a_repaired_message_says_so(self) -> None:
        receipt = make_collector().reprocess(
            json.dumps(TRACK).encode(),
            record="quarantine:1",
            endpoint="track",
            origin=Origin(header_key=KEY),
            received_at=RECEIVED_AT,
        )
        (remark,) = explained(receipt.envelopes[0]).warnings
        assert (remark.code, remark.entry) == (WarningCode.REPAIRED, WARNINGS[WarningCode.REPAIRED])

    def test_a_number_that_is_not_finite_is_a_warning_of_messages_made_in_python(self) -> None:
        message = Track(user_id="u", event="e", properties={"price": [1, math.inf], "rate": math.nan})
        (envelope,) = make_collector().submit(message, source="website").envelopes
        (remark,) = explained(envelope).warnings
        assert (remark.code, remark.path) == (WarningCode.NUMBER_NOT_FINITE, "properties.price[1]")
        assert "2 places" in envelope.warnings[0].message
        assert remark.entry is WARNINGS[WarningCode.NUMBER_NOT_FINITE]

    def test_each_warning_is_tried(self) -> None:
        assert {*WARNED_MESSAGES, *PLANNED, WarningCode.REPAIRED, WarningCode.NUMBER_NOT_FINITE} == set(WarningCode)

    def test_a_warning_of_another_version_is_reported_as_it_is(self) -> None:
        warning = attrs.evolve(accept({**TRACK, "userId": 42}).warnings[0])
        object.__setattr__(warning, "code", "a_code_of_another_version")
        explanation = explain_message(TRACK, source="s", destinations=(), warnings=[warning], resolver=Resolver(()))
        assert explanation.warnings[0].entry is None


class TestCatalogue:
    """Every reason code and warning has a page-length entry in one table."""

    def test_each_code_has_exactly_one_entry(self) -> None:
        assert list(REJECTIONS) == [*Reason]
        assert list(WARNINGS) == [*WarningCode]
        assert set(CATALOG) == {*Reason, *WarningCode, "unknown_source"}

    @pytest.mark.parametrize("entry", CATALOG.values(), ids=CATALOG)
    def test_an_entry_says_something(self, entry: CatalogEntry) -> None:
        for text in (entry.title, entry.meaning, entry.senders, entry.remedy):
            assert text.endswith((".", ")"))
            assert "  " not in text
        assert len(entry.meaning) + len(entry.senders) + len(entry.remedy) > 150
        assert entry.link.startswith("https://")
        entry.allowed_within(DEFAULT_LIMITS)

    def test_limits_are_reported_as_they_are(self) -> None:
        assert REJECTIONS[Reason.MESSAGE_TOO_LARGE].allowed_within(SMALL) == "at most 500 bytes"
        assert REJECTIONS[Reason.MESSAGE_TOO_LARGE].allowed_within(DEFAULT_LIMITS) == "at most 32,768 bytes"


class TestTime:
    """The time rule with its numbers: timestamp = receivedAt - (sentAt - originalTimestamp)."""

    def test_a_corrected_time(self) -> None:
        sent, made = "2020-01-01T12:00:10.500Z", "2020-01-01T12:00:05.500Z"
        time = explanation_of({**TRACK, "timestamp": made}, sentAt=sent).time
        assert time.rule is TimeRule.CORRECTED
        assert time.clock_skew == timedelta(seconds=10)
        assert (time.received_at, time.sent_at, time.original_timestamp) == (RECEIVED_TEXT, sent, made)
        assert time.timestamp == "2020-01-01T11:59:55.500Z"
        assert "10 s ahead" in time.sentence
        assert "5 s old" in time.sentence
        assert time.as_json()["clockSkewSeconds"] == 10

    @pytest.mark.parametrize(
        ("item", "rule", "words"),
        [
            (TRACK, TimeRule.RECEIVED, "is missing"),
            ({**TRACK, "timestamp": "yesterday"}, TimeRule.RECEIVED, "could not be parsed"),
            ({**TRACK, "timestamp": "2020-01-01T00:00:00Z"}, TimeRule.ORIGINAL, "sentAt is missing"),
            (
                {**TRACK, "timestamp": "2020-01-01T00:00:00Z", "sentAt": "now"},
                TimeRule.ORIGINAL,
                "sentAt could not be parsed",
            ),
            (WARNED_MESSAGES[WarningCode.TIMESTAMP_OUT_OF_RANGE][0], TimeRule.UNREPRESENTABLE, "years 1 to 9999"),
            (
                {**TRACK, "timestamp": "2020-01-01T12:00:01Z", "sentAt": "2020-01-01T12:00:00Z"},
                TimeRule.CORRECTED,
                "in the future",
            ),
        ],
    )
    def test_each_rule_has_its_sentence(self, item: Any, rule: TimeRule, words: str) -> None:
        time = explanation_of(item).time
        assert time.rule is rule
        assert words in time.sentence

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [(0.25, "250 ms"), (0.9996, "1 s"), (-3.5, "3.5 s"), (720, "12 min"), (18_720, "5.2 h"), (267_840, "3.1 days")],
    )
    def test_durations_are_in_a_unit_that_suits_them(self, seconds: float, text: str) -> None:
        assert duration_text(timedelta(seconds=seconds)) == text


class TestDestinations:
    """Each destination chosen or not, and by which key."""

    @pytest.mark.parametrize(
        ("integrations", "expected"),
        [
            ({}, (True, "by_default", None)),
            ({"All": False}, (False, "by_all", "integrations.All")),
            ({"All": False, "Mixpanel": True}, (True, "by_name", "integrations.Mixpanel")),
            ({"Mixpanel": {"id": 1}}, (True, "by_options", "integrations.Mixpanel")),
        ],
    )
    def test_the_key_that_decided(self, integrations: Any, expected: Any) -> None:
        explanation = explanation_of({**TRACK, "integrations": integrations}).destinations[0]
        assert (explanation.chosen, explanation.because, explanation.key) == expected
        assert explanation.options == ({"id": 1} if explanation.because == "by_options" else None)

    @pytest.mark.parametrize(
        ("unknown", "context", "because", "sentence"),
        [
            (
                "allow",
                {"consent": {"categoryPreferences": {"Ads": False}}},
                ("no_consent", "context.consent.categoryPreferences"),
                "consent comes before integrations, and context.consent.categoryPreferences does not give it for 'Ads'",
            ),
            (
                "deny",
                {},
                ("consent_unknown", "context.consent"),
                "the message does not state consent, and this destination needs it stated for 'Ads'",
            ),
        ],
    )
    def test_no_consent(self, unknown: str, context: JSONObject, because: tuple[str, str], sentence: str) -> None:
        some = [Destination(name="Ads Inc", consent=ConsentRule(categories=["Ads"], unknown=unknown))]
        envelope = accept({**TRACK, "context": context, "integrations": {}}, destinations=some)
        (explanation,) = explain_message(
            read_payload(envelope), source="website", destinations=(), warnings=(), resolver=Resolver(some)
        ).destinations
        assert (explanation.chosen, explanation.because, explanation.key) == (False, *because)
        assert explanation.sentence == sentence

    @pytest.mark.parametrize("integrations", [{}, {"All": True}])
    def test_a_destination_that_is_off_by_default(self, integrations: JSONObject) -> None:
        some = [Destination(name="Salesforce", default="off")]
        envelope = accept({**TRACK, "integrations": integrations}, destinations=some)
        (explanation,) = explain_message(
            read_payload(envelope), source="website", destinations=(), warnings=(), resolver=Resolver(some)
        ).destinations
        assert (explanation.chosen, explanation.because, explanation.key) == (False, "opt_in", None)
        assert explanation.sentence == "it is off by default, and integrations.Salesforce does not select it"

    def test_too_old_a_message(self) -> None:
        explanation = explanation_of({**TRACK, "timestamp": "2019-12-01T00:00:00Z"}).destinations[1]
        assert (explanation.destination, explanation.chosen, explanation.because) == ("Salesforce", False, "too_old")
        assert (
            explanation.sentence
            == "it accepts messages of at most 5 days, and this one was 31.5 days old when received"
        )

    def test_what_was_decided_stands_where_the_configuration_has_changed(self) -> None:
        explanation = explain_message(
            TRACK, source="website", destinations=("Gone",), warnings=(), resolver=Resolver(DESTINATIONS)
        )
        assert [(each.destination, each.chosen, each.because) for each in explanation.destinations] == [
            ("Mixpanel", False, "configuration_changed"),
            ("Salesforce", False, "configuration_changed"),
            ("Gone", True, "configuration_changed"),
        ]


class TestMessage:
    def test_ids_that_came_as_numbers_are_named(self) -> None:
        explanation = explanation_of({**TRACK, "userId": 42, "messageId": "m1"})
        assert explanation.ids == {"messageId": "m1", "userId": "42"}
        assert explanation.coerced == ("userId",)

    @pytest.mark.parametrize(
        ("origin", "body", "endpoint", "found_by", "sentence"),
        [
            (
                Origin(header_key=KEY, query_key=KEY),
                {"batch": [PAGE], "writeKey": KEY},
                "batch",
                "header",
                "Authorization",
            ),
            (
                Origin(query_key=KEY),
                {"batch": [{**PAGE, "writeKey": KEY}], "writeKey": KEY},
                "batch",
                "body",
                "the batch",
            ),
            (
                Origin(query_key=KEY),
                {"batch": [PAGE, {**PAGE, "writeKey": KEY}]},
                "batch",
                "message",
                "one of its batch",
            ),
            (Origin(query_key=KEY), {**PAGE, "writeKey": KEY}, "page", "message", "message"),
            (Origin(query_key=KEY), {"batch": [PAGE]}, "batch", "query", "query of the address"),
        ],
    )
    def test_where_the_write_key_stood(
        self, origin: Origin, body: Any, endpoint: Any, found_by: str, sentence: str
    ) -> None:
        """R10: Basic user name, else body `writeKey` (envelope, then item), else `?writeKey=`."""
        envelope = take_in(body, origin=origin, endpoint=endpoint).envelopes[0]
        explanation = explained(envelope)
        assert (envelope.found_by, explanation.found_by) == (found_by, found_by)
        assert sentence in explanation.source_because
        assert explanation.as_json()["source"]["foundBy"] == found_by

    def test_what_was_made_in_process_or_received_again(self) -> None:
        sink = MemorySink()
        collector = make_collector(sink=sink)
        collector.submit(Track(user_id="u", event="e"), source="website")
        origin = Origin(header_key=KEY)
        collector.reprocess(
            json.dumps(PAGE).encode(), record="rejected:1", endpoint="page", origin=origin, received_at=RECEIVED_AT
        )
        assert [envelope.found_by for envelope in sink.envelopes] == ["process", "record"]
        assert "in the server process" in explained(sink.envelopes[0]).source_because
        assert "reprocessed" in explained(sink.envelopes[1]).source_because

    def test_where_that_was_not_kept(self) -> None:
        explanation = explain_message(PAGE, source="s", destinations=(), warnings=(), resolver=Resolver(()))
        assert explanation.found_by is None
        assert (
            explanation.source_because
            == "the write key of the request belongs to it, or the message was made in process"
        )

    def test_a_key_that_lost_is_mentioned(self) -> None:
        assert "another" in explanation_of({**TRACK, "writeKey": "another"}).source_because
        assert "another" not in explanation_of({**TRACK, "writeKey": KEY}).source_because

    def test_what_came_from_the_batch_is_reported(self) -> None:
        explanation = explain_message(
            TRACK, source="s", destinations=(), warnings=(), resolver=Resolver(()), inherited=["context.device"]
        )
        assert explanation.as_json()["inherited"] == ["context.device"]

    def test_a_duplicate_names_the_other(self) -> None:
        explanation = explain_message(
            TRACK, source="s", destinations=(), warnings=(), resolver=Resolver(()), duplicate_of=7
        )
        assert explanation.as_json()["outcome"] == "duplicate"
        assert explanation.as_json()["duplicateOf"] == 7


class TestQuarantined:
    BOOK = SourceRegistry([Source(name="website", write_keys=["a-key-of-the-website"])])

    def test_a_key_that_is_known_by_now(self) -> None:
        explanation = explain_quarantined("a-key-of-the-website", self.BOOK)
        assert explanation.source_now == "website"
        assert explanation.write_key == "a-key-of-the-website"
        assert "can be reprocessed" in explanation.as_json()["message"]

    def test_another_key_in_its_body_that_is_known_by_now(self) -> None:
        """It would be found too, were the request received again."""
        keys = [WriteKey("not this one"), WriteKey("a-key-of-the-website")]
        assert explain_quarantined("staging", self.BOOK, keys).source_now == "website"

    @pytest.mark.parametrize("key", [None, "nobody's-key-at-all"])
    def test_a_key_that_is_not(self, key: str | None) -> None:
        shown = explain_quarantined(key, self.BOOK).as_json()
        assert shown["sourceNow"] is None
        assert "nobody's-key-at-all" not in json.dumps(shown)


class TestReceivingAgain:
    """It goes through intake with its original receivedAt, and is marked as repaired."""

    def test_the_first_time_of_reception_stands_and_the_mark_is_set(self) -> None:
        sink = MemorySink()
        earlier = RECEIVED_AT - timedelta(days=3)
        body = json.dumps({"batch": [TRACK], "writeKey": KEY}).encode()
        receipt = make_collector(sink).reprocess(
            body, record="quarantine:1", endpoint="batch", origin=Origin(), received_at=earlier
        )
        assert [str(outcome) for outcome in receipt.outcomes] == ["stored"]
        (envelope,) = sink.envelopes
        assert envelope.received_at == earlier
        assert [warning.code for warning in envelope.warnings] == [WarningCode.REPAIRED]
        assert envelope.message_id.startswith("repaired-")

    def test_twice_gives_duplicates(self) -> None:
        sink = MemorySink()
        collector = make_collector(sink)
        body = json.dumps({"batch": [TRACK, TRACK], "writeKey": KEY}).encode()
        for _ in range(2):
            receipt = collector.reprocess(
                body, record="quarantine:1", endpoint="batch", origin=Origin(), received_at=RECEIVED_AT
            )
        assert [str(outcome) for outcome in receipt.outcomes] == ["duplicate", "duplicate"]
        assert len(sink.envelopes) == 2
        collector.reprocess(body, record="quarantine:2", endpoint="batch", origin=Origin(), received_at=RECEIVED_AT)
        assert len(sink.envelopes) == 4, "another record with the same bytes is another request"

    def test_what_is_refused_again_is_not_kept_again(self) -> None:
        sink = MemorySink()
        collector = make_collector(sink)
        again = {"record": "r:1", "origin": Origin(header_key=KEY), "received_at": RECEIVED_AT}
        receipt = collector.reprocess(b'{"batch":[{}]}', endpoint="batch", **again)  # type: ignore[arg-type]
        assert len(receipt.rejections) == 1
        with pytest.raises(InvalidRequest):
            collector.reprocess(b"{", endpoint="batch", **again)  # type: ignore[arg-type]
        unknown = Origin(header_key=WriteKey("nobody's"))
        receipt = collector.reprocess(
            json.dumps(TRACK).encode(), record="r:1", endpoint="track", origin=unknown, received_at=RECEIVED_AT
        )
        assert receipt.source is None
        assert (sink.envelopes, list(sink.rejected), list(sink.quarantined)) == ([], [], [])
