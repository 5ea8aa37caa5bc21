"""The speed of writing and reading the log in Kafka, on three real brokers that share this machine with the client.

    python benchmarks/kafka.py [--seconds 10]

It needs Java 17 and Maven, as `poe kafka` does.  The brokers take most of the processors here, so the rates are
those of one small machine with everything on it; the processor time of a message is the client's alone, and is what a
separate server would spend.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from kafka_brokers.brokers import Brokers, why_not
from trackcore_kafka import KafkaCluster, KafkaGroupReader, KafkaLog, KafkaSink, KafkaTopics

from trackcore import Envelope, Query

USERS = 5_000
THREADS = 8
PROPERTIES = b'"properties":{"revenue":14.99,"note":"%s"}' % (b"x" * 400)


def main() -> None:
    """Write with several sizes of batch, then read the messages."""
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
            for batch in (1, 10, 100):
                topics = KafkaTopics(prefix=f"batch-{batch}")
                write(brokers.address, topics, batch, seconds)
            read(brokers.address, topics)
        finally:
            brokers.kill()


def write(cluster: KafkaCluster, topics: KafkaTopics, batch: int, seconds: float) -> None:
    """Store from several threads for some seconds."""
    sink = KafkaSink(cluster, topics)
    sink.store([envelope("first", "user-0")])
    waits: list[float] = []
    end = time.monotonic() + seconds

    def store(thread: int) -> None:
        number = 0
        while time.monotonic() < end:
            names = range(number, number + batch)
            envelopes = [envelope(f"{thread}-{name}", f"user-{name % USERS}") for name in names]
            began = time.perf_counter()
            sink.store(envelopes)
            waits.append(time.perf_counter() - began)
            number += batch

    began, processor = time.monotonic(), processor_seconds()
    threads = [threading.Thread(target=store, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took, worked = time.monotonic() - began, processor_seconds() - processor
    sink.close()
    count = len(waits) * batch
    centiles = statistics.quantiles(waits, n=100)
    print(
        f"write, {THREADS} threads, {batch:3} a call: {count / took:8,.0f} messages/s, "
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


def envelope(message_id: str, user: str) -> Envelope:
    """Build a message of about 550 bytes."""
    payload = b'{"type":"track","messageId":"%s","userId":"%s","event":"Item Purchased",%s}'
    encoded = payload % (message_id.encode(), user.encode(), PROPERTIES)
    return Envelope("website", message_id, "track", user, None, datetime.now(UTC), ("Mixpanel",), (), encoded)


def processor_seconds() -> float:
    """Return the processor time of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
