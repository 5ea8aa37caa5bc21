"""Forgetting persons: their messages are deleted, or kept under a pseudonym, in steps so small that nobody waits long.

Sequence numbers stay as they are, with gaps where messages were, as after `prune`: a position in the log, and its mark,
hold.  A step examines a window of rows while others write, and changes the rows that it has found in a transaction of
its own.  So it may be interrupted at any moment; the next time there is less to do.

Deleted content is overwritten with zeros; see `trackcore_sqlitefile.cleaning` for what else has the bytes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import attrs
import msgspec
from trackcore_sqlitefile import SharedConnection, clean_file, used_once

from trackcore import PARTS
from trackcore.privacy import Subject, id_forms, pseudonymized, quoted_in, subjects_of, without_messages
from trackcore.text import encode_json
from trackcore_sqlite import deduplication
from trackcore_sqlite.failures import unavailable
from trackcore_sqlite.queries import json_array
from trackcore_sqlite.stretches import check_schema, schema_of
from trackcore_sqlite.tables import open_to_tidy

_ROWS = 2_000
_STEP_ROWS = 200
"""How many rows are changed in one transaction: writers wait for it."""


def _as_subjects(subjects: Iterable[Subject]) -> frozenset[Subject]:
    return frozenset(subjects)


@attrs.frozen(kw_only=True)
class Forgotten:
    """The persons to forget, in the messages of a source, or of all if it is None.

    With `pseudonyms` their messages are kept, without traits and address, under these names in place of the ids.
    """

    subjects: frozenset[Subject] = attrs.field(converter=_as_subjects)
    source: str | None = None
    pseudonyms: Mapping[Subject, str] | None = None

    def is_theirs(self, subjects: Iterator[Subject]) -> bool:
        """Return whether one of some persons is among these."""
        return not self.subjects.isdisjoint(subjects)


@attrs.frozen(kw_only=True)
class ForgetStep:
    """The result of one step: how many rows of a part were examined, and how many removed or changed."""

    part: str
    examined: int
    changed: int


def forget(path: Path | str, part: str, forgotten: Forgotten, *, dry_run: bool = False) -> Iterator[ForgetStep]:
    """Forget persons in one part of the log; the work is done as the steps are iterated.

    With `dry_run` nothing is changed, and the steps count what would be.  Raises `UnusableLog` and `SinkUnavailable` as
    `prune` does.
    """
    try:
        with closing(SharedConnection(partial(_open, Path(path)))) as shared:
            yield from _Forgetting(shared, part, forgotten, dry_run=dry_run).steps()
    except sqlite3.Error as error:
        raise unavailable(error) from error


def clean(path: Path | str, subjects: Sequence[Subject]) -> str:
    """Remove the ids of forgotten persons from the bytes of the files, and return how that was done, as a sentence.

    Raises `SinkUnavailable` if a reader or a writer does not let go of the write-ahead log in time.
    """
    path = Path(path)
    try:
        with used_once(partial(_open, path)) as connection:
            forms = {form for subject in subjects for form in id_forms(subject.id)}
            return clean_file(connection, path, forms, partial(_is_in_records, connection))
    except sqlite3.Error as error:
        raise unavailable(error) from error


def _open(path: Path) -> sqlite3.Connection:
    connection = open_to_tidy(path)
    connection.execute("PRAGMA secure_delete = ON")
    return connection


def _is_in_records(connection: sqlite3.Connection, text: bytes) -> bool:
    return any(
        connection.execute(f"SELECT EXISTS (SELECT 1 FROM {part} WHERE instr(payload, ?) > 0)", (text,)).fetchone()[0]
        for part in PARTS
    )


@attrs.define
class _Forgetting:
    _shared: SharedConnection
    _part: str
    _forgotten: Forgotten
    _dry_run: bool = attrs.field(kw_only=True)

    def steps(self) -> Iterator[ForgetStep]:
        with self._shared.use() as connection:
            schema = schema_of(connection)
            source = self._source_id(connection)
        if self._forgotten.source is not None and (source is None or self._part == "quarantine"):
            return
        after = 0
        while window := self._window(after):
            changes = [change for row in window if (change := self._change_of(row, source)) is not None]
            for first, last in pairwise([*range(0, len(changes), _STEP_ROWS), len(changes)]):
                if not self._dry_run:
                    self._apply(changes[first:last], schema)
            after = window[-1][0]
            yield ForgetStep(part=self._part, examined=len(window), changed=len(changes))

    def _source_id(self, connection: sqlite3.Connection) -> int | None:
        row = connection.execute("SELECT id FROM sources WHERE name = ?", (self._forgotten.source,)).fetchone()
        return None if row is None else int(row[0])

    def _window(self, after: int) -> list[tuple[Any, ...]]:
        query = f"SELECT {_COLUMNS[self._part]} FROM {self._part} WHERE seq > ? ORDER BY seq LIMIT ?"
        with self._shared.use() as connection:
            return connection.execute(query, (after, _ROWS)).fetchall()

    def _change_of(self, row: tuple[Any, ...], source: int | None) -> tuple[int, bytes | None] | None:
        """Return the number of a row and its new payload, None to delete it; None if it stays as it is."""
        seq, source_id, *columns, payload = row
        if source is not None and source_id != source:
            return None
        if self._part in _LIKE_MESSAGES:
            call, user_id, anonymous_id = columns
            return self._change_of_message(seq, call, user_id, anonymous_id, payload)
        try:
            left = without_messages(payload, self._forgotten.is_theirs)
        except ValueError:
            left = None if quoted_in(payload, self._forgotten.subjects) else payload
        return None if left is payload else (seq, left)

    def _change_of_message(
        self, seq: int, call: str, user_id: str | None, anonymous_id: str | None, payload: bytes
    ) -> tuple[int, bytes | None] | None:
        if call == "alias":
            subjects = subjects_of(msgspec.json.decode(payload))
        else:
            stored = (("user", user_id), ("anonymous", anonymous_id))
            subjects = (Subject(kind, text) for kind, text in stored if text)  # type: ignore[arg-type]
        if not self._forgotten.is_theirs(subjects):
            return None
        pseudonyms = self._forgotten.pseudonyms
        if pseudonyms is None or self._part != "messages":
            return seq, None
        return seq, encode_json(pseudonymized(_digits_kept.decode(payload), dict(pseudonyms)))

    def _apply(self, changes: Sequence[tuple[int, bytes | None]], schema: int) -> None:
        deleted = [seq for seq, payload in changes if payload is None]
        changed = [(seq, payload) for seq, payload in changes if payload is not None]
        where, values = "WHERE seq IN (SELECT value FROM json_each(?))", (json_array(deleted),)
        with self._shared.use() as connection:
            is_messages = self._part == "messages"
            entries = deduplication.read_entries(connection, where, values) if is_messages and deleted else ""
            connection.execute("BEGIN IMMEDIATE")
            try:
                # The window was read from the log as it was: in another log these numbers are of other messages.
                check_schema(schema, schema_of(connection))
                if entries:
                    deduplication.remove(connection, entries)
                if self._part in _BOUNDED:
                    self._count_less(
                        connection, "bytes", f"SELECT coalesce(sum(size), 0) FROM {self._part} {where}", values
                    )
                count = connection.execute(f"DELETE FROM {self._part} {where}", values).rowcount
                self._count_less(connection, "count", "SELECT ?", (count,))
                for seq, payload in changed:
                    self._rewrite(connection, seq, payload)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def _rewrite(self, connection: sqlite3.Connection, seq: int, payload: bytes) -> None:
        if self._part == "messages":
            message = msgspec.json.decode(payload)
            connection.execute(_RENAME, (message.get("userId"), message.get("anonymousId"), payload, seq))
            return
        (before,) = connection.execute(
            f"SELECT length(payload) FROM {self._part} WHERE seq = ?", (seq,)
        ).fetchone() or (0,)
        less = before - len(payload)
        connection.execute(f"UPDATE {self._part} SET payload = ?, size = size - ? WHERE seq = ?", (payload, less, seq))
        self._count_less(connection, "bytes", "SELECT ?", (less,))

    def _count_less(self, connection: sqlite3.Connection, counter: str, query: str, values: tuple[object, ...]) -> None:
        connection.execute(
            f"UPDATE counters SET value = value - ({query}) WHERE name = ?", (*values, f"{self._part}.{counter}")
        )


_LIKE_MESSAGES = ("messages", "duplicates")
_BOUNDED = ("duplicates", "rejected", "quarantine")
_OF_MESSAGES = "seq, source_id, call, user_id, anonymous_id, payload"
_COLUMNS = {
    "messages": _OF_MESSAGES,
    "duplicates": _OF_MESSAGES,
    "rejected": "seq, source_id, payload",
    "quarantine": "seq, NULL, payload",
}
_RENAME = "UPDATE messages SET user_id = ?, anonymous_id = ?, payload = ?, cautions = NULL WHERE seq = ?"
_digits_kept = msgspec.json.Decoder(float_hook=msgspec.Raw)
