"""What the debugger looks into: the log, by bounded queries, with the configuration to explain it by.

Theory.  A listing mixes parts of the log that have numbers of their own, so it goes back in time by all of them at
once: each part is looked at some way back, and rows are given down to the *latest* of the times that were so reached,
since only down to there nothing of another part can be missing.  What lies below is looked at again with the next
question.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import attrs
from trackcore_debugger import Cursors, Listing, Wanted
from trackcore_sqlite import Filter, Part, SqliteBrowser

from trackcore import CATALOGUE, JSONObject, SinkUnavailable, format_timestamp
from trackcore.explain import explain_message
from trackcore.jsontext import encode_json, parse_value
from trackcore_server.charts import Charts
from trackcore_server.duplicates import Duplicate, WatchedSink
from trackcore_server.explaining import Explainer
from trackcore_server.records import quarantined_record, rejected_record
from trackcore_server.repair import Repairer
from trackcore_server.rows import ROWS, duplicate_row, message_row
from trackcore_server.tail import LISTED, Tail, TailRow

WINDOW = 4_000
"""How many records of a part are looked at for one answer, where something is looked for."""

_LOGGED: Mapping[str, Part] = {"messages": "messages", "rejected": "rejected", "quarantine": "quarantine"}
_ROWS = {**ROWS, "duplicates": duplicate_row}
_SEQ_DIGITS = 15


@attrs.frozen(kw_only=True)
class _Look:
    """What was found in a part on the way back: records, newest first, down to the number `reached`.

    `floor` is the time of what lies there, None where nothing lies below.
    """

    part: str
    records: Sequence[Any]
    reached: int
    floor: datetime | None

    def down_to(self, floor: datetime | None) -> tuple[list[tuple[datetime, JSONObject]], int]:
        """Give the rows that are not older than `floor`, with their times, and the number to go on from.

        The time of a row is at least that of the rows before it: a message that was received again has an earlier one.
        """
        latest = self.floor
        timed: list[tuple[datetime, Any]] = []
        for record in reversed(self.records):
            received_at = _received_at(record)
            latest = received_at if latest is None else max(latest, received_at)
            timed.append((latest, record))
        shown = [(at, _ROWS[self.part](record)) for at, record in timed if floor is None or at >= floor]
        below = len(timed) - len(shown)
        return shown, timed[below - 1][1].seq + 1 if below else self.reached


@attrs.frozen
class LogReader:
    """A `trackcore_debugger.Reader` of the embedded log, and of the duplicates of this process."""

    _log: SqliteBrowser
    _explainer: Explainer
    _watched: WatchedSink
    _repairer: Repairer
    _charts: Charts
    _tail: Tail

    def start(self) -> JSONObject:
        """See `trackcore_debugger.Reader.start`."""
        configured = [source.name for source in self._explainer.configuration.sources]
        seen = [name for name in self._log.sources() if name not in configured]
        return {
            "cursors": self._ends(),
            "sources": configured + seen,
            "codes": {code: entry.title for code, entry in CATALOGUE.items()},
        }

    def newer(self, cursors: Cursors, wanted: Wanted) -> Listing:
        """See `trackcore_debugger.Reader.newer`."""
        if _is_filtered(wanted):
            return self._newer_that_are(wanted, cursors)
        newest = self._tail.newest()
        duplicates = [TailRow(found.seq, _received_at(found), duplicate_row(found)) for found in self._watched.newest()]
        tails = {**newest.rows, "duplicates": duplicates[:LISTED]}
        ends = {**newest.ends, "duplicates": duplicates[0].seq if duplicates else 0}
        rows: list[tuple[datetime, JSONObject]] = []
        skipped = 0
        for part in wanted.parts:
            fresh = [found for found in tails[part] if found.seq > cursors[part]]
            rows.extend((found.received_at, found.row) for found in reversed(fresh))
            if part in _LOGGED:
                skipped += max(ends[part] - cursors[part] - len(fresh), 0)
        # The tail may be older than what the page has seen already, and a cursor never goes back.
        further = {part: max(end, cursors[part]) for part, end in ends.items()}
        return Listing(rows=_newest_first(rows), cursors=further, skipped=skipped)

    def older(self, cursors: Cursors, wanted: Wanted) -> Listing:
        """See `trackcore_debugger.Reader.older`."""
        looks = list(self._looks(cursors, wanted))
        floor = max((look.floor for look in looks if look.floor is not None), default=None)
        rows: list[tuple[datetime, JSONObject]] = []
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
        found = self._log.with_message_id(message_id)
        is_number = message_id.isascii() and message_id.isdecimal() and len(message_id) <= _SEQ_DIGITS
        if is_number and (stored := self._log.one("messages", int(message_id))) is not None:
            found.append(stored)
        repeated = [duplicate for duplicate in self._watched.newest() if duplicate.envelope.message_id == message_id]
        return [*map(message_row, found), *map(duplicate_row, repeated)]

    def detail(self, part: str, seq: int) -> JSONObject | None:
        """See `trackcore_debugger.Reader.detail`."""
        if part == "duplicates":
            found = (duplicate for duplicate in self._watched.newest() if duplicate.seq == seq)
            duplicate = next(found, None)
            return None if duplicate is None else self._duplicate(duplicate)
        record = self._log.one(_LOGGED[part], seq)
        if record is None:
            return None
        if part == "messages":
            story = self._explainer.message(record).as_json()
            return {"part": part, "seq": seq, **story, "payload": encode_json(record.message).decode()}
        if part == "rejected":
            told = rejected_record(record) | self._explainer.rejected(record).as_json()
        else:
            told = quarantined_record(record) | self._explainer.quarantined(record).as_json()
        repaired = {"repairedAs": self._repairer.repaired_as(record, self._log)}
        return told | repaired | {"part": part}

    def charts(self, seconds: int) -> JSONObject:
        """See `trackcore_debugger.Reader.charts`."""
        return self._charts.of_last(seconds)

    def repair(self, part: str, seq: int) -> JSONObject | None:
        """See `trackcore_debugger.Reader.repair`."""
        if part not in ("rejected", "quarantine"):
            return None
        record = self._log.one(_LOGGED[part], seq)
        if record is None:
            return None
        try:
            return self._repairer.repair(record).as_json()
        except SinkUnavailable as error:
            return {"part": part, "seq": seq, "outcome": "refused", "code": "unavailable", "detail": str(error)}

    def _newer_that_are(self, wanted: Wanted, cursors: Cursors) -> Listing:
        ends = self._ends()
        rows: list[tuple[datetime, JSONObject]] = []
        skipped = 0
        for part in wanted.parts:
            after = cursors[part] if part not in _LOGGED else max(cursors[part], ends[part] - WINDOW)
            found = self._between(part, after, ends[part], wanted) if after < ends[part] else ()
            rows.extend((_received_at(record), _ROWS[part](record)) for record in reversed(found))
            skipped += after - cursors[part]
        return Listing(rows=_newest_first(rows), cursors=ends, skipped=skipped)

    def _ends(self) -> dict[str, int]:
        newest = self._watched.newest()
        return {"duplicates": newest[0].seq if newest else 0} | {
            str(part): end for part, end in self._log.ends().items()
        }

    def _between(self, part: str, after: int, to: int, wanted: Wanted) -> Sequence[Any]:
        if part == "duplicates":
            duplicates = self._watched.newest()
            return [found for found in duplicates if after < found.seq <= to and _is_wanted(found, wanted)][:LISTED]
        return self._log.between(_LOGGED[part], after=after, to=to, wanted=_filter(wanted), limit=LISTED).rows

    def _looks(self, cursors: Cursors, wanted: Wanted) -> Iterator[_Look]:
        for part in wanted.parts:
            if part == "duplicates":
                records = self._between(part, -1, cursors[part] - 1, wanted)
                yield _Look(part=part, records=records, reached=0, floor=None)
            else:
                yield self._look(_LOGGED[part], cursors[part], wanted)

    def _look(self, part: Part, cursor: int, wanted: Wanted) -> _Look:
        after = max(cursor - 1 - (WINDOW if _is_filtered(wanted) else LISTED), 0)
        window = self._log.between(part, after=after, to=cursor - 1, wanted=_filter(wanted), limit=LISTED)
        floor = self._log.time_before(part, window.reached)
        return _Look(part=part, records=window.rows, reached=window.reached if floor else 0, floor=floor)

    def _duplicate(self, duplicate: Duplicate) -> JSONObject:
        envelope = duplicate.envelope
        message = parse_value(envelope.payload)
        story = explain_message(
            message,
            source=envelope.source,
            destinations=envelope.destinations,
            cautions=envelope.cautions,
            resolver=self._explainer.resolver(envelope.source),
            inherited=envelope.inherited,
            duplicate_of=self._log.seq_of(envelope.source, envelope.message_id),
        )
        told = {"part": "duplicates", "seq": duplicate.seq, "payload": envelope.payload.decode("utf-8", "replace")}
        return {**story.as_json(), **told, "outcome": "duplicate"}


def _newest_first(rows: list[tuple[datetime, JSONObject]]) -> list[JSONObject]:
    rows.sort(key=lambda row: row[0])
    return [row for _, row in reversed(rows)]


def _received_at(record: Any) -> datetime:
    received_at: datetime = record.envelope.received_at if isinstance(record, Duplicate) else record.received_at
    return received_at


def _is_filtered(wanted: Wanted) -> bool:
    return _filter(wanted) != Filter()


def _filter(wanted: Wanted) -> Filter:
    return Filter(source=wanted.source, call=wanted.call, user=wanted.user, code=wanted.code, text=wanted.text)


def _is_wanted(duplicate: Duplicate, wanted: Wanted) -> bool:
    envelope = duplicate.envelope
    return (
        wanted.source in (None, envelope.source)
        and wanted.call in (None, envelope.call)
        and wanted.user in (None, envelope.user_id, envelope.anonymous_id)
        and (wanted.code is None or any(caution.code == wanted.code for caution in envelope.cautions))
        and (wanted.text is None or wanted.text.encode() in envelope.payload)
    )
