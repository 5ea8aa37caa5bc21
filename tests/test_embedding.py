from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

import attrs
import pytest
from hypothesis import given
from strategies import messages, wire_messages
from support import RECEIVED_AT, WITH_KEY, json_bytes, make_collector, read_payload
from trackcore_http.routes import ROUTES, Action
from trackcore_sqlite import SqliteSink

from trackcore import (
    Batch,
    Cause,
    Collector,
    Envelope,
    InvalidMessage,
    MemorySink,
    Message,
    MessagesRejected,
    Origin,
    Outcome,
    Reason,
    Sink,
    SinkUnavailable,
    Source,
    Track,
    WriteKey,
    decode_batch,
    decode_message,
    encode_batch,
    encode_message,
    endpoint_of,
    merge_batch,
    structure_message,
    unstructure_message,
)

PAID = Track(user_id="u", event="Paid")
NAMES_OF_WRITE_KEY = ("writeKey", "writekey", "write_key", "Write-Key", "WRITE KEY")


class TestWriteKeys:
    """R10: "The stored message never contains a write key", nor does one that is decoded or encoded."""

    @given(wire_messages())
    def test_a_message_keeps_none_through_the_codec(self, wire: dict[str, Any]) -> None:
        without = decode_message(json_bytes({**wire, "writeKey": None}))
        for name in NAMES_OF_WRITE_KEY:
            message = decode_message(json_bytes({**wire, name: "secret-key"}))
            assert message == without
            assert b"secret-key" not in encode_message(message)

    @given(messages())
    def test_one_in_extra_is_not_written(self, message: Message) -> None:
        for name in NAMES_OF_WRITE_KEY:
            keyed = attrs.evolve(message, extra={**message.extra, name: "secret-key"})
            assert encode_message(keyed) == encode_message(message)
            assert name not in unstructure_message(keyed)

    def test_one_in_extra_is_not_stored(self) -> None:
        receipt = make_collector().submit(attrs.evolve(PAID, extra={"writeKey": "secret-key"}), source="website")
        assert b"secret-key" not in receipt.envelopes[0].payload
        assert receipt.envelopes[0].warnings == ()

    def test_the_items_of_a_batch_keep_none_and_the_request_keeps_its_own(self) -> None:
        item = {"type": "track", "userId": "u", "event": "Paid", "writeKey": "secret-key"}
        batch = decode_batch(json_bytes({"batch": [item], "writeKey": "key-of-the-request"}))
        assert batch == Batch(messages=[PAID], write_key=WriteKey("key-of-the-request"))
        assert b"secret-key" not in encode_batch(batch)
        assert merge_batch(batch) == (PAID,)

    def test_a_wire_object_keeps_none(self) -> None:
        assert structure_message({**unstructure_message(PAID), "writeKey": "secret-key"}) == PAID


class TestEndpoints:
    def test_each_path_that_takes_a_body_has_the_endpoint_of_its_route(self) -> None:
        bodies = {path: route.endpoint for path, route in ROUTES.items() if route.action is Action.TRACK}
        assert {path: endpoint_of(path) for path in ROUTES if endpoint_of(path)} == bodies

    @pytest.mark.parametrize("path", ["/v1/t", "/v1/t/", "//v1//t", "/v1/track?writeKey=k"])
    def test_slashes_and_the_query_do_not_matter(self, path: str) -> None:
        assert endpoint_of(path) == "track"

    @pytest.mark.parametrize("path", ["", "/", "v1/t", "/v1/T", "/v1/m", "/v1/pixel/track", "/health"])
    def test_any_other_path_has_none(self, path: str) -> None:
        assert endpoint_of(path) is None

    @pytest.mark.parametrize("endpoint", ["trak", "", None, "/v1/track", 5])
    def test_one_that_does_not_exist_is_an_error_that_names_those_that_do(self, endpoint: Any) -> None:
        sink = MemorySink()
        collector = make_collector(sink)
        with pytest.raises(ValueError, match="expected one of alias, batch, group, identify, page, screen, track"):
            collector.receive(b"{}", endpoint=endpoint, origin=WITH_KEY)
        with pytest.raises(ValueError, match="expected one of alias"):
            collector.preview(b"{}", record="r", endpoint=endpoint, origin=WITH_KEY, received_at=RECEIVED_AT)
        assert (sink.envelopes, list(sink.rejected)) == ([], [])

    @pytest.mark.parametrize("call", ["batch", "trak"])
    def test_a_call_that_does_not_exist_is_an_error(self, call: Any) -> None:
        with pytest.raises(ValueError, match="is not a call; expected one of alias, group"):
            decode_message(b"{}", call)


