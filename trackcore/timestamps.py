"""Times on the wire: reading, writing, and the correction of clock skew.  The clock itself is always an argument.

Theory.  A client stamps a message with its own clock (`timestamp`) and the request with the same clock (`sentAt`).  The
difference of the two is an age, and ages do not depend on whose clock it was; so the server counts the age back from
its own clock:

    timestamp = receivedAt - (sentAt - originalTimestamp)

(https://segment.com/docs/connections/spec/common/#timestamps).  Without `sentAt` the client's time stands.

Reading is lenient, since a time that cannot be read is never a reason to lose a message.  Beside ISO 8601 with any
number of fraction digits and any offset it takes: one-digit months and days (the API page's own `2015-2-02T...`), a
space or lower-case `t` and `z`, a comma before the fraction, `24:00:00`, a leap second, no offset (UTC), and seconds or
milliseconds since 1970 as a number or as text (the Java SDK).  Digits beyond microseconds are dropped.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache

import attrs

from trackcore.jsontext import encode_json

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)

_from_iso_format = datetime.fromisoformat
_MILLISECOND_TEXTS = tuple(f".{count:03d}Z" for count in range(1000))

_EPOCH_TEXT = re.compile(r"[+-]?[0-9]{9,14}(\.[0-9]+)?", re.ASCII)
_LAST_MINUTE = 59
_LEAP_SECOND = 60
_FIRST_MILLISECONDS = 10**11
"""From this number on, a count since 1970 is in milliseconds: as seconds it would lie after the year 5138."""

# Repetitions are possessive: spaces that two of them could share would be tried in every split, in quadratic time.
_LENIENT = re.compile(
    r"""\s*+(?P<year>\d{4})-(?P<month>\d{1,2})-(?P<day>\d{1,2})
    (?:[Tt\ ]++(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:[.,](?P<fraction>\d*+))?)?
    \ *+(?:(?P<utc>[Zz])|(?P<sign>[+-])(?P<hours>\d{2}):?(?P<minutes>\d{2})?)?)?\s*+""",
    re.VERBOSE | re.ASCII,
)


class TimeRule(StrEnum):
    """Which rule gave a message its `timestamp`."""

    RECEIVED = "received"  # the message has no time, or none that can be read
    ORIGINAL = "original"  # there is no sentAt to correct it by: the client's time stands
    CORRECTED = "corrected"  # the age of the message, counted back from receivedAt
    UNREPRESENTABLE = "unrepresentable"  # the corrected time lies outside the years 1 to 9999


@attrs.frozen(kw_only=True)
class CorrectedTimestamp:
    """The time of a message, the rule that gave it, and how far the client's clock is ahead (None when unknown)."""

    timestamp: datetime
    rule: TimeRule
    clock_skew: timedelta | None


@attrs.frozen
class ClockCorrection:
    """The time rule for all messages that were received at one time and sent at one time.

    All times are aware and in UTC.  `clock_skew` is how far the client's clock is ahead, None when it is not known.
    """

    received_at: datetime
    clock_skew: timedelta | None

    @classmethod
    def between(cls, received_at: datetime, sent_at: datetime | None) -> ClockCorrection:
        """Find the skew from the two times of a request.  Without `sent_at` there is nothing to correct by."""
        return cls(received_at, None if sent_at is None else sent_at - received_at)

    def apply(self, original_timestamp: datetime | None) -> tuple[datetime, TimeRule]:
        """Give the time of one message, exactly, and the rule that gave it.  Never raises."""
        if original_timestamp is None:
            return self.received_at, TimeRule.RECEIVED
        if self.clock_skew is None:
            return original_timestamp, TimeRule.ORIGINAL
        try:
            return original_timestamp - self.clock_skew, TimeRule.CORRECTED
        except OverflowError:
            return original_timestamp, TimeRule.UNREPRESENTABLE


