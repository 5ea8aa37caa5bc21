"""Times as the log keeps them."""

from __future__ import annotations

from datetime import datetime, timedelta

from trackcore.timestamps import EPOCH, MILLISECOND


def milliseconds(time: datetime) -> int:
    """Return a time as the log keeps it: milliseconds since 1970."""
    return (time - EPOCH) // MILLISECOND


def from_milliseconds(count: int) -> datetime:
    """Return a time that the log keeps."""
    return EPOCH + timedelta(milliseconds=count)
