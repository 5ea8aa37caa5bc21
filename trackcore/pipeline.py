"""The pipeline: the one place that knows the order of the steps for a request whose source is known.

    messages -> merged -> routed -> timed -> envelopes

Everything here is a function of its arguments: the time of reception and the maker of message ids are passed in, and
nothing is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import TypeAlias

import attrs
import msgspec

from trackcore.caching import cached_by_text
from trackcore.consent import consent_texts, context_of, wrong_updates
from trackcore.credentials import Source, write_key
from trackcore.errors import InvalidMessage, MessageWarning, WarningCode
from trackcore.integrations import Resolution, Resolver
from trackcore.limits import Limits
from trackcore.merge import SharedContext, inherited_paths, merge_onto, merge_texts
from trackcore.message_times import HistoricalTimes, MessageTimes
from trackcore.plans.controls import Treatment
from trackcore.plans.enforcement import PlanInForce
from trackcore.privacy.ip import IpRule
from trackcore.privacy.rules import PrivacyRules
from trackcore.reception import IntakeResult, Reception
from trackcore.redaction import ReceivedText, redacted
from trackcore.rejected import Rejection, reject_excess, rejection_of
from trackcore.sinks import Envelope
from trackcore.text.jsontext import encode_json, has_surrogate, is_deeper, parse_value
from trackcore.typing import JSONObject, NewMessageId
from trackcore.wire.fast import ABSENT, MessageStruct, read_alone, write_message
from trackcore.wire.request import Request, stored_text
from trackcore.wire.rules import checked_id, message_id_too_long, object_or_absent, source_disabled, too_deep

Inherited: TypeAlias = tuple[str, ...]
"""The wire paths of what a message has from its batch."""

Route: TypeAlias = tuple[msgspec.Raw, Inherited, Resolution]
"""The merged `integrations`, what of them is the batch's, and the destinations."""


@attrs.frozen(kw_only=True)
class Pipeline:
    """The steps for the requests of one source, made once."""

    source: Source
    resolver: Resolver
    new_message_id: NewMessageId
    limits: Limits
    plan: PlanInForce | None = None
    privacy: PrivacyRules | None = None
    ip_rule: IpRule | None = attrs.field(init=False, repr=False, eq=False)
    """The rule for addresses; None if all are kept."""
    shared_context: Callable[[bytes, bytes], SharedContext] = attrs.field(init=False, repr=False, eq=False)
    """Prepare the context of a batch for merging, by its text as received, and the salt of addresses.  Cached: batches
    of one client share it."""
    find_route: Callable[[bytes, bytes, bytes], Route] = attrs.field(init=False, repr=False, eq=False)
    """Merge the texts of the batch's `integrations`, as received, and of a message's, and find the destinations under
    the consent that the third text states (empty: absent).  Cached for the same reason."""

    @ip_rule.default
    def _rule_in_force(self) -> IpRule | None:
        return None if self.privacy is None or self.privacy.ip.keeps_all else self.privacy.ip

    @shared_context.default
    def _shared_context(self) -> Callable[[bytes, bytes], SharedContext]:
        return cached_by_text(partial(_shared_context, self.ip_rule), _CONTEXTS_CACHED)

    @find_route.default
    def _find_route(self) -> Callable[[bytes, bytes, bytes], Route]:
        return cached_by_text(partial(_route, self.resolver, self.limits.depth))

    def run(self, request: Request, reception: Reception) -> IntakeResult:
        """Make an envelope of each message that keeps the rules, and a rejection of each other one.

        Raises `TypeError` or `ValueError` if `new_message_id` returned something that is not a message id.
        """
        run = _Run(self, request, reception)
        envelopes = run.envelopes()
        rejections = run.rejections()
        omitted: Sequence[Rejection] = ()
        violating: Sequence[tuple[Envelope, Treatment]] = ()
        if self.plan is not None:
            enforced = self.plan.enforce(envelopes, rejections)
            envelopes, omitted, violating = enforced.envelopes, enforced.omitted, enforced.violating
            if enforced.blocked:
                rejections = sorted([*rejections, *enforced.blocked], key=lambda rejection: rejection.index)
        kept = len(rejections) + len(omitted)
        intake = IntakeResult(
            source=self.source,
            write_key=reception.write_key,
            received_at=reception.received_at,
            envelopes=envelopes,
            rejections=rejections,
            omitted=omitted,
            violating=violating,
            batch_fields=request.batch_fields(self.limits, kept) if kept else None,
            clock_skew=run.clock_skew,
        )
        return intake if self.privacy is None or self.privacy.keep_all else redacted(intake, self.privacy)


