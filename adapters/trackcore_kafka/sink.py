"""Writing the log in Kafka.

`store` returns when all in-sync replicas have acknowledged every message of the call (`acks=all`; the topic requires
`min_insync_replicas` of them).  So acknowledged messages survive the loss of this server, and of as many brokers as the
replication allows.

Kafka has no transaction that would suit one request, so "everything or nothing" becomes: *acknowledged, or reported as
not acknowledged*.  After `SinkUnavailable` some messages of the call may be in the log all the same.  Senders then
repeat the request with the same messageIds; messages that were acknowledged to this process are not written again, and
the readers find the other duplicates (see `trackcore_kafka.deduplication` for the exact guarantee).  Rejected
messages and quarantined requests have no ids: after a failure they may be listed twice.

While the cluster does not answer, one call probes it and all others fail at once, since waiting threads would be
missing for other requests.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import attrs
from confluent_kafka import KafkaError, KafkaException
from trackcore_forks import notice_fork, renew_in_forks

from trackcore import Cause, Envelope, Outcome, QuarantinedRequest, RejectedRecord, SinkUnavailable
from trackcore.support import MEBIBYTE
from trackcore_kafka.cluster import ClientSettingRefused, KafkaCluster, UnusableCluster, unavailable
from trackcore_kafka.deduplication import Acknowledged, identity
from trackcore_kafka.producer import AcknowledgedProducer
from trackcore_kafka.records import Record, message_record, quarantined_record, rejected_record
from trackcore_kafka.topics import KafkaTopics

_READY_SECONDS = 1.0
"""How long the result of `check_ready` holds."""

_METADATA_SECONDS = 3.0


@attrs.define(eq=False)
class _Flight:
    """The new messages of one call, in flight; another call that has one of them too waits for it."""

    done: threading.Event = attrs.field(init=False, factory=threading.Event)
    failed: frozenset[bytes] = attrs.field(init=False, default=frozenset())


class KafkaSink:
    """A `trackcore.Sink` that stores in a Kafka cluster.  Threads may share it; each process makes its own connections.

    A child does so after a fork; the parent sends the messages that it has in flight.

    Args:
        cluster: the cluster.
        topics: its topics; they are created or checked before the first message is stored.
        timeout: seconds to wait for acknowledgements before a call is given up.
        remembered: the number of acknowledged messages whose ids are kept, to find duplicates that reach this process.
        waiting_bytes: how much may wait to be acknowledged before further requests are rejected as an overload.
    """

    def __init__(
        self,
        cluster: KafkaCluster,
        topics: KafkaTopics | None = None,
        *,
        timeout: float = 8.0,
        remembered: int = 100_000,
        waiting_bytes: int = 64 * MEBIBYTE,
    ) -> None:
        self._topics = topics or KafkaTopics()
        self._producer = AcknowledgedProducer(
            cluster,
            timeout=timeout,
            waiting_bytes=waiting_bytes,
            record_bytes=self._topics.record_bytes,
            prepare=lambda: self._topics.prepare(cluster),
        )
        self._acknowledged = Acknowledged(remembered)
        self.renew_after_fork()
        renew_in_forks(self)

    def renew_after_fork(self) -> None:
        """Reset after a fork: the parent's locks, and its messages in flight, must not be used."""
        self._in_flight: dict[bytes, _Flight] = {}
        self._lock = threading.Lock()
        self._probing = threading.Lock()
        self._is_failing = False
        self._ready_at: float = -_READY_SECONDS

    def store(
        self,
        envelopes: Sequence[Envelope] = (),
        *,
        rejected: Sequence[RejectedRecord] = (),
        quarantined: Sequence[QuarantinedRequest] = (),
    ) -> Sequence[Outcome]:
        """See `trackcore.Sink.store`.  Returns after the last acknowledgement.

        Raises `SinkUnavailable` if not all of it was acknowledged: the cluster does not answer, too few replicas are in
        sync, or too much is waiting.
        """
        if not (envelopes or rejected or quarantined):
            return ()
        notice_fork()
        topics = self._topics
        identities = [identity(envelope.source, envelope.message_id) for envelope in envelopes]
        records: dict[bytes, Record] = {}
        for key, envelope in zip(identities, envelopes, strict=True):
            if key not in records:  # the first of several with one id
                records[key] = message_record(topics.messages, envelope)
        others = [rejected_record(topics.rejected, record) for record in rejected]
        others += [quarantined_record(topics.quarantine, request) for request in quarantined]
        new = self._store(records, others)
        return [_outcome(key, new) for key in identities]

    def check_ready(self) -> None:
        """Check that a message could be stored now: some partition has a leader and enough replicas in sync.

        Raises `SinkUnavailable` if none has them, or the cluster does not answer.
        """
        notice_fork()
        if time.monotonic() - self._ready_at < _READY_SECONDS:
            return
        name = self._topics.messages
        with _as_sink_errors():
            topic = self._producer.client().list_topics(name, timeout=_METADATA_SECONDS).topics[name]
        if not any(
            partition.leader >= 0 and len(partition.isrs) >= self._topics.min_insync_replicas
            for partition in topic.partitions.values()
        ):
            raise SinkUnavailable(cause=Cause.UNAVAILABLE, detail="no partition has enough replicas in sync")
        self._ready_at = time.monotonic()

    def close(self) -> None:
        """Disconnect from the cluster.  A later call connects again."""
        self._producer.close()

    def _store(self, records: Mapping[bytes, Record], others: Sequence[Record]) -> set[bytes]:
        """Send the messages whose ids are new, and return these ids."""
        flight = _Flight()
        new, awaited = self._claim(records, flight)
        acknowledged: list[bytes] = []
        try:
            sent = [records[key] for key in new] + list(others)
            errors = self._send(sent) if sent else ()
            acknowledged = [key for key, error in zip(new, errors, strict=False) if error is None]
        finally:
            self._settle(flight, new, acknowledged)
        for error in filter(None, errors):
            raise unavailable(error)
        for key, other in awaited.items():
            other.done.wait()
            if key in other.failed:
                detail = "the message, sent by another request too, was not acknowledged"
                raise SinkUnavailable(cause=Cause.UNAVAILABLE, detail=detail)
        return set(acknowledged)

    def _claim(self, keys: Iterable[bytes], flight: _Flight) -> tuple[list[bytes], dict[bytes, _Flight]]:
        """Return the ids that this call sends, and those for which it waits for another call."""
        new = []
        awaited = {}
        with self._lock:
            for key in keys:
                if key in self._in_flight:
                    awaited[key] = self._in_flight[key]
                elif key not in self._acknowledged:
                    self._in_flight[key] = flight
                    new.append(key)
        return new, awaited

    def _settle(self, flight: _Flight, keys: Iterable[bytes], acknowledged: Sequence[bytes]) -> None:
        with self._lock:
            self._acknowledged.add(acknowledged)
            for key in keys:
                self._in_flight.pop(key, None)  # a fork during this call has removed it
        flight.failed = frozenset(keys) - frozenset(acknowledged)
        flight.done.set()

    def _send(self, records: Sequence[Record]) -> Sequence[KafkaError | None]:
        """Send records; one call at a time while the cluster does not answer."""
        is_probe = self._is_failing
        if is_probe and not self._probing.acquire(blocking=False):
            detail = "the cluster does not answer; another request probes it"
            raise SinkUnavailable(cause=Cause.UNAVAILABLE, detail=detail)
        try:
            with _as_sink_errors():
                errors = self._producer.send(records)
        except SinkUnavailable as error:
            self._is_failing = error.cause is Cause.UNAVAILABLE
            raise
        else:
            self._is_failing = all(error is not None for error in errors)
            return errors
        finally:
            if is_probe:
                self._probing.release()


def _outcome(key: bytes, new: set[bytes]) -> Outcome:
    """Return that the first message with a new id is stored, and that each further one is a duplicate."""
    if key not in new:
        return Outcome.DUPLICATE
    new.remove(key)
    return Outcome.STORED


@contextmanager
def _as_sink_errors() -> Iterator[None]:
    try:
        yield
    except KafkaException as error:
        raise unavailable(error.args[0]) from None
    except (UnusableCluster, ClientSettingRefused) as error:
        raise SinkUnavailable(cause=Cause.UNAVAILABLE, detail=str(error)) from None
