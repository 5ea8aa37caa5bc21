"""Messages into a warehouse: rows a second, CPU time and memory, beside COPY of the same rows alone.

    python benchmarks/warehouse.py postgresql://user@127.0.0.1/empty_database --messages 1000000

Each part is a process of its own:

- PostgreSQL is loaded by `trackcore_postgres`, in one connection; the CPU time is that of this process, and the rest is
  PostgreSQL's.
- COPY alone is the floor, and the measure of the others: the very same rows into empty tables like those that loading
  has made, keys included, in as many transactions.  No message is decoded, nothing is looked up.
- Parquet files are put into a folder by `trackcore_duckdb`, with the batches of that kind, small files merged; DuckDB
  runs in this process, with one thread.
- Parquet alone is what DuckDB needs to read these files and write their rows again.

Target: at least half of COPY alone, and memory that does not grow.  Exits 1 below.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import attrs
import duckdb
import psycopg
from trackcore_delivery import DeliveryBatch, FedMessage
from trackcore_duckdb import ParquetSender
from trackcore_objects.folder import FolderStore
from trackcore_postgres import PostgresWarehouse, SentMessage

from trackcore import format_timestamp
from trackcore.text import encode_json
from trackcore.warehouse import WarehouseOptions

TARGET = 0.5

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


@attrs.frozen(kw_only=True)
class Measured:
    """Measures of a part: rows, seconds, seconds of CPU of its process, and MiB of memory at a fifth and at the end."""

    rows: int
    elapsed: float
    cpu: float
    first_mib: float = 0.0
    last_mib: float = 0.0

    @property
    def rate(self) -> float:
        """Rows a second."""
        return self.rows / self.elapsed


@attrs.define
class Watch:
    """Adds up the time of some calls."""

    elapsed: float = 0.0
    cpu: float = 0.0

    def run(self, call: Callable[[], object]) -> None:
        """Call, and add its time."""
        started, cpu_started = time.perf_counter(), time.process_time()
        call()
        self.elapsed += time.perf_counter() - started
        self.cpu += time.process_time() - cpu_started


def in_batches(count: int, size: int, send: Callable[[list[SentMessage]], object]) -> Measured:
    """Send messages in batches; `rows` is left 0."""
    watch = Watch()
    memory: list[float] = []
    batch: list[SentMessage] = []
    for number, message in enumerate(messages(count), 1):
        batch.append(message)
        if len(batch) == size or number == count:
            watch.run(lambda: send(batch))
            batch.clear()
        if number % max(count // 5, 1) == 0 and watch.elapsed:
            memory.append(_memory_mib())
            print(f"  {number:>9,} messages: {memory[-1]:.0f} MiB", flush=True)
    return Measured(rows=0, elapsed=watch.elapsed, cpu=watch.cpu, first_mib=memory[0], last_mib=memory[-1])


def load(url: str, count: int, size: int) -> Measured:
    """Load messages into PostgreSQL."""
    warehouse = PostgresWarehouse(destination="Benchmark", url=url)

    def send(batch: list[SentMessage]) -> None:
        assert not warehouse.load(batch)

    measured = in_batches(count, size, send)
    warehouse.close()
    with psycopg.connect(url) as connection:
        rows = sum(_count(connection, table) for table in _tables(connection))
    return attrs.evolve(measured, rows=rows)


def copy_alone(url: str, batches: int) -> Measured:
    """Copy the rows of all tables into others of their form."""
    watch, rows = Watch(), 0
    with ExitStack() as opened:
        source = opened.enter_context(psycopg.connect(url))
        target = opened.enter_context(psycopg.connect(url, autocommit=True))
        parts: dict[str, tuple[Any, int]] = {}
        for table in _tables(source):
            name, copy = f'"{_SCHEMA}"."{table}"', f'"copy_of_{table}"'
            target.execute(f"CREATE TABLE {copy} (LIKE {name} INCLUDING ALL)".encode())
            count = _count(source, table)
            cursor = opened.enter_context(source.cursor(name=f"rows of {table}"))
            cursor.execute(f"SELECT * FROM {name}".encode())
            parts[copy] = cursor, -(-count // batches)
            rows += count
        for _ in range(batches):
            batch = {copy: cursor.fetchmany(size) for copy, (cursor, size) in parts.items()}
            watch.run(lambda: _copy(target, batch))  # noqa: B023 - called at once
    return Measured(rows=rows, elapsed=watch.elapsed, cpu=watch.cpu)


def _copy(target: psycopg.Connection[Any], batch: dict[str, list[tuple[Any, ...]]]) -> None:
    with target.transaction():
        for copy, part in batch.items():
            with target.cursor() as cursor, cursor.copy(f"COPY {copy} FROM STDIN".encode()) as writer:
                for row in part:
                    writer.write_row(row)


def _tables(connection: psycopg.Connection[Any]) -> list[str]:
    names = connection.execute(b"SELECT tablename FROM pg_tables WHERE schemaname = %s ORDER BY 1", [_SCHEMA])
    return [table for (table,) in names]


def _count(connection: psycopg.Connection[Any], table: str) -> int:
    found = connection.execute(f'SELECT count(*) FROM "{_SCHEMA}"."{table}"'.encode()).fetchone()
    return 0 if found is None else int(found[0])


def put(folder: Path, count: int, size: int) -> Measured:
    """Put messages as Parquet files.  The tables of the latest traits have a row for each message there."""
    sender = ParquetSender(store=FolderStore(folder), options=WarehouseOptions(), schema="{source}")

    def send(batch: list[SentMessage]) -> None:
        fed = [FedMessage(one.position, one.source, "", "track", *one[2:]) for one in batch]
        assert not sender.send(DeliveryBatch(destination="Benchmark", messages=fed))

    measured = in_batches(count, size, send)
    with duckdb.connect() as connection:
        files = f"read_parquet('{folder}/*/*/*/*.parquet', union_by_name = true)"
        (rows,) = connection.execute(f"SELECT count(*) FROM {files}").fetchall()[0]
    return attrs.evolve(measured, rows=rows)


def write_alone(folder: Path, target: Path) -> Measured:
    """Read Parquet files and write their rows again."""
    watch, rows = Watch(), 0
    with duckdb.connect(config={"threads": 1}) as connection:
        for file in sorted(folder.rglob("*.parquet")):
            copy = f"COPY (FROM '{file}') TO '{target}' (FORMAT parquet, COMPRESSION zstd)"
            watch.run(lambda: connection.execute(copy))  # noqa: B023 - called at once
            rows += connection.execute(f"SELECT count(*) FROM '{target}'").fetchall()[0][0]
    return Measured(rows=rows, elapsed=watch.elapsed, cpu=watch.cpu)


def _memory_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


_T = TypeVar("_T")


def apart(call: Callable[..., _T], *arguments: Any) -> _T:
    """Call in a process of its own, whose memory is that of this call alone."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(call, *arguments).result()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="an empty database")
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--batch", type=int, default=2_000, help="messages of a batch for PostgreSQL")
    parser.add_argument("--parquet-batch", type=int, default=50_000, help="messages of a batch for Parquet")
    parser.add_argument("--folder", help="for Parquet files; a temporary one by default")
    arguments = parser.parse_args()
    count = arguments.messages
    print(f"PostgreSQL, {arguments.batch:,} messages in a batch")
    loaded = apart(load, arguments.url, count, arguments.batch)
    copied = apart(copy_alone, arguments.url, -(-count // arguments.batch))
    with TemporaryDirectory(dir=arguments.folder) as folder:
        print(f"Parquet, {arguments.parquet_batch:,} messages in a batch")
        files, target = Path(folder, "files"), Path(folder, "alone.parquet")
        stored = apart(put, files, count, arguments.parquet_batch)
        written = apart(write_alone, files, target)
    print(f"{count:,} messages; CPU of each for the process that loads")
    parts = {"PostgreSQL": loaded, "COPY alone": copied, "Parquet": stored, "Parquet alone": written}
    for name, part in parts.items():
        print(
            f"{name:<13} {part.rows:>11,} rows {part.rate:>9,.0f} rows/s {count / part.elapsed:>8,.0f} messages/s",
            end="",
        )
        print(f" {part.cpu / count * 1e6:>6.1f} us of CPU {part.rate / copied.rate:>6.2f} of COPY alone")
    is_flat = all(part.last_mib < part.first_mib * 1.2 for part in (loaded, stored))
    print(f"memory {'is flat' if is_flat else 'GROWS'}")
    return 0 if is_flat and min(loaded.rate, stored.rate) >= TARGET * copied.rate else 1


if __name__ == "__main__":
    sys.exit(main())
