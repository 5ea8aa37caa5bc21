from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import any_bytes, messages
from support import (
    DESTINATIONS,
    KEY,
    RECEIVED_AT,
    SOURCE,
    WITH_KEY,
    CountingIds,
    make_collector,
    outcome,
    read_payload,
    warned,
)

from trackcore import (
    Cause,
    Collector,
    Destination,
    Envelope,
    InvalidMessage,
    InvalidRequest,
    Limits,
    MemorySink,
    Message,
    Origin,
    Outcome,
    Page,
    QuarantinedRequest,
    Reason,
    Receipt,
    RejectedRecord,
    SinkUnavailable,
    Source,
    SourceRegistry,
    Track,
    WriteKey,
    encode_message,
    unstructure_message,
)

BODY = b'{"batch":[{"type":"page","userId":"u","messageId":"a"},{"type":"page"}]}'


@attrs.define
class BrokenSink:
    """Can store nothing."""

    def store(
        self,
        envelopes: Sequence[Envelope] = (),  # noqa: ARG002
        *,
        rejected: Sequence[RejectedRecord] = (),  # noqa: ARG002
        quarantined: Sequence[QuarantinedRequest] = (),  # noqa: ARG002
    ) -> Sequence[Outcome]:
        raise SinkUnavailable(cause=Cause.FULL, detail="the disk is full")

    def check_ready(self) -> None:
        raise SinkUnavailable(cause=Cause.FULL, detail="the disk is full")


@attrs.define
class SteppingClock:
    """Goes on by a fixed step each time it is asked."""

    now: datetime
    step: timedelta

    def __call__(self) -> datetime:
        now = self.now
        self.now += self.step
        return now


class TestReceive:
    def test_good_messages_are_stored_and_bad_ones_kept(self, collector: Collector, sink: MemorySink) -> None:
        receipt = collector.receive(BODY, origin=WITH_KEY)
        assert (receipt.source, receipt.received_at, receipt.accepted) == (SOURCE, RECEIVED_AT, 1)
        assert receipt.outcomes == [Outcome.STORED]
        assert sink.envelopes == list(receipt.envelopes)
        assert [rejection.index for rejection in receipt.rejections] == [1]
        assert list(sink.rejected) == [
            RejectedRecord(
                source="website",
                received_at=RECEIVED_AT,
                code="no_user_anon_id",
                message="a message needs a userId or an anonymousId",
                path="",
                payload=b'{"type":"page"}',
                batch=b"{}",
                endpoint="batch",
            )
        ]

    def test_a_duplicate_is_a_success(self, collector: Collector, sink: MemorySink) -> None:
        collector.receive(BODY, origin=WITH_KEY)
        receipt = collector.receive(BODY, origin=WITH_KEY)
        assert (receipt.accepted, receipt.outcomes) == (1, [Outcome.DUPLICATE])
        assert len(sink.envelopes) == 1

    @pytest.mark.parametrize("origin", [Origin(), Origin(header_key=WriteKey("wrong"))])
    def test_without_a_source_the_request_goes_to_quarantine(
        self, collector: Collector, sink: MemorySink, origin: Origin
    ) -> None:
        origin = attrs.evolve(origin, client_ip="203.0.113.7", client_side=True)
        receipt = collector.receive(BODY, endpoint="batch", origin=origin)
        assert receipt == Receipt(source=None, received_at=RECEIVED_AT)
        assert (receipt.accepted, sink.envelopes, list(sink.rejected)) == (0, [], [])
        assert list(sink.quarantined) == [
            QuarantinedRequest(
                received_at=RECEIVED_AT,
                endpoint="batch",
                write_key=origin.header_key,
                client_ip="203.0.113.7",
                client_side=True,
                payload=BODY,
            )
        ]

    def test_the_clock_is_read_once_for_a_request(self) -> None:
        sink = MemorySink()
        collector = Collector(
            sources=[SOURCE],
            sink=sink,
            clock=SteppingClock(RECEIVED_AT, timedelta(seconds=1)),
            new_message_id=CountingIds(),
        )
        receipt = collector.receive(
            b'{"batch":[{"type":"page","userId":"u"},{"type":"page","userId":"u"},1]}', origin=WITH_KEY
        )
        times = {receipt.received_at, *(e.received_at for e in sink.envelopes), *(r.received_at for r in sink.rejected)}
        assert times == {RECEIVED_AT}

    def test_the_endpoint_decides_the_call(self, collector: Collector) -> None:
        receipt = collector.receive(b'{"userId":"u","groupId":"g"}', endpoint="group", origin=WITH_KEY)
        assert [envelope.call for envelope in receipt.envelopes] == ["group"]

    @given(any_bytes(), st.sampled_from([Origin(), WITH_KEY, Origin(query_key=KEY)]))
    def test_any_bytes_give_a_receipt_or_invalid_request(self, body: bytes, origin: Origin) -> None:
        found = outcome(lambda: make_collector().receive(body, origin=origin))
        assert isinstance(found, Receipt | InvalidRequest)

    @pytest.mark.parametrize("body", [BODY, b"{}"])
    @pytest.mark.parametrize("origin", [WITH_KEY])
    def test_when_the_sink_cannot_store_nothing_is_acknowledged(self, body: bytes, origin: Origin) -> None:
        with pytest.raises(SinkUnavailable):
            make_collector(BrokenSink()).receive(body, origin=origin)


