"""Intake: the one place that knows the order of the steps.

    bytes -> messages -> merged -> timed -> routed -> envelopes

Everything here is a function of its arguments: the time of reception and the maker of message ids are passed in,
nothing is stored.  A request is one source's: it is found once, by the first write key in the order header, body,
query.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import attrs
import msgspec

from trackcore.credentials import Source, SourceBook, write_key
from trackcore.errors import Caution, InvalidMessage, Reason, Warned
from trackcore.integrations import Resolver
from trackcore.jsontext import encode_json, has_escape
from trackcore.limits import Limits
from trackcore.merge import merge_objects
from trackcore.sinks import Envelope
from trackcore.timestamps import (
    TimeRule,
    correct_clock_skew,
    format_timestamp,
    parse_timestamp,
    time_text,
    truncate_to_milliseconds,
)
from trackcore.typing import Endpoint, JSONObject, NewMessageId, WriteKey
from trackcore.wire import Request, check_message, decode_item, parse_request, peek


@attrs.frozen(kw_only=True)
class Origin:
    """What is known of where a request came from, beside its body.

    `header_key` and `query_key` are write keys given outside the body.  `client_ip` is the caller's address;
    `client_side` says that the caller is the user's own device, so that the address is the user's.
    """

    header_key: WriteKey | None = None
    query_key: WriteKey | None = None
    client_ip: str | None = None
    client_side: bool = False


@attrs.frozen(kw_only=True)
class Rejection:
    """One message that was refused: its place in the batch, its id where it has one, why, and its source text."""

    index: int
    message_id: str | None
    error: InvalidMessage
    payload: bytes


@attrs.frozen(kw_only=True)
class Intake:
    """What became of a request.  Without a source nothing was looked at but the write key."""

    source: Source | None
    write_key: WriteKey | None
    received_at: datetime
    envelopes: Sequence[Envelope] = ()
    rejections: Sequence[Rejection] = ()


def receive(
    body: bytes,
    *,
    endpoint: Endpoint,
    origin: Origin,
    sources: SourceBook,
    resolvers: Mapping[str, Resolver],
    received_at: datetime,
    new_message_id: NewMessageId,
    limits: Limits,
) -> Intake:
    """Take a request body apart, and make an envelope of each message that keeps the rules.

    `resolvers` has one for each source, by its name.  `received_at` is cut to milliseconds, so that the numbers in a
    stored message are the very ones that its timestamp was computed from.

    Raises:
        InvalidRequest: the body is of no use as a whole.
    """
    received_at = truncate_to_milliseconds(received_at)
    request = parse_request(body, endpoint, limits)
    key = origin.header_key or request.write_key or _key_in_items(request) or origin.query_key
    source = sources.find(key)
    if source is None:
        return Intake(source=None, write_key=key, received_at=received_at)
    return process(
        request,
        origin=origin,
        source=source,
        write_key=key,
        resolver=resolvers[source.name],
        received_at=received_at,
        new_message_id=new_message_id,
        limits=limits,
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
) -> Intake:
    """Make an envelope of each message of a request whose source is known.  `received_at` is in whole milliseconds."""
    pipeline = _Pipeline(
        request=request,
        origin=origin,
        source=source.name,
        write_key=write_key,
        resolver=resolver,
        received_at=received_at,
        new_message_id=new_message_id,
        limits=limits,
    )
    envelopes, rejections = pipeline.run()
    return Intake(
        source=source, write_key=write_key, received_at=received_at, envelopes=envelopes, rejections=rejections
    )


def _key_in_items(request: Request) -> WriteKey | None:
    return next((key for item in request.items if (key := write_key(peek(item, "writeKey")))), None)


@attrs.define(kw_only=True)
class _Pipeline:
    """The steps for one request, with what they share: constants of the request, worked out once."""

    request: Request
    origin: Origin
    source: str
    write_key: WriteKey | None
    resolver: Resolver
    received_at: datetime
    new_message_id: NewMessageId
    limits: Limits
    _received_text: str = attrs.field(init=False)
    _shared_cautions: tuple[Caution, ...] = attrs.field(init=False, default=())
    _last_sent: tuple[Any, datetime | None] = attrs.field(init=False, default=(None, None))

    def __attrs_post_init__(self) -> None:
        self._received_text = format_timestamp(self.received_at)
        if self.request.write_key not in (None, self.write_key):
            self._shared_cautions = (_MISMATCH,)

    def run(self) -> tuple[list[Envelope], list[Rejection]]:
        envelopes = []
        rejections = []
        for index, item in enumerate(self.request.items[: self.limits.batch_messages]):
            try:
                envelopes.append(self._envelope(item))
            except InvalidMessage as error:
                rejections.append(_rejection(index, item, error))
        rejections.extend(_excess(self.request.items, self.limits.batch_messages))
        return envelopes, rejections

    def _envelope(self, item: bytes | msgspec.Raw) -> Envelope:
        if self.request.invalid is not None:
            raise self.request.invalid
        message = decode_item(item, self.limits)
        cautions = [*self._shared_cautions]
        call = check_message(message, self.request.call, cautions)
        self._identify(message, cautions)
        self._merge(message)
        self._fill_ip(message)
        timestamp = self._time(message, cautions)
        resolution = self.resolver.resolve(message.get("integrations"))
        if self.request.replaced is not None and has_escape(bytes(item), self.request.replaced):
            cautions.append(_SURROGATE)
        return Envelope(
            self.source,
            message["messageId"],
            call,
            message.get("userId"),
            message.get("anonymousId"),
            self.received_at,
            resolution.names_at_age(self.received_at - timestamp),
            (*cautions, *resolution.cautions) if cautions else resolution.cautions,
            encode_json(message),
        )

    def _identify(self, message: JSONObject, cautions: list[Caution]) -> None:
        """Give the message an id if it has none, and take the write key out of it."""
        message_id = message.get("messageId")
        if message_id is None:
            message["messageId"] = self.new_message_id()
        elif len(message_id) > self.limits.message_id_chars:
            raise _message_id_too_long(self.limits.message_id_chars, len(message_id))
        given = write_key(message.pop("writeKey", None))
        if given not in (None, self.write_key) and _MISMATCH not in cautions:
            cautions.append(_MISMATCH)

    def _merge(self, message: JSONObject) -> None:
        """Lay what the batch says for all under what the message says itself."""
        if self.request.context is not None:
            message["context"] = merge_objects(self.request.context, message.get("context", {}))
        if self.request.integrations is not None:
            message["integrations"] = merge_objects(self.request.integrations, message.get("integrations", {}))

    def _fill_ip(self, message: JSONObject) -> None:
        """Fill `context.ip` from the connection, for a user's device or where `context.direct` asks for it.

        Source: https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/#collecting-ip-address
        """
        context = message.get("context", {})
        if self.origin.client_ip and "ip" not in context and (self.origin.client_side or context.get("direct") is True):
            message["context"] = {**context, "ip": self.origin.client_ip}

    def _time(self, message: JSONObject, cautions: list[Caution]) -> datetime:
        """Set the four times of the message and return its corrected one."""
        original_text = time_text(message.get("timestamp")) or time_text(message.get("originalTimestamp"))
        original = None
        if original_text is None:
            message.pop("originalTimestamp", None)
        else:
            message["originalTimestamp"] = original_text
            original = parse_timestamp(original_text)
            if original is None:
                cautions.append(_unparsable(Warned.TIMESTAMP_UNPARSABLE, "timestamp", original_text))
        sent_at = self._sent_at(message, cautions)
        corrected = correct_clock_skew(received_at=self.received_at, sent_at=sent_at, original_timestamp=original)
        if corrected.rule is TimeRule.UNREPRESENTABLE:
            cautions.append(_OUT_OF_RANGE)
        message["timestamp"] = format_timestamp(corrected.timestamp)
        message["receivedAt"] = self._received_text
        return corrected.timestamp

    def _sent_at(self, message: JSONObject, cautions: list[Caution]) -> datetime | None:
        """Set `sentAt` and read it.  The messages of a request share it, so the last one read is remembered."""
        text = time_text(message.get("sentAt")) or time_text(self.request.sent_at)
        if text is None:
            message.pop("sentAt", None)
            return None
        message["sentAt"] = text
        if text != self._last_sent[0]:
            self._last_sent = text, parse_timestamp(text)
        sent_at = self._last_sent[1]
        if sent_at is None:
            cautions.append(_unparsable(Warned.SENT_AT_UNPARSABLE, "sentAt", text))
        return sent_at


_MISMATCH = Caution(
    code=Warned.WRITE_KEY_MISMATCH, message="another write key, given elsewhere, was used", path="writeKey"
)
_SURROGATE = Caution(code=Warned.SURROGATE_REPLACED, message=Warned.SURROGATE_REPLACED.sentence)
_OUT_OF_RANGE = Caution(code=Warned.TIMESTAMP_OUT_OF_RANGE, message="the client's own time was kept", path="timestamp")


def _unparsable(code: Warned, path: str, text: str) -> Caution:
    return Caution(code=code, message=f"{text[:40]!r} is not a time", path=path)


def _message_id_too_long(limit: int, actual: int) -> InvalidMessage:
    return InvalidMessage(
        reason=Reason.MESSAGE_ID_TOO_LONG,
        detail=f"a messageId may have {limit} characters, this one has {actual}",
        path="messageId",
        limit=limit,
        actual=actual,
    )


def _rejection(index: int, item: bytes | msgspec.Raw, error: InvalidMessage) -> Rejection:
    message_id = peek(item, "messageId")
    return Rejection(
        index=index,
        message_id=message_id if isinstance(message_id, str) else None,
        error=error,
        payload=bytes(item),
    )


def _excess(items: Sequence[bytes | msgspec.Raw], limit: int) -> Iterator[Rejection]:
    """Reject what a batch holds beyond its limit.

    A hostile batch can hold a hundred times the limit, so the answer must be bounded: as many again are told one by
    one, and the last of these stands for all the rest.
    """
    error = InvalidMessage(
        reason=Reason.TOO_MANY_MESSAGES,
        detail=f"a batch may have {limit} messages, this one has {len(items)}",
        limit=limit,
        actual=len(items),
    )
    last = 2 * limit - 1
    for index, item in enumerate(items[limit:last], limit):
        yield _rejection(index, item, error)
    rest = items[last:]
    if len(rest) == 1:
        yield _rejection(last, rest[0], error)
    elif rest:
        everything = b"[" + b",".join(map(bytes, rest)) + b"]"
        detail = f"{error.detail}; this stands for the last {len(rest)}"
        yield Rejection(index=last, message_id=None, error=attrs.evolve(error, detail=detail), payload=everything)
