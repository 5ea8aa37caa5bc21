"""The contract of a log, kept by each of them alike."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import attrs
import msgspec
import pytest
from adapter_helpers import NOON, envelope, quarantined_request, rejected_record
from kept import KINDS, Kept, kept_in
from mock_cluster import MockCluster

from trackcore import (
    KeyLocation,
    Log,
    MessageWarning,
    Query,
    Sink,
    StoredQuarantined,
    StoredRejected,
    Totals,
    WarningCode,
)

WARNING = MessageWarning(code=WarningCode.ID_FROM_NUMBER, message="kept as '7'", path="userId")
HOUR = timedelta(hours=1)


def payload(message_id: str, user_id: str = "", anonymous_id: str = "", text: str = "", name: str = "") -> bytes:
    fields = {"messageId": message_id, "userId": user_id, "anonymousId": anonymous_id, "event": text, "name": name}
    return msgspec.json.encode({name: value for name, value in fields.items() if value})


@pytest.fixture(name="filled", scope="module", params=KINDS)
def _filled(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, mock_cluster: MockCluster
) -> Iterator[Log]:
    """A log of each kind, with five messages, three rejected ones and three quarantined requests."""
    with kept_in(request.param, tmp_path_factory.mktemp("log"), mock_cluster) as kept:
        _fill(kept.sink)
        yield kept.log


def _fill(sink: Sink) -> None:
    sink.store(
        [
            envelope("1", call="track", user_id="ann", payload=payload("1", "ann", text="Paid")),
            envelope(
                "2",
                source="app",
                call="page",
                user_id=None,
                anonymous_id="ann",
                payload=payload("2", "", "ann", name="Start"),
            ),
            envelope("3", call="page", user_id="bob", anonymous_id="ann", payload=payload("3", "bob", "ann")),
            envelope("4", source="app", user_id="bob", warnings=(WARNING,), payload=payload("4", "bob")),
            envelope("5", user_id="Ann", destinations=("A", 'B "b"'), payload=payload("5", "Ann", text='say "Paid"')),
        ],
        rejected=[
            rejected_record(b'1 {"type": "track"}', source="website", code="no_type"),
            rejected_record(b"2 bob", source="app", code="no_type"),
            rejected_record(b"3 \xff", source="app", code="invalid_json"),
        ],
        quarantined=[quarantined_request(b"1 bob"), quarantined_request(b"2"), quarantined_request(b"3 track")],
    )


def numbers(records: Any) -> str:
    return "".join(record.payload.decode(errors="replace")[0] for record in records)


class TestQueries:
    """A `Query` matches the same records in every log."""

    @pytest.mark.parametrize(
        ("wanted", "expected"),
        [
            ({}, "12345"),
            ({"source": "website"}, "135"),
            ({"event": "Paid"}, "1"),
            ({"event": "Start"}, "2"),
            ({"source": "nobody"}, ""),
            ({"source": ""}, ""),
            ({"call": "page"}, "23"),
            ({"user": "ann"}, "123"),
            ({"user": "bob"}, "34"),
            ({"user": "ANN"}, ""),
            ({"code": "id_from_number"}, "4"),
            ({"code": "no_type"}, ""),
            ({"destination": "A"}, "5"),
            ({"destination": 'B "b"'}, "5"),
            ({"destination": "B"}, ""),
            ({"text": "Paid"}, "15"),
            ({"text": "paid"}, ""),
            ({"limit": 2}, "45"),
            ({"limit": 5}, "12345"),
            ({"limit": 9}, "12345"),
            ({"limit": 0}, ""),
            ({"limit": 2, "source": "app"}, "24"),
            ({"limit": 1, "call": "page"}, "3"),
            ({"source": "website", "call": "track", "user": "ann", "text": "Paid"}, "1"),
        ],
    )
    def test_of_messages(self, filled: Log, wanted: dict[str, Any], expected: str) -> None:
        query = Query(**wanted)
        assert [stored.message["messageId"] for stored in filled.messages(query)] == list(expected)
        assert [stored.message["messageId"] for stored in filled.tail(query).read()] == list(expected)
        assert [stored.message_id for stored in filled.payloads(query)] == list(expected)

    @pytest.mark.parametrize(
        ("wanted", "expected"),
        [
            ({}, "123"),
            ({"source": "app"}, "23"),
            ({"code": "no_type"}, "12"),
            ({"source": "app", "code": "no_type"}, "2"),
            ({"destination": "A"}, ""),
            ({"call": "track"}, "1"),
            ({"user": "bob"}, "2"),
            ({"text": '"type"'}, "1"),
            ({"text": "é"}, ""),
            ({"limit": 2}, "23"),
        ],
    )
    def test_of_rejected(self, filled: Log, wanted: dict[str, Any], expected: str) -> None:
        assert numbers(filled.rejected(Query(**wanted))) == expected

    @pytest.mark.parametrize(
        ("wanted", "expected"),
        [
            ({}, "123"),
            ({"source": "website"}, ""),
            ({"code": "unknown_source"}, "123"),
            ({"code": "no_type"}, ""),
            ({"destination": "A"}, ""),
            ({"call": "track"}, "3"),
            ({"user": "bob"}, "1"),
            ({"event": "track"}, "3"),
            ({"limit": 2}, "23"),
        ],
    )
    def test_of_quarantined(self, filled: Log, wanted: dict[str, Any], expected: str) -> None:
        assert numbers(filled.quarantined(Query(**wanted))) == expected


class TestTimes:
    """Records were received at `since` or later, and before `until`, counted in milliseconds."""

    @pytest.mark.parametrize(
        ("wanted", "expected"),
        [
            ({"until": NOON + 3 * HOUR}, "012"),
            ({"until": NOON + 2 * HOUR}, "01"),
            ({"until": NOON}, ""),
            ({"until": NOON + HOUR + timedelta(microseconds=999)}, "0"),
        ],
    )
    def test_until(self, kept: Kept, wanted: dict[str, Any], expected: str) -> None:
        self.check(kept, wanted, expected)

    @pytest.mark.parametrize("kept", ["MemorySink", "SqliteSink"], indirect=True)
    @pytest.mark.parametrize(
        ("wanted", "expected"),
        [
            ({"since": NOON}, "012"),
            ({"since": NOON + timedelta(microseconds=999)}, "012"),
            ({"since": NOON + timedelta(milliseconds=1)}, "12"),
            ({"since": NOON + 2 * HOUR}, "2"),
            ({"since": NOON + HOUR, "until": NOON + 2 * HOUR}, "1"),
            ({"since": NOON + HOUR, "limit": 1}, "2"),
        ],
    )
    def test_since(self, kept: Kept, wanted: dict[str, Any], expected: str) -> None:
        """Mock brokers find no offsets by time: tests/kafka_brokers has the tests of `since` in Kafka."""
        self.check(kept, wanted, expected)

    def check(self, kept: Kept, wanted: dict[str, Any], expected: str) -> None:
        for n in range(3):
            at = NOON + n * HOUR
            rejected = attrs.evolve(rejected_record(b"%d" % n), received_at=at)
            quarantined = attrs.evolve(quarantined_request(b"%d" % n), received_at=at)
            kept.sink.store([envelope(str(n), received_at=at)], rejected=[rejected], quarantined=[quarantined])
        query = Query(**wanted)
        assert "".join(stored.message["messageId"] for stored in kept.log.messages(query)) == expected
        assert numbers(kept.log.rejected(query)) == expected
        assert numbers(kept.log.quarantined(query)) == expected


class TestRecords:
    """A record is read with all the fields that it was stored with, under a number that rises."""

    def test_a_message(self, kept: Kept) -> None:
        original = msgspec.structs.replace(
            envelope(
                "a",
                source="app",
                call="page",
                user_id="7",
                anonymous_id="anon",
                destinations=("A", "B"),
                warnings=(WARNING,),
            ),
            inherited=("context.ip",),
            found_by=KeyLocation.HEADER,
            retry_count=2,
        )
        kept.sink.store([original, envelope("b")])
        first, second = kept.log.messages()
        assert first.seq < second.seq
        assert (first.source, first.call, first.received_at) == ("app", "page", NOON)
        assert (first.destinations, first.inherited, first.found_by) == (("A", "B"), ("context.ip",), "header")
        assert first.warnings == ({"code": "id_from_number", "message": "kept as '7'", "path": "userId"},)
        assert first.message == msgspec.json.decode(original.payload)
        assert (second.warnings, second.inherited, second.found_by) == ((), (), None)
        assert (first.retry_count, second.retry_count) == (2, 0)

    def test_a_payload(self, kept: Kept) -> None:
        sent = [
            envelope("a", source="app", call="page", user_id="7", anonymous_id="anon", destinations=("A", "B")),
            envelope("b", user_id=None, anonymous_id="anon"),
            envelope("c", user_id=None),
        ]
        kept.sink.store(sent)
        found = list(kept.log.payloads())
        assert [stored.seq for stored in found] == [stored.seq for stored in kept.log.messages()]
        assert [stored[1:] for stored in found] == [
            (one.source, one.message_id, one.call, user, NOON, one.destinations, one.payload)
            for one, user in zip(sent, ["7", "anon", None], strict=True)
        ]

    def test_rejected_and_quarantined(self, kept: Kept) -> None:
        rejected = [attrs.evolve(rejected_record(), batch=b'{"context":{"locale":"\xc3\xa9"}}'), rejected_record()]
        quarantined = [quarantined_request(), attrs.evolve(quarantined_request(), write_key=None, client_ip=None)]
        kept.sink.store(rejected=rejected, quarantined=quarantined)
        kept.sink.store(rejected=rejected)
        assert list(kept.log.rejected()) == [
            StoredRejected(seq=seq, **attrs.asdict(record)) for seq, record in enumerate(rejected * 2, 1)
        ]
        assert list(kept.log.quarantined()) == [
            StoredQuarantined(seq=seq, **attrs.asdict(request)) for seq, request in enumerate(quarantined, 1)
        ]


class TestTail:
    """Yields the messages that were not yielded before."""

    def test_messages_that_come_later(self, kept: Kept) -> None:
        kept.sink.store([envelope(str(n)) for n in range(5)])
        tail = kept.log.tail(Query(source="website", limit=2))
        assert [stored.message["messageId"] for stored in tail.read()] == ["3", "4"]
        assert list(tail.read()) == []
        kept.sink.store([envelope("3"), envelope("5"), envelope("x", source="app"), envelope("6"), envelope("7")])
        assert [stored.message["messageId"] for stored in tail.read()] == ["5", "6", "7"]
        assert list(tail.read()) == []
        tail.close()

    def test_of_a_log_that_was_empty(self, kept: Kept) -> None:
        tail = kept.log.tail()
        assert list(tail.read()) == []
        kept.sink.store([envelope("a"), envelope("b")])
        assert [stored.message["messageId"] for stored in tail.read()] == ["a", "b"]
        tail.close()


def test_totals(kept: Kept) -> None:
    assert kept.log.totals() == Totals(messages=0, rejected=0, rejected_dropped=0, quarantined=0, quarantined_dropped=0)
    kept.sink.store([envelope("a"), envelope("a"), envelope("b")], rejected=[rejected_record()] * 3)
    kept.sink.store(quarantined=[quarantined_request()] * 4)
    assert kept.log.totals() == Totals(messages=2, rejected=3, rejected_dropped=0, quarantined=4, quarantined_dropped=0)