class TestRefusedRequests:
    """Each 400'd body of a known source is kept among the rejected."""

    @pytest.mark.parametrize(
        ("body", "code", "path"),
        [
            (b"", "invalid_json", ""),
            (b"{", "invalid_json", ""),
            (b'{"batch":[NaN]}', "invalid_json", ""),
            (b'{"batch":["\xff"]}', "invalid_json", ""),
            (b'{"\xff":1}', "invalid_json", ""),
            (b"[]", "body_not_object", ""),
            (b"{}", "batch_not_array", "batch"),
        ],
    )
    def test_it_is_kept_as_received(
        self, collector: Collector, sink: MemorySink, body: bytes, code: str, path: str
    ) -> None:
        with pytest.raises(InvalidRequest) as caught:
            collector.receive(body, origin=WITH_KEY)
        assert caught.value.reason == code
        assert list(sink.rejected) == [
            RejectedRecord(
                source="website",
                received_at=RECEIVED_AT,
                code=code,
                message=caught.value.detail,
                path=path,
                payload=body,
                endpoint="batch",
            )
        ]

    def test_a_body_that_is_too_large_is_kept_up_to_the_limit(self, sink: MemorySink) -> None:
        collector = make_collector(sink, limits=Limits(request_bytes=20))
        with pytest.raises(InvalidRequest):
            collector.receive(BODY, origin=WITH_KEY)
        assert [record.payload for record in sink.rejected] == [BODY[:20]]

    @pytest.mark.parametrize(
        ("body", "origin"),
        [
            (b"[", Origin(query_key=KEY)),
            (b'{"writeKey":"abc123","batch":5}', Origin()),
            (b'\xef\xbb\xbf{"writeKey":"abc123","batch":5}', Origin()),
        ],
    )
    def test_its_source_may_be_named_anywhere(
        self, collector: Collector, sink: MemorySink, body: bytes, origin: Origin
    ) -> None:
        with pytest.raises(InvalidRequest):
            collector.receive(body, origin=origin)
        assert len(sink.rejected) == 1

    @pytest.mark.parametrize(
        "body", [b"[", b'{"writeKey":"wrong"}', b'{"writeKey":"\xff"}', b'{"writeKey":["abc123"]}']
    )
    def test_without_a_source_nothing_is_kept(self, collector: Collector, sink: MemorySink, body: bytes) -> None:
        with pytest.raises(InvalidRequest):
            collector.receive(body)
        assert (list(sink.rejected), list(sink.quarantined)) == ([], [])

    def test_an_adapter_can_keep_what_it_refused_itself(self, collector: Collector, sink: MemorySink) -> None:
        error = InvalidRequest(reason=Reason.INVALID_ENCODING, detail="not gzip")
        pending = collector.prepare_refused(b"\x1f", error, origin=WITH_KEY, endpoint="batch")
        with pytest.raises(InvalidRequest, match="not gzip"):
            collector.store(pending)
        assert [(record.code, record.payload, record.received_at) for record in sink.rejected] == [
            ("invalid_encoding", b"\x1f", RECEIVED_AT)
        ]

    def test_its_time_is_that_of_any_other_request(self, sink: MemorySink) -> None:
        """UTC, in whole milliseconds."""
        local = RECEIVED_AT.astimezone(timezone(timedelta(hours=1))) + timedelta(microseconds=7)
        with pytest.raises(InvalidRequest):
            make_collector(sink, received_at=local).receive(b"[", origin=WITH_KEY)
        assert [record.received_at for record in sink.rejected] == [RECEIVED_AT]


