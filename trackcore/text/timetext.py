"""Parsing of times: the many forms that clients send, and the instants that they mean.

Theory.  A time that cannot be parsed is never a reason to lose a message, so the parser is lenient; but it does not
guess where a time could mean two instants.  It accepts:

- ISO 8601: dates complete (`2013-09-04`), by week (`2013-W36-3`), by day of the year (`2013-247`) and reduced (`2013`,
  `2013-09`, `2013-W36`: their first day); times down to a decimal fraction of seconds, minutes or hours; `24:00`; the
  second 60; both the extended and the basic form (`20130904T011519Z`), letters in either case, `+00` before a year.
  Digits alone (`2013`, `2013247`, `20130904`) are a date of 1900 to 2099: others are more likely to be a count of
  something.  One-digit months, days and hours are accepted too (the API page has `2015-2-02T...`), and `/` in dates;
- between date and time `T`, `_` or white space, and any other one character before a time that has minutes and seconds;
- `Z`, `UTC`, `GMT`, `UT` or an offset (`+01`, `+0100`, `+01:00`), with a name of the zone behind it (`Z[UTC]`,
  `+0100 CET`); AM and PM; a colon before `Z` (old Swift SDKs); decimal digits of any script;
- the dates of HTTP and mail (RFC 9110, RFC 5322) with the obsolete forms, and the forms that JavaScript, Java and Unix
  print for a time in UTC, or with a numeric offset;
- counts since 1970 by their number of digits: 9 or 10 are seconds, 12 or 13 milliseconds, 15 or 16 microseconds, 18 or
  19 nanoseconds, which is 1973 to 2286 in each; 14, 17 or 20 are `YYYYMMDDhhmmss` with up to six digits of its
  fraction, and 12 are `YYYYMMDDhhmm` where that is a time from 1990 to 2099;
- `{"$date": ...}` of MongoDB.

A time without an offset is taken as UTC; `has_offset` identifies such times.  Digits beyond microseconds are dropped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any, TypeAlias

import msgspec

from trackcore.text.jsontext import encode_json

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_Reading: TypeAlias = tuple[datetime, bool] | None
"""An instant in UTC and whether the text has an offset; None if it cannot be parsed."""

_from_iso_format = datetime.fromisoformat
_is_regular = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d++)?(?:Z|[+-]\d\d:[0-5]\d)", re.ASCII).fullmatch
"""The form of nearly all times, which Python parses fast.  It parses other forms too, some of them wrongly."""

_USUAL = len("2015-02-02T00:30:08.276Z")
"""Python parses every text of this length with these signs in their places correctly, so no pattern is needed."""


_decode_times = msgspec.json.Decoder(list[datetime]).decode


def parse_timestamp(value: object) -> datetime | None:
    """Return a time from the wire as an aware datetime in UTC, or None if it cannot be parsed.

    A number is parsed as its text would be, an object as a date of MongoDB.
    """
    if isinstance(value, str):
        if (len(value) == _USUAL and value[10] == "T" and value[19] == "." and value[23] == "Z") or _is_regular(value):
            try:
                time = _from_iso_format(value)
                return time if time.tzinfo is UTC else time.astimezone(UTC)
            except ValueError:
                pass
            except OverflowError:  # in UTC
                return None
        reading = _read_text(value)
    else:
        reading = _read_other(value)
    return None if reading is None else reading[0]


def parse_usual(texts: Sequence[str]) -> list[datetime] | None:
    """Return what `parse_timestamp` returns for each text, if all of them have the form of nearly all times; else None.

    They are parsed in one call, and all of them have an offset.
    """
    joined = '","'.join(texts)
    if set(map(len, texts)) != {_USUAL} or joined.count("Z") != len(texts):
        return None
    try:
        return _decode_times(f'["{joined}"]')
    except msgspec.MsgspecError:
        return None


def has_offset(value: object) -> bool:
    """Return whether a time can be parsed and has an offset from UTC.  A count since 1970 has one."""
    reading = _read_text(value) if isinstance(value, str) else _read_other(value)
    return reading is not None and reading[1]


def _read_text(text: str) -> _Reading:
    if not text.isascii() or text[:1].isspace() or text[-1:].isspace():
        text = _plain(text)
    if text.startswith("{"):
        return _read_json(text)
    if match := _NUMBER.fullmatch(text):
        return _read_number(*match.groups(""))
    if _DATE_OF_DIGITS.fullmatch(text):
        return _with_time(_digits_date(text), timedelta(), None) if int(text[:4]) in _YEARS_OF_DIGITS else None
    if match := _ISO.fullmatch(text):
        return _instant(_iso_date(match), match)
    for pattern in _english():
        if match := pattern.fullmatch(text):
            return _instant(_english_date(match), match)
    return None


def _plain(text: str) -> str:
    """Return a text with ASCII digits and signs in place of their equivalents in other scripts."""
    characters = (str(int(char)) if char.isdecimal() else _SAME.get(char, char) for char in text)
    return "".join(" " if char.isspace() else char for char in characters).strip()


_SAME: Mapping[str, str] = {
    "\u2212": "-",  # the minus sign that ISO 8601 prefers
    "\u066b": ".",  # the decimal separator of Arabic
    "\u0635": "AM",  # Arabic, for "morning"
    "\u0645": "PM",  # Arabic, for "evening"
    **dict.fromkeys("\u200e\u200f\u061c\ufeff", ""),  # marks of direction, which browsers put into dates
}


def _read_other(value: object) -> _Reading:
    if isinstance(value, dict):
        return _read_json_date(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return _read_text(encode_json(value).decode())
    except (ValueError, OverflowError, msgspec.MsgspecError):  # more digits than Python will write
        return None


# Counts since 1970, and digits that are a date


# Repetitions are possessive: otherwise the text that two of them match would be split in every way, in quadratic time.
_NUMBER = re.compile(r"([+-]?)([0-9]{9,20}+)(?:\.([0-9]++))?", re.ASCII)
_DATE_OF_DIGITS = re.compile(r"[0-9]{4}(?:[0-9]{3,4})?", re.ASCII)
_YEARS_OF_DIGITS = range(1900, 2100)
_UNITS: Mapping[int, int] = {9: 0, 10: 0, 12: 3, 13: 3, 15: 6, 16: 6, 18: 9, 19: 9}
"""By the digits of a count since 1970: the power of ten of its unit below a second."""

_COMPACT_DIGITS = frozenset({14, 17, 20})
_YEARS_OF_MINUTES = range(1990, 2100)


def _read_number(sign: str, digits: str, fraction: str) -> _Reading:
    count = len(digits)
    if not sign:
        if count in _COMPACT_DIGITS:
            return _read_compact(digits[:14], digits[14:] + fraction)
        if not fraction and count == len("YYYYMMDDhhmm") and int(digits[:4]) in _YEARS_OF_MINUTES:
            minute = _read_compact(digits + "00", "")
            if minute is not None:
                return minute
    places = _UNITS.get(count)
    if places is None or digits[0] == "0":
        return None
    microseconds = int((digits + fraction[:6].ljust(6, "0"))[: count + 6 - places])
    return _shifted(EPOCH, timedelta(microseconds=-microseconds if sign == "-" else microseconds), has_offset=True)


def _read_compact(digits: str, fraction: str) -> _Reading:
    hour, minute, second = int(digits[8:10]), int(digits[10:12]), int(digits[12:14])
    return _with_time(_digits_date(digits[:8]), _since_midnight(hour, minute, second, fraction), None)


def _digits_date(digits: str) -> date | None:
    """Return the date of digits: `YYYYMMDD`, `YYYYDDD`, or `YYYY` for its first day."""
    year, rest = int(digits[:4]), digits[4:]
    if len(digits) == len("YYYYDDD"):
        return _day_of_year(year, int(rest))
    return _calendar_date(year, int(rest[:2] or 1), int(rest[2:] or 1))


# ISO 8601, and what is close to it


_TIME = r"""(?P<hour>\d{1,2}+)
    (?::(?P<minute>\d{2})(?::(?P<second>\d{2}))?|(?P<basic>(?:\d\d){1,2}+))?
    (?:[.,](?P<fraction>\d*+))?
    (?:\ *+(?P<half>[AaPp])\.?[Mm]\.?)?"""
_ZONE = r"""(?:\ *+
    (?:(?P<utc>:?\ *+[Zz]|UTC|utc|GMT|gmt|UT|\[(?:UTC|GMT|Z|Etc/UTC)\])(?!\ *+[+-])
    |(?:UTC|GMT)?\ ?(?P<sign>[+-])(?P<hours>\d{1,2}+)(?::?(?P<minutes>\d{2}))?
        (?:\ ++(?:[A-Z]{2,5}|[+-]\d{2}(?:\d\d)?|\([^()]*+\)))?(?:\ m=[+-][\d.]++)?)
    (?:\[[^\[\]]*+\])*+)?"""
_ISO = re.compile(
    rf"""(?P<year>\d{{4}}|\+00\d{{4}})
    (?:(?:-(?P<month>\d{{1,2}})-(?P<day>\d{{1,2}})|/(?P<month2>\d{{1,2}})/(?P<day2>\d{{1,2}})
        |(?P<month3>\d\d)(?P<day3>\d\d)|-?(?P<ordinal>\d{{3}})|-?[Ww](?P<week>\d\d)-?(?P<weekday>[1-7]))
        (?:(?:[Tt_]|\ ++|[^\d:.,](?=\d\d:\d\d:\d\d)){_TIME}{_ZONE})?
    |-(?P<month4>\d\d)
    |-?[Ww](?P<week2>\d\d)
    )?""",
    re.VERBOSE | re.ASCII,
)


def _iso_date(match: re.Match[str]) -> date | None:
    part = match.groupdict()
    year = int(part["year"])
    if part["ordinal"] is not None:
        return _day_of_year(year, int(part["ordinal"]))
    week = part["week"] or part["week2"]
    if week is not None:
        try:
            return date.fromisocalendar(year, int(week), int(part["weekday"] or 1))
        except ValueError:
            return None
    month = part["month"] or part["month2"] or part["month3"] or part["month4"] or "1"
    return _calendar_date(year, int(month), int(part["day"] or part["day2"] or part["day3"] or "1"))


def _calendar_date(year: int, month: int, day: int) -> date | None:
    try:
        return date(year, month, day)
    except ValueError:
        return None


def _day_of_year(year: int, day: int) -> date | None:
    try:
        found = date(year, 1, 1) + timedelta(days=day - 1)
    except (ValueError, OverflowError):
        return None
    return found if found.year == year else None


# The dates of HTTP, mail, JavaScript, Java and Unix


_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WEEKDAY = r"(?P<named>Mon|Tue|Wed|Thu|Fri|Sat|Sun)(?:day|sday|nesday|rsday|urday)?"
_MONTH = r"(?P<month>Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_ENGLISH = (
    # Sat, 12 Dec 2015 19:11:01 GMT, and the older Saturday, 12-Dec-15 19:11:01 GMT
    rf"(?:{_WEEKDAY},\ ?)?(?P<day>\d{{1,2}})[ -]{_MONTH}[ -](?P<year>\d{{4}}|\d\d)\ {_TIME}{_ZONE}",
    # Sat Dec 12 19:11:01 2015, and with a zone before the year
    rf"{_WEEKDAY}\ {_MONTH}\ {{1,2}}(?P<day>\d{{1,2}})\ {_TIME}{_ZONE}\ (?P<year>\d{{4}})",
    # Sat Dec 12 2015 19:11:01 GMT+0100 (CET)
    rf"{_WEEKDAY}\ {_MONTH}\ (?P<day>\d{{1,2}})\ (?P<year>\d{{4}})\ {_TIME}{_ZONE}",
)


@cache
def _english() -> tuple[re.Pattern[str], ...]:
    """Compile the patterns when a text needs them: that takes longer than anything else in an import of the core."""
    return tuple(re.compile(pattern, re.VERBOSE | re.ASCII | re.IGNORECASE) for pattern in _ENGLISH)


def _english_date(match: re.Match[str]) -> date | None:
    """Return the date if the day of the week is right.  That also decides the century of a year of two digits."""
    part = match.groupdict()
    month = _MONTHS.index(part["month"].lower()) + 1
    years = [int(part["year"])] if len(part["year"]) > 2 else [1900 + int(part["year"]), 2000 + int(part["year"])]  # noqa: PLR2004
    dates = [found for year in years if (found := _calendar_date(year, month, int(part["day"])))]
    if part["named"] is not None:
        dates = [found for found in dates if _WEEKDAYS[found.weekday()] == part["named"].lower()]
    return dates[0] if len(dates) == 1 else None


# The time of day, and its offset


_LAST_HOUR = 23
_LAST_MINUTE = 59
_LEAP_SECOND = 60
_NOON = 12
_FRACTION_DIGITS = 20


def _instant(day: date | None, match: re.Match[str]) -> _Reading:
    part = match.groupdict()
    if part["hour"] is None:
        return _with_time(day, timedelta(), None)
    basic = part["basic"] or ""
    minute, second = part["minute"] or basic[:2], part["second"] or basic[2:]
    hour = int(part["hour"])
    if part["half"] is not None:
        if hour > _NOON:
            return None
        hour = hour % _NOON + (_NOON if part["half"] in "Pp" else 0)
    passed = _since_midnight(
        hour, int(minute) if minute else None, int(second) if second else None, part["fraction"] or ""
    )
    if part["sign"] is None:
        return _with_time(day, passed, None if part["utc"] is None else timedelta())
    hours, minutes = int(part["hours"]), int(part["minutes"] or 0)
    if hours > _LAST_HOUR or minutes > _LAST_MINUTE:
        return None
    offset = timedelta(hours=hours, minutes=minutes)
    return _with_time(day, passed, -offset if part["sign"] == "-" else offset)


def _since_midnight(hour: int, minute: int | None, second: int | None, fraction: str) -> timedelta | None:
    """Return the time of day as the time since midnight, or None if it is not valid.

    The fraction belongs to the last part that is present.  `24:00` and a second 60 belong to the next day and minute.
    """
    if (minute or 0) > _LAST_MINUTE or (second or 0) > _LEAP_SECOND:
        return None
    unit = 1_000_000 if second is not None else 60_000_000 if minute is not None else 3_600_000_000
    digits = fraction[:_FRACTION_DIGITS]
    microseconds = int(digits or 0) * unit // 10 ** len(digits)
    passed = timedelta(hours=hour, minutes=minute or 0, seconds=second or 0, microseconds=microseconds)
    return passed if hour <= _LAST_HOUR or passed == timedelta(days=1) else None


def _with_time(day: date | None, since_midnight: timedelta | None, offset: timedelta | None) -> _Reading:
    if day is None or since_midnight is None:
        return None
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return _shifted(midnight, since_midnight - (offset or timedelta()), has_offset=offset is not None)


def _shifted(time: datetime, by: timedelta, *, has_offset: bool) -> _Reading:
    try:
        return time + by, has_offset
    except OverflowError:
        return None


# MongoDB's extended JSON


def _read_json(text: str) -> _Reading:
    try:
        return _read_json_date(msgspec.json.decode(text)) if len(text) <= _MAX_JSON_CHARS else None
    except (msgspec.MsgspecError, ValueError):
        return None


def _read_json_date(value: dict[str, Any]) -> _Reading:
    """Read `{"$date": ...}`: a text, or milliseconds since 1970 as a number or in `$numberLong`."""
    found = value.get("$date") if len(value) == 1 else None
    if isinstance(found, dict) and found.keys() == {"$numberLong"}:
        found = found["$numberLong"]
        found = int(found) if isinstance(found, str) and _LONG.fullmatch(found) else None
    if isinstance(found, str):
        return None if found.startswith("{") else _read_text(found)
    if isinstance(found, bool) or not isinstance(found, int) or abs(found) > _MAX_LONG:
        return None
    try:
        return EPOCH + timedelta(milliseconds=found), True
    except OverflowError:
        return None


_MAX_JSON_CHARS = 200
_LONG = re.compile(r"-?[0-9]{1,19}", re.ASCII)
_MAX_LONG = 2**63
