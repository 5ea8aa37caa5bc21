"""Producing records, with the result of each.

Theory of operation.  `send` passes its records to librdkafka, which collects those of all threads into batches, and
then waits until every in-sync replica has acknowledged each of them, or it has failed.  One thread of this process
receives the reports and wakes the waiting threads.

The producer is idempotent: it numbers its records, so that resending neither duplicates nor reorders them.  A record
that was not acknowledged within `timeout` seconds is given up; it may or may not be in the log then.

Client and thread are made when first needed, and again after a fork (see `trackcore_kafka.forks`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

import attrs
from confluent_kafka import KafkaError, KafkaException, Message
from trackcore_forks import notice_fork, renew_in_forks

from trackcore.support import MEBIBYTE
from trackcore_kafka.cluster import KafkaCluster
from trackcore_kafka.forks import OwnProducer
from trackcore_kafka.masking import ClientSetting
from trackcore_kafka.records import Record

_REPORT_SECONDS = 5.0
"""How late a report may be: librdkafka looks for expired records once a second."""

_POLL_SECONDS = 0.1


@attrs.define(eq=False)
class _Awaited:
    """The records of one call of `send`, until the last of them is reported."""

    errors: list[KafkaError | None]
    _missing: int
    _lock: threading.Lock = attrs.field(init=False, factory=threading.Lock)
    _complete: threading.Event = attrs.field(init=False, factory=threading.Event)

    def report(self, index: int, error: KafkaError | None, _: Message | None) -> None:
        """Note the result of one record: called by librdkafka."""
        self.errors[index] = error
        with self._lock:
            self._missing -= 1
            if not self._missing:
                self._complete.set()

    def wait(self, seconds: float) -> Sequence[KafkaError | None]:
        self._complete.wait(seconds)
        return tuple(self.errors)


class AcknowledgedProducer:
    """Sends records and returns when the cluster has acknowledged them.  Threads may share it.

    An unacknowledged record is given up after `timeout` seconds.  `waiting_bytes` may wait before more is rejected.
    `prepare` is called before the first record is sent; `send` raises its errors.
    """

    def __init__(
        self,
        cluster: KafkaCluster,
        *,
        timeout: float,
        waiting_bytes: int = 64 * MEBIBYTE,
        record_bytes: int = MEBIBYTE,
        prepare: Callable[[], None] = lambda: None,
    ) -> None:
        self._cluster = cluster
        self._timeout = timeout
        self._waiting_bytes = waiting_bytes
        self._record_bytes = record_bytes
        self._prepare = prepare
        self.renew_after_fork()
        renew_in_forks(self)

    def renew_after_fork(self) -> None:
        """Reset after a fork: the parent's client, thread and lock must not be used."""
        self._lock = threading.Lock()
        self._client: OwnProducer | None = None
        self._poller: threading.Thread | None = None
        self._waiting = 0

    def send(self, records: Sequence[Record]) -> Sequence[KafkaError | None]:
        """Send records, and return for each of them None (it is acknowledged) or its error.

        Nothing was sent if it raises `KafkaException` (too much is waiting) or `ClientSettingRefused`.
        """
        client = self.client()
        size = sum(record.size for record in records)
        self._reserve(size)
        try:
            awaited = _Awaited([_NO_REPORT] * len(records), len(records))
            for index, record in enumerate(records):
                report = partial(awaited.report, index)
                topic, key, value, headers, timestamp = record
                try:
                    client.produce(topic, value, key, headers=headers, timestamp=timestamp, on_delivery=report)
                except (BufferError, KafkaException) as error:
                    report(_QUEUE_FULL if isinstance(error, BufferError) else error.args[0], None)
            errors = awaited.wait(self._timeout + _REPORT_SECONDS)
        finally:
            with self._lock:
                self._waiting = max(0, self._waiting - size)  # a fork during this call has reset it
        if any(error is not None and error.fatal() for error in errors):
            self._drop(client)
        return errors

    def client(self) -> OwnProducer:
        """Return the client of this process.  Raises `ClientSettingRefused`, and the errors of `prepare`."""
        notice_fork()
        client = self._client
        if client is not None:
            return client
        with self._lock:
            if self._client is None:
                self._prepare()
                self._client = self._cluster.make(OwnProducer, **self._settings())
                self._stop = threading.Event()
                self._poller = threading.Thread(target=_poll, args=(self._client, self._stop), daemon=True)
                self._poller.start()
            return self._client

    def close(self) -> None:
        """Send the waiting records, and disconnect from the cluster.  A later call of `send` connects again."""
        notice_fork()
        client = self._client
        if client is not None:
            client.flush(self._timeout)
            self._drop(client)

    def _settings(self) -> dict[str, ClientSetting]:
        return {
            "acks": "all",
            "enable_idempotence": True,
            "partitioner": "murmur2_random",  # as Java's, so that topics can be joined by key
            "allow_auto_create_topics": False,
            "delivery_timeout_ms": round(1_000 * self._timeout),
            "message_max_bytes": self._record_bytes,
            "queue_buffering_max_messages": 0,  # bounded by `waiting_bytes`
            "queue_buffering_max_kbytes": max(2 * self._waiting_bytes >> 10, 1),
        }

    def _reserve(self, size: int) -> None:
        with self._lock:
            if self._waiting and self._waiting + size > self._waiting_bytes:
                raise KafkaException(_QUEUE_FULL)
            self._waiting += size

    def _drop(self, client: OwnProducer) -> None:
        """Close a client.  The next `send` replaces one that has failed fatally."""
        with self._lock:
            if self._client is not client or self._poller is None:
                return
            self._client = None
            self._stop.set()
            self._poller.join()
            self._poller = None
        with suppress(KafkaException):
            client.close()


_NO_REPORT = KafkaError(KafkaError._MSG_TIMED_OUT)  # noqa: SLF001 - librdkafka's own codes begin with an underscore
_QUEUE_FULL = KafkaError(KafkaError._QUEUE_FULL)  # noqa: SLF001


def _poll(client: OwnProducer, stop: threading.Event) -> None:
    while not stop.is_set():
        client.poll(_POLL_SECONDS)
