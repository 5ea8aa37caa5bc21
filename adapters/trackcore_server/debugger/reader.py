"""The log as the debugger reads it: bounded queries, and the configuration for explanations.

Theory.  A listing mixes parts of the log that are numbered separately, so it goes back in time in all of them at once:
each part is read some way back, and the answer has the rows down to the *latest* of the times that were reached, since
only down to there no row of another part can be missing.  Rows below it are read again with the next question.  With a
filter each part is searched step by step, until the time for an answer is over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

import attrs
import msgspec
from trackcore_debugger import ANYTHING, Cursors, Listing
from trackcore_sqlite import Head, SqliteBrowser, is_slow

from trackcore import (
    CATALOG,
    PARTS,
    JSONObject,
    Part,
    Search,
    SinkUnavailable,
    StoredMessage,
    TrackcoreError,
    format_timestamp,
)
from trackcore.support import mask_write_keys
from trackcore_server.debugger.charts import Charts
from trackcore_server.debugger.deadline import Deadline
from trackcore_server.debugger.event_names import EventNames
from trackcore_server.debugger.outcomes import DeliveryOutcomes
from trackcore_server.debugger.recent import RecordingSink
from trackcore_server.debugger.recent_rows import LISTED, RecentRows, TailRow, tail_row
from trackcore_server.debugger.rows import ROWS
from trackcore_server.inspection.explainer import Explainer
from trackcore_server.inspection.json_lines import explained_record, payload_text
from trackcore_server.inspection.reprocess import Reprocessor

WINDOW = 4_000
"""How many records of a part are examined for one answer, if there is a filter."""

STEPS: Mapping[Part, int] = {"messages": 100, "duplicates": 100, "rejected": 50, "quarantine": 20}
"""How many of them at once: fewer if one may be large, and up to eight times as many while that is quick."""

SLOW_STEPS: Mapping[Part, int] = {"messages": 50, "duplicates": 50, "rejected": 5, "quarantine": 2}
"""The same for a search that takes long for each."""

_QUICK_SECONDS = 0.002

SECONDS = 0.02
"""How long one answer may search.  A step that has begun is finished."""

_SEQ_DIGITS = 15


@attrs.frozen(kw_only=True)
class _Look:
    """The rows that were found in a part on the way back, newest first, down to the number `reached`.

    `floor` is the time of the record below it, None if there is none.
    """

    part: str
    rows: Sequence[TailRow]
    reached: int
    floor: datetime | None

    def down_to(self, floor: datetime | None) -> tuple[list[TailRow], int]:
        """Return the rows that are not older than `floor`, with their times, and the number to continue from.

        The time of a row is at least that of the rows before it: a reprocessed message has an earlier one.
        """
        latest = self.floor
        timed: list[TailRow] = []
        for row in reversed(self.rows):
            latest = row.received_at if latest is None else max(latest, row.received_at)
            timed.append(row._replace(received_at=latest))
        shown = [row for row in timed if floor is None or row.received_at >= floor]
        below = len(timed) - len(shown)
        return shown, timed[below - 1].seq + 1 if below else self.reached


@attrs.frozen
class LogReader:
    """A `trackcore_debugger.Reader` of the embedded log, and of what this process remembers of the newest messages."""

    _log: SqliteBrowser
    _explainer: Explainer
    _watched: RecordingSink
    _repairer: Reprocessor
    _charts: Charts
    _tail: RecentRows
    _names: EventNames
    _outcomes: DeliveryOutcomes
    _clock: Callable[[], datetime]
    _budget: Callable[[], Deadline] = lambda: Deadline(SECONDS)

    def start(self) -> JSONObject:
        """See `trackcore_debugger.Reader.start`."""
        configuration = self._explainer.configuration
        configured = [source.name for source in configuration.sources]
        delivered = {destination.name for destination in configuration.delivered}
        seen = [name for name in self._log.sources() if name not in configured]
        head = self._log.head()
        return {
            "cursors": head.ends,
            "log": head.stretch,
            "sources": configured + seen,
            "writeKeys": {source.name: source.write_keys[0] for source in configuration.sources if source.write_keys},
            "destinations": [
                {"name": one.name, "isDelivered": one.name in delivered} for one in configuration.destinations
            ],
            "codes": {code: entry.title for code, entry in CATALOG.items()},
        }

    def newer(
        self, cursors: Cursors, search: Search = ANYTHING, *, parts: Sequence[Part] = PARTS, log: str = ""
    ) -> Listing:
        """See `trackcore_debugger.Reader.newer`."""
        if search != ANYTHING:
            return self._newer_that_match(cursors, search, parts, log)
        newest = self._tail.newest(log)
        is_doubtful = _lie_beyond(cursors, newest.ends) or log not in {"", newest.stretch}
        if is_doubtful and self._is_another_log(cursors, log, self._log.head()):
            return Listing(rows=(), cursors=cursors, is_another_log=True)
        rows: list[TailRow] = []
        skipped = 0
        for part in parts:
            fresh = [row for row in newest.rows[part] if row.seq > cursors[part]]
            rows.extend(reversed(fresh))
            skipped += max(newest.ends[part] - cursors[part] - len(fresh), 0)
        # The tail may be older than what the page has seen already, and a cursor never goes back.
        further = {part: max(end, cursors[part]) for part, end in newest.ends.items()}
        return Listing(rows=_newest_first(rows), cursors=further, skipped=skipped, log=newest.stretch)

    def older(self, cursors: Cursors, search: Search = ANYTHING, *, parts: Sequence[Part] = PARTS) -> Listing:
        """See `trackcore_debugger.Reader.older`."""
        budget = self._budget()
        search = self._resolved(search)
        looks = [self._look(part, cursors[part], search, budget) for part in parts]
        floor = max((look.floor for look in looks if look.floor is not None), default=None)
        rows: list[TailRow] = []
        next_cursors = dict(cursors)
        for look in looks:
            shown, next_cursors[look.part] = look.down_to(floor)
            rows.extend(shown)
        return Listing(
            rows=_newest_first(rows),
            cursors=next_cursors,
            is_end=floor is None,
            reached=None if floor is None else format_timestamp(floor),
        )

    def find(self, message_id: str) -> Sequence[JSONObject]:
        """See `trackcore_debugger.Reader.find`."""
        seqs = [stored.seq for stored in self._log.with_message_id(message_id)]
        if message_id.isascii() and message_id.isdecimal() and len(message_id) <= _SEQ_DIGITS:
            seqs.append(int(message_id))
        found = (self._log.listed("messages", after=seq - 1, to=seq).rows for seq in dict.fromkeys(seqs))
        return [ROWS["messages"](row) for rows in found for row in rows]

    def detail(self, part: Part, seq: int) -> JSONObject | None:
        """See `trackcore_debugger.Reader.detail`."""
        record = self._log.one(part, seq)
        if record is None:
            return None
        shown = explained_record(part, record, self._explainer, self._log, shows_key=True)
        if part == "messages":
            return shown | self._texts(part, record) | self._deliveries(record)
        if part == "duplicates":
            return shown | self._texts(part, record)
        return shown | {
            "canRepair": self._repairer.may_succeed(record),
            "repairedAs": self._repairer.find_reprocessed(record, self._log),
        }

    def charts(self, seconds: int) -> JSONObject:
        """See `trackcore_debugger.Reader.charts`."""
        return self._charts.of_last(seconds)

    def names(self, text: str) -> JSONObject:
        """See `trackcore_debugger.Reader.names`."""
        return self._names.like(text)

    def retry(self, seq: int, destination: str) -> JSONObject | None:
        """See `trackcore_debugger.Reader.retry`."""
        record = self._log.one("messages", seq)
        if record is None or not self._outcomes.retry(destination, record, self._clock()):
            return None
        return self._deliveries(record)

    def _deliveries(self, record: StoredMessage) -> JSONObject:
        """Return the delivery of a message; a state that cannot be read hides nothing else."""
        try:
            return {"deliveries": self._outcomes.of(record, self._clock())}
        except TrackcoreError as error:
            return {"deliveries": [], "deliveryError": str(error)}

    def repair(self, part: Part, seq: int) -> JSONObject | None:
        """See `trackcore_debugger.Reader.repair`."""
        if part not in ("rejected", "quarantine"):
            return None
        record = self._log.one(part, seq)
        if record is None:
            return None
        try:
            return self._repairer.repair(record).as_json()
        except SinkUnavailable as error:
            return {"part": part, "seq": seq, "outcome": "refused", "code": "unavailable", "detail": str(error)}

    def _is_another_log(self, cursors: Cursors, log: str, head: Head) -> bool:
        """Return whether cursors are of another log; `log` is its newest stretch when they were given, if known.

        Within one log the last numbers never fall, and each stretch begins behind what was there before.
        """
        return _lie_beyond(cursors, head.ends) or (bool(log) and not self._log.has_grown_from(log, cursors))

    def _newer_that_match(self, cursors: Cursors, search: Search, parts: Sequence[Part], log: str) -> Listing:
        budget = self._budget()
        search = self._resolved(search)
        head = self._log.head()
        if self._is_another_log(cursors, log, head):
            return Listing(rows=(), cursors=cursors, is_another_log=True)
        rows: list[TailRow] = []
        skipped = 0
        for part in parts:
            found, reached = self._search(part, cursors[part], head.ends[part], search, budget)
            rows.extend(reversed(found))
            skipped += max(reached - 1 - cursors[part], 0)
        return Listing(rows=_newest_first(rows), cursors=head.ends, skipped=skipped, log=head.stretch)

    def _resolved(self, search: Search) -> Search:
        """Return a search for dead letters with the numbers of the messages."""
        if search.destination is None or search.delivery != "dead_letter":
            return search
        return attrs.evolve(search, seqs=tuple(self._outcomes.dead_letters(search.destination)))

    def _look(self, part: Part, cursor: int, search: Search, budget: Deadline) -> _Look:
        bottom, top = self._range(part, search)
        rows, reached = self._search(part, bottom, min(cursor - 1, top), search, budget)
        floor = self._log.time_before(part, reached) if reached > bottom + 1 else None
        return _Look(part=part, rows=rows, reached=reached if floor else 0, floor=floor)

    def _range(self, part: Part, search: Search) -> tuple[int, int]:
        """Return the numbers between which a search can find records: `bottom < seq <= top`."""
        bottom, top = 0, 10**_SEQ_DIGITS
        if search.since is not None:
            (bottom,) = self._log.seqs_at([search.since], part=part)
        if search.until is not None:
            (top,) = self._log.seqs_at([search.until], part=part)
        if search.destination is not None and search.delivery == "waiting":
            bottom = max(bottom, self._outcomes.settled_up_to(search.destination))
        return bottom, top

    def _search(
        self, part: Part, after: int, to: int, search: Search, budget: Deadline
    ) -> tuple[Sequence[TailRow], int]:
        """Search from `to` down to above `after`; return the rows that match, newest first, and how far it came.

        Without a filter that is one step of `LISTED`; with one, steps until there are as many rows, `WINDOW` records
        have been examined, or the time is over.  Numbers that are known are found at once.
        """
        is_filtered = search != ANYTHING
        step = LISTED
        lowest = max(after, to - LISTED)
        if search.seqs is not None:
            lowest = after
            step = max(to - after, 1)
        elif is_filtered:
            lowest = max(after, to - WINDOW)
            step = (SLOW_STEPS if is_slow(part, search) else STEPS)[part]
        least = step
        found: list[TailRow] = []
        reached = max(to, after) + 1
        while reached - 1 > lowest and len(found) < LISTED:
            quick = Deadline(_QUICK_SECONDS)
            missing = attrs.evolve(search, limit=LISTED - len(found))
            window = self._log.listed(part, missing, after=max(reached - 1 - step, lowest), to=reached - 1)
            found.extend(tail_row(part, record) for record in window.rows)
            reached = window.reached
            step = least if quick.is_spent() else min(2 * step, 8 * least)
            if budget.is_spent():
                break
        return found, reached

    def _texts(self, part: Literal["messages", "duplicates"], record: Any) -> JSONObject:
        """Return the text of a message as it is stored, and as it came if this process remembers that."""
        payload = self._log.payload(part, record.seq) or b""
        texts = {"payload": payload.decode("utf-8", "replace"), "storedBytes": len(payload)}
        received = self._watched.received(record.message["messageId"], payload)
        if received is None:
            return texts
        return {**texts, "received": {**payload_text(mask_write_keys(received)), "bytes": len(received)}}


def _lie_beyond(cursors: Cursors, ends: Mapping[Any, int]) -> bool:
    """Return whether cursors are behind the end of a log."""
    return any(cursors[part] > end for part, end in ends.items())


def _newest_first(rows: list[TailRow]) -> list[msgspec.Raw]:
    rows.sort(key=lambda row: row.received_at)
    return [row.row for row in reversed(rows)]
