"""The choice of warehouses, as several commands need it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from trackcore_server.cli._options import Failure
from trackcore_server.config.configuration import Configuration
from trackcore_server.config.converter import nearest
from trackcore_server.config.postgres_destination import PostgresDestination
from trackcore_server.config.warehouse import WarehouseDestination

_Command = TypeVar("_Command", bound=Callable[..., Any])


def destination_option(*, required: bool) -> Callable[[_Command], _Command]:
    """Add `--destination` to a command."""
    help_text = "The destination." if required else "Only this destination."
    return click.option("--destination", required=required, metavar="NAME", help=help_text)


def chosen_warehouses(configuration: Configuration, name: str | None) -> Sequence[WarehouseDestination]:
    """Return the warehouses, or the one of a name.  Raises `click.UsageError` or `Failure`."""
    known = [one for one in configuration.destinations if isinstance(one, WarehouseDestination)]
    if name is None:
        if not known:
            raise Failure(f"the configuration has no warehouse, a destination of the kind {_KINDS}")
        return known
    chosen = [one for one in known if one.name == name]
    if not chosen:
        hint = nearest(name, sorted(one.name for one in known))
        raise click.UsageError(f"no warehouse, a destination of the kind {_KINDS}, is named {name!r}{hint}")
    return chosen


_KINDS = "'postgres', 'parquet' or 'duckdb'"


def chosen_database(configuration: Configuration, name: str) -> PostgresDestination:
    """Return the warehouse of a name, which must be in PostgreSQL.  Raises `click.UsageError` or `Failure`."""
    (chosen,) = chosen_warehouses(configuration, name)
    if not isinstance(chosen, PostgresDestination):
        detail = f"but of the kind {chosen.kind!r}, which makes its tables without statements"
        raise Failure(f"{name!r} is not in PostgreSQL, {detail}")
    return chosen