class TestSubmit:
    @given(st.lists(messages(), max_size=4))
    def test_every_message_that_keeps_the_rules_is_stored(self, given_messages: list[Message]) -> None:
        receipt = make_collector().submit(*given_messages, source="website")
        assert receipt.rejections == []
        for message, envelope in zip(given_messages, receipt.envelopes, strict=True):
            wire, kept = unstructure_message(message), read_payload(envelope)
            for name in ("userId", "anonymousId", "properties", "traits", "context", "integrations", "event"):
                assert kept.get(name) == wire.get(name)

    def test_the_same_rules_hold_as_for_any_other(self, collector: Collector, sink: MemorySink) -> None:
        receipt = collector.submit(Page(user_id="u"), Page(), Track(user_id="u", event=""), source="website")
        assert receipt.accepted == 1
        assert [(r.index, r.error.reason) for r in receipt.rejections] == [
            (1, Reason.NO_USER_ANON_ID),
            (2, Reason.EVENT_NOT_DEFINED),
        ]
        assert [record.payload for record in sink.rejected] == [
            encode_message(Page()),
            encode_message(Track(user_id="u", event="")),
        ]

    def test_it_is_one_request_with_one_time(self, collector: Collector) -> None:
        receipt = collector.submit(Page(user_id="u"), Page(user_id="u"), source="website")
        assert [read_payload(envelope)["messageId"] for envelope in receipt.envelopes] == ["server-1", "server-2"]
        assert {envelope.received_at for envelope in receipt.envelopes} == {RECEIVED_AT}

    def test_a_source_without_keys_is_enough(self, sink: MemorySink) -> None:
        collector = make_collector(sink, sources=[Source(name="worker")])
        assert collector.submit(Page(user_id="u"), source="worker").accepted == 1
        assert [envelope.source for envelope in sink.envelopes] == ["worker"]

    def test_an_unknown_source_is_a_mistake(self, collector: Collector) -> None:
        with pytest.raises(LookupError, match="no source is named 'nobody'"):
            collector.submit(Page(user_id="u"), source="nobody")

    def test_a_value_without_json_form_stores_nothing(self, collector: Collector, sink: MemorySink) -> None:
        with pytest.raises(InvalidMessage):
            collector.submit(Page(user_id="u"), Page(user_id="u", properties={"x": object()}), source="website")
        assert sink.envelopes == []

    @pytest.mark.parametrize(("name", "surrogate"), [("Home", []), ("\ud800", ["surrogate_replaced"])])
    @pytest.mark.parametrize(
        ("number", "kept", "not_finite"),
        [
            (1.5, 1.5, []),
            (Decimal("1.5"), "1.5", []),
            *(
                (number, None, ["number_not_finite"])
                for number in (math.nan, math.inf, Decimal("NaN"), Decimal("sNaN"))
            ),
        ],
    )
    def test_what_json_cannot_say_is_replaced_with_a_warning(
        self, number: object, kept: object, not_finite: list[str], name: str, surrogate: list[str]
    ) -> None:
        message = Page(user_id="u", name=name, properties={"x": number})
        (envelope,) = make_collector().submit(message, source="website").envelopes
        assert read_payload(envelope)["properties"] == {"x": kept}
        assert warned(envelope) == not_finite + surrogate

    @pytest.mark.parametrize("name", ["\ufffd", "\\ufffd", "\\ud800"])
    def test_what_only_looks_like_a_surrogate_is_no_reason_to_warn(self, name: str) -> None:
        (envelope,) = make_collector().submit(Page(user_id="u", name=name), source="website").envelopes
        assert read_payload(envelope)["name"] == name
        assert warned(envelope) == []

    def test_deep_nesting_is_a_rejection(self, collector: Collector) -> None:
        deep: Any = 1
        for _ in range(100):
            deep = [deep]
        receipt = collector.submit(Page(user_id="u", properties={"x": deep}), source="website")
        assert [rejection.error.reason for rejection in receipt.rejections] == [Reason.TOO_DEEP]


