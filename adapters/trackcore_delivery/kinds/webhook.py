"""`webhook`: posts a batch as a JSON array of messages.

With a `secret` each request is signed, so that its receiver can verify who sent it, and when:

    X-Trackcore-Timestamp: 1767225600
    X-Trackcore-Signature: v1=<hex of HMAC-SHA256(secret, timestamp + "." + body)>

where `body` is the bytes as sent, compressed if they are.  `X-Trackcore-Delivery` identifies the batch: it is the same
when the same messages are sent again.  A request to forget persons is an array of messages of the type `delete`.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from datetime import timedelta
from typing import ClassVar

import attrs
from attrs import validators

from trackcore import Clock
from trackcore.text import encode_json
from trackcore_delivery.destination import DeliveredDestination
from trackcore_delivery.erasures import ErasureRequest
from trackcore_delivery.http import HttpEndpoint, check_headers, check_url, encoded, url_without_secrets
from trackcore_delivery.secret import Secret
from trackcore_delivery.sending import DeliveryBatch, MessageRefused, Sender, SenderContext


def _check_secret(_: object, __: object, secret: Secret | None) -> None:
    if secret is not None and not secret.is_named:
        raise ValueError("a secret must not be written in the settings: use an environment variable, 'env:NAME'")


@attrs.frozen(kw_only=True)
class WebhookDestination(DeliveredDestination):
    """A webhook.  `headers` are sent with each request; `gzip` compresses the bodies."""

    kind: ClassVar[str] = "webhook"

    url: str = attrs.field(validator=check_url, repr=url_without_secrets)
    secret: Secret | None = attrs.field(default=None, validator=_check_secret)
    headers: dict[str, Secret] = attrs.field(factory=dict, validator=check_headers)
    gzip: bool = False
    timeout: timedelta = attrs.field(default=timedelta(seconds=30), validator=validators.gt(timedelta()))

    def make_sender(self, context: SenderContext) -> Sender:
        """See `DeliveredDestination.make_sender`."""
        headers = {name: value.reveal(context.environ) for name, value in self.headers.items()}
        secret = None if self.secret is None else self.secret.reveal(context.environ)
        endpoint = HttpEndpoint(
            self.url,
            headers=headers,
            timeout=self.timeout.total_seconds(),
            secrets=[*headers.values(), secret or ""],
            clock=context.clock,
        )
        return _WebhookSender(endpoint, secret, self.gzip, context.clock)


@attrs.define
class _WebhookSender:
    _endpoint: HttpEndpoint
    _secret: str | None = attrs.field(repr=False)
    _gzip: bool
    _clock: Clock

    def send(self, batch: DeliveryBatch) -> Sequence[MessageRefused]:
        self._post(b"[%s]" % b",".join([message.payload for message in batch.messages]), batch.delivery_id)
        return ()

    def _post(self, text: bytes, delivery_id: str) -> None:
        body, headers = encoded(text, with_gzip=self._gzip)
        headers["X-Trackcore-Delivery"] = delivery_id
        if self._secret is not None:
            timestamp = str(int(self._clock().timestamp()))
            headers["X-Trackcore-Timestamp"] = timestamp
            headers["X-Trackcore-Signature"] = f"v1={signature(self._secret, timestamp, body)}"
        self._endpoint.check(self._endpoint.post(body, headers))

    def forget(self, request: ErasureRequest) -> None:
        """See `Forgetting.forget`.  The body is an array of messages of the type `delete`."""
        self._post(encode_json(list(request.messages())), request.id)

    def close(self) -> None:
        self._endpoint.close()


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """Return the signature of a request, in hexadecimal.  Receivers compare it by `hmac.compare_digest`."""
    return hmac.digest(secret.encode(), timestamp.encode() + b"." + body, "sha256").hex()
