"""`Retry-After`: for how long an endpoint asks to be left alone, in any form that endpoints use.

| value | seconds |
| --- | --- |
| a number of seconds, whole or decimal | that |
| a number above 10^9 (a time since 1970 in seconds; above 10^11 in milliseconds), as some write it | until then |
| an HTTP date | until then |
| 0, a negative number, a time that has passed, anything else | None: the usual backoff applies |

`backoff` limits how much of it is granted.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_NUMBER = re.compile(r"[0-9]{1,40}(?:\.[0-9]{0,40})?")
_LONGEST_CHARS = 64
_EPOCH_SECONDS = 1e9
_EPOCH_MILLISECONDS = 1e11


def retry_after_seconds(text: str, now: datetime) -> float | None:
    """Parse `Retry-After`: a positive number of seconds, or None.  Raises nothing."""
    text = text.strip()
    seconds = float(text) if _NUMBER.fullmatch(text) else None
    if seconds is None:
        seconds = _until_date(text, now) if len(text) <= _LONGEST_CHARS else None
    elif seconds >= _EPOCH_MILLISECONDS:
        seconds = seconds / 1_000 - now.timestamp()
    elif seconds >= _EPOCH_SECONDS:
        seconds -= now.timestamp()
    return seconds if seconds is not None and seconds > 0 else None


def _until_date(text: str, now: datetime) -> float | None:
    try:
        date = parsedate_to_datetime(text)
        date = date if date.tzinfo else date.replace(tzinfo=UTC)
        return (date - now).total_seconds()
    except (ArithmeticError, LookupError, TypeError, ValueError, UnboundLocalError):  # the parser raises all of them
        return None
