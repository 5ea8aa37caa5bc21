"""Counts of messages by event, source or day, in memory that is bounded however many names there are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import attrs
import msgspec

from trackcore import StoredPayload
from trackcore.support import event_of

MOST_GROUPS = 10_000
_MOST_CHARS = 4_000_000
"""How many groups are counted one by one, and how long their names may be in all: clients choose the names of events,
and the days."""

_DAY_CHARS = 10

Group = tuple[str | None, ...]


@attrs.define(kw_only=True)
class Count:
    """How many messages a group has, their bytes, and when the first and the last were received."""

    group: Group
    first: datetime
    last: datetime
    messages: int = 0
    size: int = 0

    def add(self, stored: StoredPayload) -> None:
        """Count a message."""
        self.messages += 1
        self.size += len(stored.payload)
        self.first = min(self.first, stored.received_at)
        self.last = max(self.last, stored.received_at)


class _Names(msgspec.Struct):
    """The fields that a group needs."""

    event: Any = None
    name: Any = None
    timestamp: Any = None


_decode = msgspec.json.Decoder(_Names).decode


def _by_event(stored: StoredPayload) -> Group:
    names = _decode(stored.payload)
    event = event_of(stored.call, {"event": names.event, "name": names.name})
    return stored.call, None if event is None else str(event)


def _by_source(stored: StoredPayload) -> Group:
    return (stored.source,)


def _by_day(stored: StoredPayload) -> Group:
    return (str(_decode(stored.payload).timestamp)[:_DAY_CHARS],)


GROUPINGS: Mapping[str, tuple[Sequence[str], Callable[[StoredPayload], Group]]] = {
    "event": (("call", "event"), _by_event),
    "source": (("source",), _by_source),
    "day": (("day",), _by_day),
}
"""For each grouping the names of the parts of a group, and how they are found.  A day is that of the corrected time."""


@attrs.define
class Counting:
    """Counts messages by one of the `GROUPINGS`.  `others` counts those of the groups beyond the bound."""

    by: str
    _counts: dict[Group, Count] = attrs.field(init=False, factory=dict)
    _chars: int = attrs.field(init=False, default=0)
    others: Count | None = attrs.field(init=False, default=None)

    def add(self, stored: StoredPayload) -> None:
        """Count a message."""
        group = GROUPINGS[self.by][1](stored)
        count = self._counts.get(group) or self._new(group, stored.received_at)
        count.add(stored)

    def _new(self, group: Group, at: datetime) -> Count:
        chars = sum(len(part or "") for part in group)
        if len(self._counts) < MOST_GROUPS and self._chars + chars <= _MOST_CHARS:
            self._chars += chars
            return self._counts.setdefault(group, Count(group=group, first=at, last=at))
        if self.others is None:
            self.others = Count(group=(), first=at, last=at)
        return self.others

    def counts(self) -> list[Count]:
        """Return the counts of the groups: days in their order, others with the largest first."""
        if self.by == "day":
            return sorted(self._counts.values(), key=lambda count: count.group)
        return sorted(self._counts.values(), key=lambda count: -count.messages)
