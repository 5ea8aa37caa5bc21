"""The choice of warehouses, as several commands need it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from trackcore_server.cli._options import Failure
from trackcore_server.config.configuration import Configuration
from trackcore_server.config.converter import nearest
from trackcore_server.config.postgres_destination import PostgresDestination

_Command = TypeVar("_Command", bound=Callable[..., Any])


def destination_option(*, required: bool) -> Callable[[_Command], _Command]:
    """Add `--destination` to a command."""
    help_text = "The destination." if required else "Only this destination."
    return click.option("--destination", required=required, metavar="NAME", help=help_text)


def chosen_warehouses(configuration: Configuration, name: str | None) -> Sequence[PostgresDestination]:
    """Return the destinations in PostgreSQL, or the one of a name.  Raises `click.UsageError` or `Failure`."""
    known = [one for one in configuration.destinations if isinstance(one, PostgresDestination)]
    if name is None:
        if not known:
            raise Failure("the configuration has no destination of the kind 'postgres'")
        return known
    chosen = [one for one in known if one.name == name]
    if not chosen:
        hint = nearest(name, sorted(one.name for one in known))
        raise click.UsageError(f"no destination of the kind 'postgres' is named {name!r}{hint}")
    return chosen
