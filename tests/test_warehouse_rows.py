from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from warehouse_strategies import messages, payload_of

from trackcore import JSONObject
from trackcore.warehouse import (
    MAX_NAME,
    STANDARD_TABLES,
    Digits,
    Discard,
    DiscardReason,
    Row,
    WarehouseOptions,
    read_message,
    read_rows,
    reserved_columns,
    rows,
)

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
COMMON = {
    "messageId": "m1",
    "anonymousId": "anon",
    "userId": "42",
    "receivedAt": "2026-01-31T12:00:00.000Z",
    "timestamp": "2026-01-31T12:00:00.000Z",
}
COLUMNS = {"id": "m1", "anonymous_id": "anon", "user_id": "42", "received_at": NOON, "timestamp": NOON}


def made(message: JSONObject, **options: Any) -> dict[str, Row]:
    """Return the rows of a message by their tables."""
    return {row.table: row for row in rows({**COMMON, **message}, WarehouseOptions(**options))}


def properties(values: JSONObject) -> Row:
    """Return the row of an event with these properties."""
    return made({"type": "track", "event": "Paid", "properties": values})["paid"]


def values_of(row: Row) -> JSONObject:
    """Return what a row has beside the columns of every event."""
    return {name: value for name, value in row.values.items() if name not in {*COLUMNS, "event", "event_text"}}


def outcome(call: Callable[[], tuple[Row, ...]]) -> list[Row] | type[Exception]:
    """Return the rows that a call makes, without their shapes, or the class of its error."""
    try:
        return [row._replace(shape=None) for row in call()]
    except ValueError:
        return ValueError


class TestLaws:
    @given(messages())
    def test_each_message_has_rows_and_the_same_ones_each_time(self, message: JSONObject) -> None:
        first = rows(message)
        assert first
        assert rows(message) == first

    @given(messages(), st.booleans())
    def test_rows_of_a_stored_message_are_those_of_its_object(self, message: JSONObject, is_ascii: bool) -> None:
        payload = payload_of(message, is_ascii=is_ascii)
        for _ in range(2):  # the second time with the context of the cache
            assert outcome(lambda: read_rows(payload)) == outcome(lambda: rows(read_message(payload)))

    @pytest.mark.parametrize(
        "payload",
        [
            *(b"[]", b"null", b'{"type":"track"', b'{"integrations":"\xff"}', b'{"context":"\xff"}'),
            *(b'{"context":{"n":NaN},"type":"page"}', b'{"type":"page","context":{"n":%b}}' % (b"9" * 5000)),
            *(b'{"type":"page","context":null}', b'{"type":"page","context":[1]}', b'{"context":{},"type":"page"}'),
        ],
    )
    def test_so_are_those_of_an_unusual_message(self, payload: bytes) -> None:
        assert outcome(lambda: read_rows(payload)) == outcome(lambda: rows(read_message(payload)))

    @given(messages())
    def test_names_of_columns_fit_every_database(self, message: JSONObject) -> None:
        for row in rows(message):
            assert all(0 < len(name.encode()) <= MAX_NAME and name.isascii() for name in (row.table, *row.values))

    @given(messages())
    def test_no_property_fills_a_standard_column(self, message: JSONObject) -> None:
        bare = {name: value for name, value in message.items() if name not in ("properties", "traits")}
        without = {row.table: row.values for row in rows(bare)}
        for row in rows(message):
            for column in reserved_columns(row.table) - {"name", "category"}:
                assert row.values.get(column) == without[row.table].get(column)

    @given(messages())
    def test_the_list_of_discards_is_bounded(self, message: JSONObject) -> None:
        many = {str(number) + "é": number for number in range(100)} | {"é" * (n + 1): n for n in range(100)}
        for row in rows({**message, "properties": many, "traits": many}):
            assert len(row.discards) <= 21


