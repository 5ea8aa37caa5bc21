"""A request on its way in: how it was received, and the result of each of its messages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

import msgspec

from trackcore.credentials import Source
from trackcore.origins import Origin
from trackcore.plans.controls import Treatment
from trackcore.rejected import Rejection
from trackcore.sinks import Envelope, KeyLocation
from trackcore.typing import WriteKey


class IntakeResult(msgspec.Struct, frozen=True, kw_only=True):
    """The envelopes and rejections of one request.  If no source matched, only the write key was examined.

    `omitted` has the originals of envelopes from which a tracking plan has omitted values, `violating` all envelopes
    that violate the plan, as they were before.  `batch_fields` is set if a message of a batch was rejected or is among
    the omitted (see `Request.batch_fields`); `hint`: see `Receipt`; `clock_skew`: see `PendingReceipt`.
    """

    source: Source | None
    write_key: WriteKey | None
    received_at: datetime
    envelopes: Sequence[Envelope] = ()
    rejections: Sequence[Rejection] = ()
    omitted: Sequence[Rejection] = ()
    violating: Sequence[tuple[Envelope, Treatment]] = ()
    batch_fields: bytes | None = None
    hint: str = ""
    clock_skew: timedelta | None = None

    def by_index(self) -> Iterator[tuple[int, Envelope | Rejection]]:
        """Yield the result of each message with its index in the request, which only a rejection knows itself."""
        rejections = {rejection.index: rejection for rejection in self.rejections}
        envelopes = iter(self.envelopes)
        for index in range(len(self.envelopes) + len(rejections)):
            yield index, rejections.get(index) or next(envelopes)


class Reception(msgspec.Struct, frozen=True, kw_only=True):
    """How one request came in.

    `received_at` is in whole milliseconds, so that a stored message has the very number from which its timestamp was
    computed.  `write_key` is the one that found the source, `found_by` its location; None if nobody named them.
    `is_history` marks an archive: its messages keep their own times, and one without a time is rejected.
    """

    received_at: datetime
    origin: Origin = Origin()
    write_key: WriteKey | None = None
    found_by: KeyLocation | None = None
    is_history: bool = False
