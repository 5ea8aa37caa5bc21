"""The state of delivery, as several commands need it."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import click

from trackcore_server.config.configuration import Configuration
from trackcore_server.config.converter import nearest
from trackcore_server.storage.delivery_state import is_delivering

log = logging.getLogger("trackcore.server")


def check_destination(name: str, known: Iterable[str]) -> None:
    """Raise `click.UsageError` unless a destination of this name is delivered to."""
    if name not in known:
        raise click.UsageError(f"no delivered destination is named {name!r}{nearest(name, sorted(known))}")


def when_delivered(configuration: Configuration) -> str:
    """Return when requested work is delivered, as the end of a sentence; it is empty if that is now."""
    if is_delivering(configuration):
        return ""
    return " as soon as `trackcore serve` or `trackcore deliver` runs: no process delivers now"


def log_delivered(configuration: Configuration) -> None:
    """Log the destinations that are delivered to."""
    log.info("Delivering to: %s", ", ".join(f"{item.name} ({item.kind})" for item in configuration.delivered))
