"""The sinks and the logs of each kind, for the tests of what they have in common."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar, cast

import attrs
from loops import AsyncFace, running_loop
from mock_cluster import MockCluster
from trackcore_kafka import KafkaLog, KafkaSink
from trackcore_sqlite import SqliteLog, SqliteSink

from trackcore import (
    AsyncSink,
    Envelope,
    Log,
    MemorySink,
    MessageWarning,
    QuarantinedRequest,
    RejectedRecord,
    Sink,
    StoredMessage,
    WarningCode,
)

T = TypeVar("T")
KINDS = ["MemorySink", "SqliteSink", "KafkaSink"]
ASYNC = "asynchronously: "
FACES = [*KINDS, *(ASYNC + kind for kind in KINDS)]
"""Each kind of sink, as threads call it and as event loops do."""

CODES = {str(code): code for code in WarningCode}


@attrs.frozen
class Kept:
    """A sink, its log, and the records in the log as they were stored."""

    sink: Sink
    log: Log

    @property
    def messages(self) -> list[Envelope]:
        return [_envelope(stored) for stored in self.log.messages()]

    @property
    def rejected(self) -> list[RejectedRecord]:
        return [_without_seq(RejectedRecord, record) for record in self.log.rejected()]

    @property
    def quarantined(self) -> list[QuarantinedRequest]:
        return [_without_seq(QuarantinedRequest, record) for record in self.log.quarantined()]

    def ids(self, source: str = "website") -> list[str]:
        return [kept.message_id for kept in self.messages if kept.source == source]


@contextmanager
def kept_by(face: str, folder: Path, cluster: MockCluster) -> Iterator[Kept]:
    """Make an empty sink that is called in one of the `FACES`, with its log."""
    with kept_in(face.removeprefix(ASYNC), folder, cluster) as kept, running_loop() as loop:
        sink = cast("AsyncSink", kept.sink)
        yield attrs.evolve(kept, sink=AsyncFace(sink, loop)) if face.startswith(ASYNC) else kept


@contextmanager
def kept_in(kind: str, folder: Path, cluster: MockCluster) -> Iterator[Kept]:
    """Make an empty sink of a kind, with its log.

    In Kafka each has new topics, of one partition: across partitions messages are not in order.
    """
    if kind == "MemorySink":
        memory = MemorySink()
        yield Kept(memory, memory.log)
        return
    sink: SqliteSink | KafkaSink
    log: Log
    if kind == "SqliteSink":
        sink, log = SqliteSink(folder / "log.db"), SqliteLog(folder / "log.db")
        sink.check_ready()
    else:
        topics = cluster.topics(partitions=1)
        sink, log = KafkaSink(cluster.address, topics), KafkaLog(cluster.address, topics)
    yield Kept(sink, log)
    sink.close()


def _envelope(stored: StoredMessage) -> Envelope:
    return Envelope(
        stored.source,
        stored.message["messageId"],
        stored.call,
        stored.message.get("userId"),
        stored.message.get("anonymousId"),
        stored.received_at,
        stored.destinations,
        tuple(MessageWarning(code=CODES[c["code"]], message=c["message"], path=c["path"]) for c in stored.warnings),
        json.dumps(stored.message).encode(),
    )


def _without_seq(kind: type[T], record: attrs.AttrsInstance) -> T:
    fields = attrs.asdict(record)
    del fields["seq"]
    return kind(**fields)
