"""Masks of one destination: it gets messages without some fields, which stay in the log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs
from attrs import validators

from trackcore.privacy import MASK_ACTIONS, FieldMask, apply_masks
from trackcore_delivery.sending import CursorKeepingSender, DeliveryBatch, MessageRefused, Sender


@attrs.frozen(kw_only=True)
class MaskSettings:
    """The settings of a `trackcore.privacy.FieldMask`, without its key."""

    fields: tuple[str, ...] = attrs.field(validator=attrs.fields(FieldMask).fields.validator)
    action: str = attrs.field(validator=attrs.fields(FieldMask).action.validator)
    length: int = attrs.field(default=1, validator=validators.ge(0))

    @property
    def needs_key(self) -> bool:
        """Whether the mask hashes."""
        return self.action == _HASH

    def mask(self, key: bytes) -> FieldMask:
        """Return the mask.  Raises `ValueError` if it needs a key and there is none."""
        return FieldMask(fields=self.fields, action=self.action, length=self.length, key=key)


@attrs.frozen
class MaskingSender:
    """Sends messages through another sender, without what is masked."""

    _sender: Sender
    _masks: Sequence[FieldMask]

    def send(self, batch: DeliveryBatch) -> Sequence[MessageRefused]:
        """See `Sender.send`."""
        messages = [one._replace(payload=apply_masks(self._masks, one.payload)) for one in batch.messages]
        return self._sender.send(attrs.evolve(batch, messages=messages))

    def close(self) -> None:
        """See `Sender.close`."""
        self._sender.close()


@attrs.frozen
class MaskingCursorKeeper:
    """The same, through a sender whose destination keeps cursors."""

    _sender: CursorKeepingSender
    _masks: Sequence[FieldMask]

    def send(self, batch: DeliveryBatch) -> Sequence[MessageRefused]:
        """See `Sender.send`."""
        return MaskingSender(self._sender, self._masks).send(batch)

    def close(self) -> None:
        """See `Sender.close`."""
        self._sender.close()

    def cursors(self) -> Mapping[str, str]:
        """See `CursorKeeper.cursors`."""
        return self._sender.cursors()


def masking(sender: Sender, masks: Sequence[FieldMask]) -> Sender:
    """Return a sender that applies masks."""
    if isinstance(sender, CursorKeepingSender):
        return MaskingCursorKeeper(sender, masks)
    return MaskingSender(sender, masks)


_HASH = MASK_ACTIONS[1]