class TestWhatIsBroughtIsChecked:
    @pytest.fixture(params=["memory", "sqlite"])
    def sink(self, request: pytest.FixtureRequest, tmp_path: Path) -> Any:
        if request.param == "memory":
            yield MemorySink()
            return
        sink = SqliteSink(tmp_path / "log.db")
        yield sink
        sink.close()

    @pytest.mark.parametrize("made", [None, 5, b"id", UUID(int=1), "", "  ", "x" * 101, "\ud800"])
    def test_an_id_maker_returns_an_id(self, sink: Sink, made: Any) -> None:
        collector = Collector(
            sources=[Source(name="website")], sink=sink, clock=lambda: RECEIVED_AT, new_message_id=lambda: made
        )
        with pytest.raises(ValueError if isinstance(made, str) else TypeError):
            collector.submit(PAID, attrs.evolve(PAID, message_id="mine"), source="website")
        receipt = collector.submit(attrs.evolve(PAID, message_id="mine"), source="website")
        assert receipt.outcomes == [Outcome.STORED]

    @pytest.mark.parametrize("now", [None, 1.7e9, "2026-01-01", RECEIVED_AT.replace(tzinfo=None)])
    def test_a_clock_returns_an_aware_time(self, now: Any) -> None:
        collector = Collector(
            sources=[Source(name="website")], sink=MemorySink(), clock=lambda: now, new_message_id=lambda: "id"
        )
        with pytest.raises(TypeError, match="the clock returned"):
            collector.submit(PAID, source="website")
        with pytest.raises(TypeError, match="the clock returned"):
            collector.receive(b"{}")

    @pytest.mark.parametrize("what", [[PAID], (PAID,), "Paid", None, {"type": "track"}, Track])
    def test_what_is_not_a_message_is_not_submitted(self, what: Any) -> None:
        sink = MemorySink()
        with pytest.raises(TypeError, match=r"submit|is not a message"):
            make_collector(sink).submit(PAID, what, source="website")
        assert sink.envelopes == []

    def test_a_class_of_ones_own_may_extend_a_message_but_not_add_to_it(self) -> None:
        class Bought(Track):
            pass

        @attrs.frozen(kw_only=True)
        class Priced(Track):
            price: int = 5

        assert encode_message(Bought(user_id="u", event="Paid")) == encode_message(PAID)
        with pytest.raises(TypeError, match="would be lost: price"):
            encode_message(Priced(user_id="u", event="Paid"))


class TestReceipt:
    BAD = b'{"batch":[{"type":"page","userId":"u"},{"type":"page"}]}'

    def test_nothing_is_raised_when_all_is_stored_or_was_before(self) -> None:
        collector = make_collector()
        for _ in range(2):
            collector.submit(attrs.evolve(PAID, message_id="m"), source="website").raise_for_rejections()

    def test_a_rejection_is_raised(self) -> None:
        receipt = make_collector().receive(self.BAD, origin=WITH_KEY)
        with pytest.raises(
            MessagesRejected, match="1 accepted, 1 rejected; first: message 1: a message needs"
        ) as caught:
            receipt.raise_for_rejections()
        assert caught.value == MessagesRejected(accepted=1, rejections=tuple(receipt.rejections))
        assert hash(caught.value) == hash(MessagesRejected(accepted=1, rejections=tuple(receipt.rejections)))
        for twin in (pickle.loads(pickle.dumps(caught.value)), copy.deepcopy(caught.value)):  # noqa: S301
            assert twin == caught.value

    def test_an_unknown_write_key_is_raised(self) -> None:
        receipt = make_collector().receive(self.BAD, origin=Origin(header_key=WriteKey("nobody's")))
        with pytest.raises(MessagesRejected, match="belongs to no source"):
            receipt.raise_for_rejections()


