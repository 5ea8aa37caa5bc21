"""A plan in force at intake: what it does to the envelopes of one request.

A message without violations passes as it is, byte for byte.  One with violations carries them as warnings and in its
`context.protocols`.  One of which values are omitted, or that is blocked, is also kept as it was received.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs
import msgspec

from trackcore.errors import InvalidMessage, MessageWarning, Reason, WarningCode
from trackcore.plans.controls import Action, Controls, Treatment
from trackcore.plans.locations import Location, location_text, without
from trackcore.plans.plan import Plan
from trackcore.plans.rudder import violation_error
from trackcore.plans.violations import Violation, ViolationKind
from trackcore.rejected import Rejection
from trackcore.sinks import Envelope
from trackcore.text.jsontext import encode_json, raw_fields
from trackcore.typing import JSONObject

MAX_LISTED = 10
"""How many violations are stored with a message: a stored message must stay small."""

PLAN_WARNINGS = frozenset(map(WarningCode, ViolationKind))
"""The codes of the warnings about violations."""

_any_value = msgspec.json.Decoder()
_digits_kept = msgspec.json.Decoder(float_hook=msgspec.Raw)


@attrs.frozen(kw_only=True)
class PlanInForce:
    """The plan of a source, and what happens to messages that violate it."""

    plan: Plan
    controls: Controls = attrs.field(factory=Controls)

    def enforce(self, envelopes: list[Envelope], rejections: Sequence[Rejection]) -> Enforced:
        """Hold the messages of a request against the plan; `rejections` are those of the same request."""
        planned = [self.plan.accepts_text(envelope.payload) for envelope in envelopes]
        if all(planned):
            return Enforced(envelopes)
        enforced = Enforced([])
        places = _indexes(len(envelopes) + len(rejections), rejections)
        for index, envelope, is_planned in zip(places, envelopes, planned, strict=True):
            if is_planned:
                enforced.envelopes.append(envelope)
            else:
                self._enforce(enforced, index, envelope)
        return enforced

    def _enforce(self, enforced: Enforced, index: int, envelope: Envelope) -> None:
        treatment = self.plan.apply(_any_value.decode(envelope.payload), self.controls)
        enforced.violating.append((envelope, treatment))
        if treatment.action is Action.BLOCK:
            enforced.blocked.append(_kept(index, envelope, treatment, Reason.PLAN_BLOCKED))
            return
        enforced.envelopes.append(_marked(envelope, treatment, self.controls))
        if treatment.action is Action.OMIT:
            enforced.omitted.append(_kept(index, envelope, treatment, Reason.PLAN_OMITTED))


@attrs.define
class Enforced:
    """The messages that go on, those that are blocked, and those of which values were omitted, as received.

    `violating` are those with violations, as they were before.
    """

    envelopes: list[Envelope]
    blocked: list[Rejection] = attrs.field(init=False, factory=list)
    omitted: list[Rejection] = attrs.field(init=False, factory=list)
    violating: list[tuple[Envelope, Treatment]] = attrs.field(init=False, factory=list)


def _kept(index: int, envelope: Envelope, treatment: Treatment, reason: Reason) -> Rejection:
    omitted = frozenset(treatment.omitted)
    first, *others = [found for found in treatment.violations if _is_omitted(found, omitted)] or treatment.violations
    more = f"; and {len(others)} more" if others else ""
    error = InvalidMessage(reason=reason, detail=f"{first.sentence}{more}", path=first.path)
    payload = bytes(envelope.received) or envelope.payload
    return Rejection(index=index, message_id=envelope.message_id, error=error, payload=payload)


def _is_omitted(violation: Violation, omitted: frozenset[Location]) -> bool:
    return any(violation.location[:end] in omitted for end in range(1, len(violation.location) + 1))


def _marked(envelope: Envelope, treatment: Treatment, controls: Controls) -> Envelope:
    fields = raw_fields.decode(envelope.payload)
    for name in {str(location[0]) for location in treatment.omitted}:
        omitted = [location for location in treatment.omitted if location[0] == name]
        left = without({name: _digits_kept.decode(fields[name])}, omitted)
        if name in left:
            fields[name] = msgspec.Raw(encode_json(left[name]))
        else:
            del fields[name]
    fields["context"] = _with_violations(fields.get("context"), treatment, controls)
    warnings = tuple(map(_warning, treatment.violations[:MAX_LISTED]))
    return msgspec.structs.replace(envelope, payload=encode_json(fields), warnings=(*envelope.warnings, *warnings))


def _with_violations(context: msgspec.Raw | None, treatment: Treatment, controls: Controls) -> msgspec.Raw:
    fields = {} if context is None else raw_fields.decode(context)
    before = _any_value.decode(fields["protocols"]) if "protocols" in fields else {}
    protocols: JSONObject = {**before} if isinstance(before, dict) else {}
    protocols["violations"] = list(map(_listed, treatment.violations[:MAX_LISTED]))
    if treatment.omitted:
        protocols["omitted"] = [location_text(location) for location in treatment.omitted[:MAX_LISTED]]
    fields["protocols"] = msgspec.Raw(encode_json(protocols))
    if controls.violation_errors:
        errors = list(map(violation_error, treatment.violations[:MAX_LISTED]))
        fields["violationErrors"] = msgspec.Raw(encode_json(errors))
    return msgspec.Raw(encode_json(fields))


def _listed(violation: Violation) -> JSONObject:
    rule = {"rule": violation.rule} if violation.rule else {}
    return {"type": violation.kind, "field": violation.path, "description": violation.sentence, **rule}


def _warning(violation: Violation) -> MessageWarning:
    return MessageWarning(code=WarningCode(violation.kind), message=violation.sentence, path=violation.path)


def _indexes(count: int, rejections: Sequence[Rejection]) -> Iterator[int]:
    """Yield the places of the messages of a request that were not rejected."""
    rejected = {rejection.index for rejection in rejections}
    yield from (index for index in range(count) if index not in rejected)
