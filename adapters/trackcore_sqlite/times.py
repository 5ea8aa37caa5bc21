"""Times as the log stores them."""

from __future__ import annotations

from datetime import datetime, timedelta

from trackcore.support import EPOCH, MILLISECOND


def milliseconds(time: datetime) -> int:
    """Return a time as the log stores it: milliseconds since 1970."""
    return (time - EPOCH) // MILLISECOND


def from_milliseconds(count: int) -> datetime:
    """Return the time of a stored number."""
    return EPOCH + timedelta(milliseconds=count)
