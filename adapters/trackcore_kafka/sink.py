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

`store` and `store_async` differ only in how they wait (see `trackcore_kafka.flights`).  The thread that sends notes the
results, so nothing depends on whether a caller still waits for them.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import attrs
from confluent_kafka import KafkaException
from trackcore_forks import notice_fork, renew_in_forks

from trackcore import Cause, Envelope, Outcome, QuarantinedRequest, RejectedRecord, SinkUnavailable
from trackcore.support import MEBIBYTE
from trackcore_kafka.cluster import ClientSettingRefused, KafkaCluster, UnusableCluster, unavailable
from trackcore_kafka.deduplication import Acknowledged, identity
from trackcore_kafka.flights import Flight
from trackcore_kafka.producer import AcknowledgedProducer
from trackcore_kafka.records import Record, message_record, quarantined_record, rejected_record
from trackcore_kafka.topics import KafkaTopics

_READY_SECONDS = 1.0
"""How long the result of `check_ready` holds."""

_METADATA_SECONDS = 3.0


@attrs.define(eq=False)
class _Flight(Flight):
    """The new records of one call, those of its messages first: `keys` are the ids of these."""

    keys: Sequence[bytes]
    _note: Callable[[_Flight], None]
    acknowledged: Collection[bytes] = attrs.field(init=False, default=())

    def on_settled(self) -> None:
        """See `Flight.on_settled`."""
        results = zip(self.keys, self.errors, strict=False)
        self.acknowledged = dict.fromkeys(key for key, error in results if error is None)
        self._note(self)


@attrs.define(eq=False)
class _Call:
    """A call: its flight, and those of other calls that have some of its messages, for which it waits too."""

    identities: Sequence[bytes]
    own: _Flight
    others: Mapping[bytes, _Flight]

    @property
    def flights(self) -> Iterable[_Flight]:
        """All flights that the call waits for."""
        return [self.own, *self.others.values()] if self.own.records else self.others.values()

    def outcomes(self) -> Sequence[Outcome]:
        """Return the outcomes, once the flights are settled.  Raises `SinkUnavailable`."""
        if self.own.failure is not None:
            raise _as_sink_error(self.own.failure) from None
        for error in filter(None, self.own.errors):
            raise unavailable(error)
        for key, other in self.others.items():
            if key not in other.acknowledged:
                raise _unavailable("the message, sent by another request too, was not acknowledged")
        new = set(self.own.keys)
        return [_outcome(key, new) for key in self.identities]


class KafkaSink:
    """A `trackcore.AsyncSink` that stores in a Kafka cluster.  Threads and event loops may share it.

    Each process makes its own connections.
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
        self._probe: _Flight | None = None
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
        call = self._begin(envelopes, rejected, quarantined)
        for flight in call.flights:
            flight.wait(self._producer.patience)
        return call.outcomes()

    async def store_async(
        self,
        envelopes: Sequence[Envelope] = (),
        *,
        rejected: Sequence[RejectedRecord] = (),
        quarantined: Sequence[QuarantinedRequest] = (),
    ) -> Sequence[Outcome]:
        """See `trackcore.AsyncSink.store_async`.  Raises as `store` does."""
        call = self._begin(envelopes, rejected, quarantined)
        for flight in call.flights:
            await flight.wait_async()
        return call.outcomes()

    def check_ready(self) -> None:
        """Check that a message could be stored now: some partition has a leader and enough replicas in sync.

        Raises `SinkUnavailable` if none has them, or the cluster does not answer.
        """
        notice_fork()
        if time.monotonic() - self._ready_at < _READY_SECONDS:
            return
        name = self._topics.messages
        try:
            topic = self._producer.client().list_topics(name, timeout=_METADATA_SECONDS).topics[name]
        except (KafkaException, UnusableCluster, ClientSettingRefused) as error:
            raise _as_sink_error(error) from None
        if not any(
            partition.leader >= 0 and len(partition.isrs) >= self._topics.min_insync_replicas
            for partition in topic.partitions.values()
        ):
            raise _unavailable("no partition has enough replicas in sync")
        self._ready_at = time.monotonic()

    async def check_ready_async(self) -> None:
        """Check the same without blocking the event loop: another thread asks the cluster."""
        await asyncio.to_thread(self.check_ready)

    def close(self) -> None:
        """Disconnect from the cluster.  A later call connects again."""
        self._producer.close()

    def _begin(
        self,
        envelopes: Sequence[Envelope],
        rejected: Sequence[RejectedRecord],
        quarantined: Sequence[QuarantinedRequest],
    ) -> _Call:
        """Begin to send what is new in a call."""
        notice_fork()
        topics = self._topics
        identities = [identity(envelope.source, envelope.message_id) for envelope in envelopes]
        records: dict[bytes, Record] = {}
        for key, envelope in zip(identities, envelopes, strict=True):
            if key not in records:  # the first of several with one id
                records[key] = message_record(topics.messages, envelope)
        others = [rejected_record(topics.rejected, record) for record in rejected]
        others += [quarantined_record(topics.quarantine, request) for request in quarantined]
        with self._lock:
            awaited = {key: self._in_flight[key] for key in records if key in self._in_flight}
            new = [key for key in records if key not in awaited and key not in self._acknowledged]
            own = _Flight([*(records[key] for key in new), *others], keys=new, note=self._note)
            if own.records:
                self._submit(own)
        return _Call(identities, own, awaited)

    def _submit(self, flight: _Flight) -> None:
        """Begin to send a flight; one at a time while the cluster does not answer."""
        if self._is_failing and self._probe is not None:
            raise _unavailable("the cluster does not answer; another request probes it")
        try:
            self._producer.submit(flight)
        except KafkaException as error:
            raise _as_sink_error(error) from None
        self._in_flight.update(dict.fromkeys(flight.keys, flight))
        if self._is_failing:
            self._probe = flight

    def _note(self, flight: _Flight) -> None:
        """Note the results of a flight."""
        with self._lock:
            self._acknowledged.add(flight.acknowledged)
            for key in flight.keys:
                self._in_flight.pop(key, None)  # a call that was interrupted has not added it
            self._is_failing = all(error is not None for error in flight.errors)
            if self._probe is flight:
                self._probe = None


def _outcome(key: bytes, new: set[bytes]) -> Outcome:
    """Return that the first message with a new id is stored, and that each further one is a duplicate."""
    if key not in new:
        return Outcome.DUPLICATE
    new.remove(key)
    return Outcome.STORED


def _unavailable(detail: str) -> SinkUnavailable:
    return SinkUnavailable(cause=Cause.UNAVAILABLE, detail=detail)


def _as_sink_error(error: Exception) -> Exception:
    """Return what a sink raises for an error of the producer."""
    if isinstance(error, KafkaException):
        return unavailable(error.args[0])
    return _unavailable(str(error)) if isinstance(error, UnusableCluster | ClientSettingRefused) else error
