"""Forks: what librdkafka has made in a parent is not touched in its child.

A child inherits the memory of a client, but not its threads.  To call such a client may wait for them without end, and
so may to destroy it, which Python does when nobody refers to it any more.  Hence each client remembers which process
made it; a child makes its own where it can (a producer) and refuses where it cannot (a reader has a place in the log
that its parent goes on from), and the clients of a parent are kept from ever being destroyed.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from typing import Any, Protocol, TypeVar
from weakref import WeakSet

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient

T = TypeVar("T", bound="OwnProducer | OwnConsumer | OwnAdmin")


class OwnProducer(Producer):
    """A producer; a class in Python, since it must be possible to refer to it weakly."""


class OwnConsumer(Consumer):
    """A consumer, likewise."""


class OwnAdmin(AdminClient):
    """A client that looks at topics, likewise."""


class Renewable(Protocol):
    """Something that has locks or a client, which a child must not use."""

    def start_anew(self) -> None:
        """Make new locks, and forget the client.  No other thread runs meanwhile."""


class _Process:
    """What this process knows of forks."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.making = threading.RLock()
        self.clients: WeakSet[OwnProducer | OwnConsumer | OwnAdmin] = WeakSet()
        self.inherited: WeakSet[OwnProducer | OwnConsumer | OwnAdmin] = WeakSet()
        self.renewables: WeakSet[Renewable] = WeakSet()
        self.renewing: dict[int, threading.Lock] = {}


_PATIENCE_SECONDS = 5.0
"""How long a fork waits for a client that is being made; librdkafka has locks of the whole process for that."""

_process = _Process()


def make(kind: Callable[[dict[str, Any]], T], settings: dict[str, Any]) -> T:
    """Make a client of this process.  Raises `KafkaException`."""
    know_process()
    with _process.making:
        client = kind(settings)
        _process.clients.add(client)
    return client


def renew_in_forks(renewable: Renewable) -> None:
    """Have `start_anew` called in each child, for as long as the object lives."""
    with _process.making:
        _process.renewables.add(renewable)


def is_of_a_parent(client: OwnProducer | OwnConsumer | OwnAdmin) -> bool:
    """Return whether a client was made before a fork, in the process that forked."""
    know_process()
    return client in _process.inherited


def know_process() -> None:
    """Find out whether this process is a child of a fork that was not made by Python."""
    if _process.pid != os.getpid():
        # A lock of this process alone: one of the parent may have been copied in a held state.
        with _process.renewing.setdefault(os.getpid(), threading.Lock()):
            if _process.pid != os.getpid():
                _after_in_child()


_held: dict[int, threading.RLock] = {}


def _before() -> None:
    if _process.making.acquire(timeout=_PATIENCE_SECONDS):
        _held[threading.get_ident()] = _process.making


def _after_in_parent() -> None:
    if (lock := _held.pop(threading.get_ident(), None)) is not None:
        lock.release()


def _after_in_child() -> None:
    _held.clear()
    _process.making = threading.RLock()
    for client in _process.clients.copy():
        _process.inherited.add(client)
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(client))
    _process.clients.clear()
    for renewable in _process.renewables.copy():
        renewable.start_anew()
    _process.pid = os.getpid()  # the last, since it tells other threads that all is done


os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
