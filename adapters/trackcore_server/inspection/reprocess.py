"""Reprocessing rejected messages and quarantined requests, after the cause of the rejection was fixed.

Nothing records whether a record was repaired: its messages are in the log then, and found by their ids.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast, get_args

import attrs
from trackcore_sqlite import SqliteBrowser

from trackcore import (
    Call,
    Collector,
    Endpoint,
    IntakeResult,
    InvalidRequest,
    JSONObject,
    Origin,
    Outcome,
    Reason,
    Receipt,
    Source,
    StoredQuarantined,
    StoredRejected,
    WriteKey,
)
from trackcore.support import write_key
from trackcore.wire import peek
from trackcore_server.files.import_records import batch_of_one, examine_history, request_of

Record = StoredRejected | StoredQuarantined

_CALL_OF_CODE: Mapping[str, Call] = {
    Reason.EVENT_NOT_DEFINED: "track",
    Reason.EVENT_NOT_STRING: "track",
    Reason.NO_GROUP_ID: "group",
    Reason.NO_PREVIOUS_ID: "alias",
}
"""The codes that only one call can have."""


@attrs.frozen(kw_only=True)
class Reprocessed:
    """The result of reprocessing a record.

    `outcome` is `repaired` (all of its messages are in the log now, `stored` of them only since this time), `partial`,
    or `refused`; `detail` is the reason for the last two.
    """

    part: str
    seq: int
    outcome: str
    stored: int = 0
    duplicates: int = 0
    rejected: int = 0
    code: str | None = None
    detail: str = ""

    def as_json(self) -> JSONObject:
        """Return it as a JSON object."""
        return {name: value for name, value in attrs.asdict(self).items() if value is not None}


@attrs.frozen
class Reprocessor:
    """Reprocesses records through the pipelines of a collector."""

    _collector: Collector

    def repair(self, record: Record) -> Reprocessed:
        """Reprocess a record and return the result.  Raises `SinkUnavailable`."""
        try:
            receipt = self._collector.store_reprocessed(self._examine(record))
        except (InvalidRequest, _CannotBeReceived) as error:
            return _refused(record, error.reason, error.detail)
        return _reprocessed(record, receipt)

    def find_reprocessed(self, record: Record, log: SqliteBrowser) -> list[int] | None:
        """Return the sequence numbers of the messages of a repaired record, None if one is missing."""
        try:
            intake = self._examine(record)
        except (InvalidRequest, _CannotBeReceived):
            return None
        if intake.source is None or intake.rejections or not intake.envelopes:
            return None
        seqs = [log.seq_of(envelope.source, envelope.message_id) for envelope in intake.envelopes[:_MAX_LOOKED_UP]]
        found = [seq for seq in seqs if seq is not None]
        return found if len(found) == len(seqs) else None

    def may_succeed(self, record: Record) -> bool:
        """Return whether a changed configuration can help, or the current one does already.

        Configuration decides about the sources and their write keys, tracking plans and limits.  A message that is
        wrong by the rules of the API stays so.
        """
        if isinstance(record, StoredQuarantined):
            return record.write_key is not None
        if record.code in _CONFIGURABLE:
            return True
        try:
            intake = self._examine(record)
        except (InvalidRequest, _CannotBeReceived):
            return False
        return bool(intake.envelopes)

    def _examine(self, record: Record) -> IntakeResult:
        """Examine a record by the current configuration.  Raises `InvalidRequest` and `_CannotBeReceived`."""
        if isinstance(record, StoredQuarantined):
            return self._collector.preview(
                record.payload,
                record=f"quarantine:{record.seq}",
                endpoint=record.endpoint,
                origin=Origin(header_key=record.write_key, client_ip=record.client_ip, client_side=record.client_side),
                received_at=record.received_at,
            )
        source = self._collector.sources.by_name(record.source)
        if source is None:
            raise _unknown_source(record)
        if record.code in _HISTORICAL:
            raise _CannotBeReceived("import_only", _FIX_THE_FILE)
        if record.endpoint == "import":
            return self._examine_imported(record, source)
        return self._examine_rejected(record, source)

    def _examine_imported(self, record: StoredRejected, source: Source) -> IntakeResult:
        if not record.batch:
            raise _CannotBeReceived("import_only", "it was not kept completely: import its file again")
        request, message_id = request_of(record, self._collector.limits)
        return examine_history(
            request,
            source=source,
            resolver=self._collector.resolver(source.name),
            received_at=record.received_at,
            message_id=message_id,
            limits=self._collector.limits,
            privacy=self._collector.privacy.get(source.name),
        )

    def _examine_rejected(self, record: StoredRejected, source: Source) -> IntakeResult:
        if not source.write_keys:
            raise _unknown_source(record)
        if record.batch == b"":
            raise _CannotBeReceived("batch_not_kept", "the fields of its batch were too large to be kept with it")
        return self._collector.preview(
            record.payload if record.batch is None else batch_of_one(record.batch, record.payload),
            record=f"rejected:{record.seq}",
            endpoint=_endpoint(record),
            origin=Origin(header_key=_key(record, source)),
            received_at=record.received_at,
        )


_CONFIGURABLE = frozenset(
    {
        Reason.BODY_TOO_LARGE,
        Reason.MESSAGE_ID_TOO_LONG,
        Reason.MESSAGE_TOO_LARGE,
        Reason.PLAN_BLOCKED,
        Reason.SOURCE_DISABLED,
        Reason.TOO_DEEP,
        Reason.TOO_MANY_MESSAGES,
    }
)
"""The rejections by limits, tracking plans and disabled sources."""

_HISTORICAL = frozenset({Reason.HISTORICAL_TIME_MISSING, Reason.HISTORICAL_TIME_UNPARSABLE})
_FIX_THE_FILE = "a request would have the time of today: fix the file, and import it again"
_MAX_LOOKED_UP = 100


@attrs.define
class _CannotBeReceived(Exception):
    reason: str
    detail: str


def _unknown_source(record: StoredRejected) -> _CannotBeReceived:
    return _CannotBeReceived("unknown_source", f"no source is named {record.source!r} any more")


def _key(record: StoredRejected, source: Source) -> WriteKey:
    """Return a write key of the source of a record: the one in the message, if it is one, so that the two agree."""
    named = write_key(peek(record.payload, "writeKey"))
    return named if named in source.write_keys else source.write_keys[0]


def _endpoint(record: StoredRejected) -> Endpoint:
    """Return the endpoint of a rejected record: a batch, or the call of its message."""
    if record.batch is not None:
        return "batch"
    if record.endpoint is not None and record.endpoint != "import":
        return record.endpoint
    if peek(record.payload, "batch") is not None:
        return "batch"
    call = peek(record.payload, "type")
    if isinstance(call, str) and call in get_args(Call):
        return cast("Call", call)
    known = _CALL_OF_CODE.get(record.code)
    if known is None:
        raise _CannotBeReceived("no_type", "the record does not contain the type of the message")
    return known


def _refused(record: Record, code: str, detail: str) -> Reprocessed:
    return Reprocessed(part=_part(record), seq=record.seq, outcome="refused", code=code, detail=detail)


def _reprocessed(record: Record, receipt: Receipt) -> Reprocessed:
    if receipt.source is None:
        return _refused(record, "unknown_source", "its write key still belongs to no source")
    first = receipt.rejections[0].error if receipt.rejections else None
    stored = sum(outcome is Outcome.STORED for outcome in receipt.outcomes)
    outcome = "repaired" if first is None else "partial" if receipt.envelopes else "refused"
    return Reprocessed(
        part=_part(record),
        seq=record.seq,
        outcome=outcome,
        stored=stored,
        duplicates=len(receipt.outcomes) - stored,
        rejected=len(receipt.rejections),
        code=None if first is None else first.reason,
        detail="" if first is None else first.detail,
    )


def _part(record: Record) -> str:
    return "quarantine" if isinstance(record, StoredQuarantined) else "rejected"
