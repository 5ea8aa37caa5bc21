"""`segment`: forwards to a Segment-compatible endpoint by `/v1/batch`: Segment itself, a peer, another trackcore.

What the other side does with a message is what it does with any: it corrects its time by `sentAt`, routes it by
`integrations`, drops it as a duplicate by `messageId`.  So that a message arrives there as it is here:

- `timestamp` is the time that it has here, already corrected.  Where that is the very time that the client gave, it is
  sent in the client's own words, which the other side keeps as `originalTimestamp`.
- `sentAt` is left out, of the message and of the batch: with it the time would be corrected a second time, by how long
  the message has been in our log.
- `originalTimestamp` and `receivedAt` are the other side's to make.
- `messageId`, `context`, `integrations` and everything else go as they are.

An answer counts messages as delivered only by a 2xx.  Verdicts on single messages count with 200, and with the 400 of a
trackcore's strict mode, if they account for every message; any others are an answer that is not understood, and the
batch is sent again.

Limits: 500 KB for a request, 2,500 messages, 32 KB for each
(https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/#max-request-size).
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, ClassVar

import attrs
import msgspec
from attrs import validators

from trackcore import JSONObject, format_timestamp, parse_timestamp
from trackcore.credentials import write_key_fault
from trackcore.limits import MAX_BATCH_MESSAGES, MAX_MESSAGE_BYTES
from trackcore.text.jsontext import raw_fields
from trackcore_delivery.destination import ByteCount, DeliveredDestination
from trackcore_delivery.http import (
    EndpointResponse,
    HttpEndpoint,
    check_headers,
    check_url,
    encoded,
    url_without_secrets,
)
from trackcore_delivery.secret import Secret, UnusableSecret
from trackcore_delivery.sending import DeliveryBatch, MessageRefused, SenderContext

REQUEST_BYTES = 500_000
_ENVELOPE = b'{"batch":[%s]}'

_not_above: Any = validators.le(REQUEST_BYTES - len(_ENVELOPE))
_positive: Any = validators.gt(0)


_ROUTE = re.compile(r"(?:/+v1(?:/+(?:batch|b))?)?/*\Z", re.ASCII)


def _server_url(url: str) -> str:
    """Cut the route off a URL, so that it is never doubled: documentation shows it with and without."""
    return _ROUTE.sub("", url, count=1)


def _check_server_url(_: object, __: object, url: str) -> None:
    if "?" in url or "#" in url:
        raise ValueError("expected the URL of a server, without a query: give a secret as `write_key` or as a header")


def _check_write_key(_: object, __: object, write_key: Secret) -> None:
    if not write_key.is_named and (fault := write_key_fault(write_key.reveal({}))) is not None:
        raise ValueError(fault)


@attrs.frozen(kw_only=True)
class SegmentDestination(DeliveredDestination):
    """A Segment-compatible endpoint.  `url` is that of its server; `/v1`, `/v1/batch` or `/v1/b` at its end is cut."""

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
    batch_messages: int = attrs.field(default=500, validator=[_positive, validators.le(MAX_BATCH_MESSAGES)])
    batch_bytes: ByteCount = attrs.field(default=ByteCount(450_000), validator=[_positive, _not_above])

    def make_sender(self, surroundings: SenderContext) -> SegmentSender:
        """See `DeliveredDestination.make_sender`."""
        environ = surroundings.environ
        key = self._revealed_key(environ)
        own = {name: value.reveal(environ) for name, value in self.headers.items()}
        basic = b64encode(f"{key}:".encode()).decode()
        # A trackcore answers a wrong write key with 200 and keeps the request in quarantine, unless it is told to be
        # strict; and a verdict for each message comes with either status.
        headers = {"Authorization": f"Basic {basic}", "X-Strict-Mode": "1", **own}
        endpoint = HttpEndpoint(
            f"{self.url}/v1/batch",
            headers=headers,
            timeout=self.timeout.total_seconds(),
            secrets=[key, basic, *own.values()],
            clock=surroundings.clock,
        )
        return SegmentSender(endpoint, self.gzip)

    def _revealed_key(self, environ: Mapping[str, str]) -> str:
        """Return the write key.  Raises `UnusableSecret` also where no request can carry it."""
        key = self.write_key.reveal(environ)
        if (fault := write_key_fault(key)) is not None:  # one that is written down was checked before
            variable = self.write_key.variable or ""
            raise UnusableSecret(variable=variable, detail=f"is not usable: {fault}", setting="write_key")
        return key


@attrs.define
class SegmentSender:
    """Posts batches to `/v1/batch`."""

    _endpoint: HttpEndpoint
    _gzip: bool

    def send(self, batch: DeliveryBatch) -> Sequence[MessageRefused]:
        """See `Sender.send`."""
        refusals = []
        items = []
        places = []
        for place, message in enumerate(batch.messages):
            item = forwarded(message.payload)
            if len(item) > MAX_MESSAGE_BYTES:
                detail = f"the message has {len(item)} bytes, and may have {MAX_MESSAGE_BYTES} to be forwarded"
                refusals.append(MessageRefused(place, detail))
            else:
                items.append(item)
                places.append(place)
        if items:
            refusals.extend(MessageRefused(places[index], detail) for index, detail in self._post(items))
        return refusals

    def close(self) -> None:
        """See `Sender.close`."""
        self._endpoint.close()

    def _post(self, items: Sequence[bytes]) -> list[tuple[int, str]]:
        answer = self._endpoint.post(*encoded(_ENVELOPE % b",".join(items), with_gzip=self._gzip))
        told = _decoded(answer)
        if answer.status in _WITH_VERDICTS and (verdicts := _verdicts(told, len(items))):
            return [(index, f"refused: {self._endpoint.quoted(reason)}") for index, reason in verdicts.items()]
        self._endpoint.check(answer)
        if not answer.is_whole:
            raise self._endpoint.not_taken(answer, " and the verdicts on its messages are not whole")
        if told.get("success") is False or not _says_all_are_taken(told, len(items)):
            raise self._endpoint.not_taken(answer, " and did not say that it took each message")
        return []


def forwarded(payload: bytes) -> bytes:
    """Give a stored message as it is sent on."""
    fields = raw_fields.decode(payload)
    timestamp, original = (_text(fields.get(name)) for name in ("timestamp", "originalTimestamp"))
    for name in _MADE_HERE:
        fields.pop(name, None)
    if original is not None and _is_same_time(original, timestamp):
        fields["timestamp"] = msgspec.Raw(msgspec.json.encode(original))
    return msgspec.json.encode(fields)


_MADE_HERE = ("originalTimestamp", "sentAt", "receivedAt")


def _text(raw: msgspec.Raw | None) -> str | None:
    value = None if raw is None else msgspec.json.decode(raw)
    return value if isinstance(value, str) else None


def _is_same_time(original: str, timestamp: str | None) -> bool:
    time = parse_timestamp(original)
    return time is not None and format_timestamp(time) == timestamp


_WITH_VERDICTS = frozenset({200, 400})
"""The statuses by which a trackcore gives verdicts: 400 is that of the strict mode that we ask for."""


def _decoded(answer: EndpointResponse) -> JSONObject:
    """Return the JSON object of an answer; an empty one if it is none."""
    try:
        told = msgspec.json.decode(answer.body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _verdicts(told: JSONObject, count: int) -> dict[int, str] | None:
    """Read the refused messages, with the reason of each; None unless the answer accounts for every message."""
    accepted, rejected = told.get("accepted"), told.get("rejected")
    if type(accepted) is not int or not isinstance(rejected, list) or accepted + len(rejected) != count:
        return None
    reasons: dict[int, str] = {}
    for verdict in rejected:
        index = verdict.get("index") if isinstance(verdict, dict) else None
        if type(index) is not int or not 0 <= index < count or index in reasons:
            return None
        words = [verdict.get(name) for name in ("code", "message")]
        reasons[index] = ": ".join(word for word in words if isinstance(word, str) and word) or "no reason given"
    return reasons


def _says_all_are_taken(told: JSONObject, count: int) -> bool:
    """Report whether an answer has no verdicts, or verdicts that say that all messages are taken."""
    return not told.get("rejected") and told.get("accepted", count) == count
