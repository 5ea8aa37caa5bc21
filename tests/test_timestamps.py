from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from strategies import millisecond_times, offsets, time_values, times

from trackcore import (
    CorrectedTimestamp,
    MessageWarning,
    TimeRule,
    correct_clock_skew,
    format_timestamp,
    parse_timestamp,
)
from trackcore.message_times import MessageTimes
from trackcore.text.timetext import _read_text, has_offset, parse_usual
from trackcore.timestamps import format_timestamps, time_text, truncate_to_milliseconds
from trackcore.wire.fast import MessageStruct

MICROSECOND = timedelta(microseconds=1)
FIRST = datetime(1, 1, 1, tzinfo=UTC)
LAST = datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)


def at(*parts: int) -> datetime:
    """Return a time in UTC."""
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
    ("2013", at(2013, 1, 1)),
    ("2013-09", at(2013, 9, 1)),
    ("2013-247", at(2013, 9, 4)),
    ("2013247", at(2013, 9, 4)),
    ("2016-366", at(2016, 12, 31)),
    ("2013-W36", at(2013, 9, 2)),
    ("2013W36", at(2013, 9, 2)),
    ("2013-W36-3", at(2013, 9, 4)),
    ("2013w363t011519z", at(2013, 9, 4, 1, 15, 19)),
    ("2013-247T01:15:19Z", at(2013, 9, 4, 1, 15, 19)),
    ("20121202", at(2012, 12, 2)),
    ("20121202T120000Z", NOON),
    ("20121202t1200z", NOON),
    ("20121202T12+0000", NOON),
    ("20121201T240000Z", at(2012, 12, 2)),
    ("2012-12-01T24Z", at(2012, 12, 2)),
    ("2012-12-02T12:30.5Z", at(2012, 12, 2, 12, 30, 30)),
    ("20121202T1230,5Z", at(2012, 12, 2, 12, 30, 30)),
    ("2012-12-02T12.25Z", at(2012, 12, 2, 12, 15)),
    ("2012-12-02T12:30.123456Z", at(2012, 12, 2, 12, 30, 7, 407_360)),
    ("+002012-12-02T12:00:00.000Z", NOON),
    ("2012/12/02 12:00:00", NOON),
    ("2012-12-02_12:00:00Z", NOON),
    ("2012-12-02X12:00:00Z", NOON),
    ("2012-12-02-12:00:00Z", NOON),
    ("2012-12-02 12:00:00.000 UTC", NOON),
    ("2012-12-02 12:00:00 GMT", NOON),
    ("2012-12-02 04:00:00 -0800", NOON),
    ("2012-12-02 12:00:00+00", NOON),
    ("2012-12-02T07:00:00\u221205:00", NOON),
    ("2012-12-02T12:00:00.000:Z", NOON),
    ("2012-12-02T12:00:00.000Z[UTC]", NOON),
    ("2012-12-02T13:00:00+01:00[Europe/Berlin]", NOON),
    ("2012-12-02T12:00:00[UTC]", NOON),
    ("2012-12-02 13:00:00.5 +0100 CET m=+0.001", NOON + timedelta(milliseconds=500)),
    ("2012-12-02 12:00:00 +0000 UTC", NOON),
    ("2012-12-02T12:00:00 PMZ", NOON),
    ("2012-12-02T3:33:07.5 PMZ", at(2012, 12, 2, 15, 33, 7, 500_000)),
    ("2012-12-02 12:33:07 am", at(2012, 12, 2, 0, 33, 7)),
    ("2012-12-02 3:33\u202fp.m.", at(2012, 12, 2, 15, 33)),
    ("\u0662\u0660\u0661\u0662-12-02T\u0661\u0662:00:00Z", NOON),
    ("\u06f2\u06f0\u06f1\u06f2-12-02T\u06f1\u06f2:00:00\u066b5Z", NOON + timedelta(milliseconds=500)),
    ("\u200e2012-12-02T12:00:00Z", NOON),
    ("Sun, 02 Dec 2012 12:00:00 GMT", NOON),
    ("Sunday, 02-Dec-12 12:00:00 GMT", NOON),
    ("Sun Dec  2 12:00:00 2012", NOON),
    ("Sun Dec 2 12:00:00 UTC 2012", NOON),
    ("Sun Dec 02 2012 13:00:00 GMT+0100 (Central European Standard Time)", NOON),
    ("2 Dec 2012 13:00:00 +0100", NOON),
    ("Wednesday, 02-Dec-70 12:00:00 GMT", at(1970, 12, 2, 12)),
    ("20121202120000", NOON),
    ("20121202120000500", NOON + timedelta(milliseconds=500)),
    ("20121202120000500000", NOON + timedelta(milliseconds=500)),
    ("20121202120000.5", NOON + timedelta(milliseconds=500)),
    ("201212021200", NOON),
    (20121202120000, NOON),
    ("1330648208276123", at(2012, 3, 2, 0, 30, 8, 276_123)),
    (1330648208276123, at(2012, 3, 2, 0, 30, 8, 276_123)),
    ("1330648208276123999", at(2012, 3, 2, 0, 30, 8, 276_123)),
    ("1330648208276.5", at(2012, 3, 2, 0, 30, 8, 276_500)),
    ({"$date": "2012-12-02T12:00:00Z"}, NOON),
    ({"$date": {"$numberLong": "1354449600000"}}, NOON),
    ({"$date": 1354449600000}, NOON),
    ({"$date": -1}, at(1969, 12, 31, 23, 59, 59, 999_000)),
    ('{"$date":"2012-12-02T12:00:00Z"}', NOON),
    ("2569-09-02T15:33:07.123Z", at(2569, 9, 2, 15, 33, 7, 123_000)),
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
    "2012-13",
    "201212",
    "2012-1",
    "2013-366",
    "2013-000",
    "2013-W53-1",
    "2013-W36-8",
    "2012-12T12:00:00Z",
    "2012-12-02-05:00",
    "2012-12-02T12:00:00+05:60",
    "2012-12-02T12:00:00 CET",
    "2012-12-02T12:00:00[Europe/Berlin]",
    "2012-12-02 13:00:00 PM",
    "02/12/2012 12:00:00",
    "Mon, 02 Dec 2012 12:00:00 GMT",
    "02-Dec-12 12:00:00 GMT",
    "20121302120000",
    "20121202250000",
    0,
    "0",
    "99999999",
    "12345678901",
    "0001330648208",
    26081312191101,
    {"$date": "yesterday"},
    {"$date": {"$numberLong": "x"}},
    {"$date": True},
    {"$date": 10**30},
    {"$date": 1354449600000, "more": 1},
    '{"$date":' * 20,
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


