from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import millisecond_times, offsets, time_values, times

from trackcore import CorrectedTimestamp, TimeRule, correct_clock_skew, format_timestamp, parse_timestamp
from trackcore.timestamps import time_text, truncate_to_milliseconds

MICROSECOND = timedelta(microseconds=1)
FIRST = datetime(1, 1, 1, tzinfo=UTC)
LAST = datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)


def at(*parts: int) -> datetime:
    """Give a time in UTC."""
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type,misc]


def ticks(time: datetime) -> int:
    """Count microseconds since year 1: whole numbers, which neither overflow nor round."""
    return (time - FIRST) // MICROSECOND


NOON = at(2012, 12, 2, 12)
READABLE: list[tuple[Any, datetime]] = [
    ("2012-12-02T00:30:08.276Z", at(2012, 12, 2, 0, 30, 8, 276_000)),
    ("2012-12-02T00:30:08Z", at(2012, 12, 2, 0, 30, 8)),
    ("2012-12-02T00:30Z", at(2012, 12, 2, 0, 30)),
    ("2012-12-02", at(2012, 12, 2)),
    ("2015-2-02T00:30:08.276Z", at(2015, 2, 2, 0, 30, 8, 276_000)),
    ("2015-2-2T1:30:08Z", at(2015, 2, 2, 1, 30, 8)),
    ("2012-12-02T00:30:08.2Z", at(2012, 12, 2, 0, 30, 8, 200_000)),
    ("2012-12-02T00:30:08.123456Z", at(2012, 12, 2, 0, 30, 8, 123_456)),
    ("2012-12-02T00:30:08.123456789Z", at(2012, 12, 2, 0, 30, 8, 123_456)),
    ("2012-12-02T00:30:08.999999999Z", at(2012, 12, 2, 0, 30, 8, 999_999)),
    ("2012-12-02T00:30:08." + "1" * 30 + "Z", at(2012, 12, 2, 0, 30, 8, 111_111)),
    ("2012-12-02T13:00:00+01:00", NOON),
    ("2012-12-02T13:00:00+0100", NOON),
    ("2012-12-02T13:00:00+01", NOON),
    ("2012-12-02T06:30:00-05:30", NOON),
    ("2012-12-2T13:00:00+01:00", NOON),
    ("2012-12-2T06:30:00-05:30", NOON),
    ("2012-12-2T06:30:00-0530", NOON),
    ("2012-12-02T12:00:00", NOON),
    ("2012-12-2T12:00:00", NOON),
    ("2012-12-02t12:00:00z", NOON),
    ("2012-12-02 12:00:00Z", NOON),
    ("2012-12-02 12:00:00 +00:00", NOON),
    ("2012-12-02T12:00:00,5Z", NOON + timedelta(milliseconds=500)),
    ("2012-12-02T24:00:00Z", at(2012, 12, 3)),
    ("2016-12-31T23:59:60Z", at(2017, 1, 1)),
    ("2016-12-31T23:59:60.500Z", at(2017, 1, 1, 0, 0, 0, 500_000)),
    ("0001-01-01T00:00:00Z", FIRST),
    ("9999-12-31T23:59:59.999999Z", LAST),
    ("1330648208", at(2012, 3, 2, 0, 30, 8)),
    ("1330648208.5", at(2012, 3, 2, 0, 30, 8, 500_000)),
    ("1330648208276", at(2012, 3, 2, 0, 30, 8, 276_000)),
    ("-1330648208", at(1927, 11, 1, 23, 29, 52)),
    (1330648208, at(2012, 3, 2, 0, 30, 8)),
    (1330648208.5, at(2012, 3, 2, 0, 30, 8, 500_000)),
    (1330648208276, at(2012, 3, 2, 0, 30, 8, 276_000)),
    (0, at(1970, 1, 1)),
]
UNREADABLE: list[Any] = [
    None,
    True,
    False,
    {},
    [],
    "",
    " ",
    "yesterday",
    "12:30",
    "2012-12",
    "2012-13-02T00:00:00Z",
    "2012-02-30T00:00:00Z",
    "2012-2-30T00:00:00Z",
    "0000-01-01T00:00:00Z",
    "2012-12-02T25:00:00Z",
    "2012-12-02T12:60:00Z",
    "2012-12-02T12:00:61Z",
    "2012-12-2T12:00:00+24:00",
    "2012-12-02T12:00:00ZZ",
    "2012-12-02T12:00:00Z and more",
    "0001-01-01T00:00:00+01:00",
    "9999-12-31T23:59:59-01:00",
    "2012-12-02T24:00:01Z",
    "2012-12-02T24:00:00.5Z",
    "2012-12-02T24:01:00Z",
    "9999-12-31T24:00:00Z",
    "٢٠١٢-12-02T00:00:00Z",
    "\ud800",
    "\x002012-12-02T12:00:00",
    "12345678901234567890",
    "1e10",
    10**30,
    -(10**30),
    10**400,
    1e300,
    float("nan"),
    float("inf"),
    float("-inf"),
]


