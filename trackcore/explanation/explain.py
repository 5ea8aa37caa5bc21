"""Explanations of a stored message, of a rejected one and of a quarantined request, as data.

Theory.  No extra data is stored for explanations.  The log is enough to compute most of them, since every step of
intake is a function: the time rule follows from the times in the message, the destinations from its `integrations`, the
wrong value from the payload and the path.  If the current configuration would decide differently than when the message
came, the stored decision counts, and the explanation states the difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import attrs
import msgspec

from trackcore.clock_skew import TimeRule, correct_clock_skew
from trackcore.consent import Refusal
from trackcore.credentials import SourceRegistry
from trackcore.errors import Invalid, InvalidRequest, MessageWarning, Reason, WarningCode
from trackcore.explanation.catalog import CATALOG
from trackcore.explanation.reports import (
    DestinationExplanation,
    ExplainedWarning,
    MessageExplanation,
    QuarantineExplanation,
    RejectionExplanation,
    TimeExplanation,
)
from trackcore.integrations import ALL, WAREHOUSES, Decision, DecisionReason, Resolver
from trackcore.limits import DEFAULT_LIMITS, Limits
from trackcore.masking import mask_write_keys, masked_halves
from trackcore.sinks import KeyLocation
from trackcore.text.jsontext import (
    BYTE_ORDER_MARK,
    any_value,
    clean_text,
    depth_of,
    encode_json,
    kind_of,
    parse,
    raw_fields,
    raw_value,
)
from trackcore.text.timetext import parse_timestamp
from trackcore.typing import JSONObject, WriteKey

CONFIGURATION_CHANGED = "configuration_changed"
_IDS = ("messageId", "userId", "anonymousId", "groupId", "previousId")
_FOUND_CHARS = 200
_EXCERPT_BYTES = 40


def explain_message(
    message: JSONObject,
    *,
    source: str,
    destinations: Sequence[str],
    warnings: Sequence[MessageWarning],
    resolver: Resolver,
    inherited: Sequence[str] = (),
    found_by: str | None = None,
    duplicate_of: int | None = None,
    retry_count: int = 0,
) -> MessageExplanation:
    """Explain a message as it is stored; the arguments are those of `StoredMessage` and `MessageExplanation`.

    `destinations` were selected when it came; `resolver` decides by the current configuration.
    """
    return MessageExplanation(
        source=source,
        source_because=_why_source(found_by, warnings),
        found_by=found_by,
        call=str(message.get("type", "")),
        ids={name: str(message[name]) for name in _IDS if message.get(name) is not None},
        coerced=tuple(warning.path for warning in warnings if warning.code == WarningCode.ID_FROM_NUMBER),
        time=_explain_historical_time(message) if found_by == KeyLocation.FILE else explain_time(message),
        inherited=tuple(inherited),
        warnings=tuple(map(_explained, warnings)),
        destinations=tuple(_destinations(message, destinations, resolver)),
        duplicate_of=duplicate_of,
        retry_count=retry_count,
    )


def explain_time(message: JSONObject) -> TimeExplanation:
    """Explain which rule led to the `timestamp` of a stored message, with the numbers."""
    sent_at = parse_timestamp(message.get("sentAt"))
    received_at = parse_timestamp(message.get("receivedAt"))
    original = parse_timestamp(message.get("originalTimestamp"))
    rule, skew = TimeRule.RECEIVED, None
    if received_at is not None:
        corrected = correct_clock_skew(received_at=received_at, sent_at=sent_at, original_timestamp=original)
        rule, skew = corrected.rule, corrected.clock_skew
    age = None if sent_at is None or original is None else sent_at - original
    return TimeExplanation(
        rule=rule,
        sentence=_time_sentence(rule, message, skew, age),
        received_at=message.get("receivedAt"),
        sent_at=message.get("sentAt"),
        original_timestamp=message.get("originalTimestamp"),
        timestamp=message.get("timestamp"),
        clock_skew=skew,
    )


def _explain_historical_time(message: JSONObject) -> TimeExplanation:
    """Explain the `timestamp` of an imported message: its `sentAt` is historical and corrected nothing."""
    sentence = "The message was imported from a file, so its time in the file was kept."
    return attrs.evolve(explain_time(message), rule=TimeRule.ORIGINAL, sentence=sentence, clock_skew=None)


def explain_rejection(
    *,
    code: str,
    detail: str,
    path: str,
    payload: bytes,
    source: str | None = None,
    limits: Limits = DEFAULT_LIMITS,
    actual: int | None = None,
    batch: bytes | None = None,
) -> RejectionExplanation:
    """Explain a rejected message, or a request that was refused as a whole; the arguments are those of its record.

    `limits` are the current ones.  `actual` is the measured size, in the unit of the limit; without it the size is
    measured on the payload, if possible.
    """
    entry = CATALOG.get(code)
    limited, unit = _LIMITED.get(code, (None, None))
    position = _position(payload) if code == Reason.INVALID_JSON else None
    return RejectionExplanation(
        source=source,
        code=code,
        detail=detail,
        path=path,
        entry=entry,
        allowed="" if entry is None else entry.allowed_within(limits),
        found=(_found(payload, path) or (batch and _found(batch, path)) or "nothing") if path else None,
        limit=None if limited is None else getattr(limits, limited),
        actual=_measured(code, payload, batch) if actual is None and unit else actual,
        unit=unit,
        position=position,
        excerpt=None if position is None else _excerpt(payload, position),
    )


def explain_error(error: Invalid, payload: bytes, *, source: str | None, limits: Limits) -> RejectionExplanation:
    """Explain a rejection that has just been made."""
    return explain_rejection(
        code=error.reason,
        detail=error.detail,
        path=error.path,
        payload=payload,
        source=source,
        limits=limits,
        actual=error.actual,
    )


def explain_quarantined(
    write_key: str | None, sources: SourceRegistry, other_keys: Iterable[WriteKey] = (), hint: str = ""
) -> QuarantineExplanation:
    """Explain why a request is in quarantine, and whether the current `sources` would put it there.

    `write_key` is kept with the request; any of the `other_keys` in its body may belong to a source now.  `hint` is the
    result of `trackcore.wire.request.hint_of_write_key`.
    """
    key = None if write_key is None else WriteKey(write_key)
    source = next(filter(None, map(sources.find, (key, *other_keys))), None)
    return QuarantineExplanation(
        write_key=key,
        source_now=None if source is None else source.name,
        hint=hint,
    )


def duration_text(duration: timedelta) -> str:
    """Write a duration in a suitable unit: `250 ms`, `3.5 s`, `12 min`, `5.2 h`, `3.1 days`."""
    seconds = abs(duration.total_seconds())
    for size, most, unit in _UNITS:
        if seconds < most:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 86_400:,.1f}".removesuffix(".0") + " days"


_UNITS = ((0.001, 0.9995, "ms"), (1, 120, "s"), (60, 7_200, "min"), (3_600, 172_800, "h"))

_PLACES: Mapping[str, str] = {
    KeyLocation.HEADER: "the write key in a header (Authorization or X-Write-Key) belongs to it",
    KeyLocation.BODY: "the `writeKey` of the batch belongs to it",
    KeyLocation.MESSAGE: "the `writeKey` in the message, or in one of its batch, belongs to it",
    KeyLocation.QUERY: "the write key in the query of the address belongs to it",
    KeyLocation.PROCESS: "the message was made in the server process, for this source",
    KeyLocation.FILE: "the message was imported from a file, for this source",
    KeyLocation.RECORD: "the message was reprocessed from a record of this source, or of a request with its write key",
}
_NOT_KEPT = "the write key of the request belongs to it, or the message was made in process"


def _why_source(found_by: str | None, warnings: Sequence[MessageWarning]) -> str:
    because = _PLACES.get(found_by or "", _NOT_KEPT)
    if any(warning.code == WarningCode.WRITE_KEY_MISMATCH for warning in warnings):
        return f"{because}; the request contains another key too, which has less priority or belongs to no source"
    return because


def _explained(warning: MessageWarning) -> ExplainedWarning:
    entry = CATALOG.get(warning.code)
    return ExplainedWarning(code=warning.code, detail=warning.message, path=warning.path, entry=entry)


# Time


def _time_sentence(rule: TimeRule, message: JSONObject, skew: timedelta | None, age: timedelta | None) -> str:
    if rule is TimeRule.RECEIVED:
        had = "could not be parsed" if message.get("originalTimestamp") else "is missing"
        return f"The client's own time {had}, so the time at which the message was received is used instead."
    if rule is TimeRule.ORIGINAL:
        had = "could not be parsed" if message.get("sentAt") else "is missing"
        return f"sentAt {had}, so the error of the client's clock is unknown: its own time was kept."
    if rule is TimeRule.UNREPRESENTABLE:
        return "The corrected time lies outside the years 1 to 9999, so the client's own time was kept."
    ahead = f"{duration_text(skew)} {'ahead' if skew > timedelta() else 'behind'}" if skew else "exact"
    clock = "" if skew is None else f"The client's clock was {ahead} (network latency included). "
    made = "" if age is None else f"The message was {duration_text(age)} old when it was sent"
    note = "" if age is not None and age >= timedelta() else " (its timestamp is in the future)"
    return f"{clock}{made}{note}, so it has receivedAt - (sentAt - originalTimestamp)."


# Destinations


def _destinations(message: JSONObject, decided: Sequence[str], resolver: Resolver) -> Iterator[DestinationExplanation]:
    received_at = parse_timestamp(message.get("receivedAt"))
    timestamp = parse_timestamp(message.get("timestamp"))
    age = timedelta() if received_at is None or timestamp is None else received_at - timestamp
    decisions = resolver.resolve(message.get("integrations"), message.get("context")).at_age(age)
    for decision in decisions:
        yield _destination(decision, age, chosen=decision.destination.name in decided)
    known = {decision.destination.name for decision in decisions}
    yield from (_changed(name, chosen=True) for name in decided if name not in known)


def _destination(decision: Decision, age: timedelta, *, chosen: bool) -> DestinationExplanation:
    name = decision.destination.name
    if decision.chosen != chosen:
        return _changed(name, chosen=chosen)
    key, sentence = _why(decision, age) if decision.refusal is None else _why_refused(decision.refusal)
    return DestinationExplanation(
        destination=name, chosen=chosen, because=decision.because, sentence=sentence, key=key, options=decision.options
    )


def _why(decision: Decision, age: timedelta) -> tuple[str | None, str]:
    flag = "true" if decision.chosen else "false"
    own = f"integrations.{decision.destination.name}"
    if decision.because is DecisionReason.BY_NAME:
        return own, f"{own} is {flag}"
    if decision.because is DecisionReason.BY_OPTIONS:
        if not decision.chosen:
            return f"{own}.all", f"{own} is an object whose `all` is false, and which names no warehouse"
        return own, f"{own} is an object, which selects it and carries options for it"
    if decision.because is DecisionReason.BY_WAREHOUSES:
        which = "selects this warehouse" if decision.chosen else "excludes this warehouse"
        return f"integrations.{WAREHOUSES}", f"it is not named itself, and integrations.{WAREHOUSES} {which}"
    if decision.because is DecisionReason.BY_ALL:
        return f"integrations.{ALL}", f"it is not named, and integrations.{ALL} is {flag}"
    return None, _why_without_a_key(decision, age)


def _why_without_a_key(decision: Decision, age: timedelta) -> str:
    if decision.because is DecisionReason.TOO_OLD:
        most = duration_text(decision.destination.max_age or timedelta())
        return f"it accepts messages of at most {most}, and this one was {duration_text(age)} old when received"
    if decision.because is DecisionReason.OPT_IN:
        return f"it is off by default, and integrations.{decision.destination.name} does not select it"
    return "integrations does not mention it, and all is the default"


def _why_refused(refusal: Refusal) -> tuple[str, str]:
    names = ", ".join(map(repr, refusal.categories))
    if refusal.is_unknown:
        return refusal.path, f"the message does not state consent, and this destination needs it stated for {names}"
    return refusal.path, f"consent comes before integrations, and {refusal.path} does not give it for {names}"


def _changed(name: str, *, chosen: bool) -> DestinationExplanation:
    decided = "was chosen" if chosen else "was not chosen"
    sentence = f"it {decided} when the message came; the current configuration would decide differently"
    return DestinationExplanation(destination=name, chosen=chosen, because=CONFIGURATION_CHANGED, sentence=sentence)


# The wrong value


_LIMITED: Mapping[str, tuple[str, str]] = {
    Reason.BODY_TOO_LARGE: ("request_bytes", "bytes"),
    Reason.MESSAGE_TOO_LARGE: ("message_bytes", "bytes"),
    Reason.TOO_MANY_MESSAGES: ("batch_messages", "messages"),
    Reason.TOO_DEEP: ("depth", "levels"),
    Reason.MESSAGE_ID_TOO_LONG: ("message_id_chars", "characters"),
}
_SHARED = ("context", "integrations", "sentAt")


def _measured(code: str, payload: bytes, batch: bytes | None) -> int | None:
    """Measure the text that broke a limit, if all of it was kept: the message, or the fields of its batch.

    The larger of the two did, since the fields of a batch are checked first.
    """
    if code == Reason.MESSAGE_ID_TOO_LONG:
        message_id = _value_at(payload, "messageId")
        return len(message_id) if isinstance(message_id, str) else None
    if batch == b"":  # it was too large to be kept
        return None
    if code == Reason.MESSAGE_TOO_LARGE:
        return max(len(payload.removeprefix(BYTE_ORDER_MARK).strip()), _shared_size(batch or b"{}"))
    if code == Reason.TOO_DEEP:
        return max(depth_of(payload), depth_of(batch or b"{}")) - 1  # the levels below the outermost one
    return None


def _shared_size(batch: bytes) -> int:
    fields, _ = parse(raw_fields, batch)
    return sum(len(bytes(part)) for name, part in fields.items() if name in _SHARED)


def _found(payload: bytes, path: str) -> str | None:
    value = _value_at(payload, path)
    if value is _MISSING:
        return None
    if value is None:
        return "null"
    text = mask_write_keys(encode_json(value)).decode()
    return f"{kind_of(value)}: {text if len(text) <= _FOUND_CHARS else text[:_FOUND_CHARS] + '…'}"


_MISSING = object()


def _value_at(payload: bytes, path: str) -> Any:
    try:
        value, _ = parse(any_value, clean_text(payload))
    except (msgspec.MsgspecError, InvalidRequest):
        return _MISSING
    for name in path.split("."):
        if not isinstance(value, dict) or name not in value:
            return _MISSING
        value = value[name]
    return value


def _position(payload: bytes) -> int | None:
    try:
        parse(raw_value, clean_text(payload))
    except InvalidRequest as error:
        return error.position
    return None


def _excerpt(payload: bytes, position: int) -> tuple[str, str]:
    before, after = masked_halves(payload, position)
    return before[-_EXCERPT_BYTES:].decode("utf-8", "replace"), after[:_EXCERPT_BYTES].decode("utf-8", "replace")
