"""Delivery as a whole: a thread for each destination, started and stopped together."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterable, Sequence

from trackcore import TrackcoreError
from trackcore.text import describe_unexpected
from trackcore_delivery.destination import DeliveredDestination, check_places
from trackcore_delivery.destination_worker import DestinationWorker, OnAttempt
from trackcore_delivery.queues import DeliveryQueue
from trackcore_delivery.sending import SenderContext
from trackcore_delivery.state import State

_ERROR_PAUSE_SECONDS = 2.0

_log = logging.getLogger("trackcore.delivery")


class Delivery:
    """Delivers to destinations until it is stopped.

    `on_attempt` is called after each request to a destination with its name, the result (`delivered`, `partial`,
    `rejected` or `retry`) and the duration in seconds; such as `Metrics.count_attempt`.

    Raises:
        UnusableSecret, ValueError: a destination cannot be opened.
        SamePlace: two destinations would write the same files.
    """

    def __init__(
        self,
        *,
        make_queues: Callable[[DeliveredDestination], Sequence[DeliveryQueue]],
        state: State,
        destinations: Iterable[DeliveredDestination],
        context: SenderContext,
        on_attempt: OnAttempt | None = None,
    ) -> None:
        destinations = tuple(destinations)
        check_places(destinations, context)
        self._stopping = threading.Event()
        workers = [
            DestinationWorker(
                destination=destination,
                sender=destination.open_sender(context),
                queues=make_queues(destination),
                state=state,
                clock=context.clock,
                monotonic=context.monotonic,
                jitter=random.random,
                on_attempt=on_attempt,
            )
            for destination in destinations
        ]
        self._senders = [worker.sender for worker in workers]
        self._threads = [
            threading.Thread(target=self._run, args=(worker,), name=f"delivery-{worker.destination.name}", daemon=True)
            for worker in workers
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self, seconds: float) -> bool:
        """Stop once the batches in flight are settled.

        Returns False if that took longer than `seconds`; the batches in flight will then be sent again.
        """
        self._stopping.set()
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if any(thread.is_alive() for thread in self._threads):
            return False
        for sender in self._senders:
            sender.close()
        return True

    def _run(self, worker: DestinationWorker) -> None:
        name = worker.destination.name
        last_error = ""
        while not self._stopping.is_set():
            try:
                pause = worker.step()
                last_error = ""
            except Exception as error:  # noqa: BLE001 - whatever happens, the thread of a destination goes on
                error_text = str(error) if isinstance(error, TrackcoreError) else describe_unexpected(error)
                if error_text != last_error:
                    last_error = error_text
                    _log.error("%s: %s", name, error_text)
                pause = _ERROR_PAUSE_SECONDS
            self._stopping.wait(pause)
