"""A disabled source, `enabled = false`: each message is rejected with Segment's `source_disabled`, and kept."""

from __future__ import annotations

import json

import attrs
from hypothesis import given
from strategies import batches
from support import KEY, SOURCE, WITH_KEY, json_bytes, make_collector, take_in
from trackcore_wsgi import TrackingApp
from werkzeug.test import Client

from trackcore import Batch, MemorySink, Reason, Source, Track, encode_batch

OFF = attrs.evolve(SOURCE, enabled=False)
PAGE = {"type": "page", "userId": "u1", "messageId": "m1"}


class TestIntake:
    @given(batches())
    def test_no_message_is_accepted(self, batch: Batch) -> None:
        intake = take_in(encode_batch(batch), sources=[OFF])
        assert intake.envelopes == []
        assert [rejection.index for rejection in intake.rejections] == list(range(len(batch.messages)))
        assert {rejection.error.reason for rejection in intake.rejections} <= {Reason.SOURCE_DISABLED}

    def test_the_error_names_the_source(self) -> None:
        (rejection,) = take_in({"batch": [PAGE], "context": "wrong"}, sources=[OFF]).rejections
        assert (str(rejection.error), rejection.message_id) == ("the source 'website' is disabled", "m1")

    def test_other_sources_go_on(self) -> None:
        sources = [attrs.evolve(OFF, name="other", write_keys=["other"]), SOURCE]
        assert len(take_in({"batch": [PAGE]}, sources=sources).envelopes) == 1

    def test_messages_made_in_process_are_rejected_too(self) -> None:
        sink = MemorySink()
        collector = make_collector(sink, sources=[Source(name="worker", enabled=False)])
        receipt = collector.submit(Track(user_id="u1", event="Paid"), source="worker")
        assert [rejection.error.reason for rejection in receipt.rejections] == [Reason.SOURCE_DISABLED]
        assert (sink.envelopes, [record.code for record in sink.rejected]) == ([], [Reason.SOURCE_DISABLED])

    def test_what_was_kept_is_received_once_the_source_is_enabled(self) -> None:
        sink = MemorySink()
        make_collector(sink, sources=[OFF]).receive(json_bytes({"batch": [PAGE]}), origin=WITH_KEY)
        (record,) = sink.rejected
        receipt = make_collector(sink).reprocess(
            b'{"batch":[%b]}' % record.payload,
            record="rejected:1",
            endpoint="batch",
            origin=WITH_KEY,
            received_at=record.received_at,
        )
        assert receipt.accepted == 1


class TestHttp:
    def test_the_response_is_a_200_that_names_the_code(self) -> None:
        client = Client(TrackingApp(make_collector(sources=[OFF])))
        response = client.post("/v1/batch", data=json_bytes({"batch": [PAGE]}), headers={"X-Write-Key": KEY})
        assert response.status_code == 200
        assert [rejected["code"] for rejected in json.loads(response.data)["rejected"]] == ["source_disabled"]

    def test_a_strict_source_answers_400(self) -> None:
        client = Client(TrackingApp(make_collector(sources=[attrs.evolve(OFF, strict=True)])))
        response = client.post("/v1/page", data=json_bytes(PAGE), headers={"X-Write-Key": KEY})
        assert (response.status_code, json.loads(response.data)["code"]) == (400, "source_disabled")
