"""A log as a feed for delivery."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import attrs
import msgspec

from trackcore import (
    Destination,
    JSONObject,
    LogSnapshot,
    LogUnavailable,
    Mark,
    Query,
    Resolver,
    SnapshotLog,
    Source,
    StoredPayload,
    parse_timestamp,
    resolvers_for,
)
from trackcore_delivery.feed import FedMessage, FeedUnavailable, Page, Selection

_SPAN = 20_000
"""How many messages are examined for one page at least: a bound on the time of a read that finds little."""


class _Consent(msgspec.Struct, rename="camel"):
    """The fields of a context that state consent."""

    consent: Any = None
    consent_management: Any = None


class _Routed(msgspec.Struct, rename="camel"):
    """The fields of a stored message that decide where it goes."""

    timestamp: str = ""
    received_at: str = ""
    integrations: JSONObject | None = None
    context: _Consent | None = None


_routed = msgspec.json.Decoder(_Routed)


@attrs.frozen
class LogFeed:
    """Reads a log.  A replay selects messages by the sources and destinations of today's configuration."""

    _log: SnapshotLog
    _resolvers: Mapping[str, Resolver]
    _others: Resolver

    def read(
        self,
        destination: str,
        *,
        after: int,
        count: int,
        size: int,
        selection: Selection | None = None,
        mark: Mark | None = None,
    ) -> Page:
        """See `Feed.read`."""
        with self._snapshot() as snapshot:
            if mark is not None:
                snapshot.check(mark)
            head = snapshot.end
            first = max(after, snapshot.beginning)
            last = min(head, first + max(_SPAN, count))
            found = self._found(snapshot, destination, first, last, selection)
            page = _first_of(found, last, count=count, size=size)
            found.close()
            return page._replace(
                has_more=page.has_more or last < head,
                stretches=snapshot.stretches(first, page.end),
                message_at_end=snapshot.message_at(page.end),
            )

    def end(self) -> int:
        """See `Feed.end`."""
        with self._snapshot() as snapshot:
            return snapshot.end

    def mark(self, position: int | None = None) -> Mark:
        """See `Feed.mark`."""
        with self._snapshot() as snapshot:
            return snapshot.mark(snapshot.end if position is None else position)

    def check(self, mark: Mark) -> Mark:
        """See `Feed.check`."""
        with self._snapshot() as snapshot:
            snapshot.check(mark)
            return snapshot.mark(mark.position)

    @contextmanager
    def _snapshot(self) -> Iterator[LogSnapshot]:
        try:
            with self._log.snapshot() as snapshot:
                yield snapshot
        except LogUnavailable as error:
            raise FeedUnavailable(detail=str(error)) from error

    def _found(
        self, snapshot: LogSnapshot, destination: str, after: int, last: int, selection: Selection | None
    ) -> Generator[StoredPayload, None, None]:
        if selection is None:
            yield from snapshot.payloads(Query(destination=destination), after=after, last=last)
            return
        past = Query(call=selection.call, user=selection.user, since=selection.since, until=selection.until)
        found = snapshot.payloads(past, after=after, last=last)
        yield from (stored for stored in found if self._goes_to(destination, stored))

    def _goes_to(self, destination: str, stored: StoredPayload) -> bool:
        routed = _routed.decode(stored.payload)
        resolver = self._resolvers.get(stored.source, self._others)
        context = msgspec.to_builtins(routed.context)
        return destination in resolver.resolve(routed.integrations, context).names_at_age(_age(routed))


def make_feed(log: SnapshotLog, sources: Sequence[Source], destinations: Sequence[Destination]) -> LogFeed:
    """Build the feed of a log.  Raises `ValueError` if a source names an unknown destination."""
    return LogFeed(log, resolvers_for(sources, destinations), Resolver(destinations))


def _first_of(found: Iterator[StoredPayload], last: int, *, count: int, size: int) -> Page:
    messages: list[FedMessage] = []
    total = 0
    for stored in found:
        total += len(stored.payload) + 1
        if len(messages) == count or (messages and total > size):
            return Page(messages, messages[-1].position, has_more=True)
        messages.append(fed_message(stored))
    return Page(messages, last, has_more=len(messages) == count)


def fed_message(stored: StoredPayload) -> FedMessage:
    """Return a stored message as a feed provides it; its position is its `seq`."""
    return FedMessage(
        stored.seq, stored.source, stored.user or "", stored.call, stored.message_id, stored.received_at, stored.payload
    )


def _age(routed: _Routed) -> timedelta:
    received_at, timestamp = parse_timestamp(routed.received_at), parse_timestamp(routed.timestamp)
    return timedelta() if received_at is None or timestamp is None else received_at - timestamp
