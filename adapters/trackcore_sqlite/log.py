"""Reading the log, from any process and while it is written.

Messages come in the order of their sequence numbers, and that is the order of their commits; so a reader that remembers
the last number it saw, and asks for what comes after, misses nothing and sees nothing twice.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import msgspec
from trackcore_sqlitefile import SharedConnection, used_once

from trackcore import Call, JSONObject, LogChanged, Mark, StoredQuarantined, StoredRejected
from trackcore_sqlite.snapshot import Snapshot, StoredPayload, payload_query, read_payload
from trackcore_sqlite.tables import UnusableLog, open_for_reading
from trackcore_sqlite.times import from_milliseconds, milliseconds

_log = logging.getLogger("trackcore.sqlite")


@attrs.frozen(kw_only=True)
class StoredMessage:
    """A message as it lies in the log.

    `message` is the wire object; `warnings` are `{code, message, path}`; `inherited` names what of `context` and
    `integrations` came from the batch, by wire path.  `found_by` is how its source was found, None for a message of
    before that was kept.
    """

    seq: int
    source: str
    call: Call
    received_at: datetime
    destinations: tuple[str, ...]
    warnings: tuple[JSONObject, ...]
    message: JSONObject
    inherited: tuple[str, ...] = ()
    found_by: str | None = None


@attrs.frozen(kw_only=True)
class Totals:
    """How much the log holds, and how much of its bounded parts was dropped to make room."""

    messages: int
    rejected: int
    rejected_dropped: int
    quarantined: int
    quarantined_dropped: int


class SqliteLog:
    """Reads the log at `path`.  Every method opens the file anew, so no lock outlives a call.

    What iterates reads page by page, and holds no snapshot from one page to the next: a reader that dawdles must not
    let the write-ahead log grow.  After a fork both processes may go on with it, each where it was.

    Raises:
        UnusableLog: there is no log there, or it is damaged, or from a newer trackcore.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def messages(
        self,
        *,
        after: int = 0,
        source: str | None = None,
        call: str | None = None,
        user: str | None = None,
        since: datetime | None = None,
        limit: int | None = None,
    ) -> Iterator[StoredMessage]:
        """Give messages in rising order; with a limit, the newest so many.

        Args:
            after: only those with a larger sequence number.
            source: only those of the source of this name.
            call: only those of this call, such as `track`.
            user: only those whose userId or anonymousId this is.
            since: only those received at or after this time.
            limit: at most this many.
        """
        conditions = {
            "name = ?": source,
            "call = ?": call,
            "? IN (user_id, anonymous_id)": user,
            "received_at >= ?": None if since is None else milliseconds(since),
        }
        for row in self._rows(MESSAGES, conditions, after, limit):
            yield read_message(row)

    def payloads(
        self,
        *,
        after: int,
        last: int,
        destination: str | None = None,
        call: str | None = None,
        user: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Generator[StoredPayload, None, None]:
        """Return the text of messages in rising order.

        Args:
            after: only those with a larger sequence number,
            last: and up to this one.
            destination: only those that were selected for the destination of this name.
            call: as for `messages`.
            user: likewise.
            since: likewise.
            until: only those received before this time.
        """
        query, values = payload_query(
            after=after, last=last, destination=destination, call=call, user=user, since=since, until=until
        )
        for row in self._paged(query, values, is_bounded=True):
            yield read_payload(row)

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """Open the log as it is at one moment, whatever is written to it or put in its place meanwhile."""
        with self._open() as connection:
            connection.execute("BEGIN")
            yield Snapshot(connection)

    def backlog(self, destination: str, *, after: int) -> tuple[int, datetime | None]:
        """Count the messages for a destination behind a sequence number; give also when the first was received."""
        name = msgspec.json.encode(destination).decode()
        query = "SELECT count(*), min(received_at) FROM messages WHERE seq > ? AND instr(destinations, ?)"
        with self._open() as connection:
            count, oldest = connection.execute(query, (after, name)).fetchone()
        return count, None if oldest is None else from_milliseconds(oldest)

    def last_seq(self) -> int:
        """Give the sequence number of the newest message, 0 when there never was one."""
        with self._open() as connection:
            (seq,) = connection.execute("SELECT value FROM counters WHERE name = 'messages.seq'").fetchone()
        return int(seq)

    def tail(
        self,
        *,
        source: str | None = None,
        call: str | None = None,
        user: str | None = None,
        since: datetime | None = None,
        limit: int | None = None,
    ) -> Tail:
        """Give a reader that gives what `messages` does, and with each further call what has come since."""

        def read(after: int, limit: int | None) -> Iterator[StoredMessage]:
            return self.messages(after=after, source=source, call=call, user=user, since=since, limit=limit)

        return Tail(self, read, limit)

    def rejected(
        self,
        *,
        after: int = 0,
        source: str | None = None,
        code: str | None = None,
        since: datetime | None = None,
        limit: int | None = None,
    ) -> Iterator[StoredRejected]:
        """Give rejected messages and requests in rising order; with a limit, the newest so many."""
        conditions = {
            "name = ?": source,
            "code = ?": code,
            "received_at >= ?": None if since is None else milliseconds(since),
        }
        for row in self._rows(REJECTED, conditions, after, limit):
            yield read_rejected(row)

    def quarantined(self, *, after: int = 0, limit: int | None = None) -> Iterator[StoredQuarantined]:
        """Give quarantined requests in rising order; with a limit, the newest so many."""
        for row in self._rows(QUARANTINED, {}, after, limit):
            yield read_quarantined(row)

    def totals(self) -> Totals:
        """Tell how much the log holds.  Writers keep count, so it costs the same for every log."""
        with self._open() as connection:
            counters = dict(connection.execute("SELECT name, value FROM counters"))
        return Totals(
            messages=counters["messages.count"],
            rejected=counters["rejected.count"],
            rejected_dropped=counters["rejected.dropped"],
            quarantined=counters["quarantine.count"],
            quarantined_dropped=counters["quarantine.dropped"],
        )

    def _rows(
        self, select: str, conditions: Mapping[str, object], after: int, limit: int | None
    ) -> Iterator[tuple[Any, ...]]:
        wanted = {"seq > ?": after, **{sql: value for sql, value in conditions.items() if value is not None}}
        query = f"{select} WHERE {' AND '.join(wanted)} ORDER BY seq"
        values = list(wanted.values())
        if limit is None:
            yield from self._paged(query, values)
            return
        with self._open() as connection:
            newest = connection.execute(f"{query} DESC LIMIT ?", (*values, limit)).fetchall()
        yield from reversed(newest)

    def _paged(self, query: str, values: list[object], *, is_bounded: bool = False) -> Iterator[tuple[Any, ...]]:
        """Run a query page by page.  Its first value is the sequence number to begin after, its first column another.

        The first pages are small, since many readers want no more than a few rows.  Nothing comes later where the query
        is bounded; else what is stored meanwhile comes too.
        """
        shared = SharedConnection(partial(open_for_reading, self.path))
        size = _FIRST_PAGE
        try:
            while True:
                with self._told(), shared.use() as connection:
                    page = connection.execute(f"{query} LIMIT ?", (*values, size)).fetchall()
                yield from page
                if not page or (is_bounded and len(page) < size):
                    return
                values[0] = page[-1][0]
                size = min(_PAGE, 4 * size)
        finally:
            shared.close()

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with self._told(), used_once(partial(open_for_reading, self.path)) as connection:
            yield connection

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise UnusableLog(path=self.path, detail=f"it cannot be read ({error})") from error


@attrs.define(eq=False)
class Tail:
    """A reader that stays where it was left."""

    _log: SqliteLog
    _read: Callable[[int, int | None], Iterator[StoredMessage]]
    _limit: int | None
    _mark: Mark = attrs.field(init=False, factory=Mark)

    def read(self) -> Iterator[StoredMessage]:
        """Give what is there and was not given yet; the first time the newest so many, if there is a limit.

        Where the log was replaced, or rewound, it goes on with the first message that may be another one, and says so
        in a warning.  The end of the log is read first: a filter that matches little must not make every call look at
        the same messages.
        """
        with self._log.snapshot() as snapshot:
            try:
                snapshot.check(self._mark)
            except LogChanged as change:
                _log.warning("%s: %s", self._log.path, change)
                self._mark = change.found
            end = snapshot.mark(snapshot.end)
        if end.position == self._mark.position:
            return
        for stored in self._read(self._mark.position, self._limit):
            if stored.seq > end.position:
                break
            yield stored
        self._mark, self._limit = end, None


_FIRST_PAGE = 100
_PAGE = 1_000

# The three kinds of row: what is selected of each, and how it is read.

_WITH_SOURCE = "JOIN sources ON sources.id = source_id"
_MESSAGE = "seq, name, call, received_at, destinations, cautions, payload, inherited, found_by"
MESSAGES = f"SELECT {_MESSAGE} FROM messages {_WITH_SOURCE}"
DUPLICATES = f"SELECT {_MESSAGE} FROM duplicates {_WITH_SOURCE}"
REJECTED = f"SELECT seq, name, received_at, code, message, path, payload, batch, endpoint FROM rejected {_WITH_SOURCE}"
QUARANTINED = "SELECT seq, received_at, endpoint, write_key, client_ip, client_side, payload FROM quarantine"


def read_message(row: tuple[Any, ...]) -> StoredMessage:
    """Read a row of `MESSAGES`, or of `DUPLICATES`."""
    seq, name, call, received_at, destinations, warnings, payload, inherited, found_by = row
    return StoredMessage(
        seq=seq,
        source=name,
        call=call,
        received_at=from_milliseconds(received_at),
        destinations=tuple(msgspec.json.decode(destinations)),
        warnings=tuple(msgspec.json.decode(warnings)) if warnings else (),
        message=msgspec.json.decode(payload),
        inherited=tuple(msgspec.json.decode(inherited)) if inherited else (),
        found_by=found_by,
    )


def read_rejected(row: tuple[Any, ...]) -> StoredRejected:
    """Read a row of `REJECTED`."""
    seq, name, received_at, code, message, path, payload, batch, endpoint = row
    return StoredRejected(
        seq=seq,
        source=name,
        received_at=from_milliseconds(received_at),
        code=code,
        message=message,
        path=path,
        payload=payload,
        batch=batch,
        endpoint=endpoint,
    )


def read_quarantined(row: tuple[Any, ...]) -> StoredQuarantined:
    """Read a row of `QUARANTINED`."""
    seq, received_at, endpoint, write_key, client_ip, client_side, payload = row
    return StoredQuarantined(
        seq=seq,
        received_at=from_milliseconds(received_at),
        endpoint=endpoint,
        write_key=write_key,
        client_ip=client_ip,
        client_side=bool(client_side),
        payload=payload,
    )
