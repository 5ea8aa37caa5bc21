"""The warehouse in PostgreSQL: batches of messages into tables, each batch in one transaction.

Theory.  The rows of a batch, the changes of tables that they need, and the cursor of their lane are one transaction.
So wherever this process or the database is killed, the cursor says exactly which messages have arrived; and since `id`
is the key of each table, a message that comes again is not stored again.

A cursor is text that belongs to the reader of the log.  A lane that only one process may read is locked by a session
lock, for as long as the connection lives.  The row of each source is locked in shared mode, so that tables are swapped
(`trackcore_postgres.rebuild`) only between batches; its generation shows that they were.

The tables are read from the catalog of the database once, and again whenever a statement shows that they have
changed.  A value that the database refuses is found by bisecting its batch: its message is refused, the others are
stored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import attrs
import psycopg
from psycopg import Connection, errors

from trackcore import StoredMessage
from trackcore.privacy import Subject
from trackcore.warehouse import Discard, Schema, TableInfo, WarehouseOptions, schema_name, storable
from trackcore_postgres.batch import SentMessage, SourceRows
from trackcore_postgres.catalog import SourceTables, has_schema, has_table, read_tables
from trackcore_postgres.connecting import connect, connection_settings, lock_number, make_bookkeeping, run, sentence_of
from trackcore_postgres.errors import CursorMoved, UnusableUrl, WarehouseUnavailable
from trackcore_postgres.forgetting import Forgetting
from trackcore_postgres.inspection import (
    discards_of,
    known_schema,
    list_tables,
    missing_bookkeeping,
    sources_of,
    statements_between,
)
from trackcore_postgres.loading import Loading, SchemaOutdated, is_of_message, is_outdated
from trackcore_postgres.staging import Staging
from trackcore_postgres.statements import BOOKKEEPING, beside, create_discards, create_schema, quoted, schemas_beside

_ATTEMPTS = 4
"""How often a batch is tried with tables that are read again each time: others may change them meanwhile."""

_SHORT_WAIT = b"SET LOCAL lock_timeout = '1s'"


@attrs.frozen(kw_only=True)
class Cursor:
    """How far the messages of a lane have arrived.  `is_exclusive` means that one process alone reads the lane."""

    lane: str
    text: str
    is_exclusive: bool = True


@attrs.frozen
class Refused:
    """A message, by its index, that the database does not store, and why."""

    index: int
    detail: str


@attrs.define
class _Session:
    """A connection, and what is known as long as it lives."""

    connection: Connection[Any]
    staging: Staging
    locked: set[str] = attrs.field(factory=set)
    cursors: dict[str, str] | None = None
    is_prepared: bool = False
    tables: dict[str, SourceTables] = attrs.field(factory=dict)
    generations: dict[str, int] = attrs.field(factory=dict)

    def forget(self) -> None:
        """Forget what a transaction has changed that was rolled back."""
        self.tables.clear()
        self.staging.forget()


@attrs.define
class PostgresWarehouse:
    """The tables of one destination.  Nothing is connected before it is used.

    Raises `UnusableUrl` if the URL cannot be parsed, or has a password although it may not.
    """

    destination: str
    url: str = attrs.field(repr=False)
    password: str | None = attrs.field(default=None, repr=False)
    options: WarehouseOptions = attrs.field(factory=WarehouseOptions)
    schema: str = "{source}"
    suffix: str = ""
    may_have_password: bool = True
    _session: _Session | None = attrs.field(init=False, default=None)
    _pinned: dict[str, set[tuple[str, str]]] = attrs.field(init=False, factory=dict)

    def __attrs_post_init__(self) -> None:
        if "password" in connection_settings(self.url) and not self.may_have_password:
            detail = "a password must not be written in the settings: use `password`, or a variable for the whole URL"
            raise UnusableUrl(detail=detail)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of its connection."""
        own = connection_settings(self.url)
        return own if self.password is None else {**own, "password": self.password}

    def cursors(self) -> Mapping[str, str]:
        """Return the cursor of each lane.  Raises `WarehouseUnavailable`."""
        with self._reporting():
            return self._read_cursors()

    def load(self, messages: Sequence[SentMessage], cursors: Sequence[Cursor] = ()) -> Sequence[Refused]:
        """Store messages, and the cursors with them.  Returns those that the database does not store.

        Raises:
            WarehouseUnavailable: nothing of it is stored.
            CursorMoved: nothing of it is stored, since it may be stored already, or others before it may not.  That is
                so too as long as the cursors were not read with this connection.
        """
        with self._reporting():
            return self._load(messages, cursors)

    def close(self) -> None:
        """Close the connection, and with it the locks."""
        if self._session is not None:
            session, self._session = self._session, None
            with suppress(psycopg.Error):
                session.connection.close()

    def forget(
        self, subjects: Sequence[Subject], source: str | None, pseudonyms: Mapping[Subject, str] | None = None
    ) -> None:
        """Forget persons in the tables of a source, or of all: see `trackcore_postgres.forgetting`.

        Raises `WarehouseUnavailable`; then nothing is forgotten.
        """
        with self._reporting(), self.connection().transaction():
            forgetting = Forgetting(self.connection(), subjects, pseudonyms)
            for name, owner in sources_of(self.connection()).items():
                if name == self.schema_of(owner) and source in (None, owner):
                    for each in (name, *schemas_beside(name)):
                        forgetting.run(each, read_tables(self.connection(), each, self.options, set()).schema)

    def tables(self) -> list[TableInfo]:
        """Return the tables of all sources.  Raises `WarehouseUnavailable`."""
        with self._reporting():
            connection = self.connection()
            return [
                info
                for name, source in sources_of(connection).items()
                if name == self.schema_of(source)
                for info in list_tables(connection, name, source)
            ]

    def discards(self, message: StoredMessage) -> list[tuple[str, Discard]]:
        """Return what the rows of a message do not have as it was sent.  Raises `WarehouseUnavailable`."""
        message_id = storable(str(message.message["messageId"]))
        with self._reporting():
            return list(discards_of(self.connection(), self.schema_of(message.source), message_id))

    def known_schema(self, source: str) -> Schema:
        """Return the tables of a source as they are.  Raises `WarehouseUnavailable`."""
        with self._reporting():
            return known_schema(self.connection(), self.schema_of(source), self.options)

    def statements(self, after: Mapping[str, Schema]) -> list[str]:
        """Return the statements that lead to other tables of sources.  Raises `WarehouseUnavailable`."""
        with self._reporting():
            names = {source: self.schema_of(source) for source in after}
            connection = self.connection()
            statements = missing_bookkeeping(connection, list(names.values()))
            for source, schema in after.items():
                before = known_schema(connection, names[source], self.options)
                statements += statements_between(names[source], before, schema)
            return statements

    def connection(self) -> Connection[Any]:
        """Return an open connection."""
        return self._connected().connection

    def schema_of(self, source: str) -> str:
        """Return the schema of a source."""
        return beside(schema_name(source, self.schema), self.suffix)

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        """Report errors of the database in a sentence; the connection, which may be broken, is given up."""
        try:
            yield
        except psycopg.Error as error:
            self.close()
            raise WarehouseUnavailable(detail=sentence_of(error)) from None

    def _connected(self) -> _Session:
        if self._session is None or self._session.connection.closed:
            connection = connect(self.settings)
            self._session = _Session(connection, Staging(connection))
        return self._session

    def _read_cursors(self) -> Mapping[str, str]:
        session = self._connected()
        make_bookkeeping(session.connection)
        query = f"SELECT lane, cursor FROM {quoted(BOOKKEEPING)}.cursors WHERE destination = %s"
        found: dict[str, str] = dict(session.connection.execute(query.encode(), [self.destination]).fetchall())
        session.cursors = {**found}
        return found

    def _load(self, messages: Sequence[SentMessage], cursors: Sequence[Cursor]) -> Sequence[Refused]:
        must_bisect, attempt = False, 0
        while True:
            session = self._connected()
            try:
                return self._load_once(session, messages, cursors, bisect=must_bisect)
            except SchemaOutdated as outdated:
                session.forget()
                if outdated.pin is not None:
                    schema, *column = outdated.pin
                    self._pinned.setdefault(schema, set()).add((column[0], column[1]))
                    continue
                attempt += 1
                if attempt == _ATTEMPTS:
                    raise WarehouseUnavailable(detail=outdated.cause) from None
            except psycopg.Error as error:
                session.forget()
                if must_bisect or not is_of_message(error):
                    raise
                must_bisect = True
            except BaseException:
                session.forget()
                raise

    def _load_once(
        self, session: _Session, messages: Sequence[SentMessage], cursors: Sequence[Cursor], *, bisect: bool
    ) -> Sequence[Refused]:
        refused: list[Refused] = []
        numbered = list(enumerate(messages))
        sources = sorted({message.source for message in messages})
        session.staging.begin()
        if not session.is_prepared:
            make_bookkeeping(session.connection)
            session.is_prepared = True
        try:
            for cursor in cursors:
                self._hold_lane(session, cursor)
            with session.connection.transaction():
                for cursor in cursors:
                    self._check_cursor(session, cursor)
                taken = self._know_sources(session, sources)
                stored = [(index, one) for index, one in numbered if one.source not in taken]
                refused += [Refused(index, taken[one.source]) for index, one in numbered if one.source in taken]
                self._store(session, stored, refused, bisect=bisect)
                for cursor in cursors:
                    self._move_cursor(session, cursor)
        except psycopg.Error as error:
            if is_outdated(error):
                raise SchemaOutdated(sentence_of(error)) from None
            raise
        if session.cursors is not None:
            session.cursors.update((cursor.lane, cursor.text) for cursor in cursors)
        return sorted(refused, key=lambda one: one.index)

    def _store(
        self, session: _Session, messages: Sequence[tuple[int, SentMessage]], refused: list[Refused], *, bisect: bool
    ) -> None:
        if not messages:
            return
        if not bisect:
            self._store_all(session, messages, refused)
            return
        try:
            with session.connection.transaction():
                kept = len(refused)
                self._store_all(session, messages, refused)
        except psycopg.Error as error:
            if not is_of_message(error):
                raise
            del refused[kept:]
            session.staging.forget()
            self._read_again(session)
            if len(messages) == 1:
                refused.append(Refused(messages[0][0], sentence_of(error)))
                return
            middle = len(messages) // 2
            self._store(session, messages[:middle], refused, bisect=True)
            self._store(session, messages[middle:], refused, bisect=True)

    def _store_all(
        self, session: _Session, messages: Sequence[tuple[int, SentMessage]], refused: list[Refused]
    ) -> None:
        sources: dict[str, SourceRows] = {}
        for index, message in messages:
            rows = sources.get(message.source)
            if rows is None:
                name = self.schema_of(message.source)
                rows = sources[message.source] = SourceRows(name, session.tables[name].schema)
            try:
                rows.add(message)
            except ValueError as error:
                refused.append(Refused(index, str(error)))
        loading = Loading(session.connection, session.staging, session.tables)
        session.staging.prepare(loading.width(list(sources.values())))
        loading.run(list(sources.values()))

    def _know_sources(self, session: _Session, sources: Sequence[str]) -> Mapping[str, str]:
        """Make the schemas of sources and read their tables.  Returns why some sources cannot be stored."""
        names = {self.schema_of(source): source for source in reversed(sources)}
        owners = self._lock_sources(session, list(names))
        if new := names.keys() - owners.keys():
            self._add_sources(session, {name: names[name] for name in sorted(new)})
            owners |= self._lock_sources(session, list(new))
        for name, (_, generation) in owners.items():
            if session.generations.get(name) != generation or name not in session.tables:
                session.generations[name] = generation
                self._read_tables(session, name)
        return {
            source: f"its tables would be in the schema {name!r}, which belongs to the source {owners[name][0]!r}"
            for source in sources
            if owners[name := self.schema_of(source)][0] != source
        }

    def _lock_sources(self, session: _Session, names: list[str]) -> dict[str, tuple[str, int]]:
        query = (
            f"SELECT schema_name, source, generation FROM {quoted(BOOKKEEPING)}.sources "
            "WHERE schema_name = ANY(%s) ORDER BY schema_name FOR SHARE"
        )
        found = session.connection.execute(query.encode(), [names])
        return {name: (source, generation) for name, source, generation in found}

    def _add_sources(self, session: _Session, names: Mapping[str, str]) -> None:
        insert = (
            f"INSERT INTO {quoted(BOOKKEEPING)}.sources (schema_name, source) VALUES (%s, %s) ON CONFLICT DO NOTHING"
        )
        for name, source in names.items():
            session.connection.execute(insert.encode(), [name, source])

    def _read_tables(self, session: _Session, name: str) -> None:
        connection = session.connection
        if not has_schema(connection, name):
            run(connection, create_schema(name))
        elif not has_table(connection, name, "_discards"):
            run(connection, [create_discards(name)])
        session.tables[name] = read_tables(connection, name, self.options, {*self._pinned.get(name, ())})

    def _read_again(self, session: _Session) -> None:
        for name in list(session.tables):
            self._read_tables(session, name)

    def _hold_lane(self, session: _Session, cursor: Cursor) -> None:
        """Lock a lane for as long as the connection lives, if only one process may read it."""
        if not cursor.is_exclusive or cursor.lane in session.locked:
            return
        key = lock_number(self.destination, cursor.lane)
        try:
            with session.connection.transaction():
                session.connection.execute(_SHORT_WAIT)  # the connection of a process that was killed lives on a little
                session.connection.execute(b"SELECT pg_advisory_lock(%s)", [key])
        except errors.LockNotAvailable:
            detail = f"another process delivers to {self.destination!r} in this database"
            raise WarehouseUnavailable(detail=detail) from None
        session.locked.add(cursor.lane)

    def _check_cursor(self, session: _Session, cursor: Cursor) -> None:
        if not cursor.is_exclusive:
            return
        query = f"SELECT cursor FROM {quoted(BOOKKEEPING)}.cursors WHERE destination = %s AND lane = %s FOR UPDATE"
        found = session.connection.execute(query.encode(), [self.destination, cursor.lane]).fetchone()
        if session.cursors is None or (None if found is None else found[0]) != session.cursors.get(cursor.lane):
            raise CursorMoved(lane=cursor.lane)

    def _move_cursor(self, session: _Session, cursor: Cursor) -> None:
        upsert = (
            f"INSERT INTO {quoted(BOOKKEEPING)}.cursors (destination, lane, cursor) VALUES (%s, %s, %s) "
            "ON CONFLICT (destination, lane) DO UPDATE SET cursor = excluded.cursor, moved_at = now()"
        )
        session.connection.execute(upsert.encode(), [self.destination, cursor.lane, cursor.text])
