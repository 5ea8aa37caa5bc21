"""`segment`: forwards to a Segment-compatible endpoint by `/v1/batch`: Segment itself, a peer, another trackcore.

The receiver treats a forwarded message as any other: it corrects its time by `sentAt`, routes it by `integrations`,
drops it as a duplicate by `messageId`.  To make a message arrive there as it is here:

- `timestamp` is the time that it has here, already corrected.  If that is exactly the time that the client sent, it is
  sent in the client's notation, which the receiver keeps as `originalTimestamp`.
- `sentAt` is omitted, in the message and in the batch: otherwise the receiver would correct the time again, by how long
  the message has been in our log.
- `originalTimestamp` and `receivedAt` are omitted, since the receiver sets them.
- `messageId`, `context`, `integrations` and everything else are sent unchanged.

Only a 2xx counts messages as delivered.  Results for single messages count with 200, and with the 400 of trackcore's
strict mode, if they account for every message; any others make a response that is not understood, and the batch is sent
again.

Limits: 500 KB for a request, 2,500 messages, 32 KB for each
(https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/#max-request-size).
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Sequence
from datetime import timedelta
from typing import ClassVar

import attrs
import msgspec
from attrs import validators

from trackcore import JSONObject, format_timestamp, parse_timestamp
from trackcore.support import MAX_BATCH_MESSAGES, MAX_MESSAGE_BYTES, write_key_fault
from trackcore.text import encode_json, raw_fields
from trackcore_delivery.destination import ByteCount, DeliveredDestination, positive
from trackcore_delivery.erasures import ErasureRequest
from trackcore_delivery.http import (
    EndpointResponse,
    HttpEndpoint,
    check_headers,
    check_url,
    encoded,
    url_without_secrets,
)
from trackcore_delivery.secret import Secret, UnusableSecret
from trackcore_delivery.sending import DeliveryBatch, MessageRefused, PermanentError, Sender, SenderContext

REQUEST_BYTES = 500_000
USER_DELETED = "User Deleted"
"""The event by which a server is asked to forget a person; Segment's destinations take it for their own deletion.
Source: https://segment.com/docs/connections/destinations/catalog/actions-customerio/"""

_MOST_DELETED = 500
_ENVELOPE = b'{"batch":[%s]}'

_ROUTE = re.compile(r"(?:/+v1(?:/+(?:batch|b))?)?/*\Z", re.ASCII)


def _server_url(url: str) -> str:
    """Cut the route off a URL, so that it is not duplicated: documentation shows it with and without."""
    return _ROUTE.sub("", url, count=1)


def _check_server_url(_: object, __: object, url: str) -> None:
    if "?" in url or "#" in url:
        raise ValueError("expected the URL of a server, without a query: send a secret as `write_key` or in a header")


def _check_write_key(_: object, __: object, write_key: Secret) -> None:
    if not write_key.is_named and (fault := write_key_fault(write_key.reveal({}))) is not None:
        raise ValueError(fault)


@attrs.frozen(kw_only=True)
class SegmentDestination(DeliveredDestination):
    """A Segment-compatible endpoint.  `url` is its server; `/v1`, `/v1/batch` or `/v1/b` at the end is cut off."""

    kind: ClassVar[str] = "segment"

    write_key: Secret = attrs.field(validator=_check_write_key)
    url: str = attrs.field(
        default="https://api.segment.io",
        converter=_server_url,
        validator=[check_url, _check_server_url],
        repr=url_without_secrets,
    )
    headers: dict[str, Secret] = attrs.field(factory=dict, validator=check_headers)
    gzip: bool = False
    timeout: timedelta = attrs.field(default=timedelta(seconds=30), validator=validators.gt(timedelta()))
    batch_messages: int = attrs.field(default=500, validator=[positive, validators.le(MAX_BATCH_MESSAGES)])
    batch_bytes: ByteCount = attrs.field(
        default=ByteCount(450_000), validator=[positive, validators.le(ByteCount(REQUEST_BYTES - len(_ENVELOPE)))]
    )

    def make_sender(self, context: SenderContext) -> Sender:
        """See `DeliveredDestination.make_sender`."""
        key = self.write_key.reveal(context.environ)
        if (fault := write_key_fault(key)) is not None:  # a literal one was checked before
            variable = self.write_key.variable or ""
            raise UnusableSecret(variable=variable, detail=f"is not usable: {fault}", setting="write_key")
        own = {name: value.reveal(context.environ) for name, value in self.headers.items()}
        basic = b64encode(f"{key}:".encode()).decode()
        # trackcore answers a wrong write key with 200 and quarantines the request, unless strict mode is requested; it
        # returns a result for each message with either status.
        headers = {"Authorization": f"Basic {basic}", "X-Strict-Mode": "1", **own}
        endpoint = HttpEndpoint(
            f"{self.url}/v1/batch",
            headers=headers,
            timeout=self.timeout.total_seconds(),
            secrets=[key, basic, *own.values()],
            clock=context.clock,
        )
        return _SegmentSender(endpoint, self.gzip)