class TestParse:
    @pytest.mark.parametrize(("value", "time"), READABLE)
    def test_readable(self, value: object, time: datetime) -> None:
        found = parse_timestamp(value)
        assert found == time
        assert found is not None
        assert found.tzinfo is UTC

    @pytest.mark.parametrize("value", UNREADABLE)
    def test_unreadable(self, value: object) -> None:
        assert parse_timestamp(value) is None

    @pytest.mark.parametrize(
        "start", ["", "2015-2-02", "2015-2-02T00:30", "2015-2-02T00:30:08.", "2015-2-02T00:30:08.1 Z"]
    )
    @pytest.mark.parametrize("filler", [" ", "T", "1"])
    def test_text_of_any_length_is_read_in_linear_time(self, start: str, filler: str) -> None:
        """Were it quadratic, as with two repetitions that share what they match, this would take minutes."""
        assert parse_timestamp(start + filler * 300_000 + "x") is None

    @given(time_values())
    def test_any_value_gives_a_time_in_utc_or_nothing(self, value: Any) -> None:
        time = parse_timestamp(value)
        assert time is None or time.tzinfo is UTC

    @given(st.text(alphabet="0123456789-+:.,TtZz W/", max_size=30))
    def test_any_text_like_a_time_gives_a_time_or_nothing(self, text: str) -> None:
        time = parse_timestamp(text)
        assert time is None or time.tzinfo is UTC

    @given(times(), offsets())
    def test_an_offset_is_taken_into_account(self, time: datetime, offset: Any) -> None:
        try:
            local = time.astimezone(offset)
        except OverflowError:
            return
        assert parse_timestamp(local.isoformat()) == time

    @given(times())
    def test_the_lenient_form_agrees_with_the_strict_one(self, time: datetime) -> None:
        lenient = f"{time.year:04}-{time.month}-{time.day} {time:%H:%M:%S},{time.microsecond:06}000"
        assert parse_timestamp(lenient) == time

    @given(st.integers(10**8, 253_402_300_799))
    def test_seconds_since_1970_as_text(self, seconds: int) -> None:
        """From 100,000,000,000 on a count is in milliseconds; until then, it is in seconds."""
        expected = at(1970, 1, 1) + timedelta(seconds=seconds if seconds < 10**11 else seconds / 1000)
        assert parse_timestamp(str(seconds)) == expected

    @given(st.integers(10**11, 10**13 - 1) | st.just(1_712_010_142_359) | st.just(1_330_111_012_345))
    def test_milliseconds_since_1970_as_text_and_as_number_are_the_same_time(self, count: int) -> None:
        expected = at(1970, 1, 1) + timedelta(milliseconds=count)
        assert parse_timestamp(count) == expected
        assert parse_timestamp(str(count)) == expected


