"""The speed of writing and reading the log in Kafka, on three real brokers that share this machine with the client.

    python benchmarks/kafka.py [--seconds 10]

It needs Java 17 and Maven, as `poe kafka` does.  The brokers take most of the processors here, so the rates are
those of one small machine with everything on it; the processor time of a message is the client's alone, and is what a
separate server would spend.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import attrs

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from kafka_brokers.brokers import Brokers, why_not
from trackcore_kafka import KafkaCluster, KafkaGroupReader, KafkaLog, KafkaSink, KafkaTopics

from trackcore import Envelope, Query

USERS = 5_000
PROPERTIES = b'"properties":{"revenue":14.99,"note":"%s"}' % (b"x" * 400)


def main() -> None:
    """Write with several numbers of callers and sizes of batch, then read the messages."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="seconds of each kind of writing")
    seconds = parser.parse_args().seconds
    reason = why_not()
    if reason is not None:
        sys.exit(f"nothing was measured: {reason}")
    with tempfile.TemporaryDirectory() as folder:
        brokers = Brokers(Path(folder))
        try:
            brokers.start()
            for callers, batch in ((1, 1), (8, 1), (64, 1), (8, 10), (8, 100)):
                for how in ("threads", "tasks"):
                    topics = KafkaTopics(prefix=f"{how}-{callers}-{batch}")
                    write(KafkaSink(brokers.address, topics), how, callers, batch, seconds)
            read(brokers.address, topics)
        finally:
            brokers.kill()


@attrs.define
class Writing:
    """Callers that store one batch after another, for some seconds."""

    sink: KafkaSink
    batch: int
    end: float
    waits: list[float] = attrs.field(init=False, factory=list)

    def by_threads(self, callers: int) -> None:
        """Store from several threads."""
        threads = [threading.Thread(target=self._store, args=(number,)) for number in range(callers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def by_loop(self, callers: int) -> None:
        """Store from several tasks of an event loop."""

        async def store() -> None:
            await asyncio.gather(*(self._store_async(number) for number in range(callers)))

        asyncio.run(store())

    def _store(self, caller: int) -> None:
        for envelopes in self._batches(caller):
            began = time.perf_counter()
            self.sink.store(envelopes)
            self.waits.append(time.perf_counter() - began)

    async def _store_async(self, caller: int) -> None:
        for envelopes in self._batches(caller):
            began = time.perf_counter()
            await self.sink.store_async(envelopes)
            self.waits.append(time.perf_counter() - began)

    def _batches(self, caller: int) -> Iterator[list[Envelope]]:
        """Yield batches whose messages were received at the same time."""
        number = 0
        while time.monotonic() < self.end:
            names, now = range(number, number + self.batch), datetime.now(UTC)
            yield [envelope(f"{caller}-{name}", f"user-{name % USERS}", now) for name in names]
            number += self.batch


def write(sink: KafkaSink, how: str, callers: int, batch: int, seconds: float) -> None:
    """Store for some seconds, and print the rate, the waits and the processor time."""
    sink.store([envelope("first", "user-0", datetime.now(UTC))])
    began, processor = time.monotonic(), processor_seconds()
    writing = Writing(sink, batch, began + seconds)
    if how == "threads":
        writing.by_threads(callers)
    else:
        writing.by_loop(callers)
    took, worked = time.monotonic() - began, processor_seconds() - processor
    sink.close()
    count = len(writing.waits) * batch
    centiles = statistics.quantiles(writing.waits, n=100)
    print(
        f"write, {callers:2} {how}, {batch:3} a call: {count / took:8,.0f} messages/s, "
        f"median {centiles[49] * 1e3:6.1f} ms, 99 % within {centiles[98] * 1e3:6.1f} ms, "
        f"{worked / count * 1e6:4.0f} us of processor a message"
    )


def read(cluster: KafkaCluster, topics: KafkaTopics) -> None:
    """Read everything, the newest, and as a group."""
    log = KafkaLog(cluster, topics)
    began, processor = time.monotonic(), processor_seconds()
    count = sum(1 for _ in log.messages())
    tell("read, merged", count, began, processor)
    began = time.monotonic()
    newest = len(list(log.messages(Query(limit=50))))
    print(f"read, the newest {newest} of {count:,}: {time.monotonic() - began:.2f} s")
    reader = KafkaGroupReader(cluster, topics, group="benchmark")
    found = reader.poll()
    while not found:
        found = reader.poll()
    began, processor, given = time.monotonic(), processor_seconds(), len(found)
    while given < count:
        found = reader.poll()
        given += len(found)
        reader.commit(found)
    tell("read, as a group", given, began, processor)
    reader.close()
    print(f"resident at most: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MiB")


def tell(what: str, count: int, began: float, processor: float) -> None:
    """Print a rate."""
    took, worked = time.monotonic() - began, processor_seconds() - processor
    print(f"{what}: {count / took:,.0f} messages/s, {worked / count * 1e6:.0f} us of processor a message")


def envelope(message_id: str, user: str, now: datetime) -> Envelope:
    """Build a message of about 550 bytes."""
    payload = b'{"type":"track","messageId":"%s","userId":"%s","event":"Item Purchased",%s}'
    encoded = payload % (message_id.encode(), user.encode(), PROPERTIES)
    return Envelope("website", message_id, "track", user, None, now, ("Mixpanel",), (), encoded)


def processor_seconds() -> float:
    """Return the processor time of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
