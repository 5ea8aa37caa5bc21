"""Warehouses, as commands show them: their tables, and the tables that a message went to."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import attrs

from trackcore import JSONObject, StoredMessage, TrackcoreError
from trackcore.privacy import apply_masks
from trackcore.text import encode_json
from trackcore.warehouse import TableInfo, WarehouseReader, read_message, rows, schema_name
from trackcore_server.config.configuration import Configuration, ConfigurationError
from trackcore_server.config.postgres_destination import PostgresDestination
from trackcore_server.config.warehouse import WarehouseDestination
from trackcore_server.delivery.service import sender_context

if TYPE_CHECKING:
    from trackcore_postgres import PostgresWarehouse


def open_warehouse(destination: PostgresDestination, configuration: Configuration) -> PostgresWarehouse:
    """Return the warehouse of a destination, which connects when it is used.

    Raises `TrackcoreError` if a setting cannot be used.
    """
    with checked(destination):
        return destination.make_warehouse(sender_context(configuration, os.environ))


def tables_of(destination: WarehouseDestination, configuration: Configuration) -> Sequence[TableInfo]:
    """Return the tables of a destination.  Raises `TrackcoreError` if it cannot be asked now."""
    sources = {schema_name(source.name, destination.schema): source.name for source in configuration.sources}
    with _opened(destination, configuration) as reader:
        return [
            info if info.source is not None else attrs.evolve(info, source=sources.get(info.schema))
            for info in reader.tables()
        ]


def explained_tables(stored: StoredMessage, configuration: Configuration) -> JSONObject:
    """Return which tables and columns of which warehouses a message went to, and what they do not have of it.

    `discardsUnknown` has the reason for each warehouse that cannot be asked now.
    """
    tables: list[JSONObject] = []
    discards: list[JSONObject] = []
    unknown: JSONObject = {}
    for destination in configuration.destinations:
        if not isinstance(destination, WarehouseDestination) or destination.name not in stored.destinations:
            continue
        tables += _tables(destination, stored, configuration)
        try:
            discards += _discards(destination, stored, configuration)
        except TrackcoreError as error:
            unknown[destination.name] = str(error)
    shown = {"tables": tables, "discards": discards, "discardsUnknown": unknown}
    return {name: value for name, value in shown.items() if value}


def _tables(destination: WarehouseDestination, stored: StoredMessage, configuration: Configuration) -> list[JSONObject]:
    context = sender_context(configuration, os.environ)
    masks = [settings.mask(context.privacy_key) for settings in destination.mask]
    message = read_message(apply_masks(masks, encode_json(stored.message)))
    schema = schema_name(stored.source, destination.schema)
    return [
        {"destination": destination.name, "schema": schema, "table": row.table, "columns": list(row.values)}
        for row in rows(message, destination.options)
    ]


def _discards(
    destination: WarehouseDestination, stored: StoredMessage, configuration: Configuration
) -> list[JSONObject]:
    with _opened(destination, configuration) as reader:
        found = reader.discards(stored)
    return [
        {"destination": destination.name, "table": table, "column": column, "value": value, "reason": str(reason)}
        for table, (column, value, reason) in found
    ]


@contextmanager
def _opened(destination: WarehouseDestination, configuration: Configuration) -> Iterator[WarehouseReader]:
    with checked(destination):
        reader = destination.make_reader(sender_context(configuration, os.environ))
    with closing(reader):
        yield reader


@contextmanager
def checked(destination: WarehouseDestination) -> Iterator[None]:
    """Report a setting that cannot be used, or a library that is missing."""
    try:
        yield
    except ValueError as error:
        raise ConfigurationError(path=destination.name, detail=str(error)) from error
