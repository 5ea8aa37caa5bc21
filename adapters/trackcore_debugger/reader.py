"""The log as the debugger reads it: bounded questions, and answers that are ready to be shown.

A message, in `detail`, has its `deliveries`: `{destination, outcome, ...}` for each destination that was selected.  A
rejected or quarantined one has `canRepair`, whether a changed configuration can help, and `repairedAs`.

A row of a listing has `part`, `seq`, `at` (receivedAt), `outcome`, `source`, `type`, `name`, `user`, `codes` (warnings,
or the reason) and `path`; a field that is not known is null.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeAlias

import attrs
import msgspec

from trackcore import PARTS, JSONObject, Part, Search

Cursors: TypeAlias = Mapping[str, int]
"""For each part a sequence number: up to it, or down to it, the part has been read."""


ANYTHING = Search()
"""The search that matches every record."""


@attrs.frozen(kw_only=True)
class Listing:
    """Rows, newest first, as objects or as JSON text already, and the cursors to go on from.

    `skipped` is how many new records were left out, since more came than can be shown; with `is_end` nothing is older;
    `reached` is the time (receivedAt) down to which every record was examined, null at the end.  With `is_another_log`
    the cursors are of a log that is no longer there, so the list starts again; `log` identifies the log, and is to be
    passed back with the cursors.
    """

    rows: Sequence[JSONObject | msgspec.Raw]
    cursors: Cursors
    skipped: int = 0
    is_end: bool = False
    reached: str | None = None
    is_another_log: bool = False
    log: str = ""


class Reader(Protocol):
    """Reads the log.  Every method is bounded: it takes milliseconds, however large the log is."""

    def start(self) -> JSONObject:
        """Return what a page needs once.

        `cursors` of the ends, `log`, the names of `sources` with the `writeKeys` of those that have one, `codes` with
        their titles, and `destinations` as `{name, isDelivered}`.
        """

    def newer(
        self, cursors: Cursors, search: Search = ANYTHING, *, parts: Sequence[Part] = PARTS, log: str = ""
    ) -> Listing:
        """Return the records after the cursors that match; `log` came with the cursors, and is empty if not known."""

    def older(self, cursors: Cursors, search: Search = ANYTHING, *, parts: Sequence[Part] = PARTS) -> Listing:
        """Return records before the cursors that match, looking some way back."""

    def find(self, message_id: str) -> Sequence[JSONObject]:
        """Return the rows of the messages with an id, or with a sequence number."""

    def detail(self, part: Part, seq: int) -> JSONObject | None:
        """Return the whole explanation of a record, None if it does not exist."""

    def charts(self, seconds: int) -> JSONObject:
        """Count what came in over the last so many seconds, in buckets."""

    def names(self, text: str) -> JSONObject:
        """Count the newest messages by event, those whose name contains a text: `names`, `counted`, `isPartial`."""

    def retry(self, seq: int, destination: str) -> JSONObject | None:
        """Request that the dead letter of a message is sent to a destination again; None if there is none."""

    def repair(self, part: Part, seq: int) -> JSONObject | None:
        """Receive a rejected or quarantined record again, and return its outcome."""
