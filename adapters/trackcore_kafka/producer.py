"""Producing records, with the result of each.

Theory of operation.  One thread, the sender, does everything that may block: it makes the client, passes records to
librdkafka and receives its reports.  A call puts its records, a flight, into the sender's queue, and waits until every
in-sync replica has acknowledged each of them, or it has failed.

Flights are sent in groups: what arrives while records are on their way waits until these are settled, but not for
longer than `_GROUP_SECONDS`, since a partition without a leader must not hold up the others.  So a single message is
sent at once, and the more calls there are, the more of them share requests to the brokers, reports and wake-ups.

librdkafka has `linger.ms` for this, which delays every record alike.  When it is over, and five records of the
partition are on their way already (the limit of an idempotent producer), its threads spin.  Therefore it is made longer
than a group takes to be passed to librdkafka, and `flush`, which ignores it, then sends all of the group.

Those that wait are woken when all reports that have arrived are read.  Else the sender, which needs the interpreter for
each report, would compete for it with those that it has just woken.

The producer is idempotent: it numbers its records, so that resending neither duplicates nor reorders them.  A record
that was not acknowledged within `timeout` seconds is given up; it may or may not be in the log then.

Client and thread are made when first needed, and again after a fork (see `trackcore_kafka.forks`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from itertools import takewhile
from queue import Empty, SimpleQueue

from confluent_kafka import KafkaError, KafkaException, Message
from trackcore_forks import notice_fork, renew_in_forks

from trackcore.support import MEBIBYTE
from trackcore_kafka.cluster import KafkaCluster
from trackcore_kafka.flights import NO_REPORT, Flight, settle
from trackcore_kafka.forks import OwnProducer
from trackcore_kafka.masking import ClientSetting
from trackcore_kafka.records import Record

_REPORT_SECONDS = 5.0
"""How late a report may be: librdkafka looks for expired records once a second."""

_GROUP_SECONDS = 0.1
"""How long a group waits for the one before it."""

_FLUSH_SECONDS = 0.01
"""How long those whose records are acknowledged wait for others of their group."""

_LINGER_MS = 50

_IDLE_SECONDS = 0.1
"""How often librdkafka can pass on its log while nothing is sent."""


class AcknowledgedProducer:
    """Sends records, and knows which of them the cluster has acknowledged.  Threads and event loops may share it.

    An unacknowledged record is given up after `timeout` seconds.  `waiting_bytes` may wait before more is rejected.
    `prepare` is called before the first record is sent; its error is the `failure` of the flights that wait for it.
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
        self.patience = timeout + _REPORT_SECONDS
        """Seconds after which a flight is given up."""
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
        self._sender: _Sender | None = None
        self._waiting = 0

    def submit(self, flight: Flight) -> None:
        """Begin to send the records of a flight.

        Raises `KafkaException` if too much is waiting; nothing is sent then.
        """
        notice_fork()
        with self._lock:
            if self._waiting and self._waiting + flight.size > self._waiting_bytes:
                raise KafkaException(_QUEUE_FULL)
            if self._sender is None:
                self._sender = _Sender(connect=self._connect, release=self._release, patience=self.patience)
            self._sender.queue.put(flight)
            self._waiting += flight.size

    def send(self, records: Sequence[Record]) -> Sequence[KafkaError | None]:
        """Send records, and return for each of them None (it is acknowledged) or its error.

        Raises `KafkaException` (too much is waiting), `ClientSettingRefused`, and the errors of `prepare`.
        """
        flight = Flight(records)
        self.submit(flight)
        flight.wait(self.patience)
        if flight.failure is not None:
            raise flight.failure
        return flight.errors

    def client(self) -> OwnProducer:
        """Return the client of this process.  Raises as `send` does."""
        self.send(())
        sender = self._sender
        if sender is None or sender.client is None:
            raise KafkaException(NO_REPORT)
        return sender.client

    def close(self) -> None:
        """Send the waiting records, and disconnect from the cluster.  A later call connects again."""
        notice_fork()
        with self._lock:
            sender, self._sender = self._sender, None
        if sender is not None:
            sender.close()

    def _connect(self) -> OwnProducer:
        self._prepare()
        return self._cluster.make(OwnProducer, **self._settings())

    def _release(self, size: int) -> None:
        with self._lock:
            self._waiting -= size

    def _settings(self) -> dict[str, ClientSetting]:
        linger = self._cluster.client.get("queue.buffering.max.ms", _LINGER_MS)  # its other name
        return {
            "acks": "all",
            "enable_idempotence": True,
            "partitioner": "murmur2_random",  # as Java's, so that topics can be joined by key
            "allow_auto_create_topics": False,
            "delivery_timeout_ms": round(1_000 * self._timeout),
            "linger_ms": self._cluster.client.get("linger.ms", linger),
            "message_max_bytes": self._record_bytes,
            "queue_buffering_max_messages": 0,  # bounded by `waiting_bytes`
            "queue_buffering_max_kbytes": max(2 * self._waiting_bytes >> 10, 1),
        }


