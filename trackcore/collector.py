"""The collector: the class that applications embed.

It turns a request body, or a message made in Python, into a `Receipt`: which messages were stored, which were
duplicates, which were rejected and why.  The clock and the maker of message ids are passed in, so it behaves the same
in a test, in a worker and behind HTTP.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from itertools import count

import attrs
from msgspec.structs import replace

from trackcore.credentials import Source, SourceRegistry, key_in_broken_body
from trackcore.errors import InvalidRequest, MessageWarning, WarningCode
from trackcore.intake import Pipelines, receive
from trackcore.integrations import Destination, Resolver, as_destinations
from trackcore.limits import DEFAULT_LIMITS, Limits
from trackcore.messages import Message
from trackcore.metrics import Metrics
from trackcore.origins import Origin
from trackcore.plans.controls import Action
from trackcore.plans.enforcement import PlanInForce
from trackcore.plans.forwarding import violation_messages
from trackcore.privacy.rules import PrivacyRules, strictest
from trackcore.receipts import PendingReceipt, Receipt
from trackcore.reception import IntakeResult, Reception
from trackcore.rejected import record_of
from trackcore.sinks import Envelope, KeyLocation, Outcome, QuarantinedRequest, Sink
from trackcore.text.jsontext import encode_json, replace_surrogates
from trackcore.text.timetext import EPOCH
from trackcore.timestamps import truncate_to_milliseconds
from trackcore.typing import Clock, Endpoint, NewMessageId
from trackcore.wire.codec import encode_as_given
from trackcore.wire.request import Request

SERVER = Origin()

_SEED_DIGITS = 24
_REPAIRED = MessageWarning(code=WarningCode.REPAIRED, message="it was rejected at first and accepted on retry")


@attrs.define
class _RequestRates:
    """Counts the requests of each source within the current second: an approximation under threads."""

    _counts: dict[str, tuple[tuple[int, int], int]] = attrs.field(init=False, factory=dict)

    def count(self, source: str, now: datetime) -> int:
        since_epoch = now - EPOCH
        second = since_epoch.days, since_epoch.seconds
        counted_in, count = self._counts.get(source, (second, 0))
        count = count + 1 if counted_in == second else 1
        self._counts[source] = second, count
        return count


def _as_registry(sources: SourceRegistry | Iterable[Source]) -> SourceRegistry:
    return sources if isinstance(sources, SourceRegistry) else SourceRegistry(sources)


@attrs.define(kw_only=True)
class Collector:
    """Receives messages for its sources and stores them in its sink.

    >>> from datetime import UTC, datetime
    >>> from trackcore import MemorySink, Track
    >>> collector = Collector(
    ...     sources=[Source(name="website", write_keys=["abc123"])],
    ...     sink=MemorySink(),
    ...     clock=lambda: datetime(2026, 1, 31, tzinfo=UTC),
    ...     new_message_id=lambda: "an-id-that-is-unique",
    ... )
    >>> collector.receive(b'{"userId": "42", "event": "Paid", "writeKey": "abc123"}', endpoint="track").accepted
    1
    >>> receipt = collector.submit(Track(user_id="42", event="Paid", message_id="m1"), source="website")
    >>> [str(outcome) for outcome in receipt.outcomes]
    ['stored']

    `plans` are tracking plans by the name of the source whose messages are held against them, and `privacy` the rules
    about personal data by the name of their source; the strictest of all hold for requests without a source.  `metrics`
    has what this collector and its adapters count; `metrics.values()` are plain values.  The attributes that pipelines
    are built from cannot be assigned; `attrs.evolve` makes a collector with others.
    """

    sources: SourceRegistry = attrs.field(converter=_as_registry, on_setattr=attrs.setters.frozen)
    sink: Sink
    clock: Clock
    new_message_id: NewMessageId = attrs.field(on_setattr=attrs.setters.frozen)
    destinations: tuple[Destination, ...] = attrs.field(
        default=(), converter=as_destinations, on_setattr=attrs.setters.frozen
    )
    limits: Limits = attrs.field(default=DEFAULT_LIMITS, on_setattr=attrs.setters.frozen)
    plans: Mapping[str, PlanInForce] = attrs.field(factory=dict, on_setattr=attrs.setters.frozen)
    privacy: Mapping[str, PrivacyRules] = attrs.field(factory=dict, on_setattr=attrs.setters.frozen)
    metrics: Metrics = attrs.field(factory=Metrics, repr=False)
    _pipelines: Pipelines = attrs.field(init=False, repr=False)
    _strictest: PrivacyRules = attrs.field(init=False, repr=False)
    _rates: _RequestRates = attrs.field(init=False, factory=_RequestRates, repr=False)

    def __attrs_post_init__(self) -> None:
        self._pipelines = Pipelines(
            sources=self.sources,
            destinations=self.destinations,
            new_message_id=self.new_message_id,
            limits=self.limits,
            plans=self.plans,
            privacy=self.privacy,
        )
        self._strictest = strictest(self.privacy.values())

    def receive(self, body: bytes, *, endpoint: Endpoint = "batch", origin: Origin = SERVER) -> Receipt:
        """Receive one request body: a batch, or one message of the call that `endpoint` names.

        It waits until everything is stored; in an event loop, use `receive_async`.

        Raises:
            InvalidRequest: the body is unusable as a whole (it is kept among the rejected if its source is known).
            SinkUnavailable: nothing was stored; the sender should try again.
            ValueError: the endpoint is unknown; `trackcore.endpoint_of` finds that of an HTTP path.
        """
        return self.store(self.prepare(body, endpoint=endpoint, origin=origin))

    async def receive_async(self, body: bytes, *, endpoint: Endpoint = "batch", origin: Origin = SERVER) -> Receipt:
        """Receive one request body as `receive` does, without blocking the event loop.

        Raises the same errors, and `TypeError` if the sink is not a `trackcore.AsyncSink`.
        """
        return await self.store_async(self.prepare(body, endpoint=endpoint, origin=origin))

    def prepare(self, body: bytes, *, endpoint: Endpoint = "batch", origin: Origin = SERVER) -> PendingReceipt:
        """Do everything that `receive` does, except for storing.  Raises `ValueError` if the endpoint is unknown."""
        received_at = self._now()
        try:
            intake = receive(body, pipelines=self._pipelines, endpoint=endpoint, origin=origin, received_at=received_at)
        except InvalidRequest as error:
            return self._refusal(body, error, origin=origin, endpoint=endpoint, received_at=received_at)
        if intake.source is not None:
            return self._pending(intake.source, intake, endpoint, retry_count=origin.retry_count)
        rules, at = self._strictest, intake.received_at
        request = QuarantinedRequest(
            received_at=at,
            endpoint=endpoint,
            write_key=intake.write_key,
            client_ip=rules.ip.apply(origin.client_ip, rules.ip.salt_at(at)),
            client_side=origin.client_side,
            payload=rules.redact(body, at),
        )
        return PendingReceipt(
            source=None,
            received_at=intake.received_at,
            quarantined=(request,),
            hint=intake.hint,
            retry_count=origin.retry_count,
        )

    def prepare_refused(
        self, body: bytes, error: InvalidRequest, *, origin: Origin, endpoint: Endpoint
    ) -> PendingReceipt:
        """Prepare a request that an adapter refuses before it has a body to receive; storing it raises `error`.

        It is kept among the rejected, with the part of its body that was received, if its source can be found.
        """
        return self._refusal(body, error, origin=origin, endpoint=endpoint, received_at=self._now())

    def store(self, pending: PendingReceipt) -> Receipt:
        """Store what was prepared, and return its receipt.  Raises as `receive` does."""
        outcomes: Sequence[Outcome] = ()
        if pending.has_records:
            outcomes = self.sink.store(pending.messages, rejected=pending.rejected, quarantined=pending.quarantined)
        self.metrics.count_stored(pending, outcomes)
        return pending.receipt(outcomes)

    async def store_async(self, pending: PendingReceipt) -> Receipt:
        """Store what was prepared, and return its receipt.  Raises as `receive_async` does."""
        if not pending.has_records:
            self.metrics.count_stored(pending, ())
            return pending.receipt(())
        store = getattr(self.sink, "store_async", None)
        if store is None:
            raise TypeError(
                f"{type(self.sink).__name__} has no `store_async`; wrap it: trackcore_asgi.ThreadedSink(sink)"
            )
        outcomes = await store(pending.messages, rejected=pending.rejected, quarantined=pending.quarantined)
        self.metrics.count_stored(pending, outcomes)
        return pending.receipt(outcomes)

    def reprocess(
        self, body: bytes, *, record: str, endpoint: Endpoint, origin: Origin, received_at: datetime
    ) -> Receipt:
        """Receive a rejected request, or message, again, after the cause of the rejection was fixed.

        Its messages keep `received_at`, the time at which they were first received, and are marked with the warning
        `repaired`.  One without an id gets an id made from `record`, the name of the record such as `quarantine:12`, so
        that reprocessing twice stores nothing twice.  Messages rejected again are reported but not stored again; the
        original record remains.  `origin` is where it came from, or has the write key of the source that it belongs to.

        Raises:
            InvalidRequest: the body is still unusable as a whole.
            SinkUnavailable: nothing was stored.
        """
        return self.store_reprocessed(
            self.preview(body, record=record, endpoint=endpoint, origin=origin, received_at=received_at)
        )

    def store_reprocessed(self, intake: IntakeResult) -> Receipt:
        """Store the result of `preview`; an imported message stays marked as imported.  Raises `SinkUnavailable`."""
        envelopes = [
            replace(
                envelope,
                warnings=(*envelope.warnings, _REPAIRED),
                found_by=str(KeyLocation.FILE if envelope.found_by == KeyLocation.FILE else KeyLocation.RECORD),
            )
            for envelope in intake.envelopes
        ]
        outcomes = self.sink.store(envelopes) if envelopes else ()
        stored = PendingReceipt(source=intake.source, received_at=intake.received_at, envelopes=envelopes)
        self.metrics.count_stored(stored, outcomes)
        return Receipt(
            source=intake.source,
            received_at=intake.received_at,
            envelopes=envelopes,
            outcomes=outcomes,
            rejections=intake.rejections,
        )

    def preview(
        self, body: bytes, *, record: str, endpoint: Endpoint, origin: Origin, received_at: datetime
    ) -> IntakeResult:
        """Return what `reprocess` would store of a request, and store nothing.  Raises `InvalidRequest`."""
        seed = sha256(f"{record} {received_at.isoformat()} ".encode() + body).hexdigest()[:_SEED_DIGITS]
        numbers = count(1)
        pipelines = attrs.evolve(self._pipelines, new_message_id=lambda: f"repaired-{seed}-{next(numbers)}")
        return receive(body, pipelines=pipelines, endpoint=endpoint, origin=origin, received_at=received_at)

    def submit(self, *messages: Message, source: str) -> Receipt:
        """Receive messages made in this process, as one request.  They are subject to the same rules as any other.

        It waits until everything is stored, so it would block an event loop: use `submit_async` there.  NaN and
        infinity become null, with the warning `number_not_finite`.

        Raises:
            InvalidMessage: a message holds something that has no JSON form; nothing was stored.
            SinkUnavailable: nothing was stored; try again.
            LookupError: no source has that name.
            TypeError: something is not a message; a list of messages is submitted as `submit(*messages)`.
        """
        return self.store(self._prepare_own(messages, source))

    async def submit_async(self, *messages: Message, source: str) -> Receipt:
        """Receive messages made in this process as `submit` does, without blocking the event loop.

        Raises the same errors, and `TypeError` if the sink is not a `trackcore.AsyncSink`.
        """
        return await self.store_async(self._prepare_own(messages, source))

    def resolver(self, source: str) -> Resolver:
        """Return the resolver of a source, by the source's name.  Raises `KeyError`."""
        return self._pipelines.of(source).resolver

    def _prepare_own(self, messages: Sequence[Message], source: str) -> PendingReceipt:
        found = self.sources.by_name(source)
        if found is None:
            raise LookupError(f"no source is named {source!r}")
        encoded = [_encoded(message) for message in messages]
        received = tuple(text for text, _ in encoded)
        request = Request(
            call=None,
            items=tuple(map(replace_surrogates, received)),
            received=received,
            own_warnings=tuple(warnings for _, warnings in encoded),
        )
        reception = Reception(received_at=truncate_to_milliseconds(self._now()), found_by=KeyLocation.PROCESS)
        return self._pending(found, self._pipelines.of(source).run(request, reception))

    def _refusal(
        self, body: bytes, error: InvalidRequest, *, origin: Origin, endpoint: Endpoint, received_at: datetime
    ) -> PendingReceipt:
        received_at = truncate_to_milliseconds(received_at)
        keys = (origin.header_key, origin.other_header_key, key_in_broken_body(body), origin.query_key)
        source = next(filter(None, map(self.sources.find, keys)), None)
        if source is None:
            return PendingReceipt(source=None, received_at=received_at, error=error, retry_count=origin.retry_count)
        kept = body[: self.limits.request_bytes]
        if (rules := self.privacy.get(source.name)) is not None:
            kept = rules.redact(kept, received_at)
        record = record_of(error, kept, source=source, received_at=received_at, endpoint=endpoint)
        return PendingReceipt(
            source=source,
            received_at=received_at,
            rejected=(record,),
            error=error,
            retry_count=origin.retry_count,
        )

    def _pending(
        self, source: Source, intake: IntakeResult, endpoint: Endpoint | None = None, *, retry_count: int = 0
    ) -> PendingReceipt:
        rejected = [
            record_of(
                rejection.error,
                rejection.payload,
                source=source,
                received_at=intake.received_at,
                batch=intake.batch_fields,
                endpoint=endpoint,
            )
            for rejection in (*intake.rejections, *intake.omitted)
        ]
        return PendingReceipt(
            source=source,
            received_at=intake.received_at,
            envelopes=intake.envelopes,
            rejected=rejected,
            rejections=intake.rejections,
            requests_this_second=self._rates.count(source.name, intake.received_at),
            forwarded=self._forwarded(intake) if intake.violating else (),
            retry_count=retry_count,
            clock_skew=intake.clock_skew,
            violations=[found.kind for _, treatment in intake.violating for found in treatment.violations],
        )

    def _forwarded(self, intake: IntakeResult) -> list[Envelope]:
        """Return the messages that the controls of a plan forward to other sources.  These forward nothing on."""
        assert intake.source is not None, "only a source has a plan"
        in_force = self.plans[intake.source.name]
        to_violations, to_blocked = in_force.controls.forwards
        violations: list[bytes] = []
        blocked: list[bytes] = []
        for envelope, treatment in intake.violating:
            if to_violations is not None:
                messages = violation_messages(in_force.plan.document, envelope, treatment)
                violations += map(encode_json, messages)
            if treatment.action is Action.BLOCK:
                blocked.append(envelope.payload)
        return [
            *self._run(to_violations, violations, intake.received_at, is_history=False),
            *self._run(to_blocked, blocked, intake.received_at, is_history=True),  # its times are corrected already
        ]

    def _run(
        self, source: str | None, items: Sequence[bytes], received_at: datetime, *, is_history: bool
    ) -> Sequence[Envelope]:
        if source is None or not items:
            return ()
        reception = Reception(received_at=received_at, found_by=KeyLocation.PROCESS, is_history=is_history)
        return self._pipelines.of(source).run(Request(call=None, items=tuple(items)), reception).envelopes

    def _now(self) -> datetime:
        now: object = self.clock()
        if not isinstance(now, datetime) or now.tzinfo is None:
            raise TypeError(f"the clock returned {now!r}; it returns an aware datetime, as datetime.now(UTC) does")
        return now


def _encoded(message: Message) -> tuple[bytes, tuple[MessageWarning, ...]]:
    if isinstance(message, list | tuple):
        raise TypeError(f"submit takes messages, not a {type(message).__name__} of them: submit(*messages, source=...)")
    return encode_as_given(message)
