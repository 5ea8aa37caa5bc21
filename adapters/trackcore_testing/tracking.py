"""`Tracking`: the messages of a program under test, and the failures that it is tested with."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from http import HTTPStatus
from typing import TypeVar

from trackcore import (
    Alias,
    Collector,
    Group,
    Identify,
    Message,
    Page,
    Reason,
    Screen,
    StoredMessage,
    StoredQuarantined,
    StoredRejected,
    Track,
    WriteKey,
    parse_timestamp,
    structure_message,
)
from trackcore.plans import PLAN_WARNINGS
from trackcore_testing import reports
from trackcore_testing.arrivals import Arrivals
from trackcore_testing.assertions import Assertions
from trackcore_testing.faults import Fault, FaultKind, Faults
from trackcore_testing.requests import RecordedRequest
from trackcore_testing.snapshots import snapshot

M = TypeVar("M", bound=Message)

UNKNOWN_SOURCE = "unknown_source"
"""The code of a request whose write key belongs to no source."""


class Tracking(Assertions):
    """A collector behind a real HTTP server, empty at first.

    Attributes:
        url: the address of the server, as SDKs take it for their host.
        collector: the collector, for messages that are submitted in process.
        faults: the failures that requests meet.
    """

    def __init__(self, *, url: str, collector: Collector, arrivals: Arrivals, timeout: float) -> None:
        super().__init__(arrivals, timeout)
        self.url = url
        self.collector = collector
        self.faults = Faults()

    @property
    def write_key(self) -> WriteKey:
        """The write key of the first source."""
        return next(iter(self.write_keys.values()))

    @property
    def write_keys(self) -> Mapping[str, WriteKey]:
        """The write key of each source, by the source's name."""
        return {source.name: source.write_keys[0] for source in self.collector.sources.sources}

    # Reading

    @property
    def messages(self) -> list[Message]:
        """The messages, in the order of their reception; a message that was sent again is there once."""
        return [structure_message(stored.message) for stored in self.stored]

    @property
    def stored(self) -> list[StoredMessage]:
        """The messages as JSON objects, each with its source, destinations and warnings."""
        return list(self.arrivals.messages)

    @property
    def rejected(self) -> list[StoredRejected]:
        """The rejected messages and requests, each with its code."""
        return self.arrivals.rejected

    @property
    def quarantined(self) -> list[StoredQuarantined]:
        """The requests whose write key belongs to no source."""
        return self.arrivals.quarantined

    @property
    def requests(self) -> list[RecordedRequest]:
        """All requests, CORS preflights and settings documents included."""
        return list(self.arrivals.requests)

    def tracks(self, event: str | None = None) -> list[Track]:
        """Return the track messages, or those of one event."""
        return [message for message in self._of(Track) if event in (None, message.event)]

    def identifies(self) -> list[Identify]:
        """Return the identify messages."""
        return self._of(Identify)

    def pages(self, name: str | None = None) -> list[Page]:
        """Return the page messages, or those of one page."""
        return [message for message in self._of(Page) if name in (None, message.name)]

    def screens(self, name: str | None = None) -> list[Screen]:
        """Return the screen messages, or those of one screen."""
        return [message for message in self._of(Screen) if name in (None, message.name)]

    def groups(self) -> list[Group]:
        """Return the group messages."""
        return self._of(Group)

    def aliases(self) -> list[Alias]:
        """Return the alias messages."""
        return self._of(Alias)

    def snapshot(self, normalize: Iterable[str] = ()) -> str:
        """Return the messages as canonical JSON, without what differs from run to run.

        Ids and times that an SDK makes, and versions, have placeholders; so have the paths in `normalize`, such as
        `properties.orderId`.
        """
        return snapshot([stored.message for stored in self.stored], normalize)

    def clear(self) -> None:
        """Forget everything that was received; a rejection fails the test all the same."""
        self.arrivals.clear()

    def freeze(self, moment: datetime | str) -> None:
        """Let the server's clock stand still.  Raises `ValueError` for a text that is not a time, and without a zone.

        To give it another clock, assign `collector.clock`.
        """
        time = parse_timestamp(moment) if isinstance(moment, str) else moment
        if time is None:
            raise ValueError(f"{moment!r} is not a time")
        if time.tzinfo is None:
            raise ValueError(f"{moment!r} has no time zone")
        self.collector.clock = lambda: time

    # Faults

    def fail_next(
        self,
        *,
        status: int = HTTPStatus.SERVICE_UNAVAILABLE,
        times: int = 1,
        retry_after: int | None = None,
        source: str | None = None,
    ) -> Fault:
        """Answer the next requests with a failure, and store nothing of them."""
        return self._add(Fault(kind=FaultKind.FAIL, status=status, times=times, retry_after=retry_after, source=source))

    def delay(self, seconds: float, *, times: int | None = None, source: str | None = None) -> Fault:
        """Process requests later; all of them, without `times`."""
        return self._add(Fault(kind=FaultKind.DELAY, seconds=seconds, times=times, source=source))

    def drop_connection(self, *, times: int = 1, source: str | None = None) -> Fault:
        """Close the connection of the next requests without an answer, and store nothing of them."""
        return self._add(Fault(kind=FaultKind.DROP, times=times, source=source))

    def truncate_answer(self, *, times: int = 1, source: str | None = None) -> Fault:
        """Store the messages of the next requests, and close the connection in the middle of the answer."""
        return self._add(Fault(kind=FaultKind.TRUNCATE, times=times, source=source))

    def refuse(self, source: str | None = None) -> Fault:
        """Answer all requests with 401, or those of one source, as if its write key had been revoked."""
        return self._add(Fault(kind=FaultKind.FAIL, status=HTTPStatus.UNAUTHORIZED, source=source))

    # The end of a test

    def unexpected_rejections(self, allowed: Collection[str] = ()) -> str:
        """Report what was not accepted, or not as planned, since the beginning; empty if there is nothing to report.

        Codes that are `allowed` are left out.

        Raises `ValueError` for an unknown code.
        """
        unknown = set(allowed) - {*Reason, UNKNOWN_SOURCE, *PLAN_WARNINGS}
        if unknown:
            raise ValueError(f"there are no such codes: {', '.join(sorted(unknown))}")
        rejected = [record for record in self.arrivals.ever_rejected if record.code not in allowed]
        quarantined = [] if UNKNOWN_SOURCE in allowed else self.arrivals.ever_quarantined
        violations = reports.violations(self.arrivals.ever_violating, allowed)
        if not rejected and not quarantined:
            return violations
        return "\n\n".join(filter(None, (reports.rejections(rejected, quarantined, self.collector.limits), violations)))

    def _of(self, kind: type[M]) -> list[M]:
        return [message for message in self.messages if isinstance(message, kind)]

    def _add(self, fault: Fault) -> Fault:
        if fault.source is not None and fault.source not in self.write_keys:
            raise ValueError(f"no source is named {fault.source!r}; there are: {', '.join(self.write_keys)}")
        return self.faults.add(fault)
