"""How readers see the tables: Parquet files and databases, by DuckDB, with the queries of the documentation."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import duckdb
from delivery_helpers import NOON, sender_context
from trackcore_delivery import DeliveredDestination, DeliveryBatch, FedMessage, Sender
from trackcore_server.config.file_destinations import DuckDBDestination, ParquetDestination

from trackcore import JSONObject, format_timestamp

RowDict = dict[str, Any]
FOLDER_KEYS = ("trackcore_source", "trackcore_table", "received_day")
LATEST = (
    "SELECT id, arg_max(COLUMNS(* EXCLUDE (id, _position, _message_id)), (received_at, _position)) FROM {} GROUP BY id"
)


def fed_message(position: int, message: JSONObject, *, source: str = "web", received_at: datetime = NOON) -> FedMessage:
    """Return a message as a sender gets it; it gets what every stored message has."""
    stored = {"messageId": f"m{position}", "receivedAt": format_timestamp(received_at), **message}
    payload = json.dumps(stored).encode()
    return FedMessage(position, source, "", stored["type"], stored["messageId"], received_at, payload)


def track(event: str, **properties: Any) -> JSONObject:
    return {"type": "track", "event": event, "properties": properties}


def identify(user: str, **traits: Any) -> JSONObject:
    return {"type": "identify", "userId": user, "traits": traits}


def send(sender: Sender, messages: Sequence[FedMessage]) -> None:
    assert list(sender.send(DeliveryBatch(destination="There", messages=messages))) == []


@attrs.frozen(kw_only=True)
class Reader:
    """A kind of destination, and how to read its tables: without columns that have no value in any row."""

    destination: Callable[..., DeliveredDestination]
    tables: Callable[[Path, str], Mapping[str, list[RowDict]]]

    def sender(self, folder: Path, **settings: Any) -> Sender:
        return self.destination(**settings).make_sender(sender_context(folder))

    def table(self, folder: Path, table: str, source: str = "web") -> list[RowDict]:
        return self.tables(folder, source)[table]


def parquet(**settings: Any) -> ParquetDestination:
    return ParquetDestination(name="There", **{"location": "out", **settings})


def database(**settings: Any) -> DuckDBDestination:
    return DuckDBDestination(name="There", path=Path("out.duckdb"), **settings)


def parquet_tables(folder: Path, source: str = "web") -> dict[str, list[RowDict]]:
    """Read all tables of Parquet files."""
    found: dict[str, list[RowDict]] = {}
    with duckdb.connect(config={"threads": 1}) as connection:
        for path in sorted((folder / "out" / f"trackcore_source={source}").glob("trackcore_table=*")):
            table = path.name.partition("=")[2]
            files = f"read_parquet('{path}/**/*.parquet', hive_partitioning = true, union_by_name = true)"
            select = f"SELECT * EXCLUDE ({', '.join(FOLDER_KEYS)}) FROM {files}"  # noqa: S608 - names of tests
            if table in {"users", "accounts"}:
                select = LATEST.format(f"({select})")
            found[table] = rows_of(connection, select)
    return found


def database_tables(folder: Path, source: str = "web") -> dict[str, list[RowDict]]:
    """Read all tables of a database."""
    with duckdb.connect(str(folder / "out.duckdb"), read_only=True) as connection:
        named = connection.execute("SELECT table_name FROM duckdb_tables() WHERE schema_name = ?", [source])
        return {table: rows_of(connection, f'FROM "{source}"."{table}"') for (table,) in named.fetchall()}


def rows_of(connection: duckdb.DuckDBPyConnection, query: str) -> list[RowDict]:
    """Return the rows of a query in an order of their own, each without what is null and without bookkeeping."""
    types = {name: kind for name, kind, *_ in connection.execute(f"DESCRIBE {query}").fetchall()}
    times = {name for name, kind in types.items() if kind == "TIMESTAMP WITH TIME ZONE"}
    cells = [f"\"{name}\" AT TIME ZONE 'UTC'" if name in times else f'"{name}"' for name in types]
    found = connection.execute(f"SELECT {', '.join(cells)} FROM ({query})")  # noqa: S608 - names of tests
    rows = [
        {
            name: value.replace(tzinfo=UTC) if name in times else value
            for name, value in zip(types, row, strict=True)
            if value is not None and name != "_stamps"
        }
        for row in found.fetchall()
    ]
    return sorted(rows, key=lambda row: sorted((name, repr(value)) for name, value in row.items()))


READERS = {
    "parquet": Reader(destination=parquet, tables=parquet_tables),
    "duckdb": Reader(destination=database, tables=database_tables),
}
