"""Personal data that the rules of a source remove from what is kept as it was received."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import SupportsBytes

import attrs
import msgspec
from msgspec.structs import replace

from trackcore.privacy.fields import apply_masks
from trackcore.privacy.rules import PrivacyRules
from trackcore.reception import IntakeResult
from trackcore.rejected import Rejection
from trackcore.sinks import Envelope


class ReceivedText(msgspec.Struct, frozen=True, gc=False, eq=False):
    """The text of a message as received, without what the rules remove.  `bytes` returns it: it is found only then."""

    texts: Sequence[bytes | msgspec.Raw]
    index: int
    rules: PrivacyRules | None
    received_at: datetime

    def __bytes__(self) -> bytes:
        text = bytes(self.texts[self.index])
        return text if self.rules is None else self.rules.redact(text, self.received_at)

    def __eq__(self, other: object) -> bool:
        return bytes(self) == bytes(other) if isinstance(other, SupportsBytes) else NotImplemented

    def __hash__(self) -> int:
        return hash(bytes(self))


def redacted(intake: IntakeResult, rules: PrivacyRules) -> IntakeResult:
    """Apply the rules to what is kept as it was received, and the masks to the messages.

    A tracking plan has examined them before: it describes the messages as they are sent.
    """
    has_masks, batch_fields, received_at = bool(rules.masks), intake.batch_fields, intake.received_at
    if not (has_masks or intake.rejections or intake.omitted):
        return intake  # nothing of it is kept as it was received

    def kept(rejections: Sequence[Rejection]) -> Sequence[Rejection]:
        return [attrs.evolve(one, payload=rules.redact(one.payload, received_at)) for one in rejections]

    def masked(envelope: Envelope) -> Envelope:
        payload = apply_masks(rules.masks, envelope.payload)
        return envelope if payload is envelope.payload else replace(envelope, payload=payload)

    return replace(
        intake,
        envelopes=[masked(envelope) for envelope in intake.envelopes] if has_masks else intake.envelopes,
        rejections=kept(intake.rejections) if intake.rejections else (),
        omitted=kept(intake.omitted) if intake.omitted else (),
        violating=[(masked(one), treatment) for one, treatment in intake.violating],
        batch_fields=batch_fields if batch_fields is None else rules.redact(batch_fields, received_at),
    )
