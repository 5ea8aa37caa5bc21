"""Parquet files and databases of DuckDB: the rows of each message once, in tables that evolve."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from itertools import permutations
from pathlib import Path
from typing import Any

import attrs
import pytest
from delivery_helpers import NOON
from lake_readers import READERS, Reader, RowDict, fed_message, identify, send, track
from trackcore_delivery import DeliveryBatch, FedMessage, RetryLater
from warehouse_helpers import HOSTILE_TEXTS, comparable, generated
from warehouse_helpers import message as stored_message
from warehouse_oracle import Stored, expected_tables

from trackcore.warehouse import known_columns


@pytest.fixture(name="reader", params=READERS)
def _reader(request: pytest.FixtureRequest) -> Reader:
    return READERS[request.param]


def usual_messages(count: int) -> list[FedMessage]:
    """Return messages of all calls at random, with values of all types and names of all sorts, over two days."""
    return [
        fed_message(position, message, received_at=datetime.fromisoformat(message["receivedAt"]))
        for position, message in enumerate(generated(count), 1)
    ]


def assert_holds(tables: Mapping[str, list[RowDict]], messages: Iterable[FedMessage]) -> None:
    """Check that tables have the rows that an oracle says of messages, each once."""
    log = [Stored(message.position, message.source, message.payload) for message in messages]
    expected = {table: comparable(rows) for table, rows in expected_tables(log).items()}
    assert tables.keys() - {"_discards"} == expected.keys()
    for table, rows in expected.items():
        assert len(tables[table]) == len(rows)
        assert comparable({row["id"]: row for row in tables[table]}) == rows, table


class TestRows:
    def test_tables_hold_what_the_layout_says(self, reader: Reader, tmp_path: Path) -> None:
        messages = usual_messages(600)
        sender = reader.sender(tmp_path)
        for start in range(0, 600, 150):
            send(sender, messages[start : start + 150])
        assert_holds(reader.tables(tmp_path, "web"), messages)

    def test_sources_have_tables_of_their_own(self, reader: Reader, tmp_path: Path) -> None:
        web, app = fed_message(1, track("A", x=1)), fed_message(2, track("A", x="text"), source="My App")
        send(reader.sender(tmp_path), [web, app])
        assert [reader.table(tmp_path, "a", source)[0]["x"] for source in ("web", "my_app")] == [1, "text"]

    def test_values_of_every_type_and_text_of_any_kind_arrive_as_they_are(self, reader: Reader, tmp_path: Path) -> None:
        values = {
            "integer": 2**63 - 1,
            "float": 1e-300,
            "yes": True,
            "time": "0001-01-01T00:00:00Z",
            "late": "9999-12-31T23:59:59.999999Z",
            "text": "é💥\u2028\"'\\\n\t",
            "list": [1, "a", None],
            "digits": 12345678901234567890123,
        }
        send(reader.sender(tmp_path), [fed_message(1, track("A", **values))])
        (row,) = reader.table(tmp_path, "a")
        assert {name: row[name] for name in values} == {
            **values,
            "time": datetime(1, 1, 1, tzinfo=UTC),
            "late": datetime(9999, 12, 31, 23, 59, 59, 999999, UTC),
            "list": '[1,"a",null]',
            "digits": "12345678901234567890123",
        }

    def test_hostile_names_are_names(self, reader: Reader, tmp_path: Path) -> None:
        names = [
            "'; DROP TABLE tracks; --",
            'a"b',
            "x" * 300,
            "select",
            "\0",
            "ключ",
            "received_day",
            "trackcore_table",
        ]
        send(reader.sender(tmp_path), [fed_message(1, track(names[0], **dict.fromkeys(names, "v")))])
        (row,) = reader.table(tmp_path, "drop_table_tracks")
        assert {"drop_table_tracks", "a_b", "select"} <= row.keys()
        assert sum(value == "v" for value in row.values()) == 6
        assert len(reader.table(tmp_path, "_discards")) == 2

    def test_a_message_that_is_no_object_is_refused_and_the_others_arrive(self, reader: Reader, tmp_path: Path) -> None:
        broken = fed_message(2, track("A"))._replace(payload=b"[]")
        batch = DeliveryBatch(
            destination="There", messages=[fed_message(1, track("A")), broken, fed_message(3, track("A"))]
        )
        (refused,) = reader.sender(tmp_path).send(batch)
        assert refused.index == 1
        assert [row["id"] for row in reader.table(tmp_path, "a")] == ["m1", "m3"]


class TestExactlyOnce:
    """Whatever comes again is not there twice, and nothing is lost."""

    def test_batches_that_come_again_add_only_what_is_missing(self, reader: Reader, tmp_path: Path) -> None:
        messages = usual_messages(40)
        for part in (messages[:10], messages[:10], messages[:25], messages[3:20:3], messages):
            send(reader.sender(tmp_path), part)
        assert_holds(reader.tables(tmp_path, "web"), messages)

    def test_messages_that_were_left_out_come_later(self, reader: Reader, tmp_path: Path) -> None:
        messages = [fed_message(number, track("A", n=number)) for number in range(1, 20)]
        for part in ([*messages[:5], *messages[9:]], messages[6:8], messages):
            send(reader.sender(tmp_path), part)
        assert_holds(reader.tables(tmp_path, "web"), messages)

    def test_the_latest_traits_do_not_depend_on_the_order(self, reader: Reader, tmp_path: Path) -> None:
        made = [
            fed_message(1, identify("u", a=1, b=1, c=1)),
            fed_message(2, identify("u", a=2)),
            fed_message(3, identify("u", b=3), received_at=NOON - timedelta(hours=1)),
        ]
        for number, messages in enumerate(permutations(made)):
            folder = tmp_path / str(number)
            for message in messages:
                send(reader.sender(folder), [message])
            assert reader.table(folder, "users") == [{"id": "u", "received_at": NOON, "a": 2, "b": 1, "c": 1}]


@attrs.frozen(kw_only=True)
class Widening:
    """Two values of one column, as they are sent and as they are read."""

    sent: tuple[Any, Any]
    read: tuple[Any, Any]


WIDENINGS = {
    "integer-float": Widening(sent=(1, 1.5), read=(1.0, 1.5)),
    "boolean-text": Widening(sent=(True, "maybe"), read=("true", "maybe")),
    "time-text": Widening(sent=("2026-01-31T12:00:00Z", "soon"), read=("2026-01-31T12:00:00.000000Z", "soon")),
}


class TestEvolution:
    """A column has one type in all rows; what does not fit it is a discard."""

    @pytest.mark.parametrize("widening", WIDENINGS)
    @pytest.mark.parametrize("size", [1, 2])
    def test_a_column_is_widened_with_its_earlier_values(
        self, reader: Reader, tmp_path: Path, widening: str, size: int
    ) -> None:
        (first, second), read = WIDENINGS[widening].sent, WIDENINGS[widening].read
        messages = [fed_message(1, track("A", x=first)), fed_message(2, track("A", x=second, y="later"))]
        sender = reader.sender(tmp_path)
        for start in range(0, 2, size):
            send(sender, messages[start : start + size])
        rows = sorted(reader.table(tmp_path, "a"), key=lambda row: str(row["id"]))
        assert tuple(row["x"] for row in rows) == read
        assert type(rows[0]["x"]) is type(read[0])

    def test_a_value_that_does_not_fit_is_a_discard(self, reader: Reader, tmp_path: Path) -> None:
        sender = reader.sender(tmp_path)
        for _ in range(2):
            send(sender, [fed_message(1, track("A", x=1)), fed_message(2, track("A", x="one"))])
        assert [row.get("x") for row in sorted(reader.table(tmp_path, "a"), key=lambda row: row["id"])] == [1, None]
        (discard,) = reader.table(tmp_path, "_discards")
        assert discard == {
            "message_id": "m2",
            "table_name": "a",
            "number": 0,
            "column_name": "x",
            "column_value": "one",
            "reason": "does_not_fit",
            "received_at": NOON,
        }

    def test_by_option_nothing_is_widened(self, reader: Reader, tmp_path: Path) -> None:
        sender = reader.sender(tmp_path, on_conflict="discard")
        send(sender, [fed_message(1, track("A", x=1))])
        send(sender, [fed_message(2, track("A", x=2.5))])
        assert {row["id"]: row["x"] for row in reader.table(tmp_path, "a")} == {"m1": 1, "m2": 2}

    def test_only_the_tables_of_the_list_are_made(self, reader: Reader, tmp_path: Path) -> None:
        send(reader.sender(tmp_path, tables=("tracks",)), usual_messages(20))
        assert reader.tables(tmp_path, "web").keys() - {"_discards"} == {"tracks"}


class TestHostileSource:
    """Bounded, reported, and injects nothing."""

    def test_it_cannot_make_more_than_the_bounds(self, reader: Reader, tmp_path: Path) -> None:
        count, tables, columns = 10_000, 20, 120
        events = [fed_message(number, track(f"Event {number}")) for number in range(count)]
        wide = fed_message(count, track("Event 1", **{f"p{number}": number for number in range(count)}))
        send(reader.sender(tmp_path, max_tables=tables, max_columns=columns), [*events, wide])
        found = reader.tables(tmp_path, "web")
        assert len(found.keys() - {"tracks", "_discards"}) == tables
        assert len(found["tracks"]) == count + 1
        assert sum(name.startswith("p") for name in max(found["event_1"], key=len)) == columns - len(
            known_columns("event_1")
        )
        reasons = Counter(row["reason"] for row in found["_discards"])
        assert reasons == {"too_many_tables": count - tables, "too_many_columns": 20, "and_more": 1}

    @pytest.mark.parametrize("text", HOSTILE_TEXTS, ids=range(len(HOSTILE_TEXTS)))
    def test_names_and_values_are_data(self, reader: Reader, tmp_path: Path, text: str) -> None:
        made = (
            stored_message(
                1, event=text, properties={text: text, "n": {text: text}}, context={text: text}, userId=text
            ),
            stored_message(2, "identify", userId=text, traits={text: text}),
            stored_message(3, "group", groupId=text, traits={text: [text]}),
        )
        messages = [fed_message(number, one, source="web") for number, one in enumerate(made, 1)]
        sender = reader.sender(tmp_path)
        for one in messages:
            send(sender, [one])
        assert_holds(reader.tables(tmp_path, "web"), messages)


class TestTrouble:
    def test_a_place_that_cannot_be_written_is_reported_and_tried_again(self, reader: Reader, tmp_path: Path) -> None:
        for name in ("out", "out.duckdb"):
            (tmp_path / name).write_text("something else")
        with pytest.raises(RetryLater) as raised:
            send(reader.sender(tmp_path), [fed_message(1, track("A"))])
        assert raised.value.is_outage
        for name in ("out", "out.duckdb"):
            (tmp_path / name).unlink()
        send(reader.sender(tmp_path), [fed_message(1, track("A"))])
        assert len(reader.table(tmp_path, "a")) == 1
