from __future__ import annotations

import pytest
from support import RECEIVED_AT

from trackcore import (
    Cause,
    Envelope,
    MemorySink,
    Outcome,
    QuarantinedRequest,
    RejectedRecord,
    SinkUnavailable,
    WriteKey,
)


def envelope(message_id: str, source: str = "website") -> Envelope:
    return Envelope(
        source=source,
        message_id=message_id,
        call="page",
        user_id="u",
        anonymous_id=None,
        received_at=RECEIVED_AT,
        destinations=(),
        warnings=(),
        payload=b"{}",
    )


def rejected(number: int) -> RejectedRecord:
    return RejectedRecord(
        source="website", received_at=RECEIVED_AT, code="c", message="m", path="", payload=b"%d" % number
    )


def quarantined(number: int) -> QuarantinedRequest:
    return QuarantinedRequest(
        received_at=RECEIVED_AT,
        endpoint="batch",
        write_key=WriteKey("k"),
        client_ip=None,
        client_side=False,
        payload=b"%d" % number,
    )


class TestMemorySink:
    def test_messages_are_kept_in_their_order(self, sink: MemorySink) -> None:
        assert sink.store([envelope("a"), envelope("b")]) == [Outcome.STORED, Outcome.STORED]
        sink.store([envelope("c")])
        assert [kept.message_id for kept in sink.envelopes] == ["a", "b", "c"]

    def test_a_message_id_is_stored_once(self, sink: MemorySink) -> None:
        assert sink.store([envelope("a"), envelope("a")]) == [Outcome.STORED, Outcome.DUPLICATE]
        assert sink.store([envelope("a"), envelope("b")]) == [Outcome.DUPLICATE, Outcome.STORED]
        assert len(sink.envelopes) == 2

    def test_sources_do_not_share_message_ids(self, sink: MemorySink) -> None:
        assert sink.store([envelope("a"), envelope("a", "app")]) == [Outcome.STORED, Outcome.STORED]

    def test_the_same_envelope_again_is_a_duplicate(self, sink: MemorySink) -> None:
        """A caller that tries again hands over the very same object."""
        one = envelope("a")
        assert sink.store([one]) == [Outcome.STORED]
        assert sink.store([one]) == [Outcome.DUPLICATE]
        assert sink.envelopes == [one]

    def test_the_newest_of_the_rejected_and_the_quarantined_are_kept(self) -> None:
        sink = MemorySink(keep_rejected=2)
        outcomes = sink.store(rejected=[rejected(n) for n in range(3)], quarantined=[quarantined(n) for n in range(3)])
        assert outcomes == []
        assert [record.payload for record in sink.rejected] == [b"1", b"2"]
        assert [request.payload for request in sink.quarantined] == [b"1", b"2"]
        assert [(record.seq, record.payload) for record in sink.log.rejected()] == [(2, b"1"), (3, b"2")]
        totals = sink.log.totals()
        assert (totals.rejected, totals.rejected_dropped, totals.quarantined_dropped) == (2, 1, 1)

    def test_it_is_always_ready(self, sink: MemorySink) -> None:
        sink.check_ready()


class TestSinkUnavailable:
    @pytest.mark.parametrize("seconds", [1, 5, 300])
    def test_the_pause_is_between_a_second_and_five_minutes(self, seconds: int) -> None:
        assert SinkUnavailable(cause=Cause.OVERLOADED, detail="d", retry_after=seconds).retry_after == seconds

    @pytest.mark.parametrize("seconds", [0, -1, 301])
    def test_no_other_pause_is_possible(self, seconds: int) -> None:
        with pytest.raises(ValueError, match="retry_after"):
            SinkUnavailable(cause=Cause.OVERLOADED, detail="d", retry_after=seconds)

    def test_the_text_is_the_detail(self) -> None:
        assert str(SinkUnavailable(cause=Cause.FULL, detail="the disk is full")) == "the disk is full"
