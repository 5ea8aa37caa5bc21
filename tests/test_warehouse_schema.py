from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from warehouse_strategies import messages, payload_of

from trackcore import JSONObject
from trackcore.warehouse import (
    DECLARED_CONTEXT,
    AddColumn,
    ColumnType,
    CreateTable,
    Digits,
    DiscardReason,
    Merged,
    Profile,
    Row,
    Scalar,
    Schema,
    Stamp,
    WarehouseOptions,
    WidenColumn,
    decode_stamps,
    encode_stamps,
    known_columns,
    read_rows,
    rows,
    standard_columns,
    text_of,
    widen,
)

TEXT, INTEGER, FLOAT, BOOLEAN, TIMESTAMP = ColumnType
PYTHON_TYPES = {TEXT: str, INTEGER: int, FLOAT: float, BOOLEAN: bool, TIMESTAMP: datetime}
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
TIME = "2026-01-31T12:00:00Z"


def merged(*values: Scalar, **options: Any) -> tuple[Schema, list[Merged]]:
    """Merge rows that have these values in a column, one after the other."""
    schema = Schema(WarehouseOptions(**options))
    return schema, [schema.merge(Row("paid", {"id": str(n), "c": value})) for n, value in enumerate(values)]


class TestLaws:
    @given(st.lists(messages(), max_size=4), st.booleans())
    def test_the_shape_of_a_row_changes_no_result(self, sent: Sequence[JSONObject], is_ascii: bool) -> None:
        schema, other = Schema(), Schema()
        for message in [*sent, *sent, *sent]:
            for row in read_rows(payload_of(message, is_ascii=is_ascii)):
                assert schema.merge(row) == other.merge(row._replace(shape=None))

    @given(st.lists(messages().map(payload_of), max_size=4))
    def test_rows_of_one_shape_have_the_same_columns_and_storable_texts(self, payloads: Sequence[bytes]) -> None:
        found: dict[object, object] = {}
        for row in [row for payload in payloads for row in read_rows(payload) if row.shape is not None]:
            columns = [(name, type(value)) for name, value in row.values.items()]
            assert found.setdefault((row.table, row.shape), columns) == columns
            assert all(storable(value) for value in row.values.values() if isinstance(value, str))

    @given(st.lists(messages(), max_size=4), st.sampled_from(["widen", "discard"]), st.sampled_from([(), ("context",)]))
    def test_the_changes_describe_the_schema_and_the_values_fit_it(
        self, sent: Sequence[JSONObject], on_conflict: str, declare: tuple[str, ...]
    ) -> None:
        schema = Schema(WarehouseOptions(on_conflict=on_conflict, declare=declare, max_columns=100, max_tables=2))
        database: dict[str, dict[str, ColumnType]] = {}
        for message in sent:
            for row in rows(message):
                result = schema.merge(row)
                for change in result.changes:
                    apply(database, change)
                assert database == schema.tables
                for column, value in result.values.items():
                    assert type(value) is PYTHON_TYPES[database[row.table][column]]
                    assert not isinstance(value, str) or storable(value)
                assert all(storable(one.value) for one in result.discards)

    @given(st.lists(messages(), max_size=4))
    def test_the_same_rows_make_the_same_schema(self, sent: Sequence[JSONObject]) -> None:
        first, second = Schema(), Schema()
        made = [row for message in sent for row in rows(message)]
        assert [first.merge(row) for row in made] == [second.merge(row) for row in made]

    @given(st.lists(messages(), max_size=4))
    def test_a_row_that_is_merged_twice_changes_nothing_more(self, sent: Sequence[JSONObject]) -> None:
        schema = Schema()
        for row in (row for message in sent for row in rows(message)):
            schema.merge(row)
            again = schema.merge(row)
            assert again.changes == ()

    @given(messages())
    def test_a_copy_does_not_change_with_it(self, message: JSONObject) -> None:
        schema = Schema()
        copy = schema.copy()
        for row in rows(message):
            schema.merge(row)
        assert copy.tables == {}


def storable(text: str) -> bool:
    return "\0" not in text and text.encode("utf-8", "surrogatepass").decode("utf-8", "replace") == text


def apply(database: dict[str, dict[str, ColumnType]], change: CreateTable | AddColumn | WidenColumn) -> None:
    """Change a database as an adapter does, and fail where a database would."""
    if isinstance(change, CreateTable):
        assert change.table not in database
        database[change.table] = dict(change.columns)
        return
    columns = database[change.table]
    if isinstance(change, AddColumn):
        assert change.column not in columns
    else:
        assert columns[change.column] is change.before
    columns[change.column] = change.column_type