@attrs.define
class _SegmentSender:
    _endpoint: HttpEndpoint
    _gzip: bool

    def send(self, batch: DeliveryBatch) -> Sequence[MessageRefused]:
        refusals = []
        items = {}
        for place, message in enumerate(batch.messages):
            item = forwarded(message.payload)
            if len(item) > MAX_MESSAGE_BYTES:
                detail = f"the message has {len(item)} bytes, more than the {MAX_MESSAGE_BYTES} that can be forwarded"
                refusals.append(MessageRefused(place, detail))
            else:
                items[place] = item
        if items:
            places = list(items)
            rejections = self._post([*items.values()])
            refusals.extend(MessageRefused(places[index], reason) for index, reason in rejections.items())
        return refusals

    def forget(self, request: ErasureRequest) -> None:
        """See `Forgetting.forget`.  Segment has no message for it, but an event that destinations understand."""
        items = [encode_json(_user_deleted(message)) for message in request.messages()]
        for start in range(0, len(items), _MOST_DELETED):
            chosen = items[start : start + _MOST_DELETED]
            if rejections := self._post(chosen):
                raise PermanentError(detail=next(iter(rejections.values())), divisible=False)

    def close(self) -> None:
        self._endpoint.close()

    def _post(self, items: Sequence[bytes]) -> dict[int, str]:
        answer = self._endpoint.post(*encoded(_ENVELOPE % b",".join(items), with_gzip=self._gzip))
        results = _decoded(answer)
        if answer.status in _STATUSES_WITH_RESULTS and (rejections := _rejections(results, len(items))):
            return {index: f"refused: {self._endpoint.quoted(reason)}" for index, reason in rejections.items()}
        self._endpoint.check(answer)
        if not answer.is_whole:
            raise self._endpoint.retry_later(answer, " and the results for its messages are incomplete")
        if results.get("success") is False or not _accepts_all(results, len(items)):
            raise self._endpoint.retry_later(answer, " and did not confirm each message")
        return {}


def _user_deleted(message: JSONObject) -> JSONObject:
    kept: JSONObject = {
        name: message[name] for name in ("messageId", "userId", "anonymousId", "timestamp") if name in message
    }
    return {"type": "track", "event": USER_DELETED, **kept, "properties": {"keepEvents": message["keepEvents"]}}


def forwarded(payload: bytes) -> bytes:
    """Return a stored message in the form in which it is forwarded."""
    fields = raw_fields.decode(payload)
    timestamp, original = (_text(fields.get(name)) for name in ("timestamp", "originalTimestamp"))
    for name in _MADE_HERE:
        fields.pop(name, None)
    time = original and parse_timestamp(original)
    if time and format_timestamp(time) == timestamp:
        fields["timestamp"] = msgspec.Raw(msgspec.json.encode(original))
    return msgspec.json.encode(fields)


_MADE_HERE = ("originalTimestamp", "sentAt", "receivedAt")


def _text(raw: msgspec.Raw | None) -> str | None:
    value = None if raw is None else msgspec.json.decode(raw)
    return value if isinstance(value, str) else None


_STATUSES_WITH_RESULTS = frozenset({200, 400})  # 400 is that of strict mode


def _decoded(answer: EndpointResponse) -> JSONObject:
    """Return the JSON object of a response; an empty one if it has none."""
    try:
        results = msgspec.json.decode(answer.body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}
    return results if isinstance(results, dict) else {}


def _rejections(results: JSONObject, count: int) -> dict[int, str] | None:
    """Return the rejected messages, with the reason of each; None unless the response accounts for every message."""
    accepted, rejected = results.get("accepted"), results.get("rejected")
    if type(accepted) is not int or not isinstance(rejected, list) or accepted + len(rejected) != count:
        return None
    reasons: dict[int, str] = {}
    for result in rejected:
        index = result.get("index") if isinstance(result, dict) else None
        if type(index) is not int or not 0 <= index < count or index in reasons:
            return None
        words = [result.get(name) for name in ("code", "message")]
        reasons[index] = ": ".join(word for word in words if isinstance(word, str) and word) or "no reason given"
    return reasons


def _accepts_all(results: JSONObject, count: int) -> bool:
    """Report whether a response has no results for single messages, or accepts all of them."""
    return not results.get("rejected") and results.get("accepted", count) == count
