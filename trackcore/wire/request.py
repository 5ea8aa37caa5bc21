"""Parsing of a request body: the source text of each message, and the fields of a batch that all of them share.

Theory.  The messages of a batch are not decoded here in general: msgspec skips them and returns the source text of
each.  So each is decoded by itself later, its size is measured on its own bytes, and its errors do not affect the
others.

If all messages of a request fit the struct of `trackcore.wire.fast`, as nearly always, they are decoded in one call
instead (`decode`), and their source texts are found only if somebody asks for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain
from typing import Any, get_args, overload

import attrs
import msgspec

from trackcore.credentials import write_key
from trackcore.errors import InvalidMessage, InvalidRequest, MessageWarning, Reason
from trackcore.limits import Limits
from trackcore.text.jsontext import (
    Text,
    clean_text,
    compacted,
    has_escape,
    has_surrogate,
    is_deeper,
    kind_of,
    parse,
    parse_value,
    raw_fields,
    raw_value,
    replace_surrogates,
    without_escapes,
)
from trackcore.timestamps import time_text
from trackcore.typing import Call, Endpoint, JSONObject, WriteKey
from trackcore.wire.fast import LEVELS, MessageStruct, checked, decode_struct, remove_escapes
from trackcore.wire.rules import hint, is_near_miss, message_too_large, near_misses, object_or_absent, too_deep


class Decoded(msgspec.Struct):
    """The messages of a request, and their contexts (None: absent).  A run of a pipeline uses them up."""

    messages: list[MessageStruct]
    contexts: list[JSONObject | None]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A parsed body.

    `items` are the source texts of the messages, and `decoded` the messages, if they were decoded in one call.
    `context`, `integrations`, `sent_at` and `write_key` are those of a batch; `invalid` is an error in the first two,
    which then holds for each message.  `call` is None in a batch, where each message has its own `type`.

    Where the body had to be repaired to be parsed at all, `received` has the source texts of the messages as received,
    and `shared_surrogate` is true if an unpaired surrogate was in the fields of the batch.  `shared` has the source
    texts of these fields as received, by name.

    `shared_warnings` are about the fields of the batch.  `own_warnings` has, for each message, the warnings that were
    found before its text was written; it is empty where there are none.
    """

    call: Call | None
    items: Sequence[bytes | msgspec.Raw]
    decoded: Decoded | None = None
    context: JSONObject | None = None
    integrations: JSONObject | None = None
    sent_at: str | None = None
    write_key: WriteKey | None = None
    invalid: InvalidMessage | None = None
    received: Sequence[bytes] | None = None
    shared_surrogate: bool = False
    shared: Mapping[str, bytes | msgspec.Raw] = msgspec.field(default_factory=dict)
    shared_warnings: tuple[MessageWarning, ...] = ()
    own_warnings: tuple[tuple[MessageWarning, ...], ...] = ()

    def batch_fields(self, limits: Limits, times: int) -> bytes | None:
        """Return the batch-level fields as a JSON object; None for a single message.

        It is empty (not even `{}`) where storing them with each of `times` messages would exceed `Limits.shared_bytes`.
        """
        if self.call is not None:
            return None
        text = b"{%b}" % b",".join(b'"%b":%b' % (name.encode(), bytes(part)) for name, part in self.shared.items())
        return text if len(text) * times <= limits.shared_bytes else b""


def stored_text(text: bytes) -> bytes:
    """Return the text of an object that a batch shares as it is stored with each message."""
    return without_escapes(compacted(replace_surrogates(text) if has_escape(text) else text))


ENDPOINTS: frozenset[Endpoint] = frozenset(get_args(Endpoint))


def parse_request(body: bytes, endpoint: Endpoint, limits: Limits, *, decode: bool = False) -> Request:
    """Parse a body, and with `decode` also its messages, if all of them fit.

    Raises `InvalidRequest` if it is unusable as a whole, `ValueError` for an unknown endpoint.
    """
    if endpoint not in ENDPOINTS:
        raise ValueError(f"{endpoint!r} is not an endpoint; expected one of {', '.join(sorted(ENDPOINTS))}")
    if len(body) > limits.request_bytes:
        raise body_too_large(limits.request_bytes, len(body))
    body = clean_text(body)
    if decode and limits.depth >= LEVELS:
        try:
            return _decode_batch(body, limits) if endpoint == "batch" else _decode_single(body, endpoint, limits)
        except (msgspec.MsgspecError, RecursionError):
            pass  # a message does not fit, or the text has to be repaired
    return _parse_batch(body, limits) if endpoint == "batch" else _parse_single(body, endpoint, limits)


def body_too_large(limit: int, actual: int | None) -> InvalidRequest:
    """Build the error for an oversized body; `actual` is None where reading stopped before its end."""
    detail = f"the request is larger than {limit} bytes"
    return InvalidRequest(reason=Reason.BODY_TOO_LARGE, detail=detail, limit=limit, actual=actual)