class TestTables:
    """Segment: `tracks`, one per event, `identifies`, `users`, `groups`, `accounts`, `pages`, `screens`, `aliases`."""

    @pytest.mark.parametrize(
        ("message", "tables"),
        [
            ({"type": "track", "event": "Order Paid"}, ["tracks", "order_paid"]),
            ({"type": "track", "event": "Заказ"}, ["tracks"]),
            ({"type": "track", "event": "Users"}, ["tracks", "_users"]),
            ({"type": "identify"}, ["identifies", "users"]),
            ({"type": "identify", "userId": None}, ["identifies"]),
            ({"type": "group", "groupId": "g"}, ["groups", "accounts"]),
            ({"type": "page"}, ["pages"]),
            ({"type": "screen"}, ["screens"]),
            ({"type": "alias", "previousId": "old"}, ["aliases"]),
            ({"type": "delete"}, []),
        ],
    )
    def test_each_call_has_its_tables(self, message: JSONObject, tables: list[str]) -> None:
        assert list(made(message)) == tables

    def test_an_event_keeps_its_name_beside_its_slug(self) -> None:
        row = made({"type": "track", "event": "Order Paid"})["order_paid"]
        assert (row.values["event"], row.values["event_text"]) == ("order_paid", "Order Paid")

    def test_tracks_has_no_properties(self) -> None:
        message = {"type": "track", "event": "Paid", "properties": {"total": 5}, "context": {"ip": "1.1.1.1"}}
        assert values_of(made(message)["tracks"]) == {"context_ip": "1.1.1.1"}

    def test_a_user_has_the_traits_and_the_context(self) -> None:
        message = {"type": "identify", "traits": {"plan": "pro", "id": 7}, "context": {"ip": "1.1.1.1"}}
        assert made(message)["users"] == Row(
            "users", {"id": "42", "received_at": NOON, "plan": "pro", "context_ip": "1.1.1.1"}
        )

    def test_an_account_has_the_traits(self) -> None:
        message = {"type": "group", "groupId": "g", "traits": {"plan": "pro"}, "context": {"ip": "1.1.1.1"}}
        assert made(message)["accounts"].values == {"id": "g", "received_at": NOON, "plan": "pro"}
        assert values_of(made(message)["groups"]) == {"group_id": "g", "plan": "pro", "context_ip": "1.1.1.1"}

    def test_an_alias_has_the_earlier_id(self) -> None:
        assert values_of(made({"type": "alias", "previousId": "old"})["aliases"]) == {"previous_id": "old"}

    @pytest.mark.parametrize("message", [{"name": "Home"}, {"properties": {"name": "Home"}}])
    def test_the_name_of_a_page_is_its_own_or_that_of_its_properties(self, message: JSONObject) -> None:
        row = made({"type": "page", **message})["pages"]
        assert (values_of(row), row.discards) == ({"name": "Home"}, ())

    def test_only_the_tables_of_the_list_are_filled(self) -> None:
        assert list(made({"type": "track", "event": "Paid"}, tables=["paid", "users"])) == ["paid"]

    def test_the_latest_traits_can_be_left_out(self) -> None:
        assert list(made({"type": "identify"}, users=False)) == ["identifies"]
        assert list(made({"type": "group", "groupId": "g"}, users=False)) == ["groups"]

    def test_the_other_fields_at_the_top_are_left_out(self) -> None:
        extra = {"channel": "web", "version": 2, "integrations": {"All": True}, "metadata": {}, "projectId": "p"}
        assert values_of(made({"type": "page", **extra})["pages"]) == {}