class TestTables:
    def test_a_table_is_made_with_the_columns_of_its_first_row(self) -> None:
        schema, results = merged(5)
        assert results[0].changes == (CreateTable("paid", {**known_columns("paid"), "c": INTEGER}),)
        assert schema.tables == {"paid": {**known_columns("paid"), "c": INTEGER}}

    def test_well_known_columns_of_the_context_are_declared(self) -> None:
        schema, _ = merged(5)
        assert DECLARED_CONTEXT.items() <= schema.tables["paid"].items()

    def test_without_declarations_a_table_has_only_standard_columns(self) -> None:
        schema, _ = merged(5, declare=())
        assert schema.tables["paid"] == {**standard_columns("paid"), "c": INTEGER}

    def test_a_declared_column_has_its_type_whatever_comes_first(self) -> None:
        schema = Schema(WarehouseOptions(declare=()))
        schema.merge(Row("paid", {"id": "1", "context_app_build": 5}))
        assert schema.tables["paid"]["context_app_build"] is TEXT

    def test_a_table_beyond_the_bound_is_not_made(self) -> None:
        schema = Schema(WarehouseOptions(max_tables=1))
        schema.merge(Row("first", {"id": "1"}))
        result = schema.merge(Row("second", {"id": "1"}))
        assert (result.changes, result.values) == ((), {})
        assert [(one.value, one.reason) for one in result.discards] == [("second", DiscardReason.TOO_MANY_TABLES)]

    def test_the_standard_tables_are_made_beyond_the_bound_too(self) -> None:
        assert Schema(WarehouseOptions(max_tables=0)).merge(Row("tracks", {"id": "1"})).changes

    def test_a_column_beyond_the_bound_is_not_made(self) -> None:
        schema = Schema(WarehouseOptions(max_columns=100))
        result = schema.merge(Row("paid", {"id": "1", **{f"c{number}": 1 for number in range(100)}}))
        assert len(schema.tables["paid"]) == 100
        assert {one.reason for one in result.discards} == {DiscardReason.TOO_MANY_COLUMNS, DiscardReason.AND_MORE}