class _Run:
    """One run of a pipeline: each step for all messages of the request, then the next step.

    The messages are a column, and each step adds one: its results, in the order of the messages.  (The code of one step
    stays in the processor's cache while it runs, and much of it is one call for all messages; going message by message
    takes a fourth longer.)  A message that a step rejects stays in the columns, and is left out in the end.
    """

    def __init__(self, pipeline: Pipeline, request: Request, reception: Reception) -> None:
        self.pipeline, self.request, self.reception = pipeline, request, reception
        self._shared_warnings = _shared_warnings(request, reception)
        self._ip_rule = pipeline.ip_rule
        self._salt = b"" if self._ip_rule is None else self._ip_rule.salt_at(reception.received_at)
        # By index in the request: what only some messages have.
        self._warnings: dict[int, list[MessageWarning]] = {}
        self._extras: dict[int, JSONObject] = {}
        self._rejected: dict[int, InvalidMessage] = {}
        self.clock_skew: timedelta | None = None

    def envelopes(self) -> list[Envelope]:
        """Run the steps, and return the envelopes of the messages that none of them rejects."""
        indexes, messages, contexts = self._read()
        inherited = self._merge(messages, contexts)
        for row, error in wrong_updates(self.request.context, messages, contexts):
            self._rejected.setdefault(indexes[row], error)
        routes = self._route(indexes, messages, contexts)
        self._identify(indexes, messages)
        timestamps = self._time(indexes, messages)
        return self._write(indexes, messages, inherited, routes, timestamps)

    def rejections(self) -> list[Rejection]:
        """Return the rejections, in the order of the messages, once the steps have run."""
        items, limit = self.request.items, self.pipeline.limits.batch_messages
        if not self._rejected and len(items) <= limit:
            return []
        received = self.request.received or items
        rejected = sorted(self._rejected.items())
        rejections = [rejection_of(index, items[index], received[index], error) for index, error in rejected]
        rejections.extend(reject_excess(items, received, limit))
        return rejections

    def _read(self) -> tuple[Sequence[int], list[MessageStruct], list[JSONObject | None]]:
        """Return the indexes of the messages that can be read, the messages, and their contexts, decoded."""
        request, source = self.request, self.pipeline.source
        invalid = request.invalid if source.enabled else source_disabled(source.name)
        if invalid is not None:  # in what the batch shares, or by the source: each message is rejected
            self._rejected = dict.fromkeys(range(self._count()), invalid)
            return (), [], []
        if (decoded := request.decoded) is not None:
            return range(len(decoded.messages)), decoded.messages, decoded.contexts
        indexes, messages, contexts = [], [], []
        limits = self.pipeline.limits
        for index in range(self._count()):
            warnings = [*self._shared_warnings, *(request.own_warnings[index] if request.own_warnings else ())]
            try:
                message, context, extra = read_alone(bytes(request.items[index]), request.call, limits, warnings)
            except InvalidMessage as error:
                self._rejected[index] = error
                continue
            indexes.append(index)
            messages.append(message)
            contexts.append(context)
            self._warnings[index] = warnings
            if extra is not None:
                self._extras[index] = extra
        return indexes, messages, contexts

    def _count(self) -> int:
        return min(len(self.request.items), self.pipeline.limits.batch_messages)

    def _merge(self, messages: list[MessageStruct], contexts: list[JSONObject | None]) -> Sequence[Inherited]:
        """Merge each context onto that of the batch, fill its `ip`, and return what of it is the batch's."""
        shared = self.request.context
        inherited: Sequence[Inherited] = [()] * len(messages)
        address = self.reception.origin.client_ip
        if self._ip_rule is not None:
            self._ip_rule.apply_to_contexts(messages, contexts, self._salt)  # before anything is merged
            address = self._ip_rule.apply(address, self._salt)
        if shared is not None:
            prepared = self.pipeline.shared_context(bytes(self.request.shared["context"]), self._salt)
            inherited = prepared.merge_into(messages, contexts)
        if address is not None and "ip" not in (shared or ()):
            self._fill_ip(address, messages, contexts, shared or {})
        return inherited

    def _fill_ip(
        self, address: str, messages: list[MessageStruct], contexts: list[JSONObject | None], shared: JSONObject
    ) -> None:
        """Add the address of the connection where it is the user's: from a device, or if `context.direct` says so.

        Source: https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/#collecting-ip-address
        """
        origin = self.reception.origin
        field = b'"ip":%b}' % encode_json(address)
        for row, message in enumerate(messages):
            own = contexts[row] or {}
            if "ip" not in own and (origin.client_side or own.get("direct", shared.get("direct")) is True):
                text = bytes(message.context)[:-1]
                message.context = msgspec.Raw(b"%b%b%b" % (text or b"{", b"," if own or shared else b"", field))

    def _route(
        self, indexes: Sequence[int], messages: list[MessageStruct], contexts: list[JSONObject | None]
    ) -> list[Route]:
        """Merge the `integrations` of each message onto those of the batch, and find its destinations."""
        shared = b"" if self.request.integrations is None else bytes(self.request.shared[_INTEGRATIONS])
        consents = consent_texts(self.request.context, contexts) if self.pipeline.resolver.reads_consent else None
        # Within a request even a look into the cache would be much of the time.
        by_text: dict[bytes | tuple[bytes, bytes], Route] = {}
        routes = []
        for row, message in enumerate(messages):
            own = b"" if message.integrations is ABSENT else bytes(message.integrations)
            key = own if consents is None else (own, consents[row])
            route = by_text.get(key)
            if route is None:
                try:
                    consent = b"" if consents is None else consents[row]
                    route = by_text[key] = self.pipeline.find_route(shared, own, consent)
                except InvalidMessage as error:
                    self._rejected.setdefault(indexes[row], error)
                    route = _NO_ROUTE
            message.integrations = route[0]
            routes.append(route)
        return routes

    def _identify(self, indexes: Sequence[int], messages: list[MessageStruct]) -> None:
        """Make sure that each message has an id and no write key.  Only an id of the client can be too long."""
        limits = self.pipeline.limits
        max_chars = limits.message_id_chars
        for row, message in enumerate(messages):
            message_id = message.message_id
            if message_id is None:
                if indexes[row] not in self._rejected:
                    message.message_id = checked_id(self.pipeline.new_message_id(), limits)
            elif len(message_id) > max_chars:
                self._rejected.setdefault(indexes[row], message_id_too_long(message_id, limits))
            if message.write_key is not None:
                self._remove_write_key(indexes[row], message)

    def _remove_write_key(self, index: int, message: MessageStruct) -> None:
        reception = self.reception
        is_other = not reception.is_history and write_key(message.write_key) not in (None, reception.write_key)
        if is_other and _MISMATCH not in self._warnings_of(index):
            self._warnings_of(index).append(_MISMATCH)
        message.write_key = None

    def _time(self, indexes: Sequence[int], messages: list[MessageStruct]) -> list[datetime]:
        """Set the times of each message, and return its own."""
        reception = self.reception
        times = (HistoricalTimes if reception.is_history else MessageTimes)(reception.received_at, self.request.sent_at)
        timestamps = times.set_all(messages)
        if timestamps is not None:
            self.clock_skew = times.clock_skew
            return timestamps
        timestamps = []
        for row, message in enumerate(messages):
            index, timestamp = indexes[row], reception.received_at
            warnings = self._warnings.get(index) or [*self._shared_warnings]
            try:
                timestamp = times.set(message, self._extras.get(index), warnings)
            except InvalidMessage as error:
                self._rejected.setdefault(index, error)
            timestamps.append(timestamp)
            if warnings:
                self._warnings[index] = warnings
        self.clock_skew = times.clock_skew
        return timestamps

    def _write(
        self,
        indexes: Sequence[int],
        messages: list[MessageStruct],
        inherited: Sequence[Inherited],
        routes: list[Route],
        timestamps: list[datetime],
    ) -> list[Envelope]:
        request, reception = self.request, self.reception
        if request.received is not None:
            self._warn_of_surrogates(indexes, request.received)
        received_at, source, texts = reception.received_at, self.pipeline.source.name, request.received or request.items
        found_by = None if reception.found_by is None else str(reception.found_by)
        shared = tuple(self._shared_warnings)
        privacy = self.pipeline.privacy
        own_warnings, extras, rejected = self._warnings, self._extras, self._rejected
        retry_count = reception.origin.retry_count
        envelopes = []
        for index, message, inherited_context, (_, inherited_flags, resolution), timestamp in zip(
            indexes, messages, inherited, routes, timestamps, strict=True
        ):
            if index in rejected:
                continue
            warnings = tuple(own_warnings[index]) if index in own_warnings else shared
            envelopes.append(
                Envelope(
                    source,
                    message.message_id,
                    message.type,
                    message.user_id,
                    message.anonymous_id,
                    received_at,
                    # The age, which a destination may limit, cannot be part of the shared resolution.
                    resolution.selected
                    if resolution.max_age is None
                    else resolution.names_at_age(received_at - timestamp),
                    warnings + resolution.warnings,
                    write_message(message, extras[index]) if index in extras else encode_json(message),
                    inherited_context + inherited_flags,
                    found_by,
                    ReceivedText(texts, index, privacy, received_at),
                    retry_count,
                )
            )
        return envelopes

    def _warn_of_surrogates(self, indexes: Sequence[int], received: Sequence[bytes]) -> None:
        for index in indexes:
            if has_surrogate(received[index]) and _SURROGATE not in self._warnings_of(index):
                self._warnings_of(index).append(_SURROGATE)

    def _warnings_of(self, index: int) -> list[MessageWarning]:
        return self._warnings.setdefault(index, [*self._shared_warnings])


