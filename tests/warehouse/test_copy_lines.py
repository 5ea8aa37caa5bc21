"""The lines that COPY reads, decoded by its rules: every cell comes back as its text."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from trackcore_postgres.staging import StagedTable, copy_lines

COLUMNS = {"id": "text", "name": "text", "at": "timestamptz", "count": "bigint", "day": "date"}
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
TEXTS = st.text(st.sampled_from("ab\\N\t\n\rя"), max_size=4)
TIMES = st.sampled_from([None, NOON, NOON.replace(microsecond=276000), NOON.replace(microsecond=1)])
ROWS = st.lists(
    st.tuples(TEXTS, st.none() | TEXTS, TIMES, st.none() | st.integers(), TIMES | st.just("tomorrow")), max_size=120
)


def cell(text: str) -> str | None:
    """Decode a cell."""
    if text == r"\N":
        return None
    first, *parts = text.replace(r"\\", "\\\0").split("\\")
    return first + "".join({"\0": "\\", "t": "\t", "n": "\n", "r": "\r"}[part[0]] + part[1:] for part in parts)


def expected(value: Any) -> str | None:
    """Return a value as PostgreSQL gets it."""
    if not isinstance(value, datetime):
        return None if value is None else str(value)
    return f"{value:%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z" if value.microsecond % 1000 == 0 else str(value)


class TestLines:
    """PostgreSQL: columns are separated by a tab, rows by a newline, and a backslash escapes what is data."""

    @given(ROWS)
    def test_each_cell_is_decoded_as_it_was(self, rows: list[tuple[Any, ...]]) -> None:
        text = "".join(copy_lines(StagedTable("s", "t", COLUMNS, rows), "7\t", "\t\\N\n"))
        lines = [[cell(one) for one in line.split("\t")] for line in text.split("\n")[:-1]]
        assert lines == [["7", *map(expected, row), None] for row in rows]

    def test_a_table_of_one_column_has_lines_of_one_cell(self) -> None:
        assert [*copy_lines(StagedTable("s", "t", {"id": "text"}, [["a"], ["b\t"]]), "", "\n")] == ["a\nb\\t\n"]
