"""The shape of what the debugger looks into: bounded questions, and answers that are ready to be shown.

A *part* is one of `messages`, `duplicates`, `rejected`, `quarantine`; within a part, records are numbered by a rising
`seq`.  A row of a listing has `part`, `seq`, `at` (receivedAt), `outcome`, `source`, `type`, `name`, `user`, `codes`
(warnings, or the reason) and `path`; what is not known is null.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeAlias

import attrs
import msgspec

from trackcore import JSONObject

PARTS = ("messages", "duplicates", "rejected", "quarantine")

Cursors: TypeAlias = Mapping[str, int]
"""For each part a sequence number: up to where, or from where down, it has been looked at."""


@attrs.frozen(kw_only=True)
class Wanted:
    """What is looked for; None is everything.  `parts` are the parts to look into."""

    parts: tuple[str, ...] = PARTS
    source: str | None = None
    call: str | None = None
    user: str | None = None
    code: str | None = None
    text: str | None = None


@attrs.frozen(kw_only=True)
class Listing:
    """Rows, newest first, as objects or as JSON text already, and the cursors to go on from.

    `skipped` is how many new records were passed over, since more came than can be shown; `is_end` says that there is
    nothing older; `reached` is the time (receivedAt) down to which everything has been looked at, null at the end.
    `is_another_log` says that the cursors are of a log that is not there any more, so that the list begins anew;
    `log` is what tells the log from others, to be handed back with the cursors.
    """

    rows: Sequence[JSONObject | msgspec.Raw]
    cursors: Cursors
    skipped: int = 0
    is_end: bool = False
    reached: str | None = None
    is_another_log: bool = False
    log: str = ""


class Reader(Protocol):
    """Looks into the log.  Every method is bounded: it takes milliseconds, however large the log is."""

    def start(self) -> JSONObject:
        """Return what the page needs to know once: `cursors` of the ends, `sources`, and `codes` with their titles.

        Also `log`, as in a `Listing`.
        """

    def newer(self, cursors: Cursors, wanted: Wanted, log: str = "") -> Listing:
        """Return what came after the cursors, which were given together with `log`; empty for who does not know it."""

    def older(self, cursors: Cursors, wanted: Wanted) -> Listing:
        """Look at what lies before the cursors, some way back."""

    def find(self, message_id: str) -> Sequence[JSONObject]:
        """Give the rows of the messages with an id, or with a sequence number."""

    def detail(self, part: str, seq: int) -> JSONObject | None:
        """Tell the whole story of a record, None where there is none."""

    def charts(self, seconds: int) -> JSONObject:
        """Count what came in over the last so many seconds, in buckets."""

    def repair(self, part: str, seq: int) -> JSONObject | None:
        """Receive a rejected or quarantined record again, and tell what became of it."""
