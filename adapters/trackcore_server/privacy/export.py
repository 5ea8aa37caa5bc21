"""Everything that is kept about persons, and where each message went, as JSON objects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from datetime import UTC, datetime

from trackcore_delivery import State

from trackcore import JSONObject, Log, QuarantinedRequest, RejectedRecord, StoredMessage, format_timestamp
from trackcore.privacy import Subject, quoted_in, subjects_of, without_messages
from trackcore_server.config.configuration import Configuration
from trackcore_server.inspection.json_lines import quarantined_record, rejected_record
from trackcore_server.storage.backends import backend_of
from trackcore_server.storage.delivery_state import make_state


def export(configuration: Configuration, subjects: Sequence[Subject]) -> Iterator[JSONObject]:
    """Yield the messages of persons, then the rejected messages and the quarantined requests that have some."""
    log = backend_of(configuration).open_log()
    with ExitStack() as stack:
        state = None
        if configuration.delivery_path.exists():
            state = stack.enter_context(closing(make_state(configuration)))
        yield from _messages(log, state, frozenset(subjects))
    for rejected in log.rejected():
        if _mentions(rejected, subjects):
            yield {"part": "rejected", **rejected_record(rejected)}
    for request in log.quarantined():
        if _mentions(request, subjects):
            yield {"part": "quarantine", **quarantined_record(request)}


def _messages(log: Log, state: State | None, subjects: frozenset[Subject]) -> Iterator[JSONObject]:
    where = _Whereabouts(state)
    for stored in log.messages():
        if subjects.isdisjoint(subjects_of(stored.message)):
            continue
        yield {
            "part": "messages",
            "seq": stored.seq,
            "source": stored.source,
            "receivedAt": format_timestamp(stored.received_at),
            "destinations": {name: where.of(name, stored) for name in stored.destinations},
            "message": stored.message,
        }


class _Whereabouts:
    """Where messages went, by what the state of delivery has."""

    def __init__(self, state: State | None) -> None:
        self._positions: dict[str, int] = {}
        self._dead: set[tuple[str, int]] = set()
        if state is None:
            return
        now = datetime.now(UTC)
        for name in state.names():
            status = state.status(name, now)
            self._positions[name] = 0 if status is None else status.position
        after = 0
        while page := state.dead_letters(after=after):
            self._dead |= {(letter.destination, letter.message.position) for letter in page}
            after = page[-1].id

    def of(self, destination: str, stored: StoredMessage) -> str:
        """Return "selected" for a destination that trackcore does not deliver to."""
        position = self._positions.get(destination)
        if position is None:
            return "selected"
        if (destination, stored.seq) in self._dead:
            return "undeliverable"
        return "sent" if stored.seq <= position else "waiting"


def _mentions(record: RejectedRecord | QuarantinedRequest, subjects: Sequence[Subject]) -> bool:
    payload = record.payload
    wanted = set(subjects)
    try:
        return without_messages(payload, lambda found: not wanted.isdisjoint(found)) is not payload
    except ValueError:
        return quoted_in(payload, subjects)
