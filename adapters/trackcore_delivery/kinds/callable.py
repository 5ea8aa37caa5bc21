"""In process: a Python callable gets the messages, for programs that embed trackcore.

    def handle(messages: Sequence[JSONObject]) -> None: ...

    CallableDestination(name="Mine", call=handle)

Its exceptions decide: after `PermanentError` the batch is bisected, and the messages that raise it alone become dead
letters; after `RetryLater`, or any other exception, it is called again later with the same messages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import attrs
import msgspec

from trackcore import JSONObject
from trackcore_delivery.destination import DeliveredDestination
from trackcore_delivery.sending import DeliveryBatch, MessageRefused, Sender, SenderContext


@attrs.frozen(kw_only=True)
class CallableDestination(DeliveredDestination):
    """A callable that accepts a list of wire objects, in order."""

    kind: ClassVar[str] = "callable"

    call: Callable[[Sequence[JSONObject]], None]

    def make_sender(self, context: SenderContext) -> Sender:
        """See `DeliveredDestination.make_sender`."""
        del context
        return _CallableSender(self.call)


@attrs.define
class _CallableSender:
    _call: Callable[[Sequence[JSONObject]], None]

    def send(self, batch: DeliveryBatch) -> Sequence[MessageRefused]:
        self._call([msgspec.json.decode(message.payload) for message in batch.messages])
        return ()

    def close(self) -> None:
        pass
