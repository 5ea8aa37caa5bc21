"""`trackcore dead-letters`: undeliverable messages, listed, retried or dropped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import click
import msgspec
from trackcore_delivery import DeadLetter, State

from trackcore import JSONObject, format_timestamp
from trackcore_server.cli._delivery import check_destination, when_delivered
from trackcore_server.cli._options import format_option, location_options
from trackcore_server.cli._output import Column, counted, field_cell, listing_limit, make_writer, time_cell
from trackcore_server.config.deployment import find_deployment
from trackcore_server.storage.backends import backend_of
from trackcore_server.storage.delivery_state import open_state

_PAGE = 1_000

_EXAMPLES = """\b
Examples:
  trackcore dead-letters
  trackcore dead-letters --destination CRM --format jsonl | jq .reason
  trackcore dead-letters --destination CRM --retry
"""


@click.command(epilog=_EXAMPLES)
@location_options
@click.option("--destination", metavar="NAME", help="Only dead letters of this destination.")
@click.option("--retry", is_flag=True, help="Send them again.")
@click.option("--drop", is_flag=True, help="Delete them.  The messages stay in the log.")
@click.option(
    "--limit", type=click.IntRange(min=1), metavar="N", help="Only the oldest N.  [default: 50 on a terminal, else all]"
)
@format_option()
def dead_letters(
    *,
    config: Path | None,
    data: Path | None,
    destination: str | None,
    retry: bool,
    drop: bool,
    limit: int | None,
    output_format: str | None,
) -> None:
    """List messages that a destination rejected, or did not accept within its retry window, oldest first.

    A JSON line has `id`, `destination`, `diedAt`, `reason`, `isRetried` (waiting to be sent again), `seq`, `source` and
    `message`. With a log in Kafka the list covers only the processes that deliver with this data folder.
    """
    if retry and drop:
        raise click.UsageError("--retry and --drop cannot be combined")
    if (retry or drop) and limit is not None:
        raise click.UsageError("--limit only applies to listing; --retry and --drop apply to all dead letters")
    configuration = find_deployment(config=config, data=data).configuration
    backend = backend_of(configuration)
    with closing(open_state(configuration, backend)) as state:
        if destination is not None:
            check_destination(destination, {item.name for item in configuration.delivered}.union(state.names()))
        if drop:
            click.echo(f"{counted(state.drop_dead_letters(destination), 'dead letter')} dropped", err=True)
        elif retry:
            count = state.retry_dead_letters(destination, datetime.now(UTC))
            click.echo(f"{counted(count, 'dead letter')} will be sent again{when_delivered(configuration)}", err=True)
        else:
            writer = make_writer(output_format, _COLUMNS, none="no dead letters")
            for letter in islice(_all(state, destination), listing_limit(limit)):
                writer.write(_record(letter, backend.place(letter.message.position)))
            writer.flush()


def _all(state: State, destination: str | None) -> Iterator[DeadLetter]:
    after = 0
    while page := state.dead_letters(destination, after=after, limit=_PAGE):
        yield from page
        after = page[-1].id


def _record(letter: DeadLetter, place: int | str) -> JSONObject:
    return {
        "id": letter.id,
        "destination": letter.destination,
        "diedAt": format_timestamp(letter.died_at),
        "reason": letter.reason,
        "isRetried": letter.retried_at is not None,
        "seq": place,
        "source": letter.message.source,
        "message": msgspec.json.decode(letter.message.payload),
    }


def _what(record: JSONObject) -> str:
    message = record["message"]
    return str(message.get("event") or message.get("name") or message["type"])


_COLUMNS = (
    Column(title="id", width=7),
    Column(title="died (UTC)", cell=time_cell(field_cell("diedAt")), width=19),
    Column(title="destination", ratio=2),
    Column(title="seq", width=9),
    Column(title="type / event", cell=_what, ratio=2),
    Column(title="retry", cell=lambda record: "waits" if record["isRetried"] else "", width=5),
    Column(title="reason", ratio=6),
)
