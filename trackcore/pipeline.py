"""The pipeline: the one place that knows the order of the steps for a request whose source is known.

    messages -> merged -> routed -> timed -> envelopes

Everything here is a function of its arguments: the time of reception and the maker of message ids are passed in, and
nothing is stored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, TypeAlias

import attrs
import msgspec

from trackcore.credentials import Source, write_key
from trackcore.errors import InvalidMessage, MessageWarning, WarningCode
from trackcore.integrations import Resolution, Resolver
from trackcore.limits import Limits
from trackcore.merge import SharedContext, inherited_paths, merge_onto
from trackcore.message_times import HistoricalTimes, MessageTimes
from trackcore.origins import Origin
from trackcore.rejected import Rejection, reject_excess, rejection_of
from trackcore.sinks import Envelope, KeyLocation
from trackcore.text.jsontext import encode_json, has_surrogate, is_deeper, parse_value
from trackcore.typing import JSONObject, NewMessageId, WriteKey
from trackcore.wire.fast import ABSENT, MessageStruct, read_message, write_message
from trackcore.wire.request import Request
from trackcore.wire.rules import check_message_id, checked_id, object_or_absent, too_deep

Inherited: TypeAlias = tuple[str, ...]
"""The wire paths of what a message has from its batch."""


@attrs.frozen(kw_only=True)
class IntakeResult:
    """The envelopes and rejections of one request.  If no source matched, only the write key was examined.

    `batch_fields` is set if a message of a batch was rejected (see `Request.batch_fields`); `hint`: see `Receipt`.
    """

    source: Source | None
    write_key: WriteKey | None
    received_at: datetime
    envelopes: Sequence[Envelope] = ()
    rejections: Sequence[Rejection] = ()
    batch_fields: bytes | None = None
    hint: str = ""

    def by_index(self) -> Iterator[tuple[int, Envelope | Rejection]]:
        """Yield the result of each message with its index in the request, which only a rejection knows itself."""
        rejections = {rejection.index: rejection for rejection in self.rejections}
        envelopes = iter(self.envelopes)
        for index in range(len(self.envelopes) + len(rejections)):
            yield index, rejections.get(index) or next(envelopes)


@attrs.frozen(kw_only=True)
class Reception:
    """How one request came in.

    `received_at` is in whole milliseconds, so that a stored message has the very number from which its timestamp was
    computed.  `write_key` is the one that found the source, `found_by` its location; None if nobody named them.
    `is_history` marks an archive: its messages keep their own times, and one without a time is rejected.
    """

    received_at: datetime
    origin: Origin = attrs.field(factory=Origin)
    write_key: WriteKey | None = None
    found_by: KeyLocation | None = None
    is_history: bool = False


@attrs.frozen(kw_only=True)
class Pipeline:
    """The steps for the requests of one source, made once."""

    source: Source
    resolver: Resolver
    new_message_id: NewMessageId
    limits: Limits

    def run(self, request: Request, reception: Reception) -> IntakeResult:
        """Make an envelope of each message that keeps the rules, and a rejection of each other one.

        Raises `TypeError` or `ValueError` if `new_message_id` returned something that is not a message id.
        """
        envelopes, rejections = _Run(self, request, reception).envelopes()
        return IntakeResult(
            source=self.source,
            write_key=reception.write_key,
            received_at=reception.received_at,
            envelopes=envelopes,
            rejections=rejections,
            batch_fields=request.batch_fields(self.limits, len(rejections)) if rejections else None,
        )


class _Run:
    """One run of a pipeline, with what the messages of its request share, computed once."""

    def __init__(self, pipeline: Pipeline, request: Request, reception: Reception) -> None:
        self.pipeline, self.request, self.reception = pipeline, request, reception
        self._source = pipeline.source.name
        self._received_at = reception.received_at
        self._limits = pipeline.limits
        self._found_by = None if reception.found_by is None else str(reception.found_by)
        times = HistoricalTimes if reception.is_history else MessageTimes
        self._set_times = times(reception.received_at, request.sent_at).set
        shared = [*request.shared_warnings]
        origin = reception.origin
        keys = {request.write_key, origin.header_key, origin.other_header_key, origin.query_key}
        if keys - {None, reception.write_key} and not reception.is_history:
            shared.append(_MISMATCH)
        if request.shared_surrogate:
            shared.append(_SURROGATE)
        self._shared_warnings = shared
        self._shared_context = None if request.context is None else SharedContext(request.context)
        self._may_want_ip = origin.client_ip is not None and "ip" not in (request.context or ())
        # By the own `integrations` of a message, as text, which the messages of a client often share.
        self._resolutions: dict[bytes, tuple[msgspec.Raw, Inherited, Resolution]] = {}

    def envelopes(self) -> tuple[list[Envelope], list[Rejection]]:
        envelopes = []
        rejections = []
        received = self.request.received or self.request.items
        for index, item in enumerate(self.request.items[: self._limits.batch_messages]):
            try:
                envelopes.append(self._envelope(index, item))
            except InvalidMessage as error:
                rejections.append(rejection_of(index, item, received[index], error))
        if len(received) > self._limits.batch_messages:
            rejections.extend(reject_excess(self.request.items, received, self._limits.batch_messages))
        return envelopes, rejections

    def _envelope(self, index: int, item: bytes | msgspec.Raw) -> Envelope:
        request = self.request
        if request.invalid is not None:  # a shared part of the batch is wrong, and so is each message
            raise request.invalid
        warnings = [*self._shared_warnings]
        if request.own_warnings:
            warnings.extend(request.own_warnings[index])
        call, message, extra = read_message(bytes(item), request.call, self._limits, warnings)

        # Merge and route.  `integrations` is still text here: equal texts are merged and resolved once a request.
        message.context, inherited = self._context(message.context)
        own = b"" if message.integrations is ABSENT else bytes(message.integrations)
        found = self._resolutions.get(own) or self._resolve(own)
        message.integrations, also_inherited, resolution = found

        # A stored message has an id and never a write key.  Only an id of the client can be too long.
        if message.write_key is not None:
            self._remove_write_key(message, warnings)
        message_id = message.message_id
        if message_id is None:
            message_id = message.message_id = checked_id(self.pipeline.new_message_id(), self._limits)
        elif len(message_id) > self._limits.message_id_chars:
            check_message_id(message_id, self._limits)

        # The age, which a destination may limit, is known only now; it cannot be part of the shared resolution.
        timestamp = self._set_times(message, extra, warnings)
        if request.received is not None and _SURROGATE not in warnings:
            warnings.extend([_SURROGATE] if has_surrogate(request.received[index]) else [])
        return Envelope(
            self._source,
            message_id,
            call,
            message.user_id,
            message.anonymous_id,
            self._received_at,
            resolution.selected
            if resolution.max_age is None
            else resolution.names_at_age(self._received_at - timestamp),
            (*warnings, *resolution.warnings) if warnings else resolution.warnings,
            encode_json(message) if extra is None else write_message(message, extra),
            inherited + also_inherited,
            self._found_by,
            item if request.received is None else request.received[index],
        )

    def _context(self, own: JSONObject | None) -> tuple[Any, Inherited]:
        """Merge the message's context onto the batch's, and fill its `ip` from the connection if wanted.

        Returns what is written as the message's context, an object or its JSON text, and what of it is the batch's.
        """
        shared = self._shared_context
        if self._may_want_ip and self._wants_ip(own):
            filled = merge_onto(self.request.context or {}, own or {}) | {"ip": self.reception.origin.client_ip}
            return filled, () if shared is None else inherited_paths("context", shared.value, own)
        return (own, ()) if shared is None else shared.merged_with(own)

    def _wants_ip(self, own: JSONObject | None) -> bool:
        """Return whether `context.ip` is to be filled: for a user's own device, or if `context.direct` asks for it.

        Source: https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/#collecting-ip-address
        """
        context = own or {}
        if "ip" in context:
            return False
        direct = context.get("direct", (self.request.context or {}).get("direct"))
        return self.reception.origin.client_side or direct is True

    def _resolve(self, text: bytes) -> tuple[msgspec.Raw, Inherited, Resolution]:
        """Parse the message's integrations, merge them onto the batch's, resolve them, and remember the result."""
        if is_deeper(text, self._limits.depth):
            raise too_deep("the message", self._limits.depth)
        shared = self.request.integrations
        flags = own = object_or_absent("integrations", parse_value(text)) if text else None
        inherited: Inherited = ()
        if shared is not None:
            flags, inherited = merge_onto(shared, own or {}), inherited_paths("integrations", shared, own)
        merged = ABSENT if flags is None else msgspec.Raw(encode_json(flags))
        found = self._resolutions[text] = merged, inherited, self.pipeline.resolver.resolve(flags)
        return found

    def _remove_write_key(self, message: MessageStruct, warnings: list[MessageWarning]) -> None:
        reception = self.reception
        is_other = not reception.is_history and write_key(message.write_key) not in (None, reception.write_key)
        if is_other and _MISMATCH not in warnings:
            warnings.append(_MISMATCH)
        message.write_key = None


_MISMATCH = MessageWarning(
    code=WarningCode.WRITE_KEY_MISMATCH, message="the request names another write key too", path="writeKey"
)
_SURROGATE = MessageWarning(code=WarningCode.SURROGATE_REPLACED, message=WarningCode.SURROGATE_REPLACED.sentence)
