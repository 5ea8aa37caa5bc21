"""The verdict on a document: what the server would say of its messages, by the server's own pipeline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Literal, TypeAlias

import attrs

from trackcore import (
    DEFAULT_LIMITS,
    Call,
    IntakeResult,
    Invalid,
    InvalidRequest,
    Limits,
    MessageWarning,
    Origin,
    Pipeline,
    Reception,
    Resolver,
    Source,
    SourceRegistry,
)
from trackcore.origins import find_source
from trackcore.timestamps import truncate_to_milliseconds
from trackcore.wire.request import Request
from trackcore_server.files.documents import Document, read_request

Severity: TypeAlias = Literal["rejected", "warning"]

_NO_SOURCES = SourceRegistry(())
_SOURCE = Source(name="validate")


@attrs.frozen(kw_only=True)
class Finding:
    """One thing that is wrong with a message, or would be mended.

    `index` is the place of the message in its batch or array; `limit` and `actual` are in the unit of the limit.
    """

    severity: Severity
    code: str
    message: str
    path: str
    index: int | None = None
    limit: int | None = None
    actual: int | None = None


@attrs.frozen(kw_only=True)
class ValidationResult:
    """What was found in a document: how many messages it holds, how many are rejected, and why."""

    messages: int
    rejected: int
    findings: Sequence[Finding] = ()
    is_batch: bool = False


def validate_document(document: Document, call: Call | None = None) -> ValidationResult:
    """Judge a document by the limits of the API; see `read_request`."""
    try:
        reading = read_request(document, call, DEFAULT_LIMITS)
    except InvalidRequest as error:
        return ValidationResult(messages=1, rejected=1, findings=[_rejected(error, None)])
    verdict = _verdict(reading.request, limits=reading.limits, is_batch=reading.is_batch)
    if not reading.is_single:
        return verdict
    return attrs.evolve(verdict, findings=[attrs.evolve(finding, index=None) for finding in verdict.findings])


def _verdict(request: Request, *, limits: Limits, is_batch: bool) -> ValidationResult:
    """Judge the messages of a request."""
    pipeline = Pipeline(source=_SOURCE, resolver=Resolver(()), new_message_id=lambda: "new", limits=limits)
    _, write_key, _ = find_source(request, Origin(), _NO_SOURCES, limits)
    received_at = truncate_to_milliseconds(datetime.now(UTC))
    intake = pipeline.run(request, Reception(received_at=received_at, write_key=write_key))
    findings = [_rejected(rejection.error, rejection.index) for rejection in intake.rejections]
    findings.extend(_warning(warning, index) for index, warning in _cautions(intake))
    findings.sort(key=lambda finding: finding.index or 0)
    return ValidationResult(
        messages=len(request.items),
        rejected=len(request.items) - len(intake.envelopes),
        findings=findings,
        is_batch=is_batch,
    )


def _cautions(intake: IntakeResult) -> Iterator[tuple[int, MessageWarning]]:
    """Give each warning with the place of its message: envelopes are the messages that were not rejected, in order."""
    rejected = {rejection.index for rejection in intake.rejections}
    places = (index for index in range(len(rejected) + len(intake.envelopes)) if index not in rejected)
    for index, envelope in zip(places, intake.envelopes, strict=False):
        for warning in envelope.warnings:
            yield index, warning


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


def _warning(warning: MessageWarning, index: int) -> Finding:
    return Finding(severity="warning", code=warning.code, message=warning.message, path=warning.path, index=index)
