"""The rows of a batch as lines of JSON in temporary files, one for each table, from which DuckDB reads them.

A batch has a row or two for each message, and a row dozens of values: in memory that is several times the batch itself.
So rows are encoded as they are made, and each file is written in pieces.

Lines fit their columns whatever happens to those later in the batch: DuckDB reads the integers of a column that was
widened as numbers, and booleans and times as text.  So a time that could become text is written as that text
(`trackcore.warehouse.text_of`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import attrs
import msgspec
from trackcore_delivery import FedMessage

from trackcore.warehouse import (
    DISCARDS_TABLE,
    PROFILE_TABLES,
    ColumnType,
    Discard,
    Schema,
    Value,
    read_rows,
    schema_name,
    storable,
    text_of,
)

_PIECE_BYTES = 1 << 18
"""How much of a file is kept in memory before it is written."""

SQL_TYPES: Mapping[ColumnType, str] = {
    ColumnType.TEXT: "VARCHAR",
    ColumnType.INTEGER: "BIGINT",
    ColumnType.FLOAT: "DOUBLE",
    ColumnType.BOOLEAN: "BOOLEAN",
    ColumnType.TIMESTAMP: "TIMESTAMP WITH TIME ZONE",
}

DISCARD_COLUMNS: Mapping[str, ColumnType] = {
    "message_id": ColumnType.TEXT,
    "table_name": ColumnType.TEXT,
    "number": ColumnType.INTEGER,
    "column_name": ColumnType.TEXT,
    "column_value": ColumnType.TEXT,
    "reason": ColumnType.TEXT,
    "received_at": ColumnType.TIMESTAMP,
}
"""The columns of the table of discards, whose key are the first three."""


class StoredRow(NamedTuple):
    """A row as it is stored, and its message, without the payload and with an id as it is stored."""

    message: FedMessage
    table: str
    values: Mapping[str, Value]


class Unreadable(NamedTuple):
    """A message that is not a JSON object, by its place in the batch: only another program can have stored it."""

    place: int
    detail: str


Numbered = tuple[int, FedMessage]
"""A message with its place in the batch."""


def by_schema(messages: Sequence[FedMessage], pattern: str) -> Mapping[str, Sequence[Numbered]]:
    """Return messages by the schema of their source."""
    found: dict[str, list[Numbered]] = {}
    names: dict[str, str] = {}
    for index, message in enumerate(messages):
        if message.source not in names:
            names[message.source] = schema_name(message.source, pattern)
        found.setdefault(names[message.source], []).append((index, message))
    return found


@attrs.define
class RowReader:
    """Makes the rows of messages of one source, and its schema fit for them."""

    schema: Schema
    unreadable: list[Unreadable] = attrs.field(init=False, factory=list)

    def read(self, messages: Iterable[Numbered]) -> Iterator[StoredRow]:
        """Yield the rows of messages."""
        for index, message in messages:
            try:
                made = read_rows(message.payload, self.schema.options)
            except ValueError as error:
                self.unreadable.append(Unreadable(index, str(error)))
                continue
            short = message._replace(payload=b"", message_id=storable(message.message_id))
            for row in made:
                merged = self.schema.merge(row)
                if merged.values:
                    yield StoredRow(short, row.table, merged.values)
                if merged.discards:
                    yield from _discarded(short, row.table, merged.discards)


def _discarded(message: FedMessage, table: str, discards: Sequence[Discard]) -> Iterator[StoredRow]:
    for number, discard in enumerate(discards):
        values: dict[str, Value] = {
            "message_id": message.message_id,
            "table_name": table,
            "number": number,
            "column_name": discard.column,
            "column_value": discard.value,
            "reason": str(discard.reason),
            "received_at": message.received_at,
        }
        yield StoredRow(message, DISCARDS_TABLE, values)


def columns_of(schema: Schema, table: str) -> Mapping[str, ColumnType]:
    """Return the columns of a table."""
    return DISCARD_COLUMNS if table == DISCARDS_TABLE else schema.tables[table]


def message_id_column(table: str) -> str:
    """Return the column that has the id of the message of a row, in files."""
    if table in PROFILE_TABLES:
        return MESSAGE_ID
    return "message_id" if table == DISCARDS_TABLE else "id"


POSITION = "_position"
MESSAGE_ID = "_message_id"
"""In files of the latest traits: which message a row is from.  No slug begins with `_`."""

PROFILE_FILE_COLUMNS: Mapping[str, ColumnType] = {POSITION: ColumnType.INTEGER, MESSAGE_ID: ColumnType.TEXT}


@attrs.define
class Lines:
    """A temporary file of rows.  `messages` are those that have rows in it, each once."""

    path: Path
    messages: list[FedMessage] = attrs.field(init=False, factory=list)
    _last: FedMessage | None = attrs.field(init=False, default=None)
    _piece: bytearray = attrs.field(init=False, factory=bytearray)

    def add(self, message: FedMessage, values: Mapping[str, Any]) -> None:
        """Add a row."""
        if message is not self._last:
            self._last = message
            self.messages.append(message)
        _encoder.encode_into(_plain(values), self._piece, -1)
        self._piece += b"\n"
        if len(self._piece) >= _PIECE_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is kept in memory."""
        with self.path.open("ab") as stream:
            stream.write(self._piece)
        self._piece.clear()


_encoder = msgspec.json.Encoder()
_STANDARD_TIMES = frozenset({"received_at", "sent_at", "timestamp", "original_timestamp"})


def _plain(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return values to be encoded.  Only standard columns of times are encoded as such: they stay what they are."""
    times = [name for name, value in values.items() if value.__class__ is datetime and name not in _STANDARD_TIMES]
    return {**values, **{name: text_of(values[name]) for name in times}} if times else values
