"""`trackcore warehouse`: the statements that a warehouse needs, and its rebuild from the log."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from datetime import datetime
from pathlib import Path

import attrs
import click
from trackcore_delivery import DeliveryBatch, FedMessage, LogFeed, Selection, Sender, SenderContext

from trackcore.warehouse import Schema, read_rows
from trackcore_server.cli._options import Failure, location_options, since_option
from trackcore_server.cli._progress import CountProgress
from trackcore_server.cli._tables import checked, open_warehouse
from trackcore_server.cli._warehouses import chosen_database, chosen_warehouses, destination_option
from trackcore_server.config.deployment import find_deployment
from trackcore_server.config.postgres_destination import PostgresDestination
from trackcore_server.config.warehouse import WarehouseDestination
from trackcore_server.delivery.service import sender_context
from trackcore_server.storage.backends import backend_of

_PAGE_MESSAGES = 2_000
_PAGE_BYTES = 4_000_000

_EXAMPLES = """\b
Examples:
  trackcore warehouse plan --destination Warehouse > tables.sql
  trackcore warehouse rebuild --destination Warehouse
"""


@click.group(epilog=_EXAMPLES)
def warehouse() -> None:
    """Work with the tables of a destination. Both commands read the embedded log, `kind = "sqlite"`."""


_PLAN_EXAMPLES = """\b
Examples:
  trackcore warehouse plan --destination Warehouse --since 7d
"""


@warehouse.command(epilog=_PLAN_EXAMPLES, short_help="Print the statements that the messages of the log need.")
@location_options
@destination_option(required=True)
@since_option("Messages")
def plan(*, config: Path | None, data: Path | None, destination: str, since: datetime | None) -> None:
    """Print the statements that make and change tables in PostgreSQL so that they hold the messages of the log.

    Nothing is changed. Delivery runs the same statements by itself; print them to review them, or to run them as
    another role, so that the role of the server needs no right to create tables.
    """
    configuration = find_deployment(config=config, data=data).configuration
    chosen = chosen_database(configuration, destination)
    feed = backend_of(configuration).feed()
    with closing(open_warehouse(chosen, configuration)) as opened:
        schemas: dict[str, Schema] = {}
        with CountProgress("Reading", feed.end()) as progress:
            for message, position in _messages(feed, chosen, since):
                schema = schemas.get(message.source)
                if schema is None:
                    schema = schemas[message.source] = opened.known_schema(message.source)
                for row in read_rows(message.payload, chosen.options):
                    schema.merge(row)
                progress.show(position, "")
        for statement in opened.statements(schemas):
            click.echo(f"{statement};")


_REBUILD_EXAMPLES = """\b
Examples:
  trackcore warehouse rebuild --destination Warehouse
  trackcore warehouse rebuild --destination Warehouse --since 2026-01-01
"""


@warehouse.command(epilog=_REBUILD_EXAMPLES, short_help="Fill fresh tables from the log, and put them in place.")
@location_options
@destination_option(required=True)
@since_option("Only messages")
def rebuild(*, config: Path | None, data: Path | None, destination: str, since: datetime | None) -> None:
    """Fill fresh tables from the log beside those in use, and let them take their place at the end.

    Delivery goes on meanwhile. Nothing is deleted: the earlier tables are kept in schemas whose names end in `__old`
    (PostgreSQL), in the folder `_old` (Parquet), or in the file `NAME.old` (DuckDB). The current configuration and
    `integrations` decide which messages the fresh tables get. They have only messages that are still in the log, and
    with --since only later ones. Run it again if it was interrupted.
    """
    configuration = find_deployment(config=config, data=data).configuration
    (chosen,) = chosen_warehouses(configuration, destination)
    context = sender_context(configuration, os.environ)
    feed = backend_of(configuration).feed()
    with _only_rebuild(chosen, context), checked(chosen), closing(chosen.make_rebuild(context)) as work:
        turns = chosen.turns(context)
        with turns.alone():
            work.begin([source.name for source in configuration.sources])
        loader = _Loader(feed, chosen, chosen.masked(work.sender, context), since)
        with CountProgress("Rebuilding", feed.end()) as progress:

            def report(doing: str) -> None:
                progress.show(loader.position, f"{loader.count:,} messages{doing}", total=feed.end())

            loader.run(turns.shared, lambda: report(""))
            with turns.alone():
                report(", swapping")
                schemas = work.swap(lambda: loader.run(nullcontext))
    if not schemas:
        raise Failure("the log has no messages for this destination; its tables are as they were")
    refused = f", {loader.refused:,} refused" if loader.refused else ""
    click.echo(f"{loader.count:,} messages loaded{refused}; rebuilt: {', '.join(schemas)}", err=True)


@contextmanager
def _only_rebuild(destination: WarehouseDestination, context: SenderContext) -> Iterator[None]:
    """Hold the lock of a rebuild for a block.  Raises `Failure` if there is another one."""
    lock = destination.rebuild_lock(context)
    if not lock.acquire("trackcore warehouse rebuild"):
        raise Failure(f"{destination.name!r} is being rebuilt already by {lock.holder() or 'another process'}")
    try:
        yield
    finally:
        lock.release()


@attrs.define
class _Loader:
    """Loads the messages of the log behind a position; `run` may be called again for later ones.

    A batch is read and stored in one turn, so that persons are forgotten before it is read, or after it is stored.
    """

    _feed: LogFeed
    _destination: WarehouseDestination
    _sender: Sender
    _since: datetime | None
    position: int = 0
    count: int = 0
    refused: int = 0

    def run(
        self, turn: Callable[[], AbstractContextManager[None]], report: Callable[[], object] = lambda: None
    ) -> None:
        has_more = True
        while has_more:
            with turn():
                has_more = self._load_page()
            report()

    def _load_page(self) -> bool:
        """Load the messages of one page; return whether there are more."""
        page = self._feed.read(
            self._destination.name,
            after=self.position,
            count=self._destination.batch_messages,
            size=self._destination.batch_bytes,
            selection=Selection(since=self._since),
        )
        if page.messages:
            batch = DeliveryBatch(destination=self._destination.name, messages=page.messages)
            self.refused += len(self._sender.send(batch))
            self.count += len(page.messages)
        self.position = page.end
        return page.has_more


def _messages(
    feed: LogFeed, destination: PostgresDestination, since: datetime | None
) -> Iterator[tuple[FedMessage, int]]:
    position = 0
    while True:
        page = feed.read(
            destination.name,
            after=position,
            count=_PAGE_MESSAGES,
            size=_PAGE_BYTES,
            selection=Selection(since=since),
        )
        yield from ((message, message.position) for message in page.messages)
        position = page.end
        if not page.has_more:
            return