class TestFormat:
    @given(millisecond_times())
    def test_reading_what_was_written_gives_the_same_time(self, time: datetime) -> None:
        assert parse_timestamp(format_timestamp(time)) == time

    @given(times())
    def test_it_always_has_the_same_shape(self, time: datetime) -> None:
        text = format_timestamp(time)
        assert len(text) == len("2012-12-02T00:30:08.276Z")
        assert text.endswith("Z")

    @pytest.mark.parametrize(
        ("time", "text"),
        [
            (at(2012, 12, 2, 0, 30, 8, 276_000), "2012-12-02T00:30:08.276Z"),
            (at(2012, 12, 2, 0, 30, 8, 276_999), "2012-12-02T00:30:08.276Z"),
            (at(2012, 12, 2), "2012-12-02T00:00:00.000Z"),
            (FIRST, "0001-01-01T00:00:00.000Z"),
            (LAST, "9999-12-31T23:59:59.999Z"),
        ],
    )
    def test_microseconds_are_cut(self, time: datetime, text: str) -> None:
        assert format_timestamp(time) == text

    @given(times(), offsets())
    def test_truncating_goes_to_utc_and_loses_less_than_a_millisecond(self, time: datetime, offset: Any) -> None:
        try:
            local = time.astimezone(offset)
        except OverflowError:
            return
        cut = truncate_to_milliseconds(local)
        assert cut.tzinfo is UTC
        assert cut.microsecond % 1000 == 0
        assert timedelta(0) <= time - cut < timedelta(milliseconds=1)


class TestCorrectClockSkew:
    @given(times(), times(), times())
    def test_the_rule_is_exact_where_the_result_can_be_represented(
        self, received: datetime, sent: datetime, original: datetime
    ) -> None:
        expected = ticks(received) - (ticks(sent) - ticks(original))
        found = correct_clock_skew(received_at=received, sent_at=sent, original_timestamp=original)
        if 0 <= expected <= ticks(LAST):
            assert (ticks(found.timestamp), found.rule) == (expected, TimeRule.CORRECTED)
        else:
            assert (found.timestamp, found.rule) == (original, TimeRule.UNREPRESENTABLE)

    @given(times(), st.none() | times(), st.none() | times())
    def test_it_never_raises_and_says_what_it_did(
        self, received: datetime, sent: datetime | None, original: datetime | None
    ) -> None:
        found = correct_clock_skew(received_at=received, sent_at=sent, original_timestamp=original)
        if original is None:
            assert (found.timestamp, found.rule) == (received, TimeRule.RECEIVED)
        elif sent is None:
            assert (found.timestamp, found.rule) == (original, TimeRule.ORIGINAL)
        assert (found.clock_skew is None) == (sent is None)
        assert found.timestamp.tzinfo is UTC

    @given(times(), times())
    def test_a_client_whose_clock_is_right_is_not_corrected(self, received: datetime, original: datetime) -> None:
        found = correct_clock_skew(received_at=received, sent_at=received, original_timestamp=original)
        assert found == CorrectedTimestamp(timestamp=original, rule=TimeRule.CORRECTED, clock_skew=timedelta(0))

    def test_a_client_whose_clock_is_ahead(self) -> None:
        """An hour ahead, sent two seconds after it happened."""
        found = correct_clock_skew(
            received_at=NOON,
            sent_at=NOON + timedelta(hours=1),
            original_timestamp=NOON + timedelta(hours=1, seconds=-2),
        )
        assert found == CorrectedTimestamp(
            timestamp=NOON - timedelta(seconds=2), rule=TimeRule.CORRECTED, clock_skew=timedelta(hours=1)
        )

    def test_a_client_whose_clock_is_behind(self) -> None:
        found = correct_clock_skew(
            received_at=NOON,
            sent_at=NOON - timedelta(hours=1),
            original_timestamp=NOON - timedelta(hours=1, seconds=2),
        )
        assert found == CorrectedTimestamp(
            timestamp=NOON - timedelta(seconds=2), rule=TimeRule.CORRECTED, clock_skew=timedelta(hours=-1)
        )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("2015-2-02T00:30:08.276Z", "2015-2-02T00:30:08.276Z"),
        ("  ", "  "),
        ("", None),
        (None, None),
        (0, "0"),
        (False, "false"),
        (1330648208.5, "1330648208.5"),
        ({"a": 1}, '{"a":1}'),
        ([], "[]"),
    ],
)
def test_time_text(value: object, text: str | None) -> None:
    assert time_text(value) == text
