"""A request body taken apart: the source text of each message, and what a batch says for all of them.

Theory.  The messages of a batch are skipped over, not decoded: msgspec gives the source text of each.  So each is later
decoded by itself, its size is measured on its own bytes, and its faults stay its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any, get_args

import attrs
import msgspec

from trackcore.credentials import write_key
from trackcore.errors import InvalidMessage, InvalidRequest, MessageWarning, Reason
from trackcore.limits import Limits
from trackcore.text.jsontext import clean_text, has_surrogate, is_deeper, kind_of, parse, parse_value
from trackcore.timestamps import time_text
from trackcore.typing import Call, Endpoint, JSONObject, WriteKey
from trackcore.wire.rules import (
    hint,
    is_near_miss,
    message_too_large,
    near_misses,
    object_or_absent,
    too_deep,
)


@attrs.frozen(kw_only=True)
class Request:
    """A body taken apart.

    `items` are the source texts of the messages.  `context`, `integrations`, `sent_at` and `write_key` are those of a
    batch; `invalid` is what is wrong with the first two, and then holds for each of its messages.  `call` is None in a
    batch, where each message says its own.

    Where the body had to be mended to be parsed at all, `received` has the source texts as they came, and
    `shared_surrogate` says that a lone surrogate stood in what the batch says for all.  `shared` has the source texts
    of the latter, as they came, by name.

    `shared_warnings` are about what the batch has for all its messages.  `own_warnings` has those of each message that
    were found before its text was written; it is empty where there are none.
    """

    call: Call | None
    items: tuple[bytes | msgspec.Raw, ...]
    context: JSONObject | None = None
    integrations: JSONObject | None = None
    sent_at: str | None = None
    write_key: WriteKey | None = None
    invalid: InvalidMessage | None = None
    received: tuple[bytes, ...] | None = None
    shared_surrogate: bool = False
    shared: Mapping[str, bytes | msgspec.Raw] = attrs.field(factory=dict)
    shared_warnings: tuple[MessageWarning, ...] = ()
    own_warnings: tuple[tuple[MessageWarning, ...], ...] = ()

    def batch_fields(self, limits: Limits, times: int) -> bytes | None:
        """Give what a batch said for all its messages, as a JSON object; None for a single message.

        It is to be kept with so many of them; it is empty (no object, not even `{}`) where that would come to more than
        may be shared.
        """
        if self.call is not None:
            return None
        text = b"{%b}" % b",".join(b'"%b":%b' % (name.encode(), bytes(part)) for name, part in self.shared.items())
        return text if len(text) * times <= limits.shared_bytes else b""


ENDPOINTS: frozenset[Endpoint] = frozenset(get_args(Endpoint))


def parse_request(body: bytes, endpoint: Endpoint, limits: Limits) -> Request:
    """Take a body apart.

    Raises:
        InvalidRequest: the body is of no use as a whole.
        ValueError: there is no such endpoint.
    """
    if endpoint not in ENDPOINTS:
        raise ValueError(f"{endpoint!r} is not an endpoint; expected one of {', '.join(sorted(ENDPOINTS))}")
    if len(body) > limits.request_bytes:
        raise body_too_large(limits.request_bytes, len(body))
    text = clean_text(body)
    return _parse_batch(text, limits) if endpoint == "batch" else _parse_single(text, endpoint, limits)


def body_too_large(limit: int, actual: int | None) -> InvalidRequest:
    """Say that a body is too large; `actual` is None where reading stopped before its end."""
    return InvalidRequest(
        reason=Reason.BODY_TOO_LARGE,
        detail=f"the request is larger than {limit} bytes",
        limit=limit,
        actual=actual,
    )


def peek(item: bytes | msgspec.Raw, field: str) -> Any:
    """Read one field of a message that may be bad in any way; None when that is not possible."""
    try:
        return msgspec.json.decode(_raw_fields.decode(item)[field])
    except (msgspec.MsgspecError, ValueError, RecursionError, KeyError):
        return None


def hint_of_write_key(body: bytes, request: Request, limits: Limits) -> str:
    """Return what is to be said of a request that names no write key, but has one by almost that name; else nothing.

    `body` is the one that `request` was made from.
    """
    of_request, _ = parse(_raw_fields, clean_text(body))
    for fields in chain([of_request], map(_fields, request.items[: limits.batch_messages])):
        near = (name for name in fields if is_near_miss(name, "writeKey"))
        if found := hint((name for name in near if write_key(_lenient_value(fields[name]))), "writeKey"):
            return found
    return ""


_NULL = msgspec.Raw(b"null")


class _BatchEnvelope(msgspec.Struct, rename="camel"):
    """What matters of a batch.  Everything is left as text until it is known to be within its limits."""

    batch: list[msgspec.Raw]
    context: msgspec.Raw = _NULL
    integrations: msgspec.Raw = _NULL
    sent_at: msgspec.Raw = _NULL
    write_key: msgspec.Raw = _NULL


class _KnownEnvelope(_BatchEnvelope, rename="camel", forbid_unknown_fields=True):
    """A batch with no other fields than SDKs write into it.  Only in others are near misses looked for."""

    message_id: msgspec.Raw = _NULL
    timestamp: msgspec.Raw = _NULL
    sequence: msgspec.Raw = _NULL


_envelope = msgspec.json.Decoder(_BatchEnvelope)
_known_envelope = msgspec.json.Decoder(_KnownEnvelope)
_raw_value = msgspec.json.Decoder(msgspec.Raw)
_raw_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


def _parse_single(text: bytes, call: Call, limits: Limits) -> Request:
    item, mended = parse(_raw_value, text)
    source = bytes(item)
    if not source.startswith(b"{"):
        raise _body_not_object(source)
    if len(source) > limits.message_bytes:
        error = message_too_large(limits.message_bytes, len(source))
        raise InvalidRequest(reason=error.reason, detail=error.detail, limit=error.limit, actual=error.actual)
    received = None if mended is text else (_as_received(source, mended, text),)
    return Request(call=call, items=(source,), received=received)


def _parse_batch(text: bytes, limits: Limits) -> Request:
    envelope, mended, warnings = _parse_envelope(text)
    context = integrations = invalid = None
    try:
        _check_growth(envelope, limits)
        context = _shared_object("context", envelope.context, limits)
        integrations = _shared_object("integrations", envelope.integrations, limits)
    except InvalidMessage as error:
        invalid = attrs.evolve(error, detail=f"in what the batch shares: {error.detail}")
    return Request(
        call=None,
        items=tuple(envelope.batch),
        context=context,
        integrations=integrations,
        sent_at=time_text(_lenient_value(envelope.sent_at)),
        write_key=write_key(_lenient_value(envelope.write_key)),
        invalid=invalid,
        received=None if mended is text else tuple(_items_as_received(envelope.batch, mended, text)),
        shared_surrogate=mended is not text and _has_shared_surrogate(envelope, mended, text),
        shared={
            name: part if mended is text else _as_received(bytes(part), mended, text)
            for name, part in _said(envelope)
            if part is not _NULL
        },
        shared_warnings=warnings,
    )


def _parse_envelope(text: bytes) -> tuple[_BatchEnvelope, bytes, tuple[MessageWarning, ...]]:
    try:
        return *parse(_known_envelope, text), ()
    except msgspec.ValidationError:
        pass
    try:
        envelope, mended = parse(_envelope, text)
    except msgspec.ValidationError:
        raise _not_a_batch(text) from None
    return envelope, mended, tuple(near_misses(_raw_fields.decode(mended), None))


def _said(envelope: _BatchEnvelope) -> tuple[tuple[str, msgspec.Raw], ...]:
    return ("context", envelope.context), ("integrations", envelope.integrations), ("sentAt", envelope.sent_at)


def _as_received(part: bytes, mended: bytes, text: bytes) -> bytes:
    """Give what stood in the text where `part` stands in the mended text; the two are equally long."""
    start = mended.index(part)
    return text[start : start + len(part)]


def _items_as_received(items: list[msgspec.Raw], mended: bytes, text: bytes) -> Iterator[bytes]:
    position = mended.index(bytes(_raw_fields.decode(mended)["batch"]))
    for item in map(bytes, items):
        position = mended.index(item, position)
        yield text[position : position + len(item)]
        position += len(item)


def _has_shared_surrogate(envelope: _BatchEnvelope, mended: bytes, text: bytes) -> bool:
    return any(has_surrogate(_as_received(bytes(part), mended, text)) for part in _shared_parts(envelope))


def _shared_parts(envelope: _BatchEnvelope) -> list[msgspec.Raw]:
    return [part for _, part in _said(envelope) if part is not _NULL]


def _not_a_batch(text: bytes) -> InvalidRequest:
    source = bytes(parse(_raw_value, text)[0])
    if not source.startswith(b"{"):
        return _body_not_object(source)
    has_batch = b'"batch"' in source
    found = kind_of(peek(source, "batch")) if has_batch else f"nothing{hint(_fields(source), 'batch')}"
    return InvalidRequest(reason=Reason.BATCH_NOT_ARRAY, detail=f"`batch` is an array, not {found}", path="batch")


def _fields(source: bytes | msgspec.Raw) -> Mapping[str, msgspec.Raw]:
    """Read the fields of what may be bad in any way; none where that is not possible."""
    try:
        return _raw_fields.decode(source)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return {}


def _body_not_object(source: bytes) -> InvalidRequest:
    kind = "an array" if source.startswith(b"[") else kind_of(_lenient_value(source))
    return InvalidRequest(reason=Reason.BODY_NOT_OBJECT, detail=f"a request is a JSON object, not {kind}")


def _check_growth(envelope: _BatchEnvelope, limits: Limits) -> None:
    """Check what the batch's own parts come to: in one message, and in all.  Raises `InvalidMessage`."""
    messages = min(len(envelope.batch), limits.batch_messages)
    shared = sum(len(bytes(part)) for part in _shared_parts(envelope))
    if shared > limits.message_bytes:
        raise message_too_large(limits.message_bytes, shared)
    if shared * messages > limits.shared_bytes:
        raise InvalidMessage(
            reason=Reason.MESSAGE_TOO_LARGE,
            detail=f"{shared} bytes for each of {messages} messages come to more than {limits.shared_bytes} bytes",
            limit=limits.shared_bytes,
            actual=shared * messages,
        )


def _shared_object(name: str, raw: msgspec.Raw, limits: Limits) -> JSONObject | None:
    text = bytes(raw)
    if is_deeper(text, limits.depth):
        raise too_deep(f"`{name}`", limits.depth)
    return object_or_absent(name, parse_value(text))


def _lenient_value(raw: bytes | msgspec.Raw) -> Any:
    try:
        return msgspec.json.decode(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