class TestTypes:
    @pytest.mark.parametrize(
        ("first", "column", "stored"),
        [
            (5, INTEGER, 5),
            (2**63 - 1, INTEGER, 2**63 - 1),
            (2**63, TEXT, "9223372036854775808"),
            (Digits("5.0"), FLOAT, 5.0),
            (Digits("1e400"), TEXT, "1e400"),
            (True, BOOLEAN, True),
            ("x", TEXT, "x"),
            ("5", TEXT, "5"),
            (TIME, TIMESTAMP, NOON),
            ("2026-01-31 13:00:00+01", TIMESTAMP, NOON),
            ("2026-01-31T12:00", TIMESTAMP, NOON),
            ("2026-01-31", TEXT, "2026-01-31"),
            ("2026-13-31T12:00:00Z", TEXT, "2026-13-31T12:00:00Z"),
            ("1420070400", TEXT, "1420070400"),
        ],
    )
    def test_a_column_has_the_type_of_its_first_value(self, first: Scalar, column: ColumnType, stored: object) -> None:
        schema, results = merged(first)
        assert (schema.tables["paid"]["c"], results[0].values["c"]) == (column, stored)

    @pytest.mark.parametrize(
        ("first", "later", "stored"),
        [
            (5, "42", 42),
            (5, Digits("14.0"), 14),
            (Digits("0.5"), 3, 3.0),
            (Digits("0.5"), "2.5", 2.5),
            (Digits("0.5"), 2**70, float(2**70)),
            (True, "false", False),
            (TIME, "2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
            ("x", Digits("1.10"), "1.10"),
            ("x", 2**70, str(2**70)),
            ("x", True, "true"),
        ],
    )
    def test_a_later_value_is_converted_if_nothing_is_lost(self, first: Scalar, later: Scalar, stored: object) -> None:
        _, results = merged(first, later)
        assert (results[1].values["c"], results[1].changes, results[1].discards) == (stored, (), ())

    @pytest.mark.parametrize("first", [5, Digits("0.5"), True, TIME])
    def test_an_empty_text_is_null_in_a_column_of_another_type(self, first: Scalar) -> None:
        _, results = merged(first, "")
        assert results[1] == Merged((), {"id": "1"}, ())

    def test_an_empty_text_makes_no_column(self) -> None:
        schema, results = merged("")
        assert "c" not in schema.tables["paid"]
        assert results[0].discards == ()

    @pytest.mark.parametrize("text", ["a\0b", "a\ud800b"])
    def test_a_character_that_no_database_holds_is_replaced_and_recorded(self, text: str) -> None:
        _, results = merged(text)
        assert results[0].values["c"] == "a\ufffdb"
        assert [one.reason for one in results[0].discards] == [DiscardReason.CHARACTER_REPLACED]


class TestConflicts:
    """Segment's support makes three changes of types by hand; they are made here by themselves."""

    @pytest.mark.parametrize(
        ("first", "later", "before", "after", "stored"),
        [
            (5, Digits("14.99"), INTEGER, FLOAT, 14.99),
            (True, "maybe", BOOLEAN, TEXT, "maybe"),
            (True, 1, BOOLEAN, TEXT, "1"),
            (TIME, "soon", TIMESTAMP, TEXT, "soon"),
            (TIME, 5, TIMESTAMP, TEXT, "5"),
        ],
    )
    def test_a_column_is_widened(
        self, first: Scalar, later: Scalar, before: ColumnType, after: ColumnType, stored: object
    ) -> None:
        schema, results = merged(first, later)
        assert results[1].changes == (WidenColumn("paid", "c", before, after),)
        assert (results[1].values["c"], results[1].discards) == (stored, ())
        assert schema.tables["paid"]["c"] is after

    @pytest.mark.parametrize(
        ("first", "later"),
        [
            (5, "x"),
            (5, True),
            (5, 2**63),
            (5, "4.5"),
            (Digits("0.5"), "x"),
            (Digits("0.5"), True),
            (5, Digits("1e400")),
        ],
    )
    def test_what_no_widening_helps_is_discarded(self, first: Scalar, later: Scalar) -> None:
        _, results = merged(first, later)
        assert results[1].values == {"id": "1"}
        assert [(one.column, one.value, one.reason) for one in results[1].discards] == [
            ("c", text_of(later), DiscardReason.DOES_NOT_FIT)
        ]

    @pytest.mark.parametrize(("first", "later"), [(True, "maybe"), (TIME, "soon"), (5, "x")])
    def test_by_option_nothing_is_widened(self, first: Scalar, later: Scalar) -> None:
        _, results = merged(first, later, on_conflict="discard")
        assert (results[1].changes, results[1].values) == ((), {"id": "1"})
        assert [one.reason for one in results[1].discards] == [DiscardReason.DOES_NOT_FIT]

    def test_by_option_a_column_of_integers_keeps_the_integer_part(self) -> None:
        """Segment: "the column will remain an integer", and the number loses its precision."""
        _, results = merged(5, Digits("14.99"), on_conflict="discard")
        assert results[1].values["c"] == 14
        assert [(one.value, one.reason) for one in results[1].discards] == [("14.99", DiscardReason.FRACTION_CUT)]

    def test_a_standard_column_is_never_widened(self) -> None:
        schema = Schema()
        result = schema.merge(Row("paid", {"id": "1", "sent_at": "x"}))
        assert schema.tables["paid"]["sent_at"] is TIMESTAMP
        assert [one.reason for one in result.discards] == [DiscardReason.DOES_NOT_FIT]

    @pytest.mark.parametrize(
        ("before", "to", "after"),
        [(5, FLOAT, 5.0), (True, TEXT, "true"), (NOON, TEXT, "2026-01-31T12:00:00.000000Z")],
    )
    def test_earlier_values_are_widened_with_their_column(self, before: Any, to: ColumnType, after: object) -> None:
        assert widen(before, to) == after


STAMPS = st.builds(Stamp, st.integers(0, 3), st.integers(0, 3))


class TestProfiles:
    """Per trait the newest value, whatever the order in which messages come."""

    @given(
        st.lists(
            st.tuples(STAMPS, st.dictionaries(st.sampled_from("abc"), st.integers(0, 9))), unique_by=lambda one: one[0]
        )
    )
    def test_the_order_of_the_messages_does_not_matter(self, sent: list[tuple[Stamp, dict[str, Any]]]) -> None:
        assert profile_of(sent) == profile_of(sorted(sent)) == profile_of(sorted(sent, reverse=True))

    def test_a_late_message_fills_only_what_no_newer_one_has(self) -> None:
        profile = profile_of([(Stamp(2, 0), {"plan": "pro"}), (Stamp(1, 0), {"plan": "free", "name": "Ada"})])
        assert profile.values == {"plan": "pro", "name": "Ada"}

    def test_only_new_values_are_to_be_written(self) -> None:
        profile = Profile({"plan": Stamp(2, 0)})
        profile.add({"plan": "free", "name": "Ada"}, Stamp(1, 0))
        assert profile.values == {"name": "Ada"}

    @given(st.dictionaries(st.sampled_from(["a", "b_c", "context_ip"]), STAMPS))
    def test_stamps_are_kept_as_text(self, stamps: dict[str, Stamp]) -> None:
        assert decode_stamps(encode_stamps(stamps)) == stamps


def profile_of(sent: list[tuple[Stamp, dict[str, Any]]]) -> Profile:
    profile = Profile({})
    for stamp, values in sent:
        profile.add(values, stamp)
    return profile
