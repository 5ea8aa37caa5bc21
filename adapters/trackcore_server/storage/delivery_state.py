"""The state file of delivery, and the lock on it, where the configuration has them."""

from __future__ import annotations

from trackcore_delivery import DeliveryLock, State

from trackcore_server.config.configuration import Configuration
from trackcore_server.storage.backend import Backend


def make_state(configuration: Configuration) -> State:
    """Open the configured state of delivery, creating it if needed.  Raises `UnusableState`."""
    return State(configuration.delivery_path, dead_letter_bytes=configuration.delivery.dead_letter_bytes)


def open_state(configuration: Configuration, backend: Backend) -> State:
    """Open the configured state of delivery, creating it only beside a log that exists.

    Raises:
        LogUnavailable: the embedded log does not exist yet.
        UnusableState: it cannot be used.
    """
    backend.require_log()
    return make_state(configuration)


def delivery_lock(configuration: Configuration) -> DeliveryLock:
    """Return the lock that a process holds to deliver with the configured state, not yet acquired."""
    return DeliveryLock(configuration.delivery_path.with_suffix(".lock"))