@st.composite
def instants(draw: st.DrawFn) -> tuple[str, datetime]:
    """Return a text in any form of ISO 8601, and the instant that it names."""
    day = draw(st.dates(date(1, 1, 3), date(9999, 12, 28)))
    year, week, weekday = day.isocalendar()
    dates = [
        (f"{day:%Y-%m-%d}".rjust(10, "0"), f"{day:%Y%m%d}".rjust(8, "0")),
        (f"{day.year:04}-{day:%j}", f"{day.year:04}{day:%j}"),
        (f"{year:04}-W{week:02}-{weekday}", f"{year:04}W{week:02}{weekday}"),
    ]
    is_basic = draw(st.booleans())
    text = draw(st.sampled_from(dates))[is_basic]
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    if draw(st.integers(0, 9)) == 0:
        return text, midnight
    parts = draw(st.sampled_from([[23], [23, 59], [23, 59, 59]]))
    numbers = [draw(st.integers(0, most)) for most in parts]
    digits = draw(st.text("0123456789", max_size=9))
    passed = sum((n * unit for n, unit in zip(numbers, (3600, 60, 1), strict=False)), 0) * 1_000_000
    passed += int(digits or 0) * (3600, 60, 1)[len(numbers) - 1] * 1_000_000 // 10 ** len(digits)
    text += draw(st.sampled_from("Tt_ ")) + ("" if is_basic else ":").join(f"{n:02}" for n in numbers)
    text += draw(st.sampled_from(".,")) + digits if digits else ""
    offset = draw(st.integers(-23 * 60 - 59, 23 * 60 + 59))
    hours, minutes = divmod(abs(offset), 60)
    sign = "-" if offset < 0 else "+"
    zones = [("Z", 0), ("z", 0), (" UTC", 0), ("", 0), (f"{sign}{hours:02}:{minutes:02}", offset)]
    zone, away = draw(st.sampled_from([*zones, (f"{sign}{hours:02}{minutes:02}", offset)]))
    return text + zone, midnight + timedelta(microseconds=passed, minutes=-away)


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

    @given(st.integers(10**14, 10**16 - 1), st.sampled_from([1, 1_000, 1_000_000]), st.sampled_from([1, -1]))
    def test_a_count_since_1970_is_in_the_unit_that_its_digits_show(
        self, microseconds: int, unit: int, sign: int
    ) -> None:
        """So that each instant from 1973 to 2286 has one count in each unit, and no count has two meanings."""
        count = sign * (microseconds // unit)
        assume(str(count)[:2] not in {"19", "20"} or len(str(count)) != 12)  # that may be a date
        assert parse_timestamp(count) == parse_timestamp(str(count)) == at(1970, 1, 1) + count * unit * MICROSECOND

    @given(instants())
    def test_every_form_of_iso_8601_names_the_instant_that_it_was_made_of(self, made: tuple[str, datetime]) -> None:
        text, time = made
        assume(not text.isdigit() or time.year in range(1900, 2100))
        assert parse_timestamp(text) == time

    @given(st.data(), times(), st.sampled_from(["Z", "+00:00", "+05:30", "-08:00"]))
    def test_what_python_reads_is_what_the_patterns_read(self, data: st.DataObject, time: datetime, zone: str) -> None:
        """Python ignores what it does not understand behind six digits, and takes any character in some places."""
        text = f"{time:%Y-%m-%dT%H:%M:%S}" + data.draw(st.sampled_from(["", ".5", ".276", ".276123"])) + zone
        for _ in range(data.draw(st.integers(0, 3))):
            place = data.draw(st.integers(0, len(text)))
            put = data.draw(st.sampled_from(["", *"0159:.,+-/TZW ", "PM", " PM"]))
            text = text[:place] + put + text[place + data.draw(st.integers(0, 1)) :]
        reading = _read_text(text)
        assert parse_timestamp(text) == (None if reading is None else reading[0])

    @pytest.mark.parametrize(
        ("text", "time"),
        [
            ("2013-09-04T01:15:19.123456PMZ", at(2013, 9, 4, 13, 15, 19, 123_456)),
            ("2013-09-04T01:15:19.123456 PM+01:00", at(2013, 9, 4, 12, 15, 19, 123_456)),
            ("2013-09-04T01:15:19.5-01.30", None),
            ("2013-09-04T01:15:193Z", None),
            ("2013-09-04T01:15:19.123456/789Z", None),
        ],
    )
    def test_what_python_alone_would_read_wrong(self, text: str, time: datetime | None) -> None:
        assert parse_timestamp(text) == time

    @pytest.mark.parametrize("digits", ["5000", "1234", "1899", "1234100", "1899365", "13370615", "18991231"])
    def test_digits_alone_are_a_date_of_1900_to_2099(self, digits: str) -> None:
        """Uptimes and counters have as many digits as years and days."""
        assert parse_timestamp(digits) is None
        assert parse_timestamp(int(digits)) is None

    @pytest.mark.parametrize(
        ("digits", "time"),
        [("1900", at(1900, 1, 1)), ("2099", at(2099, 1, 1)), ("2013247", at(2013, 9, 4)), ("20130904", at(2013, 9, 4))],
    )
    def test_digits_of_such_a_date(self, digits: str, time: datetime) -> None:
        assert parse_timestamp(digits) == parse_timestamp(int(digits)) == time

    @given(instants())
    def test_a_time_has_an_offset_where_one_is_written(self, made: tuple[str, datetime]) -> None:
        text, _ = made
        assert has_offset(text) == (re.search(r"[Zz]$|UTC$|[Tt_ ].*[-+][0-9:]+$", text) is not None)


class TestMany:
    """Many times are parsed and written in one call, with the results of as many calls."""

    @given(
        st.lists(millisecond_times().map(format_timestamp) | time_values().filter(lambda value: isinstance(value, str)))
    )
    @example(["2026-01-01T12:00:00+0100", "2026-01-01T12:00:00.276Z"])
    @example(["2026-01-01t12:00:00.276Z", "2026-01-01 12:00:00.276Z"])
    @example(["2026-02-30T12:00:00.276Z"])
    @example(['2026-01-01T12:00","12:0Z'])
    def test_parsing(self, texts: list[str]) -> None:
        found = parse_usual(texts)
        assert found is None or found == list(map(parse_timestamp, texts))
        assert found is None or all(map(has_offset, texts))

    @given(st.lists(millisecond_times(), min_size=1))
    def test_times_of_the_usual_form_are_parsed(self, some: list[datetime]) -> None:
        assert parse_usual(list(map(format_timestamp, some))) == some

    @given(st.lists(times() | millisecond_times() | times().map(lambda time: time.replace(microsecond=0))))
    def test_writing(self, some: list[datetime]) -> None:
        assert format_timestamps(some) == list(map(format_timestamp, some))

    @given(st.lists(millisecond_times()), millisecond_times(), time_values())
    def test_setting(self, some: list[datetime], received_at: datetime, sent_at: Any) -> None:
        texts = list(map(format_timestamp, some))
        one, other = ([MessageStruct(timestamp=text) for text in texts] for _ in range(2))
        times_of = MessageTimes(received_at, time_text(sent_at))
        together, warnings = times_of.set_all(one), list[MessageWarning]()
        if together is not None:
            assert together == [times_of.set(message, None, warnings) for message in other]
            assert (one, warnings) == (other, [])


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
