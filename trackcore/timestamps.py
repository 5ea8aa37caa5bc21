"""Times on the wire: reading, writing, and the correction of clock skew.  The clock itself is always an argument.

Theory.  A client stamps a message with its own clock (`timestamp`) and the request with the same clock (`sentAt`).  The
difference of the two is an age, and ages do not depend on whose clock it was; so the server counts the age back from
its own clock:

    timestamp = receivedAt - (sentAt - originalTimestamp)

(https://segment.com/docs/connections/spec/common/#timestamps).  Without `sentAt` the client's time stands.

Reading them is a matter of its own: see `trackcore.text.timetext`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache

import attrs

from trackcore.text.jsontext import encode_json
from trackcore.text.timetext import EPOCH, has_offset, parse_timestamp

MILLISECOND = timedelta(milliseconds=1)

__all__ = [
    "EPOCH",
    "MILLISECOND",
    "ClockCorrection",
    "CorrectedTimestamp",
    "TimeRule",
    "correct_clock_skew",
    "format_timestamp",
    "has_offset",
    "parse_timestamp",
    "time_text",
    "truncate_to_milliseconds",
]

_MILLISECOND_TEXTS = tuple(f".{count:03d}Z" for count in range(1000))


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


def time_text(value: object) -> str | None:
    """Give a time as the client wrote it: text verbatim, any other JSON as its text, None and `""` as absent."""
    if value is None or value == "":
        return None
    return value if isinstance(value, str) else encode_json(value).decode()
