"""Helpers of the tests of warehouses: messages, and what a database holds beside what it should."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

from adapter_helpers import KEY, VECTORS, serve, zipped
from delivery_helpers import NOON
from postgres_cluster import Database
from trackcore_postgres import PostgresWarehouse, SentMessage
from warehouse_oracle import Stored, Tables, expected_tables

from trackcore import Envelope, JSONObject, MemorySink, format_timestamp
from trackcore.warehouse import WarehouseOptions

SOURCE, SCHEMA = "My Website", "my_website"
EVENTS = ("Order Paid", "order_paid", "Users", "Заказ", "Page Opened", "e" * 80, "2FA Enabled")
VALUES: Sequence[Any] = (5, 2**63, 14.99, 14.0, True, "x", "", "true", "42", "2026-01-31T12:00:00Z", "2026-01-31")
VALUES = (*VALUES, None, ["a", {"b": 1.5}], {"city": "Paris", "geo": {"lat": 48.8}}, [], "a\0b", "é", "\\N", "a\tb\nc")
NAMES = (
    "total",
    "Total",
    "coupon",
    "address",
    "when",
    "is_ok",
    "user_id",
    "xmin",
    "ключ",
    "n" * 80,
    'a"b',
    "context_ip",
)
HOSTILE_TEXTS = (
    '"; DROP TABLE tracks; --',
    "'); DROP TABLE tracks; --",
    "\\N",
    "a\0b",
    "%s %(x)s",
    "x" * 300,
    "\\.",
    "\t\n",
)
"""Names and values from a client that wants to be SQL, or lines of COPY."""


def message(number: int, call: str = "track", **fields: Any) -> JSONObject:
    """Build a message as it is stored."""
    received_at = NOON + timedelta(seconds=number // 3)
    own = {"event": "Order Paid"} if call == "track" else {}
    return {
        "type": call,
        "messageId": f"m{number}",
        "userId": f"user-{number % 7}",
        "receivedAt": format_timestamp(received_at),
        "timestamp": format_timestamp(received_at),
        **own,
        **fields,
    }


def generated(count: int, *, first: int = 0, seed: int = 17) -> list[JSONObject]:
    """Build messages of all calls at random, with values of all types and names of all sorts."""
    random = Random(seed + first)

    def values() -> JSONObject:
        return {random.choice(NAMES): random.choice(VALUES) for _ in range(random.randint(0, 4))}

    made = []
    for number in range(first, first + count):
        call = random.choices(("track", "identify", "page", "screen", "group", "alias"), (60, 15, 10, 5, 5, 5))[0]
        fields: JSONObject = {"context": {"ip": "1.1.1.1", "page": {"url": "/"}, "library": {"name": "x"}, **values()}}
        if call in ("track", "page", "screen"):
            fields["properties"] = values()
        else:
            fields["traits"] = values()
        if call == "track":
            fields["event"] = random.choice(EVENTS)
        if call == "group":
            fields["groupId"] = f"group-{random.randint(0, 3)}"
        if call == "alias":
            fields["previousId"] = "old"
        made.append(message(number, call, **fields))
    return made


def payload_of(sent: JSONObject) -> bytes:
    try:
        return json.dumps(sent, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:  # an unpaired surrogate, which only an escape can express
        return json.dumps(sent).encode()


def as_log(sent: Iterable[JSONObject], source: str = SOURCE) -> list[Stored]:
    """Return messages as a log has them."""
    return [Stored(seq, source, payload_of(one)) for seq, one in enumerate(sent, 1)]


def as_envelopes(
    sent: Iterable[JSONObject], source: str = SOURCE, destinations: Sequence[str] = ("There",)
) -> list[Envelope]:
    """Return messages as they are stored in a log."""
    return [
        Envelope(
            source,
            one["messageId"],
            one["type"],
            one.get("userId"),
            None,
            datetime.fromisoformat(one["receivedAt"]).astimezone(UTC),
            tuple(destinations),
            (),
            payload_of(one),
        )
        for one in sent
    ]


def sent_messages(log: Iterable[Stored]) -> list[SentMessage]:
    """Return messages of a log as a warehouse gets them."""
    sent = []
    for seq, source, payload in log:
        decoded = json.loads(payload)
        sent.append(SentMessage(seq, source, decoded["messageId"], NOON, payload))
    return sent


def load(database: Database, log: Sequence[Stored], *, batch: int = 100, **options: Any) -> list[str]:
    """Load messages in batches; return why some were refused."""
    warehouse = PostgresWarehouse(destination="There", url=database.url, options=WarehouseOptions(**options))
    refused = []
    for start in range(0, len(log), batch):
        refused += [one.detail for one in warehouse.load(sent_messages(log[start : start + batch]))]
    warehouse.close()
    return refused


def held_tables(database: Database, schema: str = SCHEMA) -> Tables:
    """Return the rows of all tables."""
    return {table: comparable(database.table(schema, table)) for table in sorted(database.tables(schema))}


def comparable(table: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return rows in which arrays are compared by their value: there are several ways to write one."""

    def parsed(value: Any) -> Any:
        if isinstance(value, str) and value.startswith("["):
            with suppress(ValueError):  # text of a client that looks like an array
                return json.loads(value)
        return value

    return {key: {name: parsed(one) for name, one in row.items()} for key, row in table.items()}


def check_against_log(database: Database, log: Sequence[Stored], schema: str = SCHEMA) -> None:
    """Check that a database has exactly the rows of a log."""
    expected = {table: comparable(rows) for table, rows in sorted(expected_tables(log).items())}
    held = held_tables(database, schema)
    assert held.keys() == expected.keys()
    for table, rows in expected.items():
        assert held[table] == rows, table


# Messages of requests

Request = tuple[str, bytes, Mapping[str, str]]


def received(requests: Iterable[Request]) -> list[Stored]:
    """Return what a server stores of requests, as messages of one source."""
    sink = MemorySink()
    server = serve(sink)
    for path, body, headers in requests:
        server.post(path, body, headers={**KEY, **headers})
    return [Stored(seq, SOURCE, envelope.payload) for seq, envelope in enumerate(sink.envelopes, 1)]


def api_examples() -> list[Request]:
    """Return the requests of the examples of the page on the API."""
    examples = json.loads((VECTORS / "api-page-examples.json").read_text())
    return [(f"/v1/{one['call']}", json.dumps(one["body"]).encode(), {}) for one in examples]


def sdk_requests() -> list[Request]:
    """Return all recorded requests of SDKs."""
    return list(map(_request, sorted((VECTORS / "sdk-captures").glob("*.json"))))


def _request(capture: Path) -> tuple[str, bytes, Mapping[str, str]]:
    recorded = json.loads(capture.read_text("utf-8"))
    body = recorded["body"].encode()
    headers = {name.lower(): value for name, value in recorded["headers"]}
    is_zipped = headers.get("content-encoding") == "gzip"
    sent = zipped(body) if is_zipped else body
    return recorded["request_line"].split()[1], sent, {**headers, "content-length": str(len(sent))}
