"""How long to wait after a failure: exponential backoff with full jitter.

Theory.  The wait is drawn evenly from zero to a ceiling that doubles with each failure, so that clients that failed
together do not come back together (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/, "full
jitter").  The ceiling never exceeds the time that the destination has been failing, so after an outage the next attempt
comes at the latest when as much time again has passed.
"""

from __future__ import annotations

FIRST_SECONDS = 0.5
LONGEST_SECONDS = 60.0
LONGEST_RETRY_AFTER_SECONDS = 3_600.0
"""The longest `Retry-After` that is granted; a longer one is cut to this."""

_DOUBLINGS = 32  # beyond any ceiling, and far from what a float can hold


def backoff_seconds(failures: int, *, failing_seconds: float, jitter: float) -> float:
    """Return the seconds to wait after so many failures in a row, which began `failing_seconds` ago.

    `jitter` is drawn evenly from 0 to 1.
    """
    ceiling = FIRST_SECONDS * 2.0 ** min(failures - 1, _DOUBLINGS)
    return jitter * min(ceiling, LONGEST_SECONDS, max(FIRST_SECONDS, failing_seconds))


def capped_retry_after(retry_after: float) -> float:
    """Return the seconds to wait where the destination asked for a wait."""
    return min(max(0.0, retry_after), LONGEST_RETRY_AFTER_SECONDS)  # in this order NaN is 0