class TestColumns:
    @pytest.mark.parametrize(
        ("given", "stored"),
        [
            ({"Total Price": 5}, {"total_price": 5}),
            ({"address": {"streetName": "x", "geo": {"lat": 1}}}, {"address_street_name": "x", "address_geo_lat": 1}),
            ({"none": None, "empty": {}, "nested": {"none": None}}, {}),
            ({"tags": ["a", {"b": None}]}, {"tags": '["a",{"b":null}]'}),
            ({"empty": []}, {"empty": "[]"}),
            ({"данные": {"count": 1}}, {"count": 1}),
        ],
    )
    def test_properties_become_columns_by_their_path(self, given: JSONObject, stored: JSONObject) -> None:
        row = properties(given)
        assert (values_of(row), row.discards) == (stored, ())

    def test_the_context_is_behind_its_prefix(self) -> None:
        row = made({"type": "page", "context": {"page": {"url": "/"}, "userAgent": "x"}})["pages"]
        assert values_of(row) == {"context_page_url": "/", "context_user_agent": "x"}

    @pytest.mark.parametrize("name", ["user_id", "userId", "received_at", "event", "uuid_ts", "context_ip"])
    def test_a_property_never_overwrites_a_standard_column(self, name: str) -> None:
        row = properties({name: "mine"})
        assert "mine" not in row.values.values()
        assert [one.reason for one in row.discards] == [DiscardReason.STANDARD_COLUMN]

    def test_a_property_never_overwrites_the_context(self) -> None:
        message = {"type": "page", "context": {"x": 1}, "properties": {"context_x": 2}}
        row = made(message)["pages"]
        assert row.values["context_x"] == 1
        assert row.discards == (Discard("context_x", "2", DiscardReason.STANDARD_COLUMN),)

    def test_of_two_properties_with_one_slug_the_last_wins_and_it_is_recorded(self) -> None:
        row = properties({"Total": 1, "total": 2})
        assert values_of(row) == {"total": 2}
        assert row.discards == (Discard("total", "1", DiscardReason.SAME_NAME),)

    def test_a_property_whose_name_has_no_ascii_letter_is_recorded(self) -> None:
        row = properties({"ключ": 1})
        assert (values_of(row), row.discards) == ({}, (Discard("", "1", DiscardReason.NO_NAME),))

    def test_a_time_that_is_none_is_recorded(self) -> None:
        row = made({"type": "page", "sentAt": "yesterday"})["pages"]
        assert row.discards == (Discard("sent_at", "yesterday", DiscardReason.NOT_A_TIME),)

    def test_further_discards_are_counted(self) -> None:
        row = properties({"é" * number: 1 for number in range(1, 31)})
        assert row.discards[20:] == (Discard("", "10", DiscardReason.AND_MORE),)


class TestDigits:
    """Numbers in free-form parts are kept digit for digit."""

    @pytest.mark.parametrize("text", ["1.10", "1e400", "-0.0", "0.1000000000000000055511151231257827"])
    def test_a_number_keeps_its_text(self, text: str) -> None:
        message = read_message(b'{"type":"track","event":"Paid","properties":{"n":%b}}' % text.encode())
        assert rows(message)[1].values["n"] == Digits(text)

    def test_an_array_keeps_the_text_of_its_numbers(self) -> None:
        payload = b'{"type":"track","event":"Paid","properties":{"n":[1.10,18446744073709551616,1e400]}}'
        assert rows(read_message(payload))[1].values["n"] == "[1.10,18446744073709551616,1e400]"

    @pytest.mark.parametrize("text", [b"9" * 5000, b'"\\ud800"', b"[" + b"9" * 5000 + b"]"])
    def test_what_the_fast_parser_refuses_is_read_all_the_same(self, text: bytes) -> None:
        message = read_message(b'{"type":"track","event":"Paid","properties":{"n":%b}}' % text)
        assert "n" in rows(message)[1].values

    def test_a_value_of_python_is_accepted_too(self) -> None:
        row = properties({"n": 0.5, "nan": float("nan"), "raw": msgspec.Raw("1.10")})
        assert values_of(row) == {"n": Digits("0.5"), "raw": Digits("1.10")}


def test_standard_tables_are_those_of_segment() -> None:
    assert sorted(STANDARD_TABLES) == [
        *("accounts", "aliases", "groups", "identifies", "pages", "screens", "tracks", "users"),
    ]
