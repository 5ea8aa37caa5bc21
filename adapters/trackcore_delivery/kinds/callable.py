"""In process: a Python callable gets the messages, for those who embed.

    def handle(messages: Sequence[JSONObject]) -> None: ...

    CallableDestination(name="Mine", call=handle)

What it raises decides: `PermanentError`, and the message is not wanted; `RetryLater`, or anything else, and it is
called again later with the same messages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import attrs
import msgspec

from trackcore import JSONObject
from trackcore_delivery.destination import DeliveredDestination
from trackcore_delivery.sending import DeliveryBatch, MessageRefused, SenderContext


@attrs.frozen(kw_only=True)
class CallableDestination(DeliveredDestination):
    """A callable that takes a list of wire objects, in order."""

    kind: ClassVar[str] = "callable"

    call: Callable[[Sequence[JSONObject]], None]

    def make_sender(self, context: SenderContext) -> CallableSender:
        """See `DeliveredDestination.make_sender`."""
        del context
        return CallableSender(self.call)


@attrs.define
class CallableSender:
    """Hands batches over to a callable."""

    _call: Callable[[Sequence[JSONObject]], None]

    def send(self, batch: DeliveryBatch) -> Sequence[MessageRefused]:
        """See `Sender.send`."""
        self._call([msgspec.json.decode(message.payload) for message in batch.messages])
        return ()

    def close(self) -> None:
        """See `Sender.close`."""
