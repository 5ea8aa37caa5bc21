"""Times as they are written on the wire.  They are parsed in `trackcore.text.timetext`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import msgspec

from trackcore.text.jsontext import encode_json
from trackcore.text.timetext import EPOCH

MILLISECOND = timedelta(milliseconds=1)
_BELOW_A_MILLISECOND = tuple(timedelta(microseconds=count) for count in range(1000))
_MILLISECOND_TEXTS = tuple(f".{count:03d}Z" for count in range(1000))


def format_timestamp(time: datetime) -> str:
    """Write a UTC datetime as the wire has it: `2012-12-02T00:30:08.276Z`.  Microseconds are cut, not rounded."""
    since_epoch = time - EPOCH
    return _second_text(since_epoch.days, since_epoch.seconds) + _MILLISECOND_TEXTS[since_epoch.microseconds // 1000]


def format_timestamps(times: Sequence[datetime]) -> list[str]:
    """Write UTC datetimes as `format_timestamp` does, all in one call: half the time of as many calls.

    msgspec writes six digits, or none for a whole second.
    """
    texts = _decode_texts(encode_json(times).replace(b'000Z"', b'Z"'))
    return [text if len(text) == _LENGTH else format_timestamp(time) for text, time in zip(texts, times, strict=True)]


_decode_texts = msgspec.json.Decoder(list[str]).decode
_LENGTH = len("2012-12-02T00:30:08.276Z")


@lru_cache(maxsize=4096)
def _second_text(days: int, seconds: int) -> str:
    """Write a whole second since 1970.  Cached, since the messages of a batch are close together in time."""
    return (EPOCH + timedelta(days=days, seconds=seconds)).isoformat()[:19]


def truncate_to_milliseconds(time: datetime) -> datetime:
    """Return an aware time in UTC, without the part that the wire format cannot carry."""
    time = time.astimezone(UTC)
    return time - _BELOW_A_MILLISECOND[time.microsecond % 1000]


def time_text(value: object) -> str | None:
    """Return a time as the client wrote it: text verbatim, any other JSON as its text, None for null and `""`."""
    if value is None or value == "":
        return None
    return value if isinstance(value, str) else encode_json(value).decode()
