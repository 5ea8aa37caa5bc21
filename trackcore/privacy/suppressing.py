"""A sink that does not keep the messages of suppressed persons.

To the sender they are a success: an error would make an SDK send them again, and tell who is suppressed.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, Generic, Protocol, TypeVar

import attrs
import msgspec

from trackcore.privacy.subjects import Subject, Suppressions, subjects_in_text, subjects_of, without_messages
from trackcore.sinks import AsyncSink, Envelope, Outcome, QuarantinedRequest, RejectedRecord
from trackcore.text.jsontext import any_value

Suppressing = Callable[[], Suppressions]
"""Returns who is suppressed now."""


class _Closable(AsyncSink, Protocol):
    def close(self) -> None: ...


S = TypeVar("S", bound=_Closable)


class _Kept(msgspec.Struct):
    """The records of one call that are kept, and by index the messages that are not."""

    envelopes: Sequence[Envelope]
    rejected: Sequence[RejectedRecord]
    quarantined: Sequence[QuarantinedRequest]
    suppressed: frozenset[int] = frozenset()

    @property
    def is_empty(self) -> bool:
        return not (self.envelopes or self.rejected or self.quarantined)

    def outcomes(self, stored: Sequence[Outcome]) -> Sequence[Outcome]:
        if not self.suppressed:
            return stored
        rest = iter(stored)
        count = len(self.suppressed) + len(self.envelopes)
        return [Outcome.SUPPRESSED if index in self.suppressed else next(rest) for index in range(count)]


@attrs.define
class SuppressingSink(Generic[S]):
    """Stores in another sink, except for the messages of persons that are suppressed: those are `SUPPRESSED`."""

    sink: S
    _suppressions: Suppressing

    def store(
        self,
        envelopes: Sequence[Envelope] = (),
        *,
        rejected: Sequence[RejectedRecord] = (),
        quarantined: Sequence[QuarantinedRequest] = (),
    ) -> Sequence[Outcome]:
        """See `trackcore.Sink.store`."""
        suppressions = self._suppressions()
        if not suppressions:
            return self.sink.store(envelopes, rejected=rejected, quarantined=quarantined)
        kept = _kept(suppressions, envelopes, rejected, quarantined)
        if kept.is_empty:
            return kept.outcomes(())
        return kept.outcomes(self.sink.store(kept.envelopes, rejected=kept.rejected, quarantined=kept.quarantined))

    def store_async(
        self,
        envelopes: Sequence[Envelope] = (),
        *,
        rejected: Sequence[RejectedRecord] = (),
        quarantined: Sequence[QuarantinedRequest] = (),
    ) -> Coroutine[Any, Any, Sequence[Outcome]]:
        """See `trackcore.AsyncSink.store_async`."""
        suppressions = self._suppressions()
        if not suppressions:  # one coroutine less
            return self.sink.store_async(envelopes, rejected=rejected, quarantined=quarantined)
        return self._store_kept(_kept(suppressions, envelopes, rejected, quarantined))

    async def _store_kept(self, kept: _Kept) -> Sequence[Outcome]:
        if kept.is_empty:
            return kept.outcomes(())
        stored = await self.sink.store_async(kept.envelopes, rejected=kept.rejected, quarantined=kept.quarantined)
        return kept.outcomes(stored)

    def check_ready(self) -> None:
        """See `trackcore.Sink.check_ready`."""
        self.sink.check_ready()

    async def check_ready_async(self) -> None:
        """See `trackcore.AsyncSink.check_ready_async`."""
        await self.sink.check_ready_async()

    def close(self) -> None:
        """Close the other sink."""
        self.sink.close()


def _kept(
    suppressions: Suppressions,
    envelopes: Sequence[Envelope],
    rejected: Sequence[RejectedRecord],
    quarantined: Sequence[QuarantinedRequest],
) -> _Kept:
    suppressed = frozenset(
        index for index, one in enumerate(envelopes) if suppressions.covers(one.source, envelope_subjects(one))
    )
    return _Kept(
        [one for index, one in enumerate(envelopes) if index not in suppressed] if suppressed else envelopes,
        [left for one in rejected if (left := _of_others(suppressions, one.source, one)) is not None],
        [rest for one in quarantined if (rest := _of_others(suppressions, None, one)) is not None],
        suppressed,
    )


def envelope_subjects(envelope: Envelope) -> Iterator[Subject]:
    """Yield the persons of a message that is ready to be stored."""
    if envelope.call == "alias":
        yield from subjects_of(any_value.decode(envelope.payload))
        return
    if envelope.user_id:
        yield Subject("user", envelope.user_id)
    if envelope.anonymous_id:
        yield Subject("anonymous", envelope.anonymous_id)


R = TypeVar("R", RejectedRecord, QuarantinedRequest)


def _of_others(suppressions: Suppressions, source: str | None, record: R) -> R | None:
    """Return a record without the messages of suppressed persons; None if nothing is left of it.

    Of a body that is not JSON nothing can be removed, so all of it is not kept.
    """
    try:
        payload = without_messages(record.payload, lambda subjects: suppressions.covers(source, subjects))
    except ValueError:
        return None if suppressions.covers(source, subjects_in_text(record.payload)) else record
    if payload is None:
        return None
    return record if payload is record.payload else attrs.evolve(record, payload=payload)
