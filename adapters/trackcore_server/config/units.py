"""Ages, sizes and addresses as people write them: `36h`, `64 MiB`, `127.0.0.1:8080`.

Every function raises `ValueError` with a message that states the expected form.
"""

from __future__ import annotations

import re
from datetime import timedelta

_AGE = re.compile(r"(\d{1,9})\s*([smhd])", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}

_SIZE = re.compile(r"(\d{1,15})\s*([KMGT]?i?B)", re.ASCII | re.IGNORECASE)
_BYTES: dict[str, int] = {
    "b": 1,
    **{f"{prefix}b": int(1_000**power) for power, prefix in enumerate("kmgt", 1)},
    **{f"{prefix}ib": int(1_024**power) for power, prefix in enumerate("kmgt", 1)},
}

_BIND = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s:\[\]/]+)):(\d{1,5})", re.ASCII)
_LAST_PORT = 65_535


def parse_age(text: str) -> timedelta:
    """Parse an age: a whole number of seconds, minutes, hours or days, such as `90s`, `30m`, `36h`, `5d`."""
    match = _AGE.fullmatch(text.strip())
    if match is None:
        raise ValueError("expected an age such as '5d', '36h', '30m' or '90s'")
    return timedelta(seconds=int(match[1]) * _SECONDS[match[2]])


def age_text(age: timedelta) -> str:
    """Return an age of whole seconds in the largest unit that leaves no fraction: `36h`, `5d`."""
    seconds = int(age.total_seconds())
    unit = next(unit for unit, size in reversed(_SECONDS.items()) if seconds % size == 0 and (seconds or size == 1))
    return f"{seconds // _SECONDS[unit]}{unit}"


def size_text(size: int) -> str:
    """Return a size in the largest binary unit that leaves no fraction: `64 MiB`; a number of bytes as `500000 B`."""
    power = next(power for power in (4, 3, 2, 1, 0) if size % 1_024**power == 0 and (size or not power))
    return f"{size // 1_024**power} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[power]}"


def parse_size(text: str) -> int:
    """Parse a size in bytes: `64 MiB` is 64 times 1,024 times 1,024, `500 KB` is 500,000."""
    match = _SIZE.fullmatch(text.strip())
    if match is None or match[2].lower() not in _BYTES:
        raise ValueError("expected a number of bytes or a size such as '64 MiB' or '500 KB'")
    return int(match[1]) * _BYTES[match[2].lower()]


def parse_bind(text: str) -> tuple[str, int]:
    """Parse an address to listen on into host and port; port 0 lets the system choose a free one."""
    match = _BIND.fullmatch(text)
    if match is None or int(match[3]) > _LAST_PORT:
        raise ValueError("expected HOST:PORT such as '127.0.0.1:8080' or '[::1]:8080'")
    return match[1] or match[2], int(match[3])
