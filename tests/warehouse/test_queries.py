"""The ten queries of the page "Ask your warehouse", on PostgreSQL and on DuckDB, with results that are known."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from pages import page
from postgres_cluster import Cluster
from trackcore_delivery import DeliveryBatch, FedMessage, Sender, SenderContext
from trackcore_delivery.secret import Secret
from trackcore_server.config.file_destinations import DuckDBDestination
from trackcore_server.config.postgres_destination import PostgresDestination
from warehouse_helpers import payload_of

from trackcore import JSONObject, format_timestamp

MONDAY = datetime(2026, 1, 5, 9, tzinfo=UTC)
QUERIES = {fence.heading: fence.text for fence in page("guides/ask-your-warehouse").fences if fence.language == "sql"}


def log() -> Iterator[JSONObject]:
    """Yield the messages of two people: Ada comes by a campaign and buys twice, Bob only looks."""

    def at(**later: float) -> JSONObject:
        return {"timestamp": format_timestamp(MONDAY + timedelta(**later))}

    def view(path: str, **fields: Any) -> JSONObject:
        context = {"page": {"path": path}, **fields.pop("context", {})}
        return {"type": "page", "context": context, **fields}

    def event(name: str, **properties: Any) -> JSONObject:
        return {"type": "track", "event": name, "userId": "ada", "properties": properties}

    campaign = {"campaign": {"source": "news"}}
    yield view("/", userId="ada", context=campaign) | at()
    yield view("/shoes", userId="ada") | at(minutes=10)
    yield event("Product Viewed") | at(minutes=10)
    yield event("Product Added") | at(minutes=12)
    yield event("Order Completed", orderId="o1", revenue=10) | at(hours=2)
    yield view("/", userId="ada") | at(hours=2)
    yield event("Order Completed", orderId="o2", revenue=14.5) | at(days=8)
    yield view("/", userId="ada") | at(days=8)
    yield {"type": "identify", "userId": "ada", "traits": {"plan": "free"}} | at(days=1)
    yield {"type": "identify", "userId": "ada", "traits": {"plan": "pro"}} | at(days=2)
    yield view("/", anonymousId="bob") | at(days=1)
    yield event("Product Viewed") | {"userId": None, "anonymousId": "bob"} | at(days=1)
    yield event("Order Completed", orderId="o1", revenue="?") | {"userId": "eve"} | at(days=9)


def batch() -> DeliveryBatch:
    messages = []
    for number, sent in enumerate(log(), 1):
        received_at = MONDAY + timedelta(seconds=number)
        whole = {"messageId": f"m{number}", "receivedAt": format_timestamp(received_at), **sent}
        messages.append(FedMessage(number, "website", "", sent["type"], f"m{number}", received_at, payload_of(whole)))
    return DeliveryBatch(destination="W", messages=messages)


def fill(sender: Sender) -> None:
    assert not sender.send(batch())
    sender.close()


Ask = Any


@pytest.fixture(name="ask", scope="module", params=["postgres", "duckdb"])
def _ask(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Return a function that runs a query, on one database or the other."""
    folder = tmp_path_factory.mktemp("queries")
    context = SenderContext(clock=lambda: MONDAY, environ={}, folder=folder)
    if request.param == "postgres":
        cluster: Cluster = request.getfixturevalue("cluster")
        database = cluster.database()
        fill(PostgresDestination(name="W", url=Secret(database.url)).make_sender(context))
        yield lambda query: list(map(plain, database.rows(query)))
        return
    fill(DuckDBDestination(name="W", path=Path("w.duckdb")).make_sender(context))
    with duckdb.connect(str(folder / "w.duckdb"), read_only=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        yield lambda query: list(map(plain, connection.execute(_without_zones(connection, query)).fetchall()))


def _without_zones(connection: duckdb.DuckDBPyConnection, query: str) -> str:
    """Return a query whose times have no zone: DuckDB needs another library to return one that has."""
    columns = connection.execute(f"DESCRIBE {query}").fetchall()
    casts = [f"CAST({name} AS TIMESTAMP)" if "ZONE" in column_type else name for name, column_type, *_ in columns]
    return f"SELECT {', '.join(casts)} FROM ({query})"


def plain(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return values by what they are, since the databases differ in the types of numbers."""
    return tuple(
        float(one) if isinstance(one, Decimal | int) else str(one)[:16] if one and not isinstance(one, float) else one
        for one in row
    )


EXPECTED: dict[str, list[tuple[Any, ...]]] = {
    "Events by day": [
        ("2026-01-05", "order_completed", 1),
        ("2026-01-05", "product_added", 1),
        ("2026-01-05", "product_viewed", 1),
        ("2026-01-06", "product_viewed", 1),
        ("2026-01-13", "order_completed", 1),
        ("2026-01-14", "order_completed", 1),
    ],
    "Daily active users": [("2026-01-05", 1), ("2026-01-06", 1), ("2026-01-13", 1), ("2026-01-14", 1)],
    "Funnel": [(2, 1, 1)],
    "Retention by week": [("2026-01-05", 0, 2), ("2026-01-05", 1, 1)],
    "First touch": [("news", 1, 24.5)],
    "Sessions": [
        ("ada", 1, "2026-01-05 09:00", "2026-01-05 09:10", 2),
        ("ada", 2, "2026-01-05 11:00", "2026-01-05 11:00", 1),
        ("bob", 1, "2026-01-06 09:00", "2026-01-06 09:00", 1),
        ("ada", 3, "2026-01-13 09:00", "2026-01-13 09:00", 1),
    ],
    "Top pages": [("/", 4, 2), ("/shoes", 1, 1)],
    "Revenue by plan": [("pro", 1, 24.5), ("(none)", 1, None)],
    "From the first visit to the order": [(2.0,)],
    "Values that were discarded": [("order_completed", "revenue", "does_not_fit", 1)],
}


def test_there_are_ten() -> None:
    assert QUERIES.keys() == EXPECTED.keys()
    assert len(QUERIES) == 10


@pytest.mark.parametrize("heading", EXPECTED)
def test_a_query_answers(ask: Ask, heading: str) -> None:
    found = ask(QUERIES[heading])
    if heading == "Revenue by plan":  # the databases sort null elsewhere
        found.sort(key=lambda row: row[0] == "(none)")
    assert found == EXPECTED[heading]
