"""Uses of the public API, for the type checker only: nothing here is ever run."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, assert_never, assert_type

from trackcore_testing import Fault, RecordedRequest, Tracking

from trackcore import (
    Alias,
    Batch,
    Collector,
    CorrectedTimestamp,
    Decision,
    Destination,
    Endpoint,
    Envelope,
    Group,
    Identify,
    InvalidMessage,
    Log,
    MemorySink,
    Message,
    MessagesRejected,
    Outcome,
    Page,
    Reason,
    Receipt,
    Rejection,
    Resolution,
    Screen,
    Sink,
    SinkUnavailable,
    Source,
    Track,
    WriteKey,
    correct_clock_skew,
    decode_batch,
    decode_message,
    encode_message,
    endpoint_of,
    merge_batch,
    merge_objects,
    parse_timestamp,
    resolve_destinations,
    write_key_from_authorization,
)


def messages_are_a_closed_union(message: Message) -> str:
    match message:
        case Identify(traits=traits) | Group(traits=traits):
            assert_type(traits, dict[str, Any] | None)
            return "traits"
        case Track(event=event):
            assert_type(event, str)
            return event
        case Page(name=name) | Screen(name=name):
            assert_type(name, str | None)
            return name or ""
        case Alias(previous_id=previous_id):
            return previous_id
        case _:
            assert_never(message)


def the_codec() -> None:
    assert_type(decode_message(b"{}", "track"), Message)
    assert_type(decode_batch(b"{}"), Batch)
    assert_type(encode_message(Track(user_id="u", event="e")), bytes)
    decode_message(b"{}", "batch")  # type: ignore[arg-type]
    decode_message("{}")  # type: ignore[arg-type]
    Track(user_id="u")  # type: ignore[call-arg]


def times() -> None:
    page = Page(user_id="u", timestamp=datetime(2012, 12, 2, tzinfo=UTC))
    assert_type(page.timestamp, str | None)
    assert_type(parse_timestamp("x"), datetime | None)
    corrected = correct_clock_skew(received_at=datetime.now(UTC), sent_at=None, original_timestamp=None)
    assert_type(corrected, CorrectedTimestamp)
    assert_type(corrected.clock_skew, timedelta | None)


def merging(batch: Batch) -> None:
    assert_type(merge_batch(batch), tuple[Message, ...])
    assert_type(merge_objects({"a": 1}, {}), dict[str, Any])


def routing() -> None:
    resolution = resolve_destinations({"All": False}, [Destination(name="Mixpanel", max_age=timedelta(days=5))])
    assert_type(resolution, Resolution)
    assert_type(resolution.decisions, tuple[Decision, ...])
    assert_type(resolution.names_at_age(timedelta()), tuple[str, ...])


def embedding(sink: Sink, key: WriteKey) -> None:
    collector = Collector(
        sources=[Source(name="website", write_keys=["abc123"]), Source(name="app", write_keys=(key,))],
        sink=sink,
        clock=lambda: datetime.now(UTC),
        new_message_id=lambda: "id",
        destinations=[Destination(name="Mixpanel")],
    )
    receipt = collector.submit(Track(user_id="u", event="Paid"), source="website")
    assert_type(receipt, Receipt)
    assert_type(receipt.envelopes, Sequence[Envelope])
    assert_type(receipt.outcomes, Sequence[Outcome])
    assert_type(receipt.source, Source | None)
    receipt.raise_for_rejections()
    endpoint = endpoint_of("/v1/t")
    assert_type(endpoint, Endpoint | None)
    if endpoint is not None:
        collector.receive(b"", endpoint=endpoint)
    collector.submit([Track(user_id="u", event="Paid")], source="website")  # type: ignore[arg-type]
    collector.receive(b"", endpoint="trak")  # type: ignore[arg-type]


def errors(error: InvalidMessage, trouble: SinkUnavailable) -> None:
    assert_type(error.reason, Reason)
    assert_type(error.reason.sentence, str)
    assert_type(error.limit, int | None)
    assert_type(trouble.retry_after, int)
    SinkUnavailable("the queue is down")
    SinkUnavailable("the queue is down", "full")  # type: ignore[call-arg, arg-type]


def rejections(rejected: MessagesRejected) -> None:
    assert_type(rejected.rejections, tuple[Rejection, ...])


def the_test_kit(tracking: Tracking) -> None:
    assert_type(tracking.assert_tracked("Paid", user_id="u", properties={"total": float}), Track)
    assert_type(tracking.assert_identified("u", traits={"plan": "Pro"}), Identify)
    assert_type(tracking.assert_paged("Home"), Page)
    assert_type(tracking.assert_screened("Home"), Screen)
    assert_type(tracking.assert_grouped("g"), Group)
    assert_type(tracking.assert_aliased("a"), Alias)
    assert_type(tracking.wait_for("Paid"), Track)
    assert_type(tracking.messages, list[Message])
    assert_type(tracking.tracks("Paid"), list[Track])
    assert_type(tracking.requests, list[RecordedRequest])
    with tracking.fail_next(status=503) as fault:
        assert_type(fault, Fault)
    tracking.assert_tracked("Paid", "u")  # type: ignore[call-arg]


memory_is_a_sink: Sink = MemorySink()
memory_has_a_log: Log = MemorySink().log
assert_type(write_key_from_authorization(None), WriteKey | None)