_QUEUE_FULL = KafkaError(KafkaError._QUEUE_FULL)  # noqa: SLF001 - librdkafka's own codes begin with an underscore


class _Sender:
    """The thread that sends, its client, and the flights on their way, each with the time when it is given up."""

    def __init__(self, *, connect: Callable[[], OwnProducer], release: Callable[[int], None], patience: float) -> None:
        self.queue: SimpleQueue[Flight] = SimpleQueue()
        self.client: OwnProducer | None = None
        self._connect = connect
        self._release = release
        self._patience = patience
        self._in_flight: dict[Flight, float] = {}
        self._complete: list[Flight] = []
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Settle all flights, and close the client.  No flight may be put into the queue any more."""
        self._is_closing = True
        self._thread.join()

    def _run(self) -> None:
        while self._in_flight or not self.queue.empty() or not self._is_closing:
            self._send(self._take())
            self._receive()
        self._disconnect()

    def _take(self) -> Sequence[Flight]:
        """Take all flights that wait; if none is on its way, wait a moment for one."""
        flights: list[Flight] = []
        with suppress(Empty):
            flights.append(self.queue.get(not self._in_flight, _IDLE_SECONDS))
            while True:
                flights.append(self.queue.get_nowait())
        return flights

    def _send(self, flights: Sequence[Flight]) -> None:
        if not flights:
            return
        self._in_flight.update(dict.fromkeys(flights, time.monotonic() + self._patience))
        try:
            client = self.client = self.client or self._connect()
        except Exception as error:  # noqa: BLE001 - raised by the calls that wait
            self._fail(flights, error)
        else:
            for flight in flights:
                self._produce(client, flight)

    def _produce(self, client: OwnProducer, flight: Flight) -> None:
        if not flight.records:
            self._complete.append(flight)
        for index, (topic, key, value, headers, timestamp) in enumerate(flight.records):
            report = partial(self._report, flight, index)
            try:
                client.produce(topic, value, key, headers=headers, timestamp=timestamp, on_delivery=report)
            except (BufferError, KafkaException) as error:
                report(_QUEUE_FULL if isinstance(error, BufferError) else error.args[0], None)
            except Exception as error:  # noqa: BLE001 - raised by the call that waits
                self._fail([flight], error)
                return

    def _fail(self, flights: Sequence[Flight], error: Exception) -> None:
        for flight in flights:
            flight.failure = error
        self._complete.extend(flights)

    def _report(self, flight: Flight, index: int, error: KafkaError | None, _: Message | None) -> None:
        """Note the result of one record: called by the client, in this thread."""
        flight.errors[index] = error
        flight.missing -= 1
        if not flight.missing:
            self._complete.append(flight)

    def _receive(self) -> None:
        """Receive reports until nothing is on its way, or the next group is due."""
        end = time.monotonic() + _GROUP_SECONDS
        self._poll()
        while self._in_flight and time.monotonic() < end:
            self._poll()

    def _poll(self) -> None:
        """Receive reports, and settle what is complete or should have been reported long ago."""
        try:
            self._call_client()
        except Exception as error:  # noqa: BLE001 - a client reports in this way that it cannot go on
            self._settle()
            self._fail([*self._in_flight], error)
            self._disconnect()
        now = time.monotonic()
        self._complete.extend(takewhile(lambda flight: self._in_flight[flight] < now, self._in_flight))
        self._settle()

    def _call_client(self) -> None:
        """Let the client make its reports, and pass on its log."""
        if self.client is None:
            return
        if self._in_flight:
            self.client.flush(_FLUSH_SECONDS)
        else:
            self.client.poll(0)

    def _settle(self) -> None:
        settled = [flight for flight in self._complete if self._in_flight.pop(flight, None) is not None]
        self._complete.clear()
        self._release(sum(flight.size for flight in settled))
        settle(settled)

    def _disconnect(self) -> None:
        """Close the client, which first reports on all that it has.  The next group is sent by another one."""
        client, self.client = self.client, None
        if client is not None:
            with suppress(Exception):  # one that has failed reports it again
                client.close()
        self._complete.extend(self._in_flight)
        self._settle()