def correct_clock_skew(
    *, received_at: datetime, sent_at: datetime | None, original_timestamp: datetime | None
) -> CorrectedTimestamp:
    """Apply the time rule to one message.  All times are aware and in UTC; the result is exact.  Never raises.

    Source: https://segment.com/docs/connections/spec/common/#timestamps
    """
    correction = ClockCorrection.between(received_at, sent_at)
    timestamp, rule = correction.apply(original_timestamp)
    return CorrectedTimestamp(timestamp=timestamp, rule=rule, clock_skew=correction.clock_skew)


def parse_timestamp(value: object) -> datetime | None:
    """Read a time from the wire as an aware datetime in UTC, or give None when it cannot be read."""
    if isinstance(value, str):
        if value[4:5] != "-" and _EPOCH_TEXT.fullmatch(value):
            return _from_epoch(float(value) if "." in value else int(value))
        try:
            time = _from_iso_format(value)
        except ValueError:
            return _parse_lenient(value)
        return time if time.tzinfo is UTC else _in_utc(time)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _from_epoch(value)
    return None


def format_timestamp(time: datetime) -> str:
    """Write a UTC datetime as the wire has it: `2012-12-02T00:30:08.276Z`.  Microseconds are cut, not rounded."""
    since_epoch = time - EPOCH
    return _second_text(since_epoch.days, since_epoch.seconds) + _MILLISECOND_TEXTS[since_epoch.microseconds // 1000]


@lru_cache(maxsize=4096)
def _second_text(days: int, seconds: int) -> str:
    """Write a whole second since 1970.  Remembered, as the messages of a batch lie close together."""
    return (EPOCH + timedelta(days=days, seconds=seconds)).isoformat()[:19]


def truncate_to_milliseconds(time: datetime) -> datetime:
    """Give an aware time in UTC, without the part that the wire format cannot carry."""
    time = time.astimezone(UTC)
    return time.replace(microsecond=time.microsecond // 1000 * 1000)


def _in_utc(time: datetime) -> datetime | None:
    if time.tzinfo is None:
        return time.replace(tzinfo=UTC)
    try:
        return time.astimezone(UTC)
    except OverflowError:
        return None


def _parse_lenient(text: str) -> datetime | None:
    match = _LENIENT.fullmatch(text)
    if match is None:
        return None
    part = match.groupdict("")
    # Seconds and a 24th hour are added rather than set, since `:60` and `24:00` are times of the next minute and day.
    since_midnight = timedelta(
        hours=int(part["hour"] or 0),
        minutes=int(part["minute"] or 0),
        seconds=int(part["second"] or 0),
        microseconds=int(part["fraction"][:6].ljust(6, "0")),
    )
    offset = timedelta(hours=int(part["hours"] or 0), minutes=int(part["minutes"] or 0))
    if not _is_time_of_day(since_midnight, part["minute"], part["second"]) or offset >= timedelta(days=1):
        return None
    try:
        midnight = datetime(int(part["year"]), int(part["month"]), int(part["day"]), tzinfo=UTC)
        return midnight + (since_midnight + offset if part["sign"] == "-" else since_midnight - offset)
    except (ValueError, OverflowError):
        return None


def _is_time_of_day(since_midnight: timedelta, minute: str, second: str) -> bool:
    is_leap = int(second or 0) == _LEAP_SECOND and since_midnight < timedelta(days=1, seconds=1)
    return (
        (since_midnight <= timedelta(days=1) or is_leap)
        and int(minute or 0) <= _LAST_MINUTE
        and int(second or 0) <= _LEAP_SECOND
    )


def _from_epoch(count: float) -> datetime | None:
    try:
        unit = timedelta(seconds=1) if abs(count) < _FIRST_MILLISECONDS else MILLISECOND
        return EPOCH + count * unit
    except (OverflowError, ValueError):
        return None


def time_text(value: object) -> str | None:
    """Give a time as the client wrote it: text verbatim, any other JSON as its text, None and `""` as absent."""
    if value is None or value == "":
        return None
    return value if isinstance(value, str) else encode_json(value).decode()
