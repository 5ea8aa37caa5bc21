"""The latest traits of a user or a group, whatever the order in which messages come.

Theory.  Each value has a stamp: when its message was received, then the position of the message, since the messages of
one request are received at one time.  A value replaces one with a lower stamp, for each column by itself: so a message
that comes late, in a replay or from another partition, fills what no newer one has, and overwrites nothing newer.  The
result depends on the set of messages alone, not on their order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import attrs

from trackcore.warehouse.values import Value


class Stamp(NamedTuple):
    """When the message of a value was received, in microseconds since 1970, and its position."""

    received_at: int
    position: int


Stamps = dict[str, Stamp]
"""The stamp of each column of a profile that has a value."""


@attrs.define
class Profile:
    """The new values of a profile, for some of its columns, and the stamps of all of them."""

    stamps: Stamps
    values: dict[str, Value] = attrs.field(factory=dict)

    def add(self, values: Mapping[str, Value], stamp: Stamp) -> None:
        """Take the values of a message that are newer than what the profile has."""
        stamps = self.stamps
        for column, value in values.items():
            known = stamps.get(column)
            if known is None or known < stamp:
                stamps[column] = stamp
                self.values[column] = value


def encode_stamps(stamps: Mapping[str, Stamp]) -> str:
    """Return stamps as text: a line for each stamp, `received_at position column column ...`."""
    columns: dict[Stamp, list[str]] = {}
    for column, stamp in stamps.items():
        columns.setdefault(stamp, []).append(column)
    return "\n".join(
        " ".join([str(stamp.received_at), str(stamp.position), *names]) for stamp, names in columns.items()
    )


def decode_stamps(text: str) -> Stamps:
    """Return the stamps of a text."""
    return {column: stamp for stamp, columns in _lines(text) for column in columns}


def _lines(text: str) -> Iterable[tuple[Stamp, list[str]]]:
    for line in text.split("\n") if text else ():
        received_at, position, *columns = line.split(" ")
        yield Stamp(int(received_at), int(position)), columns
