"""The state of delivery, as several commands need it."""

from __future__ import annotations

from collections.abc import Iterable

import click

from trackcore_server.config.configuration import Configuration
from trackcore_server.config.converter import nearest
from trackcore_server.storage.delivery_state import delivery_lock


def check_destination(name: str, known: Iterable[str]) -> None:
    """Check that a destination of this name is delivered to.  Raises `click.UsageError`."""
    if name not in known:
        raise click.UsageError(f"no delivered destination is named {name!r}{nearest(name, sorted(known))}")


def is_delivering(configuration: Configuration) -> bool:
    """Return whether a process delivers now."""
    return delivery_lock(configuration).holder() is not None


def when_delivered(configuration: Configuration) -> str:
    """Return when requested work is delivered, as the end of a sentence; it is empty if that is now."""
    if is_delivering(configuration):
        return ""
    return " as soon as `trackcore serve` or `trackcore deliver` runs: no process delivers now"


def show_delivered(configuration: Configuration) -> None:
    """Print the destinations that are delivered to."""
    names = ", ".join(f"{item.name} ({item.kind})" for item in configuration.delivered)
    click.echo(f"Delivering to: {names}", err=True)
