"""Forks: a child does not touch the librdkafka clients of its parent (see `trackcore_forks`).

A child inherits the memory of a client, but not its threads.  Calling such a client may wait for them without end, and
so may destroying it, which Python does when nothing refers to it any more.  Hence each process knows which clients it
made itself; a child makes its own where it can (a producer) and refuses where it cannot (a reader has a place in the
log that its parent continues from), and the clients of a parent are kept from ever being destroyed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakSet

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient
from trackcore_forks import delay_forks, make_immortal, notice_fork, renew_in_forks

T = TypeVar("T", bound="OwnProducer | OwnConsumer | OwnAdmin")


class OwnProducer(Producer):
    """A producer; a class in Python, so that weak references to it are possible."""


class OwnConsumer(Consumer):
    """A consumer, for the same reason."""


class OwnAdmin(AdminClient):
    """A client that looks at topics, for the same reason."""


class _Clients:
    """The clients that this process made, and those that its parents made."""

    def __init__(self) -> None:
        self.own: WeakSet[OwnProducer | OwnConsumer | OwnAdmin] = WeakSet()
        self.inherited: WeakSet[OwnProducer | OwnConsumer | OwnAdmin] = WeakSet()
        renew_in_forks(self)  # before any object that lets go of its client

    def renew_after_fork(self) -> None:
        for client in self.own.copy():
            self.inherited.add(client)
            make_immortal(client)
        self.own.clear()


_clients = _Clients()


def make(kind: Callable[[dict[str, Any]], T], settings: dict[str, Any]) -> T:
    """Make a client of this process.  Raises `KafkaException`."""
    notice_fork()
    with delay_forks():  # librdkafka has locks of the whole process meanwhile
        client = kind(settings)
        _clients.own.add(client)
    return client


def is_of_a_parent(client: OwnProducer | OwnConsumer | OwnAdmin) -> bool:
    """Return whether a client was made before a fork, in the process that forked."""
    notice_fork()
    return client in _clients.inherited