class TestSinkOfOnesOwn:
    def test_it_can_say_in_one_sentence_that_it_cannot_store(self) -> None:
        class Full:
            def store(self, envelopes: Sequence[Envelope] = (), **_: Any) -> Sequence[Outcome]:
                raise SinkUnavailable("the queue is full of " + envelopes[0].source)

            def check_ready(self) -> None:
                raise SinkUnavailable

        collector = make_collector(Full())
        with pytest.raises(SinkUnavailable, match="the queue is full of website") as caught:
            collector.submit(PAID, source="website")
        assert (caught.value.cause, caught.value.retry_after) == (Cause.UNAVAILABLE, 5)
        assert pickle.loads(pickle.dumps(caught.value)) == caught.value  # noqa: S301
        with pytest.raises(SinkUnavailable, match="cannot store now"):
            collector.sink.check_ready()


@attrs.define
class Mixed:
    shown: int = 1
    _hidden: Any = 2


@dataclass
class MixedData:
    shown: int = 1
    _hidden: int = 2


class Answer(Enum):
    YES = "yes"


def stored(value: Any) -> Any:
    """Return what is stored of a property."""
    message = Track(user_id="u", event="Paid", properties={"value": value})
    (envelope,) = make_collector().submit(message, source="website").envelopes
    return read_payload(envelope)["properties"]["value"]


class TestPythonValues:
    """Guide: "Messages built in Python may contain types that JSON does not have"."""

    @pytest.mark.parametrize("value", [Mixed(), MixedData()])
    def test_private_fields_are_fields(self, value: Any) -> None:
        assert stored(value) == {"shown": 1, "_hidden": 2}

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (datetime(2026, 1, 1, tzinfo=UTC), "2026-01-01T00:00:00Z"),
            (UUID(int=5), "00000000-0000-0000-0000-000000000005"),
            (Answer.YES, "yes"),
            (b"ab", "YWI="),
            ((1, Mixed(hidden=Answer.YES)), [1, {"shown": 1, "_hidden": "yes"}]),
            ({5: 1, 1.5: 2, Answer.YES: 3}, {"5": 1, "1.5": 2, "yes": 3}),
            ({True: 1}, {"true": 1}),
        ],
    )
    def test_what_they_are_in_json(self, value: Any, text: Any) -> None:
        assert stored(value) == text

    def test_two_keys_that_become_one_are_refused_with_their_place(self) -> None:
        with pytest.raises(InvalidMessage, match="two keys") as caught:
            stored([{1: "a", "1": "b"}])
        assert (caught.value.reason, caught.value.path) == (Reason.VALUE_NOT_JSON, "properties.value[0]")

    @pytest.mark.parametrize(
        "value",
        [
            {None: 1},
            {(1, 2): 1},
            {math.nan: 1},
            {"a": object()},
            1j,
            {"a": Answer},
            [10**5000],
            {10**5000: 1},
        ],
    )
    def test_anything_else_is_refused_with_its_place(self, value: Any) -> None:
        with pytest.raises(InvalidMessage) as caught:
            stored(value)
        assert caught.value.reason == Reason.VALUE_NOT_JSON
        assert caught.value.path.startswith("properties.value")

    def test_what_contains_itself_is_refused(self) -> None:
        cycle: dict[str, Any] = {}
        cycle["again"] = [cycle]
        with pytest.raises(InvalidMessage, match="contains itself"):
            stored(cycle)

    @pytest.mark.parametrize("field", ["user_id", "anonymous_id", "message_id", "event", "timestamp"])
    def test_bytes_are_not_text(self, field: str) -> None:
        bad: Any = b"x"
        with pytest.raises(InvalidMessage, match="decode it first") as caught:
            make_collector().submit(attrs.evolve(PAID, **{field: bad}), source="website")
        assert caught.value.reason == Reason.VALUE_NOT_JSON


def test_what_pipelines_are_built_from_cannot_be_assigned() -> None:
    """An assignment that changes nothing would be worse than an error; `attrs.evolve` makes another collector."""
    collector = Collector(
        sources=[Source(name="a")], sink=MemorySink(), clock=lambda: RECEIVED_AT, new_message_id=lambda: "id"
    )
    for name in ("sources", "destinations", "limits", "new_message_id"):
        with pytest.raises(attrs.exceptions.FrozenAttributeError):
            setattr(collector, name, getattr(collector, name))
    changed = attrs.evolve(collector, sources=[Source(name="b")])
    assert changed.submit(Track(user_id="u", event="E"), source="b").accepted == 1