def peek(item: bytes | msgspec.Raw, field: str) -> Any:
    """Return one field of a possibly malformed message, or None."""
    return _lenient_value(_fields(item).get(field, _NULL))


def hint_of_write_key(body: bytes, request: Request, limits: Limits) -> str:
    """Return a hint for a request, parsed from `body`, that has a write key under a similar name only; else empty."""
    of_request, _ = parse(raw_fields, clean_text(body))
    for fields in chain([of_request], map(_fields, request.items[: limits.batch_messages])):
        near = (name for name in fields if is_near_miss(name, "writeKey"))
        if found := hint((name for name in near if write_key(_lenient_value(fields[name]))), "writeKey"):
            return found
    return ""


_NULL = msgspec.Raw(b"null")


class _SharedFields(msgspec.Struct, rename="camel"):
    """The fields of a batch that are read.  They stay text until they are known to be within their limits."""

    context: msgspec.Raw = _NULL
    integrations: msgspec.Raw = _NULL
    sent_at: msgspec.Raw = _NULL
    write_key: msgspec.Raw = _NULL


class _KnownFields(_SharedFields, rename="camel"):
    """All fields that SDKs send, except for the messages.  Near misses are searched only in batches with others."""

    message_id: msgspec.Raw = _NULL
    timestamp: msgspec.Raw = _NULL
    sequence: msgspec.Raw = _NULL


class _BatchEnvelope(_SharedFields, rename="camel", kw_only=True):
    batch: list[msgspec.Raw]


class _KnownEnvelope(_KnownFields, rename="camel", kw_only=True, forbid_unknown_fields=True):
    batch: list[msgspec.Raw]


class _DecodedEnvelope(_KnownFields, rename="camel", kw_only=True, forbid_unknown_fields=True):
    batch: list[MessageStruct]


_shared_fields = msgspec.json.Decoder(_SharedFields)
_envelope = msgspec.json.Decoder(_BatchEnvelope)
_known_envelope = msgspec.json.Decoder(_KnownEnvelope)
_decoded_envelope = msgspec.json.Decoder(_DecodedEnvelope)


class _SourceTexts(Sequence[msgspec.Raw]):
    """The source texts of the messages of a batch, which are found when one of them is needed."""

    def __init__(self, body: bytes, count: int) -> None:
        self._body, self._count = body, count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> msgspec.Raw: ...

    @overload
    def __getitem__(self, index: slice) -> list[msgspec.Raw]: ...

    def __getitem__(self, index: int | slice) -> msgspec.Raw | list[msgspec.Raw]:
        return self._texts[index]

    @cached_property
    def _texts(self) -> list[msgspec.Raw]:
        return _envelope.decode(self._body).batch


def _decode_single(body: bytes, call: Call, limits: Limits) -> Request:
    """Parse the body of a message that fits.  Raises `msgspec.ValidationError` for another one."""
    source = body.strip(_WHITE_SPACE)
    if len(source) > limits.message_bytes:
        raise msgspec.ValidationError("the message is too large")
    messages = [decode_struct(compacted(source))]
    contexts = checked(messages, call)
    if has_escape(source):
        remove_escapes(messages)
    return Request(call=call, items=(source,), decoded=Decoded(messages, contexts))


def _decode_batch(body: bytes, limits: Limits) -> Request:
    """Parse the body of a batch of messages that all fit.  Raises `msgspec.ValidationError` for another one."""
    compact = compacted(body)
    envelope = _decoded_envelope.decode(compact)
    messages = envelope.batch
    items = _SourceTexts(body, len(messages))
    if len(messages) > limits.batch_messages or _is_any_larger(limits.message_bytes, messages, body, items):
        raise msgspec.ValidationError("the batch or one of its messages is too large")
    contexts = checked(messages, None)
    if has_escape(body):
        remove_escapes(messages)
    fields = envelope if compact is body else _envelope.decode(body)
    return _batch(fields, items, limits, decoded=Decoded(messages, contexts))


def _is_any_larger(limit: int, messages: list[MessageStruct], body: bytes, items: Sequence[msgspec.Raw]) -> bool:
    """Return whether the source text of a message of a batch is larger than the limit.

    A message is at most as large as its own free-form parts and all that is outside of the parts of any message.  So in
    most batches the source texts need not be found; and the parts of a few messages can be measured together.
    """
    if len(body) <= limit:
        return False
    parts = [part for message in messages for part in (message.properties, message.traits, message.context)]
    sizes = [len(b"".join(parts[start : start + _MEASURED])) for start in range(0, len(parts), _MEASURED)]
    return len(body) - sum(sizes) + max(sizes, default=0) > limit and any(len(bytes(item)) > limit for item in items)


_MEASURED = 15
"""How many parts are measured together: those of five messages."""

_WHITE_SPACE = b" \t\r\n"


