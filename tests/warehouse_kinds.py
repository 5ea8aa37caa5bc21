"""The three kinds of warehouses for one test: how each is filled, and what it holds then."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from pathlib import Path
from typing import Any

import attrs
from delivery_helpers import sender_context
from lake_readers import READERS
from postgres_cluster import Database
from trackcore_delivery import DeliveryBatch, FedMessage, Secret, Sender
from trackcore_server.config.file_destinations import DuckDBDestination, ParquetDestination
from trackcore_server.config.postgres_destination import PostgresDestination
from warehouse_helpers import SCHEMA, comparable
from warehouse_oracle import Stored, expected_tables

Rows = dict[Any, dict[str, Any]]
KINDS = ("postgres", "parquet", "duckdb")


@attrs.frozen
class Place:
    """An empty warehouse of a kind."""

    kind: str
    folder: Path
    database: Database

    def sender(self, **options: Any) -> Sender:
        """Make a sender as a new process does."""
        context = sender_context(self.folder)
        if self.kind == "postgres":
            return PostgresDestination(name="There", url=Secret(self.database.url), **options).make_sender(context)
        if self.kind == "parquet":
            return ParquetDestination(name="There", location="out", **options).make_sender(context)
        return DuckDBDestination(name="There", path=Path("out.duckdb"), **options).make_sender(context)

    def fill(self, messages: list[FedMessage], size: int) -> None:
        """Send messages in batches."""
        sender = self.sender()
        for start in range(0, len(messages), size):
            batch = DeliveryBatch(destination="There", messages=messages[start : start + size])
            assert list(sender.send(batch)) == []
        sender.close()

    def tables(self) -> dict[str, Rows]:
        """Return the rows of each table by their key, each of which is there once."""
        if self.kind == "postgres":
            keys = {**dict.fromkeys(self.database.tables(SCHEMA), ("id",)), "_discards": DISCARD_KEY}
            return {table: self.database.table(SCHEMA, table, *key) for table, key in keys.items()}
        found = READERS[self.kind].tables(self.folder, SCHEMA)
        return {table: _by_key(rows, DISCARD_KEY if table == "_discards" else ("id",)) for table, rows in found.items()}

    def check(self, log: Iterable[Stored]) -> None:
        """Check that the tables have exactly the rows that the rules say for a log."""
        held = {table: comparable(rows) for table, rows in self.tables().items() if table != "_discards"}
        expected = {table: comparable(rows) for table, rows in expected_tables(log).items()}
        assert held.keys() == expected.keys()
        for table, rows in expected.items():
            assert held[table] == rows, table


DISCARD_KEY = ("message_id", "table_name", "number")


def _by_key(rows: Sequence[Mapping[str, Any]], key: tuple[str, ...]) -> Rows:
    found = {itemgetter(*key)(row): dict(row) for row in rows}
    assert len(found) == len(rows)
    return found


def as_fed(log: Iterable[Stored]) -> list[FedMessage]:
    """Return messages of a log as a sender gets them."""
    made = []
    for seq, source, payload in log:
        message = json.loads(payload)
        user, received_at = message.get("userId") or "", datetime.fromisoformat(message["receivedAt"])
        made.append(FedMessage(seq, source, user, message["type"], message["messageId"], received_at, payload))
    return made
