"""The state file of delivery, and the lock on it, where the configuration has them."""

from __future__ import annotations

from trackcore_delivery import DeliveryLock, State

from trackcore_server.config.configuration import Configuration
from trackcore_server.storage.backend import Backend


def make_state(configuration: Configuration) -> State:
    """Open the configured state of delivery, creating it if needed.  Raises `UnusableState`."""
    return State(configuration.delivery_path, dead_letter_bytes=configuration.delivery.dead_letter_bytes)


def open_state(configuration: Configuration, backend: Backend) -> State:
    """Open the state of delivery, creating it only beside a log.  Raises `LogUnavailable` and `UnusableState`."""
    backend.require_log()
    return make_state(configuration)


def delivery_lock(configuration: Configuration) -> DeliveryLock:
    """Return the lock that a process holds to deliver with the configured state, not yet acquired."""
    return DeliveryLock(configuration.delivery_path.with_suffix(".lock"))


def is_delivering(configuration: Configuration) -> bool:
    """Return whether a process delivers now."""
    return delivery_lock(configuration).holder() is not None
