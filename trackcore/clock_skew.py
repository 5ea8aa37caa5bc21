"""The correction of clock skew: how a message gets its `timestamp`.

Theory.  A client stamps a message with its own clock (`timestamp`) and the request with the same clock (`sentAt`).  The
difference of the two is an age, and an age does not depend on whose clock measured it; so the server counts the age
back from its own clock:

    timestamp = receivedAt - (sentAt - originalTimestamp)

(https://segment.com/docs/connections/spec/common/#timestamps).  Without `sentAt` the client's time is kept.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum

import attrs


class TimeRule(StrEnum):
    """The rule by which a message got its `timestamp`."""

    RECEIVED = "received"  # the message has no time, or none that can be read
    ORIGINAL = "original"  # without sentAt nothing is corrected: the client's time is kept
    CORRECTED = "corrected"  # the age of the message, counted back from receivedAt
    UNREPRESENTABLE = "unrepresentable"  # the corrected time lies outside the years 1 to 9999


@attrs.frozen(kw_only=True)
class CorrectedTimestamp:
    """The time of a message, the rule behind it, and how far the client's clock is ahead (None when unknown)."""

    timestamp: datetime
    rule: TimeRule
    clock_skew: timedelta | None


def correct_clock_skew(
    *, received_at: datetime, sent_at: datetime | None, original_timestamp: datetime | None
) -> CorrectedTimestamp:
    """Apply the time rule to one message.  All times are aware and in UTC; the result is exact.  Never raises.

    Source: https://segment.com/docs/connections/spec/common/#timestamps
    """
    clock_skew = None if sent_at is None else sent_at - received_at
    timestamp, rule = received_at, TimeRule.RECEIVED
    if original_timestamp is not None:
        timestamp, rule = _corrected(original_timestamp, clock_skew)
    return CorrectedTimestamp(timestamp=timestamp, rule=rule, clock_skew=clock_skew)


def _corrected(original_timestamp: datetime, clock_skew: timedelta | None) -> tuple[datetime, TimeRule]:
    if clock_skew is None:
        return original_timestamp, TimeRule.ORIGINAL
    try:
        return original_timestamp - clock_skew, TimeRule.CORRECTED
    except OverflowError:
        return original_timestamp, TimeRule.UNREPRESENTABLE
