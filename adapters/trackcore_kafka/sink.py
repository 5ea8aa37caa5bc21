"""Writing the log in Kafka.

`store` returns when every message of the call was acknowledged by all in-sync replicas (`acks=all`, of which the topic
demands `min_insync_replicas`); so what was answered survives the loss of brokers, as many as the replication allows,
and of this server.

Kafka has no transaction that would fit one request, so here "everything or nothing" becomes: *acknowledged, or told
that it was not*.  After `SinkUnavailable` some messages of the call may be in the log all the same.  Senders repeat the
request then, with the same messageIds; what of it was acknowledged to this process is not written again, and the rest
is found by the readers (`trackcore_kafka.duplicate_window` says exactly what is promised).  The rejected and the
quarantined have no ids: after a failure they may be listed twice.

While the cluster does not answer, one call tries it and all others are turned away at once; threads that wait would
be missing for everything else.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import attrs
from confluent_kafka import KafkaError, KafkaException

from trackcore import Cause, Envelope, Outcome, QuarantinedRequest, RejectedRecord, SinkUnavailable
from trackcore.limits import MEBIBYTE
from trackcore_kafka.cluster import ClientSettingRefused, KafkaCluster, UnusableCluster, unavailable
from trackcore_kafka.duplicate_window import Acknowledged, identity
from trackcore_kafka.forks import know_process, renew_in_forks
from trackcore_kafka.producer import AcknowledgedProducer
from trackcore_kafka.records import Record, message_record, quarantined_record, rejected_record
from trackcore_kafka.topics import KafkaTopics

_READY_SECONDS = 1.0
"""How long the answer of `check_ready` holds."""

_METADATA_SECONDS = 3.0
_NO_LEADER = -1


@attrs.define(eq=False)
class _Flight:
    """The new messages of one call, on their way; another call that has one of them too waits for it."""

    landed: threading.Event = attrs.field(init=False, factory=threading.Event)
    failed: frozenset[bytes] = attrs.field(init=False, default=frozenset())


class KafkaSink:
    """A `trackcore.Sink` that keeps everything in a Kafka cluster.  Threads may share it; each process connects anew.

    After a fork, too: what was on its way in the parent is sent by the parent.

    Args:
        cluster: the cluster.
        topics: its topics; they are created, or checked, before the first message is stored.
        timeout: seconds to wait for acknowledgements before a call is given up.
        remembered: of how many acknowledged messages the ids are kept, to find duplicates that come back to this
            process.
        waiting_bytes: how much may wait to be acknowledged before further requests are told to come back later.
    """

    _flying: dict[bytes, _Flight]
    _lock: threading.Lock
    _trying: threading.Lock
    _is_failing: bool
    _ready_at: float

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
        self.start_anew()
        renew_in_forks(self)

    def store(
        self,
        envelopes: Sequence[Envelope] = (),
        *,
        rejected: Sequence[RejectedRecord] = (),
        quarantined: Sequence[QuarantinedRequest] = (),
    ) -> Sequence[Outcome]:
        """See `trackcore.Sink.store`.  Returns after the last acknowledgement.

        Raises:
            SinkUnavailable: not all of it was acknowledged: the cluster does not answer, too few replicas are in sync,
                or too much is waiting.
        """
        if not (envelopes or rejected or quarantined):
            return ()
        know_process()
        topics = self._topics
        identities = [identity(envelope.source, envelope.message_id) for envelope in envelopes]
        records: dict[bytes, Record] = {}
        for key, envelope in zip(identities, envelopes, strict=True):
            if key not in records:  # of several with one id the first is kept
                records[key] = message_record(topics.messages, envelope)
        others = [rejected_record(topics.rejected, record) for record in rejected]
        others += [quarantined_record(topics.quarantine, request) for request in quarantined]
        new = self._store(records, others)
        return [_outcome(key, new) for key in identities]

    def check_ready(self) -> None:
        """Return when a message could be stored now: some partition has a leader and enough replicas in sync.

        Raises:
            SinkUnavailable: none has, or the cluster does not answer.
        """
        know_process()
        if time.monotonic() - self._ready_at < _READY_SECONDS:
            return
        name = self._topics.messages
        with _told_to_the_sender():
            topic = self._producer.client().list_topics(name, timeout=_METADATA_SECONDS).topics[name]
        if not any(
            partition.leader != _NO_LEADER and len(partition.isrs) >= self._topics.min_insync_replicas
            for partition in topic.partitions.values()
        ):
            raise SinkUnavailable(cause=Cause.UNAVAILABLE, detail="no partition has enough replicas in sync")
        self._ready_at = time.monotonic()

    def close(self) -> None:
        """Part from the cluster.  A later call connects again."""
        self._producer.close()

    def _store(self, records: Mapping[bytes, Record], others: Sequence[Record]) -> set[bytes]:
        """Send what is not known yet, and give the ids of what was new."""
        flight = _Flight()
        new, awaited = self._take_off(records, flight)
        acknowledged: list[bytes] = []
        try:
            sent = [records[key] for key in new] + list(others)
            errors = self._send(sent) if sent else ()
            acknowledged = [key for key, error in zip(new, errors, strict=False) if error is None]
        finally:
            self._land(flight, new, acknowledged)
        for error in filter(None, errors):
            raise unavailable(error)
        for key, other in awaited.items():
            other.landed.wait()
            if key in other.failed:
                detail = "the message, on its way in another request too, was not acknowledged"
                raise SinkUnavailable(cause=Cause.UNAVAILABLE, detail=detail)
        return set(acknowledged)

    def _take_off(self, keys: Iterable[bytes], flight: _Flight) -> tuple[list[bytes], dict[bytes, _Flight]]:
        """Say which ids are this call's to send, and for which another call must be awaited."""
        new = []
        awaited = {}
        with self._lock:
            for key in keys:
                if key in self._flying:
                    awaited[key] = self._flying[key]
                elif key not in self._acknowledged:
                    self._flying[key] = flight
                    new.append(key)
        return new, awaited

    def _land(self, flight: _Flight, keys: Iterable[bytes], acknowledged: Sequence[bytes]) -> None:
        with self._lock:
            self._acknowledged.add(acknowledged)
            for key in keys:
                self._flying.pop(key, None)  # a fork within this call has forgotten it
        flight.failed = frozenset(keys) - frozenset(acknowledged)
        flight.landed.set()

    def _send(self, records: Sequence[Record]) -> Sequence[KafkaError | None]:
        """Send records, one call at a time while the cluster does not answer."""
        is_trial = self._is_failing
        if is_trial and not self._trying.acquire(blocking=False):
            raise SinkUnavailable(cause=Cause.UNAVAILABLE, detail="the cluster does not answer; another request tries")
        try:
            with _told_to_the_sender():
                errors = self._producer.send(records)
        except SinkUnavailable as error:
            self._is_failing = error.cause is Cause.UNAVAILABLE
            raise
        else:
            self._is_failing = all(error is not None for error in errors)
            return errors
        finally:
            if is_trial:
                self._trying.release()

    def start_anew(self) -> None:
        """Begin as a new process does: the locks of a parent are not its child's, nor is what was on its way."""
        self._flying = {}
        self._lock = threading.Lock()
        self._trying = threading.Lock()
        self._is_failing = False
        self._ready_at = -_READY_SECONDS


def _outcome(key: bytes, new: set[bytes]) -> Outcome:
    """Tell the first message with a new id as stored, and each further one as a duplicate."""
    if key not in new:
        return Outcome.DUPLICATE
    new.remove(key)
    return Outcome.STORED


@contextmanager
def _told_to_the_sender() -> Iterator[None]:
    try:
        yield
    except KafkaException as error:
        raise unavailable(error.args[0]) from None
    except (UnusableCluster, ClientSettingRefused) as error:
        raise SinkUnavailable(cause=Cause.UNAVAILABLE, detail=str(error)) from None
