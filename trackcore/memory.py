"""`MemorySink`, which keeps everything in memory for tests and for people who forward messages themselves."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import attrs

from trackcore.sinks import Envelope, Outcome, QuarantinedRequest, RejectedRecord


@attrs.define
class MemorySink:
    """A sink that forgets everything when the process ends.

    It keeps all messages, and the newest `keep_rejected` of the rejected and of the quarantined.
    """

    keep_rejected: int = 10_000
    envelopes: list[Envelope] = attrs.field(init=False, factory=list)
    rejected: deque[RejectedRecord] = attrs.field(init=False)
    quarantined: deque[QuarantinedRequest] = attrs.field(init=False)
    _claims: dict[tuple[str, str], object] = attrs.field(init=False, factory=dict)

    def __attrs_post_init__(self) -> None:
        self.rejected = deque(maxlen=self.keep_rejected)
        self.quarantined = deque(maxlen=self.keep_rejected)

    def store(
        self,
        envelopes: Sequence[Envelope] = (),
        *,
        rejected: Sequence[RejectedRecord] = (),
        quarantined: Sequence[QuarantinedRequest] = (),
    ) -> Sequence[Outcome]:
        """See `Sink.store`.  `setdefault`, `append` and `extend` are atomic, so threads need no lock here."""
        self.rejected.extend(rejected)
        self.quarantined.extend(quarantined)
        return [self._store_one(envelope) for envelope in envelopes]

    def check_ready(self) -> None:
        """Memory is always ready."""

    def _store_one(self, envelope: Envelope) -> Outcome:
        claim = object()
        if self._claims.setdefault((envelope.source, envelope.message_id), claim) is not claim:
            return Outcome.DUPLICATE
        self.envelopes.append(envelope)
        return Outcome.STORED
