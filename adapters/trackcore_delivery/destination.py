"""A destination that messages are delivered to: how its batches are formed, and how long delivery is retried."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from datetime import timedelta
from typing import Any, ClassVar, NewType

import attrs
from attrs import validators

from trackcore import Destination, TrackcoreError
from trackcore_delivery.erasures import erasing
from trackcore_delivery.masks import MaskSettings, masking
from trackcore_delivery.secret import Secret
from trackcore_delivery.sending import Sender, SenderContext

ByteCount = NewType("ByteCount", int)
"""A number of bytes; in settings an integer, or text with a unit."""

OLDEST = "oldest"
NEWEST = "newest"

positive: Any = validators.gt(0)
_not_negative = validators.ge(timedelta())


def _check_start(_: object, __: object, start: str) -> None:
    if start not in (OLDEST, NEWEST):
        raise ValueError(f"expected {OLDEST!r} or {NEWEST!r}")


@attrs.frozen(kw_only=True)
class DeliveredDestination(Destination):
    """The settings that all kinds of destination share.  A kind is a subclass with its own settings and its own sender.

    A batch is sent when it has `batch_messages`, or about `batch_bytes`, or when its first message has waited for
    `batch_wait`.  Messages that are not delivered within `retry_window` become dead letters.  `start` selects where a
    new destination begins: with the oldest message that was ever selected for it, or with the next one.  `mask` has the
    fields that the destination does not get as they are stored.
    """

    kind: ClassVar[str] = ""

    batch_messages: int = attrs.field(default=500, validator=positive)
    batch_bytes: ByteCount = attrs.field(default=ByteCount(500_000), validator=positive)
    batch_wait: timedelta = attrs.field(default=timedelta(seconds=1), validator=_not_negative)
    retry_window: timedelta = attrs.field(default=timedelta(hours=4), validator=_not_negative)
    start: str = attrs.field(default=OLDEST, validator=_check_start)
    mask: tuple[MaskSettings, ...] = ()

    def make_sender(self, context: SenderContext) -> Sender:
        """Build the sender.  Raises `UnusableSecret` or `ValueError` if a setting cannot be used."""
        raise NotImplementedError

    def open_sender(self, context: SenderContext) -> Sender:
        """Build the sender, which applies the masks and takes requests to forget.  Raises as `make_sender` does."""
        sender = self.make_sender(context)
        return erasing(sender, self.masked(sender, context))

    def masked(self, sender: Sender, context: SenderContext) -> Sender:
        """Return a sender that applies the masks.  Raises `ValueError` if one needs a key and there is none."""
        masks = [settings.mask(context.privacy_key) for settings in self.mask]
        return masking(sender, masks) if masks else sender

    def place(self, context: SenderContext) -> Hashable:
        """Return the place that only one destination may write to, or None.  Raises `ValueError`."""
        del context
        return None

    def secrets(self) -> Iterator[tuple[str, Secret]]:
        """Yield each secret among the settings with its path: `secret`, `headers.Authorization`."""
        for field in attrs.fields(type(self)):
            value = getattr(self, field.name)
            if isinstance(value, Secret):
                yield field.name, value
            elif isinstance(value, dict):
                yield from ((f"{field.name}.{name}", item) for name, item in value.items() if isinstance(item, Secret))


@attrs.define(kw_only=True, eq=False)
class SamePlace(TrackcoreError):
    """Two destinations would write to the same place, such as the same files."""

    name: str
    other: str

    def __str__(self) -> str:
        return f"{self.name!r} would write the same files as {self.other!r}: rename one or change its folder"


def check_places(destinations: Iterable[DeliveredDestination], context: SenderContext) -> None:
    """Check that no two destinations write to the same place.  Raises `SamePlace`."""
    writers: dict[Hashable, DeliveredDestination] = {}
    for destination in destinations:
        place = destination.place(context)
        if place is not None and (other := writers.setdefault(place, destination)) is not destination:
            raise SamePlace(name=destination.name, other=other.name)
