"""Intake: the one place that knows the order of the steps.

    bytes -> messages -> merged -> timed -> routed -> envelopes

Everything here is a function of its arguments: the time of reception and the maker of message ids are passed in,
nothing is stored.  A request is one source's: it is found once, by the first write key that belongs to a source, in
the order header, body, query.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias

import attrs
import msgspec

from trackcore.clock_skew import ClockCorrection, TimeRule
from trackcore.credentials import Source, SourceRegistry, write_key
from trackcore.errors import InvalidMessage, MessageWarning, Reason, WarningCode
from trackcore.integrations import Resolution, Resolver
from trackcore.limits import Limits
from trackcore.merge import SharedContext, inherited_paths, merge_onto
from trackcore.origins import Origin, find_source
from trackcore.refused import Rejection, reject_excess, rejection_of
from trackcore.sinks import Envelope, KeyLocation
from trackcore.text.jsontext import encode_json, has_surrogate, is_deeper, parse_value
from trackcore.timestamps import (
    format_timestamp,
    has_offset,
    parse_timestamp,
    time_text,
    truncate_to_milliseconds,
)
from trackcore.typing import Endpoint, JSONObject, NewMessageId, WriteKey
from trackcore.wire.fast import ABSENT, MessageStruct, read_message, write_message
from trackcore.wire.request import Request, hint_of_write_key, parse_request
from trackcore.wire.rules import (
    check_message_id,
    checked_id,
    is_near_miss,
    object_or_absent,
    too_deep,
)

Inherited: TypeAlias = tuple[str, ...]
"""The wire paths of what a message has from its batch."""


@attrs.frozen(kw_only=True)
class IntakeResult:
    """What became of a request.  Without a source nothing was looked at but the write key.

    `batch_fields` is there where a message of a batch was rejected: see `Request.batch_fields`.  `hint` is what to say
    of a request without a write key that has a field of almost that name.
    """

    source: Source | None
    write_key: WriteKey | None
    received_at: datetime
    envelopes: Sequence[Envelope] = ()
    rejections: Sequence[Rejection] = ()
    batch_fields: bytes | None = None
    hint: str = ""


def receive(
    body: bytes,
    *,
    endpoint: Endpoint,
    origin: Origin,
    sources: SourceRegistry,
    resolvers: Mapping[str, Resolver],
    received_at: datetime,
    new_message_id: NewMessageId,
    limits: Limits,
) -> IntakeResult:
    """Take a request body apart, and make an envelope of each message that keeps the rules.

    `resolvers` has one for each source, by its name.  `received_at` is cut to milliseconds, so that the numbers in a
    stored message are the very ones that its timestamp was computed from.

    Raises:
        InvalidRequest: the body is of no use as a whole.
        TypeError, ValueError: there is no such endpoint, or `new_message_id` made what is not a message id.
    """
    received_at = truncate_to_milliseconds(received_at)
    request = parse_request(body, endpoint, limits)
    source, key, found_by = find_source(request, origin, sources, limits)
    if source is None:
        hint_of_key = "" if key is not None else hint_of_write_key(body, request, limits)
        return IntakeResult(source=None, write_key=key, received_at=received_at, hint=hint_of_key)
    return process(
        request,
        origin=origin,
        source=source,
        write_key=key,
        resolver=resolvers[source.name],
        received_at=received_at,
        new_message_id=new_message_id,
        limits=limits,
        found_by=found_by,
    )


def process(
    request: Request,
    *,
    origin: Origin,
    source: Source,
    write_key: WriteKey | None,
    resolver: Resolver,
    received_at: datetime,
    new_message_id: NewMessageId,
    limits: Limits,
    found_by: KeyLocation | None = None,
    is_history: bool = False,
) -> IntakeResult:
    """Make an envelope of each message of a request whose source is known.  `received_at` is in whole milliseconds.

    `is_history` says that the messages are of an archive: what time they have stands, and one without is rejected.
    """
    pipeline = _Pipeline(
        request=request,
        origin=origin,
        source=source.name,
        write_key=write_key,
        resolver=resolver,
        received_at=received_at,
        new_message_id=new_message_id,
        limits=limits,
        found_by=None if found_by is None else str(found_by),
        is_history=is_history,
    )
    envelopes, rejections = pipeline.run()
    return IntakeResult(
        source=source,
        write_key=write_key,
        received_at=received_at,
        envelopes=envelopes,
        rejections=rejections,
        batch_fields=request.batch_fields(limits, len(rejections)) if rejections else None,
    )


@attrs.define(kw_only=True)
class _Pipeline:
    """The steps for one request, with what they share: what is worked out once, or was for an earlier message.

    `_resolutions` are kept by the message's own `integrations`, as text, which the messages of a client often share.
    """

    request: Request
    origin: Origin
    source: str
    write_key: WriteKey | None
    resolver: Resolver
    received_at: datetime
    new_message_id: NewMessageId
    limits: Limits
    found_by: str | None
    is_history: bool
    _received_text: str = attrs.field(init=False)
    _shared_warnings: tuple[MessageWarning, ...] = attrs.field(init=False)
    _shared_context: SharedContext | None = attrs.field(init=False)
    _may_want_ip: bool = attrs.field(init=False)
    _resolutions: dict[bytes, tuple[msgspec.Raw, Inherited, Resolution]] = attrs.field(init=False, factory=dict)
    _last_sent: str | None = attrs.field(init=False, default=None)
    _last_correction: ClockCorrection = attrs.field(init=False)
    _sent_warning: MessageWarning | None = attrs.field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self._received_text = format_timestamp(self.received_at)
        self._last_correction = ClockCorrection.between(self.received_at, None)
        shared = [*self.request.shared_warnings]
        origin = self.origin
        keys = {self.request.write_key, origin.header_key, origin.other_header_key, origin.query_key}
        if keys - {None, self.write_key} and not self.is_history:
            shared.append(_MISMATCH)
        if self.request.shared_surrogate:
            shared.append(_SURROGATE)
        self._shared_warnings = tuple(shared)
        context = self.request.context
        self._shared_context = None if context is None else SharedContext(context)
        self._may_want_ip = self.origin.client_ip is not None and "ip" not in (context or ())

    def run(self) -> tuple[list[Envelope], list[Rejection]]:
        envelopes = []
        rejections = []
        received = self.request.received or self.request.items
        for index, item in enumerate(self.request.items[: self.limits.batch_messages]):
            try:
                envelopes.append(self._envelope(index, item))
            except InvalidMessage as error:
                rejections.append(rejection_of(index, item, received[index], error))
        if len(received) > self.limits.batch_messages:
            rejections.extend(reject_excess(self.request.items, received, self.limits.batch_messages))
        return envelopes, rejections

    def _envelope(self, index: int, item: bytes | msgspec.Raw) -> Envelope:
        request = self.request
        if request.invalid is not None:
            raise request.invalid
        warnings = [*self._shared_warnings]
        if request.own_warnings:
            warnings.extend(request.own_warnings[index])
        call, message, extra = read_message(bytes(item), request.call, self.limits, warnings)
        message.context, inherited = self._context(message.context)
        own = b"" if message.integrations is ABSENT else bytes(message.integrations)
        found = self._resolutions.get(own) or self._resolve(own)
        message.integrations, also_inherited, resolution = found
        if message.write_key is not None:
            self._take_write_key_out(message, warnings)
        message_id = message.message_id
        if message_id is None:
            message_id = message.message_id = checked_id(self.new_message_id(), self.limits)
        elif len(message_id) > self.limits.message_id_chars:
            check_message_id(message_id, self.limits)
        timestamp = (
            self._historical_time(message, extra, warnings) if self.is_history else self._time(message, warnings)
        )
        if request.received is not None and _SURROGATE not in warnings:
            warnings.extend([_SURROGATE] if has_surrogate(request.received[index]) else [])
        return Envelope(
            self.source,
            message_id,
            call,
            message.user_id,
            message.anonymous_id,
            self.received_at,
            resolution.selected
            if resolution.max_age is None
            else resolution.names_at_age(self.received_at - timestamp),
            (*warnings, *resolution.warnings) if warnings else resolution.warnings,
            encode_json(message) if extra is None else write_message(message, extra),
            inherited + also_inherited,
            self.found_by,
            item if request.received is None else request.received[index],
        )

    def _context(self, own: JSONObject | None) -> tuple[Any, Inherited]:
        """Lay the batch's context under the message's, and fill its `ip` from the connection where it should be.

        Gives what is to be written as the message's context: an object, or its JSON text.
        """
        shared = self._shared_context
        if self._may_want_ip and self._wants_ip(own):
            return self._context_with_ip(own)
        return (own, ()) if shared is None else shared.under(own)

    def _wants_ip(self, own: JSONObject | None) -> bool:
        """Tell whether `context.ip` is to be filled: for a user's own device, or where `context.direct` asks for it.

        Source: https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/#collecting-ip-address
        """
        context = own or {}
        if "ip" in context:
            return False
        return self.origin.client_side or context.get("direct", (self.request.context or {}).get("direct")) is True

    def _context_with_ip(self, own: JSONObject | None) -> tuple[JSONObject, Inherited]:
        shared = self.request.context
        filled = merge_onto(shared or {}, own or {}) | {"ip": self.origin.client_ip}
        return filled, () if shared is None else inherited_paths("context", shared, own)

    def _resolve(self, text: bytes) -> tuple[msgspec.Raw, Inherited, Resolution]:
        """Lay the batch's integrations under the message's, resolve them, and remember what came of it."""
        shared = self.request.integrations
        flags = own = self._own_integrations(text)
        inherited: Inherited = ()
        if shared is not None:
            flags, inherited = merge_onto(shared, own or {}), inherited_paths("integrations", shared, own)
        merged = ABSENT if flags is None else msgspec.Raw(encode_json(flags))
        found = self._resolutions[text] = merged, inherited, self.resolver.resolve(flags)
        return found

    def _own_integrations(self, text: bytes) -> JSONObject | None:
        """Read the integrations of a message, which reading the message has passed over.  Raises `InvalidMessage`."""
        if not text:
            return None
        if is_deeper(text, self.limits.depth):
            raise too_deep("the message", self.limits.depth)
        return object_or_absent("integrations", parse_value(text))

    def _take_write_key_out(self, message: MessageStruct, warnings: list[MessageWarning]) -> None:
        is_other = not self.is_history and write_key(message.write_key) not in (None, self.write_key)
        if is_other and _MISMATCH not in warnings:
            warnings.append(_MISMATCH)
        message.write_key = None

    def _time(self, message: MessageStruct, warnings: list[MessageWarning]) -> datetime:
        """Set the four times of the message and return its corrected one."""
        original = None
        original_text = message.timestamp or message.original_timestamp
        if original_text is not None:
            original = parse_timestamp(original_text)
            if original is None:
                warnings.append(_unparsable(WarningCode.TIMESTAMP_UNPARSABLE, "timestamp", original_text))
            elif original_text[-1] != "Z" and not has_offset(original_text):
                warnings.append(_without_offset("timestamp", original_text))
        sent_text = message.sent_at
        if sent_text is None:
            sent_text = message.sent_at = self.request.sent_at
        if sent_text != self._last_sent:
            self._remember_correction(sent_text)
        correction = self._last_correction
        if self._sent_warning is not None:
            warnings.append(self._sent_warning)
        timestamp, rule = correction.apply(original)
        if rule is TimeRule.UNREPRESENTABLE:
            warnings.append(_OUT_OF_RANGE)
        message.original_timestamp = original_text
        message.received_at = self._received_text
        message.timestamp = format_timestamp(timestamp)
        return timestamp

    def _historical_time(
        self, message: MessageStruct, extra: JSONObject | None, warnings: list[MessageWarning]
    ) -> datetime:
        """Set the times of a message of an archive and return its own.  Raises `InvalidMessage` where it has none.

        An archive's `timestamp` is corrected already; so `sentAt` is kept, and nothing is corrected by it.
        """
        path, text = _historical_text(message, extra or {})
        if extra and path in extra:  # a near miss, which was warned of as not read
            warnings[:] = [
                warning for warning in warnings if (warning.code, warning.path) != (WarningCode.FIELD_NEAR_MISS, path)
            ]
        timestamp = parse_timestamp(text)
        if timestamp is None:
            detail = f"{text[:40]!r} is not a time, and no time of reception can stand for it"
            raise InvalidMessage(reason=Reason.HISTORICAL_TIME_UNPARSABLE, detail=detail, path=path)
        if not has_offset(text):
            warnings.append(_without_offset(path, text))
        if message.original_timestamp is None:
            message.original_timestamp = text
        if message.sent_at is None:
            message.sent_at = self.request.sent_at
        message.received_at = self._received_text
        message.timestamp = format_timestamp(timestamp)
        return timestamp

    def _remember_correction(self, sent_text: str | None) -> None:
        """Find the clock correction for a `sentAt`, and the warning about it: most messages of a request share it."""
        sent_at = parse_timestamp(sent_text)
        self._last_sent = sent_text
        self._last_correction = ClockCorrection.between(self.received_at, sent_at)
        self._sent_warning = None
        if sent_text is not None and sent_at is None:
            self._sent_warning = _unparsable(WarningCode.SENT_AT_UNPARSABLE, "sentAt", sent_text)
        elif sent_text is not None and sent_text[-1] != "Z" and not has_offset(sent_text):
            self._sent_warning = _without_offset("sentAt", sent_text)


def _historical_text(message: MessageStruct, extra: JSONObject) -> tuple[str, str]:
    """Find the time of a message of an archive, by its wire name.  Raises `InvalidMessage` where it has none."""
    own = {
        "timestamp": message.timestamp,
        **_nearly("timestamp", extra),
        "originalTimestamp": message.original_timestamp,
        **_nearly("originalTimestamp", extra),
        "receivedAt": message.received_at,
        **_nearly("receivedAt", extra),
    }
    found = next(((name, text) for name, text in own.items() if text is not None), None)
    if found is None:
        detail = "an imported message needs a `timestamp`"
        raise InvalidMessage(reason=Reason.HISTORICAL_TIME_MISSING, detail=detail, path="timestamp")
    return found


def _nearly(known: str, extra: JSONObject) -> dict[str, str | None]:
    """Return the times that an archive has under almost this name: `received_at` of a warehouse, `timeStamp`."""
    return {name: time_text(value) for name, value in extra.items() if is_near_miss(name, known)}


_MISMATCH = MessageWarning(
    code=WarningCode.WRITE_KEY_MISMATCH, message="the request names another write key too", path="writeKey"
)
_SURROGATE = MessageWarning(code=WarningCode.SURROGATE_REPLACED, message=WarningCode.SURROGATE_REPLACED.sentence)
_OUT_OF_RANGE = MessageWarning(
    code=WarningCode.TIMESTAMP_OUT_OF_RANGE, message="the client's own time was kept", path="timestamp"
)


def _unparsable(code: WarningCode, path: str, text: str) -> MessageWarning:
    return MessageWarning(code=code, message=f"{text[:40]!r} is not a time", path=path)


def _without_offset(path: str, text: str) -> MessageWarning:
    message = f"{text[:40]!r} names no offset, so it was taken as UTC"
    return MessageWarning(code=WarningCode.TIMESTAMP_WITHOUT_OFFSET, message=message, path=path)