def _parse_single(body: bytes, call: Call, limits: Limits) -> Request:
    item, text = parse(raw_value, body)
    source = bytes(item)
    if not source.startswith(b"{"):
        raise _body_not_object(source)
    if len(source) > limits.message_bytes:
        error = message_too_large(limits.message_bytes, len(source))
        raise InvalidRequest(reason=error.reason, detail=error.detail, limit=error.limit, actual=error.actual)
    return Request(call=call, items=(source,), received=(text.as_received(source),) if text.is_repaired else None)


def _parse_batch(body: bytes, limits: Limits) -> Request:
    envelope, text, warnings = _parse_envelope(body)
    request = _batch(envelope, tuple(envelope.batch), limits, shared_warnings=warnings)
    if not text.is_repaired:
        return request
    shared = {name: text.as_received(part) for name, part in request.shared.items()}
    return msgspec.structs.replace(
        request,
        received=tuple(_items_as_received(envelope.batch, text)),
        shared=shared,
        shared_surrogate=any(map(has_surrogate, shared.values())),
    )


def _batch(envelope: _SharedFields, items: Sequence[msgspec.Raw], limits: Limits, **more: Any) -> Request:
    context = integrations = invalid = None
    parts = {"context": envelope.context, "integrations": envelope.integrations, "sentAt": envelope.sent_at}
    shared: dict[str, bytes | msgspec.Raw] = {name: part for name, part in parts.items() if part is not _NULL}
    try:
        _check_growth(len(items), shared.values(), limits)
        context = _shared_object("context", envelope.context, limits)
        integrations = _shared_object("integrations", envelope.integrations, limits)
    except InvalidMessage as error:
        invalid = attrs.evolve(error, detail=f"in the fields of the batch: {error.detail}")
    return Request(
        call=None,
        items=items,
        context=context,
        integrations=integrations,
        sent_at=time_text(_lenient_value(envelope.sent_at)),
        write_key=write_key(_lenient_value(envelope.write_key)),
        invalid=invalid,
        shared=shared,
        **more,
    )


def _parse_envelope(body: bytes) -> tuple[_BatchEnvelope | _KnownEnvelope, Text, tuple[MessageWarning, ...]]:
    try:
        return *parse(_known_envelope, body), ()
    except msgspec.ValidationError:
        pass
    try:
        envelope, text = parse(_envelope, body)
    except msgspec.ValidationError:
        raise _not_a_batch(body) from None
    return envelope, text, tuple(near_misses(raw_fields.decode(text.repaired), None))


def _items_as_received(items: list[msgspec.Raw], text: Text) -> Iterator[bytes]:
    position = text.find(raw_fields.decode(text.repaired)["batch"])
    for item in items:
        position = text.find(item, position)
        yield text.as_received(item, position)
        position += len(bytes(item))


def _not_a_batch(body: bytes) -> InvalidRequest:
    source = bytes(parse(raw_value, body)[0])
    if not source.startswith(b"{"):
        return _body_not_object(source)
    has_batch = b'"batch"' in source
    found = kind_of(peek(source, "batch")) if has_batch else f"nothing{hint(_fields(source), 'batch')}"
    return InvalidRequest(reason=Reason.BATCH_NOT_ARRAY, detail=f"`batch` is an array, not {found}", path="batch")


def _fields(source: bytes | msgspec.Raw) -> Mapping[str, msgspec.Raw]:
    """Return the fields of a possibly malformed object; none where it cannot be parsed."""
    try:
        return raw_fields.decode(source)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return {}


def _body_not_object(source: bytes) -> InvalidRequest:
    kind = "an array" if source.startswith(b"[") else kind_of(_lenient_value(source))
    return InvalidRequest(reason=Reason.BODY_NOT_OBJECT, detail=f"a request is a JSON object, not {kind}")


def _check_growth(messages: int, shared: Iterable[bytes | msgspec.Raw], limits: Limits) -> None:
    """Check the size of the batch's own fields: in one message, and in all.  Raises `InvalidMessage`."""
    messages = min(messages, limits.batch_messages)
    size = sum(map(len, shared))
    if size > limits.message_bytes:
        raise message_too_large(limits.message_bytes, size)
    actual, limit = size * messages, limits.shared_bytes
    if actual > limit:
        detail = f"{size} bytes for each of {messages} messages come to more than {limit} bytes"
        raise InvalidMessage(reason=Reason.MESSAGE_TOO_LARGE, detail=detail, limit=limit, actual=actual)


def _shared_object(name: str, raw: msgspec.Raw, limits: Limits) -> JSONObject | None:
    if raw is _NULL:
        return None
    text = bytes(raw)
    if is_deeper(text, limits.depth):
        raise too_deep(f"`{name}`", limits.depth)
    return object_or_absent(name, parse_value(text))


def _lenient_value(raw: bytes | msgspec.Raw) -> Any:
    if raw is _NULL:
        return None
    try:
        return msgspec.json.decode(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