class TestAsync:
    """Receive one request body as `receive` does, without blocking the event loop."""

    @given(any_bytes())
    def test_the_receipt_and_the_records_are_those_of_receive(self, body: bytes) -> None:
        sinks = MemorySink(), MemorySink()
        receipt = outcome(lambda: make_collector(sinks[0]).receive(body, origin=WITH_KEY))
        assert outcome(lambda: asyncio.run(make_collector(sinks[1]).receive_async(body, origin=WITH_KEY))) == receipt
        assert sinks[0].envelopes == sinks[1].envelopes
        assert sinks[0].rejected == sinks[1].rejected
        assert sinks[0].quarantined == sinks[1].quarantined

    @given(st.lists(messages(), max_size=4))
    def test_submit_async_is_like_submit(self, given_messages: list[Message]) -> None:
        receipt = make_collector().submit(*given_messages, source="website")
        assert asyncio.run(make_collector().submit_async(*given_messages, source="website")) == receipt

    def test_a_request_without_records_is_not_passed_to_the_sink(self) -> None:
        assert asyncio.run(make_collector(BrokenSink()).receive_async(b'{"batch":[]}', origin=WITH_KEY)).accepted == 0

    def test_a_sink_that_only_blocks_is_a_mistake(self) -> None:
        with pytest.raises(TypeError, match=r"BrokenSink has no `store_async`; wrap it: trackcore_asgi.ThreadedSink"):
            asyncio.run(make_collector(BrokenSink()).receive_async(BODY, origin=WITH_KEY))


class TestDestinations:
    def test_a_source_without_a_list_may_use_all(self) -> None:
        collector = make_collector(destinations=DESTINATIONS)
        receipt = collector.submit(Page(user_id="u", integrations={"Mixpanel": False}), source="website")
        assert receipt.envelopes[0].destinations == ("KISSmetrics", "Google Analytics")

    @pytest.mark.parametrize(
        ("names", "expected"), [((), ()), (("KISSmetrics", "Mixpanel"), ("Mixpanel", "KISSmetrics"))]
    )
    def test_a_source_with_a_list_may_use_those(self, names: tuple[str, ...], expected: tuple[str, ...]) -> None:
        source = Source(name="s", destinations=names)
        collector = make_collector(sources=[source], destinations=DESTINATIONS)
        assert collector.submit(Page(user_id="u"), source="s").envelopes[0].destinations == expected

    def test_an_unknown_destination_is_a_mistake(self) -> None:
        source = Source(name="s", destinations=("Mixpanel", "Z", "Y"))
        with pytest.raises(ValueError, match="source 's' names unknown destinations: Y, Z"):
            make_collector(sources=[source], destinations=[Destination(name="Mixpanel")])

    def test_sources_may_be_given_as_a_book(self) -> None:
        book = SourceRegistry([SOURCE])
        collector = Collector(sources=book, sink=MemorySink(), clock=lambda: RECEIVED_AT, new_message_id=CountingIds())
        assert collector.sources is book


class TestRate:
    def test_requests_of_a_source_within_a_second_are_counted(self) -> None:
        collector = Collector(
            sources=[Source(name="a"), Source(name="b")],
            sink=MemorySink(),
            clock=SteppingClock(RECEIVED_AT.replace(microsecond=0), timedelta(milliseconds=300)),
            new_message_id=CountingIds(),
        )
        counts = [collector.submit(source=name).requests_this_second for name in "aabaaa"]
        assert counts == [1, 2, 1, 3, 1, 2]

    def test_too_many_are_never_refused(self) -> None:
        collector = make_collector(limits=Limits(advised_requests_per_second=1))
        assert [collector.submit(source="website").requests_this_second for _ in range(3)] == [1, 2, 3]
