"""Messages into PostgreSQL: rows and messages a second, CPU time, and memory, beside COPY of the same rows alone.

    python benchmarks/warehouse.py postgresql://user@127.0.0.1/empty_database

The floor is COPY of the very same rows into empty tables like those that loading has made, keys included, in as many
transactions: no message is decoded, nothing is looked up.  Both run in this process with one connection, so the CPU
time is that of this process, and the rest is PostgreSQL's.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from trackcore_postgres import PostgresWarehouse, SentMessage

from trackcore import format_timestamp
from trackcore.text import encode_json

_START = datetime(2026, 1, 31, 12, tzinfo=UTC)
_SCHEMA = "website"
_KINDS = ("track", "track", "page", "track", "track", "identify", "track", "track", "page", "track")
_EVENTS = ("Product Viewed", "Product Added", "Order Completed", "Signed Up", "Search Performed")


def messages(count: int) -> Iterator[SentMessage]:
    """Yield messages of a web shop: 70 % tracks, 20 % pages, 10 % identifies, of 2,000 users."""
    for number in range(count):
        received_at = _START + timedelta(milliseconds=10 * number)
        text = format_timestamp(received_at)
        message: dict[str, Any] = {
            "type": "track",
            "messageId": f"ajs-next-{number:012d}-6f1c",
            "anonymousId": f"b1f6-{number % 3000}",
            "userId": f"user-{number % 2000}",
            "timestamp": text,
            "originalTimestamp": text,
            "sentAt": text,
            "receivedAt": text,
            "context": {
                "ip": "203.0.113.7",
                "locale": "en-US",
                "userAgent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0",
                "library": {"name": "analytics.js", "version": "npm:next-1.70.0"},
                "page": {
                    "path": f"/products/{number % 500}",
                    "referrer": "",
                    "search": "",
                    "title": "Shop",
                    "url": f"https://example.com/products/{number % 500}",
                },
            },
        }
        kind = _KINDS[number % len(_KINDS)]
        if kind == "track":
            message["event"] = _EVENTS[number % 5]
            message["properties"] = {
                "product_id": f"p{number % 500}",
                "price": number % 100 + 0.5,
                "quantity": number % 3,
                "currency": "EUR",
                "is_new": number % 2 == 0,
            }
        elif kind == "page":
            message |= {"type": "page", "name": "Product", "properties": {"path": "/products", "title": "Shop"}}
        else:
            message |= {"type": "identify", "traits": {"email": f"u{number % 2000}@example.com", "plan": "pro"}}
        yield SentMessage(number + 1, "website", message["messageId"], received_at, encode_json(message))


def load(url: str, count: int, size: int) -> tuple[float, float]:
    """Load messages in batches, report the memory on the way, and return the time and the CPU time of loading."""
    warehouse = PostgresWarehouse(destination="Benchmark", url=url)
    elapsed = cpu = 0.0
    batch: list[SentMessage] = []
    for number, message in enumerate(messages(count), 1):
        batch.append(message)
        if len(batch) == size or number == count:
            started, cpu_started = time.perf_counter(), time.process_time()
            assert not warehouse.load(batch)
            elapsed += time.perf_counter() - started
            cpu += time.process_time() - cpu_started
            batch.clear()
        if number % max(count // 5, 1) == 0:
            print(f"  {number:>9,} messages: {_memory_mib():.0f} MiB")
    warehouse.close()
    return elapsed, cpu


def copy_alone(url: str, batches: int) -> tuple[int, float, float]:
    """Copy the rows of all tables into others of their form, and return their number, the time and the CPU time."""
    count, elapsed, cpu = 0, 0.0, 0.0
    with psycopg.connect(url, autocommit=True) as connection:
        names = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", [_SCHEMA]).fetchall()
        rows: dict[str, list[tuple[Any, ...]]] = {}
        for (table,) in names:
            name, copy = f'"{_SCHEMA}"."{table}"', f'"copy_of_{table}"'
            rows[copy] = connection.execute(f"SELECT * FROM {name}".encode()).fetchall()
            connection.execute(f"CREATE TABLE {copy} (LIKE {name} INCLUDING ALL)".encode())
        for batch in range(batches):
            parts = {copy: _part(found, batch, batches) for copy, found in rows.items()}
            started, cpu_started = time.perf_counter(), time.process_time()
            with connection.transaction():
                for copy, part in parts.items():
                    with connection.cursor() as cursor, cursor.copy(f"COPY {copy} FROM STDIN".encode()) as writer:
                        for row in part:
                            writer.write_row(row)
            elapsed += time.perf_counter() - started
            cpu += time.process_time() - cpu_started
            count += sum(map(len, parts.values()))
    return count, elapsed, cpu


def _part(rows: list[tuple[Any, ...]], number: int, count: int) -> list[tuple[Any, ...]]:
    return rows[len(rows) * number // count : len(rows) * (number + 1) // count]


def _memory_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="an empty database")
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--batch", type=int, default=2_000)
    arguments = parser.parse_args()
    print(f"Loading, {arguments.batch:,} messages in a batch")
    elapsed, cpu = load(arguments.url, arguments.messages, arguments.batch)
    rows, copy_elapsed, copy_cpu = copy_alone(arguments.url, -(-arguments.messages // arguments.batch))
    loaded, copied = rows / elapsed, rows / copy_elapsed
    print(f"{arguments.messages:,} messages, {rows:,} rows in the end")
    print(f"loading    {loaded:>9,.0f} rows/s, {arguments.messages / elapsed:,.0f} messages/s,", end=" ")
    print(f"{cpu / arguments.messages * 1e6:.0f} us of CPU for each message")
    print(f"COPY alone {copied:>9,.0f} rows/s, {copy_cpu / rows * 1e6:.1f} us of CPU for each row")
    print(f"ratio      {loaded / copied:.2f}")


if __name__ == "__main__":
    main()
