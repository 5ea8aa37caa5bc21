"""Delivery as a process: it becomes the owner of the state file, or waits until it can, and delivers until stopped.

`trackcore deliver` runs it in its own process, `trackcore serve` in one more process than its workers (see `child`).

With the embedded log only the owner of the state file delivers.  With a log in Kafka the consumer groups divide the
work among processes, each of which owns another state file.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import attrs
from trackcore_delivery import (
    DeliveredDestination,
    Delivery,
    DeliveryLock,
    DeliveryQueue,
    SamePlace,
    SenderContext,
    UnusableSecret,
    check_places,
)

from trackcore import Metrics
from trackcore_server.config.configuration import Configuration, ConfigurationError
from trackcore_server.config.privacy_rules import privacy_key
from trackcore_server.process.signals import StopFlag
from trackcore_server.storage.backends import backend_of
from trackcore_server.storage.delivery_state import delivery_lock, make_state

GRACEFUL_SECONDS = 10
"""How long batches in flight may take to be settled once delivery is to stop."""

_LOOK_SECONDS = 1.0
"""How often a process that stands by checks whether the owner is gone."""

_log = logging.getLogger("trackcore.delivery")


def check_destinations(
    configuration: Configuration, file: Path | None = None, environ: Mapping[str, str] = os.environ
) -> None:
    """Check settings that only matter when a destination is opened, such as secrets.  Raises `ConfigurationError`."""
    for mistake in find_wrong_destinations(configuration, environ):
        raise attrs.evolve(mistake, file=file)


def find_wrong_destinations(
    configuration: Configuration, environ: Mapping[str, str] = os.environ
) -> Iterator[ConfigurationError]:
    """Yield the mistakes that `check_destinations` raises."""
    context = sender_context(configuration, environ)
    usable: dict[str, DeliveredDestination] = {}
    for index, destination in enumerate(configuration.destinations):
        if not isinstance(destination, DeliveredDestination):
            continue
        path = f"destinations[{index}]"
        mistakes = [*_unusable_secrets(destination, path, environ)] or [*_unusable_settings(destination, path, context)]
        yield from mistakes
        if not mistakes:
            usable[path] = destination
    try:
        check_places(usable.values(), context)
    except SamePlace as error:
        path = next(path for path, destination in usable.items() if destination.name == error.name)
        yield ConfigurationError(path=path, detail=str(error))


def _unusable_secrets(
    destination: DeliveredDestination, path: str, environ: Mapping[str, str]
) -> Iterator[ConfigurationError]:
    for name, secret in destination.secrets():
        try:
            secret.reveal(environ)
        except UnusableSecret as error:
            yield ConfigurationError(path=f"{path}.{name}", detail=str(error))


def _unusable_settings(
    destination: DeliveredDestination, path: str, context: SenderContext
) -> Iterator[ConfigurationError]:
    try:
        destination.open_sender(context).close()
    except UnusableSecret as error:
        yield ConfigurationError(path=f"{path}.{error.setting}".rstrip("."), detail=str(error))
    except (OSError, ValueError) as error:
        yield ConfigurationError(path=path, detail=_detail_of(error))


def _detail_of(error: OSError | ValueError) -> str:
    """Return the failure without the words of a library, which may quote a setting."""
    if type(error) is ValueError:
        return str(error)
    return getattr(error, "strerror", None) or f"cannot be used ({type(error).__name__})"


class DeliveryRun:
    """One process's delivery, from waiting for its turn to its end."""

    def __init__(self, configuration: Configuration, name: str, metrics: Metrics | None = None) -> None:
        self._configuration = configuration
        self._on_attempt = None if metrics is None else metrics.count_attempt
        self._name = name
        self._stopping = StopFlag()

    def stop(self) -> None:
        """Make `run` return; may be called from a signal handler or another thread."""
        self._stopping.set()

    def run(self) -> None:
        """Deliver until `stop` is called."""
        lock = delivery_lock(self._configuration)
        if not self._acquire(lock):
            return
        state = make_state(self._configuration)
        backend = backend_of(self._configuration)
        opened: list[DeliveryQueue] = []

        def make_queues(destination: DeliveredDestination) -> Sequence[DeliveryQueue]:
            queues = backend.queues(destination, state)
            opened.extend(queues)
            return queues

        delivery = Delivery(
            make_queues=make_queues,
            state=state,
            destinations=self._configuration.delivered,
            context=sender_context(self._configuration, os.environ),
            on_attempt=self._on_attempt,
        )
        delivery.start()
        self._stopping.wait()
        if delivery.stop(GRACEFUL_SECONDS):
            for queue in opened:
                queue.close()
            state.close()
        else:
            _log.warning("stopped during a batch; it will be sent again")
        lock.release()

    def _acquire(self, lock: DeliveryLock) -> bool:
        is_waiting = False
        while not lock.acquire(self._name):
            if not is_waiting:
                _log.warning("%s delivers already; standing by until it ends", lock.holder() or "another process")
                is_waiting = True
            if self._stopping.wait(_LOOK_SECONDS):
                return False
        if is_waiting:
            _log.warning("the other one is gone; delivering now")
        return True


def sender_context(configuration: Configuration, environ: Mapping[str, str]) -> SenderContext:
    """Return what the senders of a configuration need."""
    return SenderContext(
        clock=lambda: datetime.now(UTC),
        environ=environ,
        folder=configuration.folder,
        privacy_key=privacy_key(configuration, environ),
    )
