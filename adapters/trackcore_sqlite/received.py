"""How many messages and rejections a log has received in all, by source: counted in the commit that stores them.

So the numbers are those of the log, whatever happens to a process, and they go on when messages are deleted.  They lie
in the table `counters`, of which each commit writes a page anyway:

    received.messages.SOURCE_ID.CALL.OUTCOME
    received.rejected.SOURCE_ID.CODE                    SOURCE_ID is 0 for a request of no known source

A log of an older trackcore has none for what it received before.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from trackcore import Envelope, Outcome

_MESSAGES = "received.messages"
_REJECTED = "received.rejected"
_NO_SOURCE = 0
_NAMES_KEPT = 1024
_UNKNOWN_SOURCE = "unknown_source"
_ADD = "INSERT INTO counters VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value"
_READ = "SELECT name, value FROM counters WHERE name >= 'received.' AND name < 'received/'"


class Received(NamedTuple):
    """How many messages of a call from a source had an outcome; without a call, how many rejections a code.

    `source` is None for requests of no known source.
    """

    source: str | None
    call: str | None
    outcome: str
    number: int


def count_messages(
    connection: sqlite3.Connection,
    source_ids: Sequence[int],
    envelopes: Sequence[Envelope],
    is_new: Sequence[bool],
) -> None:
    """Count messages by their outcomes: `STORED` if they are new, else `DUPLICATE`."""
    calls = [envelope.call for envelope in envelopes]
    found = Counter(zip(source_ids, calls, is_new, strict=True))
    _add(connection, [(_name(*key), number) for key, number in found.items()])


def count_rejected(connection: sqlite3.Connection, source_ids: Iterable[int], codes: Iterable[str]) -> None:
    """Count rejected messages and requests by their codes."""
    found = Counter(zip(source_ids, codes, strict=True))
    _add(connection, ((f"{_REJECTED}.{source}.{code}", number) for (source, code), number in found.items()))


def count_quarantined(connection: sqlite3.Connection, number: int) -> None:
    """Count requests of no known source."""
    _add(connection, [(f"{_REJECTED}.{_NO_SOURCE}.{_UNKNOWN_SOURCE}", number)])


def read_received(connection: sqlite3.Connection) -> Iterator[Received]:
    """Yield the numbers of a log."""
    sources = dict(connection.execute("SELECT id, name FROM sources"))
    for name, count in connection.execute(_READ):
        _, kind, source, *labels = name.split(".")
        call, outcome = labels if kind == "messages" else (None, labels[0])
        yield Received(sources.get(int(source)), call, outcome, count)


@lru_cache(_NAMES_KEPT)
def _name(source_id: int, call: str, is_new: bool) -> str:
    return f"{_MESSAGES}.{source_id}.{call}.{Outcome.STORED if is_new else Outcome.DUPLICATE}"


def _add(connection: sqlite3.Connection, numbers: Iterable[tuple[str, int]]) -> None:
    connection.executemany(_ADD, numbers)
