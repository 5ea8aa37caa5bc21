"""Validation of a document: the errors and warnings of the server's own pipeline, and the violations of a plan."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

import attrs
import msgspec

from trackcore import (
    DEFAULT_LIMITS,
    Call,
    IntakeResult,
    Invalid,
    InvalidRequest,
    MessageWarning,
    Origin,
    Pipeline,
    Reception,
    Rejection,
    Resolver,
    Source,
    SourceRegistry,
)
from trackcore.plans import Plan, Violation
from trackcore.support import find_source, truncate_to_milliseconds
from trackcore_server.files.documents import Document, DocumentRequest, read_request

_SOURCE = Source(name="validate")


@attrs.frozen(kw_only=True)
class Finding:
    """One error in a message, a warning about it, or a violation of a tracking plan.

    `index` is the position of the message in its batch or array; `limit` and `actual` are in the unit of the limit;
    `rule` is the label of the rule of the plan.
    """

    index: int | None
    path: str
    code: str
    message: str
    limit: int | None = None
    actual: int | None = None
    rule: str | None = None
    severity: Literal["rejected", "violation", "warning"]


@attrs.frozen(kw_only=True)
class ValidationResult:
    """How many messages a document contains, how many are rejected, how many violate the plan, and why."""

    messages: int
    rejected: int
    violating: int = 0
    findings: Sequence[Finding] = ()
    is_batch: bool = False


def validate_document(document: Document, call: Call | None = None, plan: Plan | None = None) -> ValidationResult:
    """Validate a document by the limits of the API, and by a tracking plan; see `read_request`."""
    try:
        reading = read_request(document, call, DEFAULT_LIMITS)
    except InvalidRequest as error:
        return ValidationResult(messages=1, rejected=1, findings=[_rejected(error, None)])
    intake = _run(reading)
    findings: list[Finding] = []
    violating = 0
    for place, result in intake.by_index():
        index = None if reading.is_single else place
        if isinstance(result, Rejection):
            findings.append(_rejected(result.error, index))
        else:
            findings.extend(_warning(warning, index) for warning in result.warnings)
            violations = () if plan is None else plan.check(msgspec.json.decode(result.payload))
            findings.extend(_violation(violation, index) for violation in violations)
            violating += bool(violations)
    return ValidationResult(
        messages=len(reading.request.items),
        rejected=len(reading.request.items) - len(intake.envelopes),
        violating=violating,
        findings=findings,
        is_batch=reading.is_batch,
    )


def _run(reading: DocumentRequest) -> IntakeResult:
    pipeline = Pipeline(source=_SOURCE, resolver=Resolver(()), new_message_id=lambda: "new", limits=reading.limits)
    _, write_key, _ = find_source(reading.request, Origin(), SourceRegistry(()), reading.limits)
    received_at = truncate_to_milliseconds(datetime.now(UTC))
    return pipeline.run(reading.request, Reception(received_at=received_at, write_key=write_key))


def _rejected(error: Invalid, index: int | None) -> Finding:
    return Finding(
        severity="rejected",
        code=error.reason,
        message=error.detail,
        path=error.path,
        index=index,
        limit=error.limit,
        actual=error.actual,
    )


def _warning(warning: MessageWarning, index: int | None) -> Finding:
    return Finding(severity="warning", code=warning.code, message=warning.message, path=warning.path, index=index)


def _violation(violation: Violation, index: int | None) -> Finding:
    return Finding(
        severity="violation",
        code=violation.kind,
        message=violation.sentence,
        path=violation.path,
        index=index,
        rule=violation.rule or None,
    )