def _shared_context(rule: IpRule | None, text: bytes, salt: bytes) -> SharedContext:
    """See `Pipeline.shared_context`."""
    stored = stored_text(text)
    if rule is not None and b'"ip"' in stored:
        context: JSONObject = parse_value(stored)
        if "ip" in context:
            stored, _ = rule.apply_in_context(stored, context, salt)
    return SharedContext(stored)


def _route(resolver: Resolver, depth: int, shared: bytes, own: bytes, consent: bytes) -> Route:
    """See `Pipeline.find_route`.  Raises `InvalidMessage`."""
    if own and is_deeper(own, depth):
        raise too_deep("the message", depth)
    flags = object_or_absent(_INTEGRATIONS, parse_value(own)) if own else None
    context = context_of(consent)
    if not shared:
        return ABSENT if flags is None else msgspec.Raw(own), (), resolver.resolve(flags, context)
    shared = stored_text(shared)
    base: JSONObject = parse_value(shared)
    merged = shared if flags is None else merge_texts(shared, own)
    inherited = inherited_paths(_INTEGRATIONS, base, flags)
    return msgspec.Raw(merged), inherited, resolver.resolve(merge_onto(base, flags or {}), context)


def _shared_warnings(request: Request, reception: Reception) -> list[MessageWarning]:
    """Return the warnings about what all messages of a request share."""
    warnings = [*request.shared_warnings]
    origin, known = reception.origin, (None, reception.write_key)
    if not reception.is_history and not (
        request.write_key in known
        and origin.header_key in known
        and origin.other_header_key in known
        and origin.query_key in known
    ):
        warnings.append(_MISMATCH)
    if request.shared_surrogate:
        warnings.append(_SURROGATE)
    return warnings


_INTEGRATIONS = "integrations"
_CONTEXTS_CACHED = 100
_NO_ROUTE: Route = (ABSENT, (), Resolution(decisions=()))
"""Of a message that is rejected."""

_MISMATCH = MessageWarning(
    code=WarningCode.WRITE_KEY_MISMATCH, message="the request names another write key too", path="writeKey"
)
_SURROGATE = MessageWarning(code=WarningCode.SURROGATE_REPLACED, message=WarningCode.SURROGATE_REPLACED.sentence)
